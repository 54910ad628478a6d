#!/usr/bin/env bash
# Train on a Slurm cluster, one task per GPU.
#
#   [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...] \
#       bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG GPUS [arguments of tools/train.py]
set -euo pipefail
if [ $# -lt 4 ]; then
    sed -n '2,/^set/{/^# \{0,1\}/s///p}' "$0"
    exit 2
fi
partition="$1" job_name="$2" config="$3" gpus="$4"
shift 4
gpus_per_node="${GPUS_PER_NODE:-$(( gpus < 8 ? gpus : 8 ))}"
cpus_per_task="${CPUS_PER_TASK:-5}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # the cores are for the data-loading workers

# shellcheck disable=SC2086 (SRUN_ARGS may hold several arguments)
exec srun -p "$partition" --job-name="$job_name" \
    --gres="gpu:$gpus_per_node" --ntasks="$gpus" --ntasks-per-node="$gpus_per_node" \
    --cpus-per-task="$cpus_per_task" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$config" "$@" --launcher slurm
