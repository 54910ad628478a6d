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
    local where=(--standalone)  # one machine: any free port
    if [ "${NNODES:-1}" -gt 1 ]; then
        where=(--nnodes "$NNODES" --node-rank "${NODE_RANK:?set NODE_RANK}"
            --master-addr "${MASTER_ADDR:?set MASTER_ADDR}" --master-port "${PORT:-29500}")
    elif [ -n "${PORT:-}" ]; then
        where=(--master-addr 127.0.0.1 --master-port "$PORT")
    fi
    local tools
    tools="$(dirname "${BASH_SOURCE[0]}")"
    exec "${PYTHON:-python}" "$tools/_torchrun.py" "${where[@]}" --nproc-per-node "$gpus" \
        "$tools/$script" "$config" "$@" --launcher pytorch
}
