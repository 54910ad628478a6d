"""Command-line options that figures share. Imported by `--help`, so nothing heavy is."""

import argparse
from pathlib import Path

from milan_mm.run import options

WIDTHS = dict(page=6.9, column=3.3)  # inches, of a paper with two columns


def add_images(parser: argparse.ArgumentParser) -> None:
    """The pictures of a figure, a row for each."""
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="files, folders or patterns ('photos/*.jpg')"
    )
    _add_limit(parser, 8, "show at most N images, evenly spaced (%(default)s)")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """The encoders of a figure."""
    options.add_weights(parser, nargs="+", required=True)
    _add_names(parser, "what the files are taken for")
    options.add_reading(parser)


def add_trained(parser: argparse.ArgumentParser) -> None:
    """The detectors or segmentors of a figure."""
    parser.add_argument(
        "--checkpoints", nargs="+", required=True, metavar="FILE", help="of trainings, one task"
    )
    _add_names(parser, "their folders")
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="as tools/test.py takes it (the validation data of the first checkpoint)",
    )
    _add_limit(parser, 4, "validation images, evenly spaced (%(default)s)")


def add_layer(parser: argparse.ArgumentParser) -> None:
    """A block of the encoders."""
    parser.add_argument(
        "--layer", type=int, metavar="N", help="block, from 1; -1 is the last one, -2 ... (-1)"
    )


def add_size(parser: argparse.ArgumentParser, default: str = "that of its pretraining") -> None:
    """The size of the images that encoders see."""
    parser.add_argument(
        "--img-size",
        type=options.positive,
        metavar="PIXELS",
        help=f"side of the images, a multiple of the patches (for each encoder {default})",
    )


def add_data(parser: argparse.ArgumentParser, split: str) -> None:
    """A folder of images whose features are compared."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="DIR",
        help="holds train/CLASS/* and val/CLASS/*, or CLASS/*",
    )
    parser.add_argument(
        "--split",
        choices=["train", "val"],
        default=split,
        help="where there are both (%(default)s)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("work_dirs/look/features"),
        metavar="DIR",
        help="keeps features for the next figure (%(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=options.natural,
        metavar="N",
        help="processes that read images (one per core, up to 8)",
    )


def add_seed(parser: argparse.ArgumentParser, of_what: str) -> None:
    """A seed."""
    parser.add_argument(
        "--seed", type=options.natural, default=0, metavar="N", help=f"{of_what} (0)"
    )


def add_output(parser: argparse.ArgumentParser, name: str) -> None:
    """The files of a figure, and how it is printed."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out",
        default=f"work_dirs/look/{name}",
        metavar="FILE",
        help="ending in .png or .svg; without an ending both are written (%(default)s)",
    )
    group.add_argument(
        "--width",
        choices=WIDTHS,
        default="page",
        help="a page or one of two columns of a paper, 6.9 or 3.3 inches (page)",
    )
    group.add_argument(
        "--dpi", type=options.positive, default=300, metavar="N", help="pixels per inch (300)"
    )
    group.add_argument(
        "--no-caption",
        action="store_true",
        help="do not draw the caption; it is printed, and kept inside the files",
    )


def _add_limit(parser: argparse.ArgumentParser, limit: int, text: str) -> None:
    parser.add_argument(
        "--max-images", type=options.positive, default=limit, metavar="N", help=text
    )


def _add_names(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--method", nargs="+", metavar="NAME", help=f"what the figure calls them ({default})"
    )
