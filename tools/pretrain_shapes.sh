#!/usr/bin/env bash
# Train the two tiny encoders that the package ships for the demo, MILAN and MAE.
#
# Equally long and side by side; they go into milan_mm/assets. About 40 minutes on 2 cores.
#
#   bash tools/pretrain_shapes.sh
set -euo pipefail
cd "$(dirname "$0")/.."
[ -f pyproject.toml ] || { echo "error: run it in a checkout, it writes milan_mm/assets" >&2; exit 2; }
python="${PYTHON:-python}"
"$python" tools/make_shapes.py
for method in milan mae; do
    OMP_NUM_THREADS=1 "$python" tools/train.py \
        "pretrain/${method}_vit-mini-p8_1xb64-amp-coslr-12e_shapes" \
        --work-dir "work_dirs/shapes_$method" --resume &
done
wait -n
wait -n
for method in milan mae; do
    folder=work_dirs/shapes_$method
    "$python" tools/export_encoder.py --half "$folder/$(cat "$folder/last_checkpoint")" \
        "milan_mm/assets/${method}_mini_shapes.safetensors"
done
