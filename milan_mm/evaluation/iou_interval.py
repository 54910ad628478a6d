"""The 95 % interval of mIoU in a test, beside mmseg's metric; imported only where it is wanted."""

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric

from milan_mm.errors import UserError
from milan_mm.evaluation.frozen.dense import Areas

LOW, HIGH = "mIoU_low", "mIoU_high"


class IoUInterval(BaseMetric):
    """Counts pixels of each image once more, some milliseconds each.

    Args:
        judge: The metric whose mIoU it is, so that both count the same pixels and classes.
    """

    def __init__(self, judge: IoUMetric) -> None:
        super().__init__(judge.collect_device, judge.prefix)
        self.ignored, self.dataset_meta = judge.ignore_index, judge.dataset_meta

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep of each image the pixels by class, see `Areas`."""
        number = len(self.dataset_meta["classes"])
        for sample in data_samples:
            predicted, labels = (
                sample[name]["data"].squeeze() for name in ("pred_sem_seg", "gt_sem_seg")
            )
            areas = IoUMetric.intersect_and_union(
                predicted, labels.to(predicted), number, self.ignored
            )
            self.results.append(tuple(area.cpu() for area in areas))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Both ends in %; nothing where the images do not differ."""
        kinds = (list(kind) for kind in zip(*results, strict=True))
        if (ends := Areas(*kinds).interval()) is None:
            return {}
        return dict(zip((LOW, HIGH), ends, strict=True))


def report_interval(runner: Runner) -> None:
    """Let a test of segmentation measure the interval, too.

    Raises:
        UserError: For a test of something else.
    """
    metrics = runner.test_evaluator.metrics
    judges = [metric for metric in metrics if isinstance(metric, IoUMetric)]
    if not judges or judges[0].format_only or "mIoU" not in judges[0].metrics:
        kinds = ", ".join(type(metric).__name__ for metric in metrics)
        raise UserError(f"--interval is for mIoU, and the test measures {kinds}: leave it out")
    if judges[0].nan_to_num is not None:
        raise UserError(
            "--interval leaves out classes that no image has, and nan_to_num is "
            f"{judges[0].nan_to_num}, which counts them: leave out one of the two"
        )
    metrics.append(IoUInterval(judges[0]))
