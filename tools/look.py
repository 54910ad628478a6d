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
import sys
from typing import Any

from milan_mm import early
from milan_mm.errors import run_interruptible
from milan_mm.escaping import visible
from milan_mm.look import options as shared
from milan_mm.run import options


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    figures: Any = parser.add_subparsers(dest="figure", required=True, metavar="FIGURE")
    for name, add in ADDERS.items():
        add(figures, name)
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in figures.choices:
        figure = figures.choices[argv[0]]
        figure.check_options(argv[1:])
        # images may stand before, between and behind the options, as no parser of commands allows
        return figure.parse_intermixed_args(argv[1:], argparse.Namespace(figure=argv[0]))
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
    shared.add_images(parser)
    parser.add_argument(
        "--draws", type=options.positive, default=2, metavar="N", help="draws of patches (2)"
    )
    shared.add_seed(parser, "of the first draw; the others count on")
    shared.add_output(parser, name)


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
    shared.add_images(parser)
    shared.add_weights(parser)
    parser.add_argument("--heads", action="store_true", help="each head too, six in a row")
    shared.add_layer(parser)
    parser.add_argument(
        "--threshold",
        type=options.share,
        metavar="SHARE",
        help="show only the strongest patches that hold this share of a map, as DINO does with 0.6",
    )
    shared.add_size(parser)
    shared.add_output(parser, name)


def _add_tsne(figures: Any, name: str) -> None:
    parser = _new_parser(
        figures,
        name,
        "a map of features in classes, with the purity of neighbours",
        """A map by t-SNE of features, pooled as each system's own classification does, for images
of random classes: a panel per encoder (MILAN's Figure 2). Prints the k-NN purity, the share of a
point's neighbours that have its class. Needs scikit-learn (pip install 'milan_mm[look]').

Examples:
  python tools/look.py tsne --weights mae.pth dino.pth --data data/imagenet
  python tools/look.py tsne --weights dino.pth --data DIR --classes 10 --seed 1 --perplexity 20""",
    )
    shared.add_weights(parser)
    shared.add_data(parser, "val")
    parser.add_argument(
        "--classes", type=options.positive, metavar="N", help="random classes (20, or all)"
    )
    parser.add_argument(
        "--images-per-class", type=options.positive, default=50, metavar="N", help="at most (50)"
    )
    shared.add_seed(parser, "of classes, images and map")
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
    shared.add_size(parser)
    shared.add_output(parser, name)


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
    shared.add_images(parser)
    shared.add_weights(parser)
    shared.add_data(parser, "train")
    parser.add_argument(
        "--k", type=options.positive, default=7, metavar="K", help="neighbours of each query (7)"
    )
    shared.add_size(parser)
    shared.add_output(parser, name)


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
    shared.add_images(parser)
    shared.add_weights(parser)
    shared.add_layer(parser)
    parser.add_argument(
        "--foreground",
        action="store_true",
        help="cut off the background by the first component of all patches",
    )
    shared.add_size(parser, "twice that of its pretraining")
    shared.add_output(parser, name)


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
    shared.add_trained(parser)
    parser.add_argument(
        "--score-thr",
        type=options.share,
        default=0.5,
        metavar="SCORE",
        help="show objects from this score on (0.5)",
    )
    shared.add_output(parser, name)


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
    shared.add_trained(parser)
    shared.add_output(parser, name)


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


def main(argv: list[str] | None = None) -> None:
    """Draw a figure; exits with code 2 and one line after a mistake of the user."""
    args = parse_args(argv)
    with early.early_errors():
        given = vars(args)
        early.check_weights(*given.get("weights", ()))
        for path in [*given.get("checkpoints", ()), *filter(None, [given.get("checkpoint")])]:
            early.check_checkpoint(path)
    # here, so that --help is quick
    from milan_mm.run.errors import user_errors
    from milan_mm.run.silence import silence
    from milan_mm.visualization.figure_files import figure_paths, read_facts, save_figure

    with user_errors():
        if args.figure == "facts":
            print_facts(read_facts(args.file), args.json)
            return
        paths = figure_paths(args.out)
        with silence():  # what is imported prints lines
            from milan_mm.look.figures import draw
            from milan_mm.look.outcome import Wording

            command = options.command("look", argv)
            wording = Wording(command, not args.no_caption, shared.WIDTHS[args.width])
            outcome = draw(args, wording)
        save_figure(outcome.figure, paths, outcome.facts, args.dpi)
    for line in [*outcome.lines, *outcome.facts["caption"].split("\n")]:
        print(visible(line))
    print("written: " + ", ".join(map(str, paths)))


def print_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Print what a figure says of itself."""
    if as_json:
        import json

        print(json.dumps(facts, indent=2))
        return
    title, caption, command = (facts.get(name, "") for name in ("title", "caption", "command"))
    lines = [title, *caption.split("\n")]
    for system in facts.get("weights", []):
        lines.append(f"  {system.get('sha256')}  {system.get('file')} ({system.get('name')})")
    print("\n".join(map(visible, [*lines, f"made by: {command}"])))


if __name__ == "__main__":
    run_interruptible(main)
