"""Command-line options that several tools share, each with one wording.

Imported by `--help`, so nothing heavy is imported here.
"""

import argparse
import difflib
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from milan_mm import completion

LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
PROJECT = "milan_mm"  # of trackers
SAVE_MINUTES = 30  # between two checkpoints
KNN_LIMIT = 50_000  # images of each split of --knn-data


class ToolParser(argparse.ArgumentParser):
    """Takes options as they are spelt in full, and names the nearest one for others."""

    commands: argparse.Action | None = None

    def add_subparsers(self, **settings):  # type: ignore[no-untyped-def]
        """As argparse's; the options of each command are checked like the tool's own."""
        self.commands = super().add_subparsers(**settings)
        return self.commands

    def parse_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """As argparse's, but for a misspelt option, which comes before what it leaves open."""
        completion.complete(self)
        self.check_options(sys.argv[1:] if args is None else args)
        return super().parse_args(args, namespace)

    def check_options(self, args: Sequence[str]) -> None:
        """End the process at a misspelt option or command, with the nearest one."""
        if self.commands:
            self._check_command(self.commands, args[0] if args else None)
        parser: Any = self
        for word in args:
            if word == "--":
                break
            if parser.commands and word in (parser.commands.choices or ()):
                parser = parser.commands.choices[word]
            name = word.partition("=")[0]
            if name.startswith("--") and " " not in name:
                parser._check_option(name)

    def _check_command(self, commands: argparse.Action, word: str | None) -> None:
        known = list(commands.choices or ())
        if word in (*known, "-h", "--help"):
            return
        near = difflib.get_close_matches(word or "", known, n=1)
        given = "nothing was given" if word is None else f"'{word}' is not a {commands.metavar}"
        hint = f"did you mean {near[0]}?" if near else f"the first word must be {one_of(known)}"
        self.error(f"{given}: {hint}")

    def _check_option(self, name: str) -> None:
        known = [
            option
            for action in self._actions
            if action.help != argparse.SUPPRESS
            for option in action.option_strings
        ]
        if name in known or name in self._option_string_actions:
            return
        near = [option for option in known if option.startswith(name)]
        near = near or difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {' or '.join(near)}?" if near else "--help lists all options"
        self.error(f"{name} is not an option here: {hint}")


def tool_parser(docstring: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the docstring of its tool, examples included."""
    return ToolParser(
        description=docstring,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def one_of(names: Sequence[str]) -> str:
    """'a, b or c'."""
    return " or ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def positive(text: str) -> int:
    """A whole number from 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """A whole number from 0."""
    return _whole(text, 0)


def rate(text: str) -> float:
    """A finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: give a finite number above 0")
    return number


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text}: give a number from 0 to 1")
    return number


def add_preparation(parser: argparse.ArgumentParser) -> None:
    """How images are prepared for an encoder whose features are taken."""
    parser.add_argument(
        "--img-size",
        type=positive,
        metavar="PX",
        help="side of the images (that of the pretraining)",
    )
    parser.add_argument(
        "--crop-pct",
        type=crop_share,
        default=0.875,
        metavar="SHARE",
        help="share of the short side that the centre crop keeps (0.875, as 224 of 256)",
    )
    parser.add_argument(
        "--stats",
        type=stats,
        metavar="NAME",
        help="image statistics of the pretraining (those of the weights file): imagenet, clip, "
        "half, or numbers of R, G, B in 0-1: 'mean 0.1 0.2 0.3 std 0.2 0.2 0.2'",
    )


def crop_share(text: str) -> float:
    """The share of an image's short side that a centre crop keeps, above 0 and at most 1."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is outside (0, 1]: the default is 0.875")
    return number


def stats(text: str) -> str:
    """The name of image statistics, or their numbers."""
    from milan_mm.weights.statistics import stats_values

    try:
        stats_values(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _whole(text: str, lowest: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
    if number < lowest:
        raise argparse.ArgumentTypeError(f"{text}: give {lowest} or more")
    return number


def add_config(parser: argparse.ArgumentParser) -> None:
    """The recipe, and fields of it."""
    config = parser.add_argument(
        "config", metavar="CONFIG", help="config file, or name of a recipe"
    )
    config.completer = completion.recipes  # type: ignore[attr-defined]  # for argcomplete
    parser.add_argument(
        "--cfg-options", nargs="+", metavar="KEY=VALUE", help="override fields of the config"
    )


def add_run(parser: argparse.ArgumentParser, data: str, quick: str) -> None:
    """Data, length, folder and processes of a run.

    Args:
        data, quick: What `--data` and `--quick` do.
    """
    parser.add_argument("--data", metavar="DIR", help=data)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument(
        "--work-dir", metavar="DIR", help="for logs and checkpoints (work_dirs/NAME[-DATA][-quick])"
    )
    parser.add_argument("--launcher", choices=LAUNCHERS, default="none", help="(none)")
    # torch.distributed.launch passes it, with a hyphen or an underscore
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)


def set_local_rank(args: argparse.Namespace) -> None:
    """Pass `--local-rank` on to the libraries that look for it in the environment."""
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))


