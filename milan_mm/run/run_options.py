"""What a user asks of a recipe, whichever tool takes the options."""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config

from milan_mm.run.quick import make_quick
from milan_mm.run.records.record import Recorded
from milan_mm.run.tracking import Tracking
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.recognising import given_options


@dataclass(frozen=True)
class RunOptions:
    """What a user asks of a recipe; every default leaves it as it is.

    Attributes:
        data: Folder of the user's own images, `--data`.
        test_set: What these are, if a variant of ImageNet, see `use_variant`.
        cfg_options: Fields as 'key=value'.
        shorten: Cuts the run down to a trial, given the config and the number of processes, and
            returns lines for the log; `make_quick` for `--quick`.
        epochs, iters: Another length of the training, in the unit of the recipe.
        lr: The learning rate for the total batch.
        weights: File of a pretrained encoder, or what was read from it.
        reading: How to read that file, see `read_encoder`.
        recorded: Of the checkpoint that is tested.
        amp: Train in bfloat16. compile: Compile the parts of a step.
        fsdp: Spread the model over the processes.
        img_size: Side of the images in pixels, instead of the recipe's.
        batch_per_gpu: Most images that one process holds at a time.
        work_dir: For logs and checkpoints.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        tracking: What is logged while it trains, and where to.
        command: The line that the user typed, for the log and the report.
        followed: Fields that names in `cfg_options` have set, which `prepare` adds.
    """

    data: str | None = None
    test_set: str | None = None
    cfg_options: Sequence[str] = ()
    shorten: Callable[[Config, int], list[str]] | None = None
    epochs: int | None = None
    iters: int | None = None
    lr: float | None = None
    weights: str | Encoder | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    recorded: Recorded | None = None
    amp: bool = False
    compile: bool = False
    fsdp: bool = False
    img_size: int | None = None
    batch_per_gpu: int | None = None
    work_dir: str | None = None
    launcher: str = "none"
    tracking: Tracking = field(default_factory=Tracking)
    command: str = ""
    followed: list[str] = field(default_factory=list)

    @classmethod
    def of_training(cls, args: argparse.Namespace, command: str = "") -> "RunOptions":
        """Those of tools/train.py."""
        return cls(
            **_shared(args),
            command=command,
            epochs=args.epochs,
            iters=args.iters,
            lr=args.lr,
            weights=args.weights,
            reading=given_options(args),
            amp=args.amp,
            compile=args.compile,
            fsdp=args.fsdp,
            batch_per_gpu=args.batch_per_gpu,
            tracking=Tracking.of(args),
        )

    @classmethod
    def of_test(cls, args: argparse.Namespace) -> "RunOptions":
        """Those of tools/test.py.

        Raises:
            MissingFileError, UserError: See `Recorded.read`.
        """
        recorded = Recorded.read(args.checkpoint)
        return cls(**_shared(args), test_set=args.test_set, recorded=recorded)

    @property
    def fixed(self) -> list[str]:
        """Dotted names of the fields that the user set; a list is one field."""
        names = [*(option.partition("=")[0] for option in self.cfg_options), *self.followed]
        return list(dict.fromkeys(re.sub(r"(\.\d+)+$", "", name) for name in names))


def _shared(args: argparse.Namespace) -> dict[str, Any]:
    return dict(
        data=args.data,
        cfg_options=args.cfg_options or (),
        img_size=args.img_size,
        shorten=make_quick if args.quick else None,
        work_dir=args.work_dir,
        launcher=args.launcher,
    )
