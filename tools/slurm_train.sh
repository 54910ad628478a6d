#!/usr/bin/env bash
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
# Train on a Slurm cluster, one task per GPU.
#
#   sbatch [options of sbatch] tools/slurm_train.sh CONFIG [arguments of tools/train.py]
#   sbatch -p PARTITION -t 24:00:00 -N 8 --gpus-per-node=8 --ntasks-per-node=8 --cpus-per-task=12 \
#       tools/slurm_train.sh configs/pretrain/NAME.py --work-dir DIR
#
# The job saves 120 seconds before its time is over (--signal), goes back into the queue, and goes on
# from its last checkpoint until the training is complete. Submitted again it goes on as well.
# SRUN_ARGS are further options for srun.
#
# As in OpenMMLab, without a batch job; at its end the same line with --resume goes on:
#   [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...] \
#       bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG GPUS [arguments of tools/train.py]
set -euo pipefail

STOPPED=75  # exit code of a training that a signal has stopped, and that has saved

# in_allocation PARTITION JOB_NAME CONFIG GPUS [arguments]
in_allocation() {
    local partition="$1" job_name="$2" config="$3" gpus="$4"
    shift 4
    local gpus_per_node="${GPUS_PER_NODE:-$(( gpus < 8 ? gpus : 8 ))}"
    # shellcheck disable=SC2086 # SRUN_ARGS may hold several arguments
    exec srun -p "$partition" --job-name="$job_name" --signal=USR1@120 \
        --gres="gpu:$gpus_per_node" --ntasks="$gpus" --ntasks-per-node="$gpus_per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
        "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$config" "$@" --launcher slurm
}

# batch_job CONFIG [arguments]
batch_job() {
    local hosts step code=0 was_ended=
    hosts="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
    export MASTER_ADDR="${hosts%%$'\n'*}"
    export MASTER_PORT=$(( 20000 + SLURM_JOB_ID % 10000 ))  # jobs on one node do not meet
    start_or_go_on "${@:2}"
    # Slurm runs a copy of this script, so that tools/ is not beside it
    # shellcheck disable=SC2086 # SRUN_ARGS may hold several arguments
    srun --kill-on-bad-exit=1 ${SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK} \
        ${SRUN_ARGS:-} "${PYTHON:-python}" -u -m milan_mm train "$1" "${arguments[@]}" \
        --launcher slurm &
    step=$!
    trap 'kill -USR1 "$step"' USR1  # of sbatch --signal=B:USR1@120
    trap 'was_ended=yes' TERM  # by scancel or preemption: Slurm's tasks get it, too
    while kill -0 "$step" 2>/dev/null; do wait "$step" || true; done
    wait "$step" || code=$?
    # a job that was cancelled stays so, and Slurm itself requeues one that was preempted
    if [ "$code" = "$STOPPED" ] && [ -z "$was_ended" ]; then
        echo "job $SLURM_JOB_ID goes back into the queue, and goes on from its last checkpoint"
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$code"
}

# start_or_go_on [arguments]: sets `arguments`, with which a job goes on where it was
start_or_go_on() {
    local work_dir='' init_from='' resumes='' i
    arguments=("$@")
    for (( i = 1; i <= $#; i++ )); do
        case "${!i}" in
            --resume|--resume=*|--quick) resumes=no ;;
            --init-from|--init-from=*) init_from="${!i}" ;;
            --work-dir) work_dir="${@:i+1:1}" ;;
            --work-dir=*) work_dir="${!i#*=}" ;;
        esac
    done
    [ -z "$resumes" ] || return 0
    if [ -z "$init_from" ]; then
        arguments+=(--resume)  # starts at the beginning if there is no checkpoint
    elif [ -z "$work_dir" ]; then
        echo "error: $init_from in a job that may start again needs --work-dir DIR" >&2
        exit 2
    elif [ -f "$work_dir/last_checkpoint" ]; then  # then the run has weights of its own
        arguments=()
        for (( i = 1; i <= $#; i++ )); do
            case "${!i}" in
                --init-from) i=$(( i + 1 )) ;;
                --init-from=*) ;;
                *) arguments+=("${!i}") ;;
            esac
        done
        arguments+=(--resume)
    fi
}

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # the cores are for the data-loading workers
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
    sed -n '/^# Train/,/^set/{/^#\( \|$\)/s///p}' "$0"
elif [ $# -ge 4 ] && [[ "$2" != -* ]]; then
    in_allocation "$@"
elif [ $# -ge 1 ] && [[ "$1" != -* ]] && [ -n "${SLURM_JOB_ID:-}" ]; then
    batch_job "$@"
else
    sed -n '/^# Train/,/^set/{/^#\( \|$\)/s///p}' "$0"
    exit 2
fi
