"""A training of seconds in which a process fails on demand; `custom_imports` names this module.

The environment says what fails: FAULT=HOW@WHERE@RANK, with HOW one of the functions below and
WHERE 'build', 'train', 'val' or 'worker' (of the training's loader). No FAULT: nothing fails.
"""

import os
import signal
import time

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import Tensor, nn

from milan_mm.errors import UserError

IMAGES, UPDATES = 32, 8


def kill() -> None:
    """As the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def stop() -> None:
    """A process that hangs."""
    os.kill(os.getpid(), signal.SIGSTOP)


def defect() -> None:
    """An error in the code."""
    raise KeyError("a defect")


def mistake() -> None:
    """An error of the user."""
    raise UserError("value 3 is over the limit 2: take a smaller one")


def memory() -> None:
    """A full GPU."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")


def crash() -> None:
    """A crash in compiled code."""
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


FAULTS = dict(kill=kill, stop=stop, defect=defect, mistake=mistake, memory=memory, crash=crash)


def fail(where: str) -> None:
    """Fail here, if the environment says so; not again after a restart."""
    how, _, rest = os.environ.get("FAULT", "").partition("@")
    place, _, rank = rest.partition("@")
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if how and place == where and rank == os.environ.get("RANK", "0") and restarts == "0":
        FAULTS[how]()


@DATASETS.register_module(name="FaultyNumbers", force=True)
class Numbers(torch.utils.data.Dataset):
    """Image i is the number i; a batch is `size` numbers wide."""

    def __init__(self, train: bool = True, size: int = 1, pipeline: tuple = ()) -> None:
        self.train, self.size = train, size

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if self.train and index % 8 == 5:
            fail("worker")
        return dict(x=torch.full((self.size,), float(index)))


@MODELS.register_module(name="FaultyWeights", force=True)
class Weights(BaseModel):
    """One layer, whose loss depends on the images and the weights."""

    def __init__(self) -> None:
        super().__init__()
        fail("build")
        self.layer = nn.Linear(1, 4)
        self.updates = 0

    def forward(self, x: Tensor, mode: str) -> dict[str, Tensor] | list[dict]:
        if mode != "loss":
            fail("val")
            return [{} for _ in x]
        time.sleep(float(os.environ.get("SECONDS_OF_STEP", "0")))
        self.updates += 1
        if self.updates == UPDATES - 1:
            fail("train")
        x = torch.stack(x)[:, :1] if isinstance(x, list) else x[:, :1]
        return dict(loss=(self.layer(x / IMAGES) - 1).square().mean())


@METRICS.register_module(name="FaultyMetric", force=True)
class Metric(BaseMetric):
    """One number."""

    def process(self, *_: object) -> None:
        self.results.append(1.0)

    def compute_metrics(self, results: list) -> dict[str, float]:
        return dict(number=sum(results))


def config(workers: int = 2, size: int = 1) -> str:
    """The text of the config: two epochs of four updates, a checkpoint and a validation in each."""
    loader = (
        f"dict(batch_size=8, num_workers={workers}, persistent_workers={workers > 0}, "
        "sampler=dict(type='DefaultSampler', shuffle={train}), "
        f"dataset=dict(type='FaultyNumbers', train={{train}}, size={size}))"
    )
    return f"""
custom_imports = dict(imports=["milan_mm.register", "benchmarks.reliability.faulty"])
default_scope = "mmengine"
total_batch = 8
model = dict(type="FaultyWeights")
train_dataloader = {loader.format(train=True)}
val_dataloader = {loader.format(train=False)}
optim_wrapper = dict(optimizer=dict(type="AdamW", lr=0.1))
param_scheduler = dict(type="CosineAnnealingLR", T_max=2, convert_to_iter_based=True)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=2)
val_cfg = dict()
val_evaluator = dict(type="FaultyMetric")
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=1),
    checkpoint=dict(type="CheckpointHook", interval=1, backend_args=dict(backend="atomic_local")),
)
env_cfg = dict(dist_cfg=dict(backend="nccl", timeout=1800))
log_processor = dict(window_size=1)
randomness = dict(seed=0, diff_rank_seed=False)
"""
