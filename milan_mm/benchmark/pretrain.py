"""`benchmark.py pretrain`: our training step against that of mmpretrain's own MILAN."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from milan_mm.benchmark.contest import (
    Comparison,
    Contest,
    Entry,
    compare,
    default_device,
    default_threads,
    report,
)
from milan_mm.benchmark.matrix_rate import compare_shares, product_entry
from milan_mm.benchmark.pretrain_steps import write_weights
from milan_mm.errors import UserError
from milan_mm.models.vit_options import ARCHS

TEACHER = "ViT-B-16-quickgelu"
NUM_CHECKED = 3  # steps whose losses must agree
# Relative. In 16 bits, rounding decides near-ties between patches, so masks differ a little.
TOLERANCE = dict(float32=1e-4, bfloat16=1e-2, float16=1e-2)
PREPARE = dict(
    ours="milan_mm.benchmark.pretrain_steps:prepare_ours",
    mmpretrain="milan_mm.benchmark.pretrain_steps:prepare_mmpretrain",
)


def run(args: argparse.Namespace) -> None:
    """Compare the two.

    Args:
        args: `batch_size`, `rounds`, `precision` (list or None), `arch`, `compile`; see
            tools/benchmark.py.

    Raises:
        UserError: For settings that no step can have, before anything is built.
        RuntimeError: When the losses of the two do not agree.
    """
    precisions = checked_precisions(args)
    with TemporaryDirectory() as folder:
        write_weights(Path(folder), ARCHS[args.arch], TEACHER)
        settings = dict(
            folder=folder, arch=ARCHS[args.arch], teacher=TEACHER, batch_size=args.batch_size
        )
        report(_contest(settings, precisions, args.compile, args.rounds, _name(args)))


def checked_precisions(args: argparse.Namespace) -> list[str]:
    """The precisions to measure, each once.

    Raises:
        UserError: For settings that no step can have.
    """
    if args.batch_size < 1 or args.rounds < 1:
        raise UserError(
            f"--batch-size {args.batch_size} --rounds {args.rounds}: both must be 1 or more"
        )
    precisions = list(dict.fromkeys(args.precision or ["bfloat16", shipped_precision()]))
    if "float16" in precisions and default_device().type == "cpu":
        raise UserError("--precision float16 needs a GPU: choose bfloat16 or float32")
    return precisions


def shipped_precision() -> str:
    """The precision of mmpretrain's recipe: float16 by autocast, which runs on GPUs only."""
    return "float32" if default_device().type == "cpu" else "float16"


def check_agreement(ours: Sequence[float], theirs: Sequence[float], tolerance: float) -> float:
    """Compare two loss trajectories.

    Returns:
        The largest relative difference.

    Raises:
        RuntimeError: When it exceeds the tolerance.
    """
    differences = [abs(a / b - 1) for a, b in zip(ours, theirs, strict=True)]
    difference = math.nan if math.isnan(sum(differences)) else max(differences)
    if not difference <= tolerance:
        raise RuntimeError(
            f"the losses differ by {difference:.1e}, more than {tolerance:.0e}: ours "
            f"{_listed(ours)}, mmpretrain's {_listed(theirs)}"
        )
    return difference


def _contest(
    settings: dict, precisions: Sequence[str], compiled: bool, rounds: int, name: str
) -> list[Comparison]:
    """Measure both in all precisions, in turn."""
    own_settings = dict(ours=dict(compiled=compiled), mmpretrain={})
    entries = [
        Entry(
            f"{who} {precision}",
            prepare,
            settings | own_settings[who] | {"precision": precision},
            trains_like_us=who == "ours",
        )
        for precision in precisions
        for who, prepare in PREPARE.items()
    ]
    entries += [product_entry(precision) for precision in precisions]
    with Contest(entries, default_threads()) as contest:
        trajectories = [contest.results() for _ in range(NUM_CHECKED)]
        for precision in precisions:
            losses = [[result[f"{who} {precision}"] for result in trajectories] for who in PREPARE]
            difference = check_agreement(losses[0], losses[1], TOLERANCE[precision])
            print(
                f"{precision}: {NUM_CHECKED} losses agree, relative difference at most "
                f"{difference:.1e}: {_listed(losses[0])}",
                flush=True,
            )
        flops = contest.flops()
        contest.run(rounds, warm_up=0)  # the checks have warmed up
        measured = contest.measured
    rows: list[Comparison] = []
    for precision in precisions:
        case = f"{name}, {precision}"
        names = (f"ours {precision}", f"mmpretrain {precision}")
        rows += compare("pretrain", case, *(measured[name] for name in names))
        rows.append(compare_shares("pretrain", case, names, precision, measured, flops))
    shipped = shipped_precision()
    if {"bfloat16", shipped} <= set(precisions):
        case = f"{name}, as shipped (ours bfloat16, mmpretrain {shipped})"
        peer = measured[f"mmpretrain {shipped}"]
        rows += compare("pretrain", case, measured["ours bfloat16"], peer)
    return rows


def _name(args: argparse.Namespace) -> str:
    compiled = ", ours compiled" if args.compile else ""
    return f"MILAN step, ViT-{args.arch[0].upper()}/16, batch {args.batch_size}{compiled}"


def _listed(losses: Sequence[float]) -> str:
    return ", ".join(f"{loss:.5f}" for loss in losses)