def add_schedule(parser: argparse.ArgumentParser) -> None:
    """Length and rate of a training, which move all that depends on them."""
    group = parser.add_argument_group(
        "schedule", "warm-up, decay, evaluations and checkpoints follow, see docs/start.md"
    )
    group.add_argument(
        "--epochs", type=positive, metavar="N", help="train for N epochs, if the recipe counts them"
    )
    group.add_argument(
        "--iters", type=positive, metavar="N", help="train for N updates, if the recipe counts them"
    )
    group.add_argument("--lr", type=rate, metavar="LR", help="learning rate for the total batch")


def add_batch_per_gpu(parser: argparse.ArgumentParser) -> None:
    """The memory of a GPU, as a number of images."""
    parser.add_argument(
        "--batch-per-gpu",
        type=positive,
        metavar="N",
        help="most images that a GPU holds at a time; the rest of the total batch is accumulated",
    )


def add_trackers(parser: argparse.ArgumentParser) -> None:
    """Where the curves of a training go."""
    group = parser.add_argument_group("trackers", "see docs/track.md")
    group.add_argument("--tensorboard", action="store_true", help="curves for TensorBoard")
    group.add_argument(
        "--wandb",
        nargs="?",
        const=PROJECT,
        metavar="PROJECT",
        help=f"curves for Weights & Biases ({PROJECT})",
    )
    group.add_argument(
        "--mlflow",
        nargs="?",
        const=PROJECT,
        metavar="URI|EXPERIMENT",
        help=f"curves for MLflow: on a server, or under this name in the work folder ({PROJECT})",
    )


def tracker_words(args: argparse.Namespace) -> tuple[str, ...]:
    """The options of `add_trackers`, as a command has them."""
    words = ["--tensorboard"] if args.tensorboard else []
    for name in ("wandb", "mlflow"):
        if value := getattr(args, name):
            words += [f"--{name}", value]
    return tuple(words)


def add_watching(parser: argparse.ArgumentParser) -> None:
    """What is looked at while a pretraining runs."""
    group = parser.add_argument_group("while it pretrains", "see docs/track.md")
    group.add_argument(
        "--pictures-interval",
        type=positive,
        metavar="N",
        help="draw masks and loss per patch every N iterations (20 times in a run, "
        "if there is a tracker; else not at all)",
    )
    group.add_argument(
        "--knn-data",
        metavar="DIR",
        help="k-NN accuracy of the encoder on DIR/train/CLASS/*, DIR/val/CLASS/*",
    )
    group.add_argument(
        "--knn-interval",
        type=positive,
        metavar="N",
        help="measure it every N epochs (20 times in a run), at the start and at the end",
    )
    group.add_argument(
        "--knn-limit",
        type=positive,
        metavar="N",
        help=f"most images of each split, spread evenly over it ({KNN_LIMIT})",
    )


def add_img_size(parser: argparse.ArgumentParser, of_what: str = "") -> None:
    """Another size of the images.

    Args:
        of_what: Appended to the help.
    """
    parser.add_argument(
        "--img-size",
        type=positive,
        metavar="PIXELS",
        help="side of the images, a multiple of the patches: pipelines, positions, windows and "
        f"tests follow{of_what}",
    )


def add_reading(parser: argparse.ArgumentParser, trust: bool = False) -> None:
    """How to read a weights file, where it does not say so itself.

    Args:
        trust: Also offer to unpickle it.
    """
    group = parser.add_argument_group(
        "reading weights files", "each is recognised by itself; these options override that"
    )
    group.add_argument("--layout", help="tensor names to expect, if a file fits several layouts")
    group.add_argument("--system", help="where the weights come from, if not the most likely one")
    group.add_argument(
        "--num-heads",
        type=positive,
        metavar="N",
        help="attention heads, if the file does not say",
    )
    group.add_argument(
        "--student", action="store_true", help="take the student of a self-distillation"
    )
    if trust:
        group.add_argument(
            "--trust-pickle",
            action="store_true",
            help="run whatever code the file holds; only for your own files",
        )


def add_weights(parser: argparse.ArgumentParser, **settings: object) -> None:
    """A pretrained encoder.

    Args:
        settings: Further ones of `add_argument`.
    """
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="pretrained encoder, of any system in docs/weights.md",
        **settings,  # type: ignore[arg-type]
    )


def command(tool: str, argv: Sequence[str] | None) -> str:
    """The line that runs a tool with these arguments, for a shell.

    It goes into logs and reports, so passwords in addresses are left out.

    Args:
        tool: Its name. argv: Its arguments; None takes those of this process.
    """
    script = f"tools/{tool}.py"
    start = ["python", script] if os.path.exists(script) else ["milan-mm", tool]
    words = [*start, *(sys.argv[1:] if argv is None else argv)]
    return shlex.join(re.sub(r"://[^/\s@]+@", "://***@", word) for word in words)


def given(args: argparse.Namespace, names: Iterable[str]) -> list[str]:
    """Those of some options that were given, as the user wrote them."""
    flags = {name: f"--{name.replace('_', '-')}" for name in names}
    return [flag for name, flag in flags.items() if getattr(args, name) not in (None, False)]
