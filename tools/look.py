#!/usr/bin/env python
"""Figures of any weights and any images, for papers: PNG and SVG with a caption.

A figure's caption names files, checksums, layers, heads and seeds; the file also holds the exact
command (`python tools/look.py facts FIGURE`). Each figure has a --help with examples.

Examples:
  python tools/look.py masks work_dirs/NAME/epoch_400.pth photos/*.jpg
  python tools/look.py attention --weights mae.pth dino.pth encoder.safetensors photos/*.jpg
  python tools/look.py tsne --weights mae.pth dino.pth --data data/imagenet
  python tools/look.py neighbours --weights encoder.safetensors --data data/imagenet photo.jpg
  python tools/look.py pca --weights mae.pth dinov2.pth photos/*.jpg --img-size 448
  python tools/look.py detections --checkpoints A/iter_N.pth B/iter_N.pth --method MAE MILAN
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milan_mm.errors import run_interruptible
from milan_mm.run import options

if TYPE_CHECKING:
    from milan_mm.look.outcome import Outcome, Wording

WIDTHS = dict(page=6.9, column=3.3)  # inches, of a paper with two columns


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    figures = parser.add_subparsers(dest="figure", required=True, metavar="FIGURE")
    for name, add in ADDERS.items():
        add(figures, name)
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in figures.choices:  # options are those of the figure
        return figures.choices[argv[0]].parse_args(argv[1:], argparse.Namespace(figure=argv[0]))
    return parser.parse_args(argv)


def _new_parser(figures: Any, name: str, summary: str, text: str) -> argparse.ArgumentParser:
    """The parser of a figure; the text ends with examples."""
    return figures.add_parser(
        name,
        help=summary,
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_masks(figures: Any, name: str) -> None:
    parser = _new_parser(
        figures,
        name,
        "what a pretraining samples, keeps and finds hard",
        """A row per image: the image, the sampling probability of each patch, the patches that some
