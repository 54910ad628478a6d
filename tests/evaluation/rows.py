"""Rows of a results file, as tools/evaluate.py writes them."""

from milan_mm.evaluation.tasks import TASKS

COCO_COUNTS = dict(train=117_266, val=5_000)
CONFIGS = dict(
    knn="knn_vit-base-p16",
    linear="cls/linear_vit-base-p16_8xb2048-amp-coslr-100e_in1k",
    finetune="cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k",
    coco="det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco",
    ade20k="seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512",
)


def result(method: str = "MAE", task: str = "coco", value: float | None = 50.0, **keys) -> dict:
    """A row of the paper's protocol; the weights belong to the method."""
    name = "".join(c for c in method.lower() if c.isalnum())
    row = dict(
        task=task,
        metric=TASKS[task].metrics[0].name,
        value=value,
        method=method,
        weights=f"{name}.pth",
        weights_sha256=name.encode().hex().ljust(64, "0")[:64],
        config=CONFIGS.get(task),
        config_hash=f"config-{task}",
        protocol="paper",
        protocol_hash=f"protocol-{task}",
        total_batch=64,
        precision="bfloat16",
        seed=0,
        packages=dict(torch="2.10.0"),
        data=TASKS[task].data.name,
        data_counts=COCO_COUNTS,
        commit="1234567",
        time="2026-01-31T12:00:00+00:00",
        seconds=60.0,
    )
    return row | keys
