#!/usr/bin/env bash
# Evaluate a checkpoint on several GPUs or CPU processes of one machine, or of many.
#
#   bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
#
# Many machines: set NNODES, NODE_RANK (0 .. NNODES-1), MASTER_ADDR and PORT, and run it on each.
set -euo pipefail
if [ $# -lt 3 ] || [ "$1" = --help ] || [ "$1" = -h ]; then
    sed -n '2,/^set/{/^# \{0,1\}/s///p}' "$0"
    exit $(( $# < 3 ? 2 : 0 ))
fi
source "$(dirname "$0")/_launch.sh"
launch test.py "$1" "$3" "$2" "${@:4}"
