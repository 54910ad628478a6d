# Shared by dist_train.sh and dist_test.sh: start one process per GPU by torchrun.

# launch SCRIPT CONFIG GPUS [further arguments]
launch() {
    local script="$1" config="$2" gpus="$3"
    shift 3
    if ! [[ "$gpus" =~ ^[1-9][0-9]*$ ]]; then
        echo "error: GPUS is '$gpus': give the number of processes, 1 or more" >&2
        exit 2
    fi
    # processes share the cores; data-loading workers are single-threaded anyway
    local threads=$(( $(nproc) / gpus ))
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(( threads > 0 ? threads : 1 ))}"
    local nodes="${NNODES:-1}" where=(--standalone)  # one machine: any free port
    local meeting="${RDZV_BACKEND:-static}" place="${RDZV_ENDPOINT:-}"
    if ! [[ "$nodes" =~ ^[1-9][0-9]*(:[1-9][0-9]*)?$ ]]; then
        echo "error: NNODES is '$nodes': give the number of machines, or MIN:MAX" >&2
        exit 2
    fi
    if [[ "$nodes" == *:* ]] && ! [[ " $* " == *" --resume "* ]]; then
        echo "error: NNODES is '$nodes', so the number of machines may change: pass --resume, which" \
            "starts at the beginning where there is no checkpoint yet" >&2
        exit 2
    fi
    if [[ "$nodes" != *:* ]] && (( ${NODE_RANK:-0} >= nodes )); then
        echo "error: NODE_RANK is '$NODE_RANK': number the $nodes machines from 0" >&2
        exit 2
    fi
    if [ "$nodes" != 1 ] || [ -n "${RDZV_BACKEND:-}$place" ]; then
        # a fixed number of machines that keep their order, unless more was asked for
        if [ -n "$place" ] || [[ "$nodes" == *:* ]] || [ "${MAX_RESTARTS:-0}" != 0 ]; then
            meeting="${RDZV_BACKEND:-c10d}"
        fi
        where=(--nnodes "$nodes" --rdzv-backend "$meeting")
        if [ "$meeting" = static ]; then
            where+=(--node-rank "${NODE_RANK:?set NODE_RANK}"
                --master-addr "${MASTER_ADDR:?set MASTER_ADDR}" --master-port "${PORT:-29500}")
        else
            place="${place:-${MASTER_ADDR:?set MASTER_ADDR or RDZV_ENDPOINT}:${PORT:-29500}}"
            where+=(--rdzv-endpoint "$place")
        fi
        where+=(--rdzv-id "${RDZV_ID:-milan_mm}")
    elif [ -n "${PORT:-}" ]; then
        where=(--rdzv-backend c10d --rdzv-endpoint "127.0.0.1:$PORT" --rdzv-id milan_mm)
    fi
    [ -z "${MAX_RESTARTS:-}" ] || where+=(--max-restarts "$MAX_RESTARTS")
    [ -z "${LOG_DIR:-}" ] || where+=(--log-dir "$LOG_DIR" --tee 3)
    local tools
    tools="$(dirname "${BASH_SOURCE[0]}")"
    exec "${PYTHON:-python}" "$tools/_torchrun.py" "${where[@]}" --nproc-per-node "$gpus" \
        "$tools/$script" "$config" "$@" --launcher pytorch
}
