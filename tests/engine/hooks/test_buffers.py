"""What each process of a run has gathered for itself."""

import os
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS, MODELS
from torch import nn

from tests.forked import in_processes
from tests.run.tiny_runs import Weights, run_tiny, tiny_config


@MODELS.register_module(name="TinyNormed", force=True)
class Normed(Weights):
    """Predicts the mean that its BatchNorm has gathered, of each image."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, x: list[torch.Tensor], mode: str) -> Any:
        if mode == "loss":
            return dict(
                loss=super().forward(x, mode)["loss"] + self.norm(torch.stack([*x])[:, None]).sum()
            )
        return [self.norm.running_mean.item() for _ in x]


@METRICS.register_module(name="SeenMetric", force=True)
class Seen(BaseMetric):
    """The predictions of all processes."""

    def process(self, _: object, samples: Any) -> None:
        self.results += samples

    def compute_metrics(self, results: list) -> dict[str, Any]:
        return dict(predictions=len(set(results)), first=results[0])


def test_all_processes_validate_the_model_that_the_checkpoint_has(tmp_path: Path):
    fields = dict(
        model=dict(type="TinyNormed"),
        val_dataloader=dict(
            batch_size=5,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=False),
            dataset=dict(type="TinyNumbers", images=20),
        ),
        val_cfg={},
        val_evaluator=dict(type="SeenMetric"),
    )
    # an average of the weights has buffers of its own
    hooks = [dict(type="WatchHook"), dict(type="EMAHook", momentum=0.5, update_buffers=True)]

    def trained(rank: int) -> tuple[float, float, float]:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
        os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # mmengine warns without
        cfg = tiny_config("iterations", tmp_path / "run", custom_hooks=hooks, **fields)
        cfg.param_scheduler = []
        cfg.train_cfg.update(max_iters=4, val_interval=4)
        runner = run_tiny(cfg, launcher="pytorch", batch_per_gpu=4)
        hub = runner.message_hub
        means = [hub.get_scalar(f"val/{name}").current() for name in ("predictions", "first")]
        return (*means, runner.model.module.norm.running_mean.item())

    first, second = in_processes(2, trained, tmp_path)
    assert first == second and first[0] == 1
    saved = torch.load(tmp_path / "run/iter_4.pth", weights_only=False)
    assert saved["state_dict"]["norm.running_mean"].item() == first[1] != first[2]