draws keep, and the loss per patch (MILAN's Figure 4); where pixels are predicted, the
reconstruction too. The checkpoint says teacher, mask ratio and all else.

Examples:
  python tools/look.py masks work_dirs/NAME/epoch_400.pth photos/*.jpg
  python tools/look.py masks work_dirs/NAME/epoch_400.pth photo.jpg --draws 4 --seed 7""",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="of a MILAN or MAE pretraining")
    _add_images(parser)
    parser.add_argument(
        "--draws", type=options.positive, default=2, metavar="N", help="draws of patches (2)"
    )
    _add_seed(parser, "of the first draw; the others count on")
    _add_output(parser, name)


def _add_attention(figures: Any, name: str) -> None:
    parser = _new_parser(
        figures,
        name,
        "where the class token looks, several encoders side by side",
        """Attention of the class token to the patches, mean over the heads or each head: a row per
image, a column per encoder (MILAN's Figure 3, DINO's pictures).

Examples:
  python tools/look.py attention --weights mae.pth dino.pth photos/*.jpg
  python tools/look.py attention --weights dino.pth photo.jpg --heads --threshold 0.6
  python tools/look.py attention --weights dino.pth photo.jpg --layer 8 --img-size 448""",
    )
    _add_images(parser)
    _add_weights(parser)
    parser.add_argument("--heads", action="store_true", help="each head too, six in a row")
    _add_layer(parser)
    parser.add_argument(
        "--threshold",
        type=share,
        metavar="SHARE",
        help="show only the strongest patches that hold this share of a map, as DINO does with 0.6",
    )
    _add_size(parser)
    _add_output(parser, name)


def _add_tsne(figures: Any, name: str) -> None:
    parser = _new_parser(
        figures,
        name,
        "a map of features in classes, with the purity of neighbours",
        """A map by t-SNE of the features before the last linear layer, for images of random
classes: a panel per encoder (MILAN's Figure 2). Prints the k-NN purity, the share of a point's
neighbours that have its class. Needs scikit-learn (pip install 'milan_mm[look]').

Examples:
  python tools/look.py tsne --weights mae.pth dino.pth --data data/imagenet
  python tools/look.py tsne --weights dino.pth --data DIR --classes 10 --seed 1 --perplexity 20""",
    )
    _add_weights(parser)
    _add_data(parser, "val")
    parser.add_argument(
        "--classes", type=options.positive, metavar="N", help="random classes (20, or all)"
    )
    parser.add_argument(
        "--images-per-class", type=options.positive, default=50, metavar="N", help="at most (50)"
    )
    _add_seed(parser, "of classes, images and map")
    parser.add_argument(
        "--perplexity",
        type=options.rate,
        default=30.0,
        metavar="P",
        help="neighbours that t-SNE looks at, roughly (30)",
    )
    parser.add_argument(
        "--k", type=options.positive, default=10, metavar="K", help="neighbours of the purity (10)"
    )
    _add_size(parser)
    _add_output(parser, name)


def _add_neighbours(figures: Any, name: str) -> None:
    parser = _new_parser(
        figures,
        name,
        "the most similar images of a data set",
        """The images of a folder whose features are most similar to those of each query, with the
cosine similarity; right or wrong where the query's folder is one of the classes.

Examples:
  python tools/look.py neighbours --weights dino.pth --data data/imagenet photo.jpg
  python tools/look.py neighbours --weights mae.pth dino.pth --data PHOTOS photo.jpg --k 5""",
    )
    _add_images(parser)
    _add_weights(parser)
    _add_data(parser, "train")
    parser.add_argument(
        "--k", type=options.positive, default=7, metavar="K", help="neighbours of each query (7)"
    )
    _add_size(parser)
    _add_output(parser, name)


def _add_pca(figures: Any, name: str) -> None:
    parser = _new_parser(
        figures,
        name,
        "patch features in three colours",
        """The first three principal components of the patch features as red, green and blue; one
basis per encoder for all images, so equal colours mean similar features (as DINOv2 and CAPI show).

Examples:
  python tools/look.py pca --weights mae.pth dinov2.pth photos/*.jpg
  python tools/look.py pca --weights dinov2.pth photos/*.jpg --img-size 896 --foreground""",
    )
    _add_images(parser)
    _add_weights(parser)
    _add_layer(parser)
    parser.add_argument(
        "--foreground",
        action="store_true",
        help="cut off the background by the first component of all patches",
    )
    _add_size(parser, "twice that of the pretraining")
    _add_output(parser, name)


def _add_detections(figures: Any, name: str) -> None:
    parser = _new_parser(
        figures,
        name,
        "what detectors find, beside the truth",
        """A row per image: the image, the annotations, and what each detector finds, e.g. the same
recipe trained from different encoders.

Examples:
  python tools/look.py detections --checkpoints work_dirs/A/iter_N.pth work_dirs/B/iter_N.pth
  python tools/look.py detections --checkpoints A.pth B.pth --method MAE MILAN --data data/coco""",
    )
    _add_trained(parser)
    parser.add_argument(
        "--score-thr",
        type=share,
        default=0.5,
        metavar="SCORE",
        help="show objects from this score on (0.5)",
    )
    _add_output(parser, name)


def _add_segmentation(figures: Any, name: str) -> None:
    parser = _new_parser(
        figures,
        name,
        "what segmentors see, beside the truth",
        """A row per image: the image, the annotations, and what each segmentor sees, e.g. the same
recipe trained from different encoders.

Examples:
  python tools/look.py segmentation --checkpoints work_dirs/A/iter_N.pth work_dirs/B/iter_N.pth
  python tools/look.py segmentation --checkpoints A.pth B.pth --method MAE MILAN --data DIR""",
    )
    _add_trained(parser)
    _add_output(parser, name)


def _add_facts(figures: Any, name: str) -> None:
    parser = _new_parser(
        figures,
        name,
        "what a figure says of itself: caption, files, command",
        """What a figure of this tool says of itself: caption, weights, images, and the command that
makes it again.

Examples:
  python tools/look.py facts attention.png
  python tools/look.py facts attention.svg --json""",
    )
    parser.add_argument("file", metavar="FILE", help="PNG or SVG that this tool wrote")
    parser.add_argument("--json", action="store_true", help="all of it, as JSON")


ADDERS = dict(
    masks=_add_masks,
    attention=_add_attention,
    tsne=_add_tsne,
    neighbours=_add_neighbours,
    pca=_add_pca,
    detections=_add_detections,
    segmentation=_add_segmentation,
    facts=_add_facts,
)


def _add_images(parser: argparse.ArgumentParser, limit: int = 8) -> None:
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="files, folders or patterns ('photos/*.jpg')"
    )
    parser.add_argument(
        "--max-images",
        type=options.positive,
        default=limit,
        metavar="N",
        help="of more images take N, evenly spaced (%(default)s)",
    )


def _add_weights(parser: argparse.ArgumentParser, several: bool = True) -> None:
    options.add_weights(parser, nargs="+" if several else 1, required=True)
    parser.add_argument(
        "--method",
        nargs="+",
        metavar="NAME",
        help="what the figure calls them (what the files are taken for)",
    )
    options.add_reading(parser)


def _add_trained(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoints", nargs="+", required=True, metavar="FILE", help="of trainings, one task"
    )
    parser.add_argument(
        "--method", nargs="+", metavar="NAME", help="what the figure calls them (their folders)"
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="as tools/test.py takes it (the validation data of the first checkpoint)",
    )
    parser.add_argument(
        "--max-images",
        type=options.positive,
        default=4,
        metavar="N",
        help="validation images, evenly spaced (4)",
    )


def _add_layer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layer", type=int, metavar="N", help="block, from 1; -1 is the last one, -2 ... (-1)"
    )


def _add_size(parser: argparse.ArgumentParser, default: str = "that of the pretraining") -> None:
    parser.add_argument(
        "--img-size",
        type=options.positive,
        metavar="PIXELS",
        help=f"side of the images, a multiple of the patches ({default})",
    )


def _add_data(parser: argparse.ArgumentParser, split: str) -> None:
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


def _add_seed(parser: argparse.ArgumentParser, of_what: str) -> None:
    parser.add_argument(
        "--seed", type=options.natural, default=0, metavar="N", help=f"{of_what} (0)"
    )


def _add_output(parser: argparse.ArgumentParser, name: str) -> None:
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


def share(text: str) -> float:
    """A number in (0, 1]."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is outside (0, 1]")
    return number


def main(argv: list[str] | None = None) -> None:
    """Draw a figure; exits with code 2 and one line after a mistake of the user."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    # here, so that --help is quick
    from milan_mm.run.errors import user_errors
    from milan_mm.run.silence import silence
    from milan_mm.visualization.figure_files import figure_paths, read_facts, save_figure

    with user_errors():
        if args.figure == "facts":
            print_facts(read_facts(args.file), args.json)
            return
        paths = figure_paths(args.out)
        with silence():
            from milan_mm.look.outcome import Wording  # what it imports prints a line

            sort_words(args)
            command = shlex.join(["python", "tools/look.py", *argv])
            wording = Wording(command, not args.no_caption, WIDTHS[args.width])
            outcome = DRAWERS[args.figure](args, wording)
        save_figure(outcome.figure, paths, outcome.facts, args.dpi)
    for line in outcome.lines:
        print(line)
    print(outcome.facts["caption"])
    print("written: " + ", ".join(map(str, paths)))


def sort_words(args: argparse.Namespace) -> None:
    """Take images that stand behind `--weights` out of the weights: `--weights A B IMAGE ...`."""
    from milan_mm.errors import UserError
    from milan_mm.look.images import first_image

    if "images" not in args:
        return
    if not args.images and "weights" in args:
        split = first_image(args.weights)
        args.weights, args.images = args.weights[:split], args.weights[split:]
    if not args.images:
        raise UserError("no images are given: name files or folders of them behind the weights")
    if "weights" in args and not args.weights:
        raise UserError("--weights names no weights file: give them before the images")


def draw_masks(args: argparse.Namespace, wording: "Wording") -> "Outcome":
    """A step of a pretraining."""
    from milan_mm.look.images import read_photos
    from milan_mm.look.masks import masks_figure, read_pretraining

    restored = read_pretraining(args.checkpoint)
    photos = read_photos(args.images, args.max_images)
    return masks_figure(restored, photos, args.draws, args.seed, wording)


def draw_dense(args: argparse.Namespace, wording: "Wording") -> "Outcome":
    """Detections or segmentations beside the truth."""
    from milan_mm.look.dense import dense_figure, read_trained, read_truths

    task = "det" if args.figure == "detections" else "seg"
    models = read_trained(args.checkpoints, task, args.method)
    first = next(iter(models.values()))
    truths, root = read_truths(first, args.data, args.max_images)
    return dense_figure(models, truths, root, getattr(args, "score_thr", 0.0), wording)


def draw_attention(args: argparse.Namespace, wording: "Wording") -> "Outcome":
    """Class attention."""
    from milan_mm.look.attention import AttentionSettings, attention_figure
    from milan_mm.look.images import read_photos

    shown = _read_weights(args)
    photos = read_photos(args.images, args.max_images)
    settings = AttentionSettings(args.layer, args.heads, args.threshold, args.img_size)
    return attention_figure(shown, photos, settings, wording)


def draw_pca(args: argparse.Namespace, wording: "Wording") -> "Outcome":
    """Principal components of patch features."""
    from milan_mm.look.images import read_photos
    from milan_mm.look.pca import PcaSettings, pca_figure

    shown = _read_weights(args)
    photos = read_photos(args.images, args.max_images)
    settings = PcaSettings(args.layer, args.foreground, args.img_size)
    return pca_figure(shown, photos, settings, wording)


def draw_tsne(args: argparse.Namespace, wording: "Wording") -> "Outcome":
    """t-SNE of features."""
    from milan_mm.look.tsne import TsneSettings, tsne_figure

    settings = TsneSettings(
        data=args.data,
        split=args.split,
        classes=args.classes,
        per_class=args.images_per_class,
        seed=args.seed,
        perplexity=args.perplexity,
        k=args.k,
        img_size=args.img_size,
        cache=args.cache,
        workers=args.workers,
    )
    return tsne_figure(_read_weights(args), settings, wording)


def draw_neighbours(args: argparse.Namespace, wording: "Wording") -> "Outcome":
    """Nearest neighbours."""
    from milan_mm.look.images import read_photos
    from milan_mm.look.neighbours import NeighbourSettings, neighbours_figure

    photos = read_photos(args.images, args.max_images)
    settings = NeighbourSettings(
        args.data, args.split, args.k, args.img_size, args.cache, args.workers
    )
    return neighbours_figure(_read_weights(args), photos, settings, wording)


DRAWERS = dict(
    masks=draw_masks,
    attention=draw_attention,
    tsne=draw_tsne,
    neighbours=draw_neighbours,
    pca=draw_pca,
    detections=draw_dense,
    segmentation=draw_dense,
)


def _read_weights(args: argparse.Namespace) -> list:
    from milan_mm.look.systems import read_systems
    from milan_mm.weights.recognising import given_options

    return read_systems(args.weights, args.method, **given_options(args))


def print_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Print what a figure says of itself."""
    if as_json:
        import json

        print(json.dumps(facts, indent=2))
        return
    print(facts["title"])
    print(facts["caption"])
    for system in facts["weights"]:
        print(f"  {system['sha256']}  {system['file']} ({system['name']})")
    print(f"made by: {facts['command']}")


if __name__ == "__main__":
    run_interruptible(main)
