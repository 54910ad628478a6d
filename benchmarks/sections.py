"""`pretrain --profile`: where the time of our step goes, forward and backward of each part.

The forward pass is timed around the calls of the parts. The backward pass is timed between the
arrivals of the gradients at their outputs: when the gradient of the prediction arrives, the loss
has done its backward pass and the decoder begins.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor

from milan_mm.benchmark.contest import default_threads, now
from milan_mm.benchmark.pretrain import TEACHER, checked_precisions
from milan_mm.benchmark.pretrain_steps import build_ours, pinned_images, write_weights
from milan_mm.engine.memory import keep_freed_memory
from milan_mm.models.vit_options import ARCHS

# Part of the step -> its module and method
PARTS = {
    "preprocessing": ("data_preprocessor", "forward"),
    "teacher": ("head", "targets"),
    "embedding": ("backbone", "embed"),
    "sampling": ("mask_generator", "forward"),
    "encoder": ("backbone", "encode"),
    "decoder": ("decoder", "forward"),
    "loss": ("head", "loss"),
}


def run(args: argparse.Namespace) -> None:
    """Profile our step in each precision.

    Args:
        args: As of `pretrain`.

    Raises:
        UserError: As in `pretrain`.
    """
    precisions = checked_precisions(args)
    keep_freed_memory()  # as in tools/train.py
    with TemporaryDirectory() as folder:
        write_weights(Path(folder), ARCHS[args.arch], TEACHER)
        settings = dict(folder=folder, arch=ARCHS[args.arch], teacher=TEACHER)
        for precision in precisions:
            print_sections(
                args.rounds,
                args.batch_size,
                precision=precision,
                compiled=args.compile,
                **settings,
            )


class SectionTimer:
    """Measures the parts of a MILAN and its optimizer from outside; `seconds` adds up.

    Attributes:
        seconds: (forward, backward) of every part.
    """

    def __init__(self, model: BaseModel, optim_wrapper: OptimWrapper) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._part, self._last = "", 0.0  # whose backward pass runs, and since when
        for part, (owner, function) in PARTS.items():
            self._watch(part, getattr(model, owner), function)
        for function in ("step", "zero_grad"):
            self._watch("optimizer", optim_wrapper, function)
        self._watch_backward(optim_wrapper)

    def _watch(self, part: str, owner: Any, name: str) -> None:
        function: Callable = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = now()
            out = function(*args, **kwargs)
            self.seconds[part][0] += now() - start
            if isinstance(out, Tensor) and out.requires_grad:
                out.register_hook(lambda grad: self._begin(part))
            return out

        setattr(owner, name, timed)

    def _watch_backward(self, optim_wrapper: OptimWrapper) -> None:
        backward = optim_wrapper.backward

        def timed(loss: Tensor, **kwargs: Any) -> None:
            self._part, self._last = "loss", now()
            backward(loss, **kwargs)
            self._begin("embedding")

        optim_wrapper.backward = timed

    def _begin(self, part: str) -> None:
        """The backward pass reaches the output of `part`."""
        arrival = now()
        self.seconds[self._part][1] += arrival - self._last
        self._part, self._last = part, arrival


def print_sections(rounds: int, batch_size: int, **settings: Any) -> None:
    """Measure our step and print a table.

    Args:
        rounds: Measured steps. settings: Of `build_ours`.
    """
    torch.set_num_threads(default_threads())
    model, optim_wrapper = build_ours(**settings)
    batch = dict(inputs=pinned_images(batch_size), data_samples=None)
    for _ in range(2):  # warm up
        model.train_step(batch, optim_wrapper)
    timer = SectionTimer(model, optim_wrapper)
    start = now()
    for _ in range(rounds):
        model.train_step(batch, optim_wrapper)
    total = now() - start
    print(f"our step, batch {batch_size}, {settings['precision']}, mean of {rounds} steps")
    print(f"{'part':<14} {'forward':>9} {'backward':>9} {'share':>6}")
    rest = total - sum(map(sum, timer.seconds.values()))
    timer.seconds["rest"] = [rest, 0.0]
    for part in (*PARTS, "optimizer", "rest"):
        forward, backward = timer.seconds[part]
        share = (forward + backward) / total
        print(f"{part:<14} {_ms(forward / rounds)} {_ms(backward / rounds)} {share:>6.1%}")
    print(f"{'whole step':<14} {_ms(total / rounds)}")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:>6.0f} ms"
