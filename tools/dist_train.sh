#!/usr/bin/env bash
# Train on several GPUs or CPU processes of one machine, or of many.
#
#   bash tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
#   bash tools/dist_train.sh configs/pretrain/NAME.py 8 --work-dir DIR
#
# Many machines: set NNODES, NODE_RANK (0 .. NNODES-1), MASTER_ADDR and PORT, and run it on each.
set -euo pipefail
if [ $# -lt 2 ] || [ "$1" = --help ] || [ "$1" = -h ]; then
    sed -n '2,/^set/{/^# \{0,1\}/s///p}' "$0"
    exit $(( $# < 2 ? 2 : 0 ))
fi
source "$(dirname "$0")/_launch.sh"
launch train.py "$1" "$2" "${@:3}"
