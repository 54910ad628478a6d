"""What the demo trains: two pretrainings, then detection and segmentation from three encoders."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from milan_mm.errors import UserError
from milan_mm.evaluation.results import read_rows
from milan_mm.evaluation.row_schema import make_rows
from milan_mm.run.jobs import Job
from milan_mm.weights.names import ASSETS

PRETRAIN_BATCH, PRETRAIN_EPOCHS, TRANSFER_ITERS = 64, 1, 250
# Metric -> its name in the log.
METRICS = {
    "det": {
        "box AP50": "coco/bbox_mAP_50",
        "box AP": "coco/bbox_mAP",
        "mask AP50": "coco/segm_mAP_50",
        "mask AP": "coco/segm_mAP",
    },
    "seg": {"mIoU": "mIoU", "pixel accuracy": "aAcc"},
}
PERCENT = dict(det=100, seg=1)  # mmdet logs shares, mmseg %
CONFIGS = {
    "pretrain": "pretrain/{init}_vit-mini-p8_1xb64-coslr-1e_shapes-continued",
    "det": "det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes",
    "seg": "seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96",
}


@dataclass(frozen=True)
class DemoCell:
    """One training of the demo."""

    job: Job

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.job.title

    @property
    def identity(self) -> dict[str, object]:
        """The fields that identify its rows."""
        return dict(task=self.job.task, init=self.job.init)

    def rows(self) -> list[dict]:
        """First and last loss of a pretraining, or the metrics of a transfer in %."""
        task = self.job.task
        if task == "pretrain":
            losses = self.job.losses()
            values = {"loss, first": losses[0], "loss, last": losses[-1]}
        else:
            measured = self.job.validation()
            values = {m: PERCENT[task] * measured[key] for m, key in METRICS[task].items()}
        values = {metric: round(value, 6) for metric, value in values.items()}
        return make_rows(self.identity | dict(config=self.job.config), values)


def check_recipes(results: Path) -> None:
    """Refuse results of other recipes, which an update of the package can leave behind.

    Raises:
        UserError: Naming them.
    """
    known = {recipe.format(init=init) for recipe in CONFIGS.values() for init in ("milan", "mae")}
    found = {row.get("config", "an older demo") for row in read_rows(results)} - known
    if found:
        raise UserError(
            f"'{results}' has numbers of {', '.join(sorted(found))}, this demo trains other "
            "recipes: start over with --fresh, or choose another --out"
        )


def pretrain_cells(out: Path, num_images: int) -> list[DemoCell]:
    """MILAN and MAE, each continued from weights that ship with the package."""
    return [
        DemoCell(
            Job(
                task="pretrain",
                init=init,
                config=CONFIGS["pretrain"].format(init=init),
                work_dir=out / f"pretrain_{init}",
                num_iters=PRETRAIN_EPOCHS * (num_images // PRETRAIN_BATCH),
                arguments=["--weights", str(ASSETS / f"{init}_mini_shapes.safetensors")],
            )
        )
        for init in ("milan", "mae")
    ]


def transfer_cells(out: Path, checkpoints: Mapping[str, Path]) -> list[DemoCell]:
    """Mask R-CNN and UperNet from scratch, MAE and MILAN.

    Args:
        checkpoints: Of the pretrainings, by their `init`.
    """
    weights = {init: ["--weights", str(file)] for init, file in checkpoints.items()}
    return [
        DemoCell(
            Job(
                task=task,
                init=init,
                config=CONFIGS[task],
                work_dir=out / f"{task}_{init}",
                num_iters=TRANSFER_ITERS,
                arguments=weights.get(init, []),
            )
        )
        for task in ("det", "seg")
        for init in ("scratch", "mae", "milan")
    ]
