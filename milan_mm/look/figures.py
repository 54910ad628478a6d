"""From the command line of a figure to the figure: what is cheap to check comes first."""

import argparse
from collections.abc import Callable

from milan_mm.errors import UserError
from milan_mm.look.attention import AttentionSettings, attention_figure
from milan_mm.look.dense import dense_figure, read_trained, read_truths
from milan_mm.look.images import Photo, first_image, read_photos
from milan_mm.look.masks import masks_figure, read_pretraining
from milan_mm.look.neighbours import NeighbourSettings, choose_gallery, neighbours_figure
from milan_mm.look.outcome import Outcome, Wording
from milan_mm.look.pca import PcaSettings, pca_figure
from milan_mm.look.systems import Shown, read_systems
from milan_mm.look.tsne import TsneSettings, choose_images, tsne_figure
from milan_mm.weights.recognising import given_options


def draw(args: argparse.Namespace, wording: Wording) -> Outcome:
    """Draw the figure that `args` names, with the options of tools/look.py.

    Raises:
        UserError: For anything that cannot be drawn.
    """
    if "images" in args:
        _sort_words(args)
    return _DRAWERS[args.figure](args, wording)


def _sort_words(args: argparse.Namespace) -> None:
    """Take images that stand behind `--weights` out of the weights: `--weights A B IMAGE ...`."""
    if not args.images and "weights" in args:
        split = first_image(args.weights)
        args.weights, args.images = args.weights[:split], args.weights[split:]
    if not args.images:
        raise UserError("no images are given: name files or folders of them behind the weights")
    if "weights" in args and not args.weights:
        raise UserError("--weights names no weights file: give them before the images")


def _draw_masks(args: argparse.Namespace, wording: Wording) -> Outcome:
    photos = _photos(args)
    restored = read_pretraining(args.checkpoint)
    return masks_figure(restored, photos, args.draws, args.seed, wording)


def _draw_attention(args: argparse.Namespace, wording: Wording) -> Outcome:
    photos = _photos(args)
    settings = AttentionSettings(args.layer, args.heads, args.threshold, args.img_size)
    return attention_figure(_systems(args), photos, settings, wording)


def _draw_pca(args: argparse.Namespace, wording: Wording) -> Outcome:
    photos = _photos(args)
    settings = PcaSettings(args.layer, args.foreground, args.img_size)
    return pca_figure(_systems(args), photos, settings, wording)


def _draw_tsne(args: argparse.Namespace, wording: Wording) -> Outcome:
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
    gallery = choose_images(settings)
    return tsne_figure(_systems(args), gallery, settings, wording)


def _draw_neighbours(args: argparse.Namespace, wording: Wording) -> Outcome:
    photos = _photos(args)
    settings = NeighbourSettings(
        args.data, args.split, args.k, args.img_size, args.cache, args.workers
    )
    gallery = choose_gallery(settings)
    return neighbours_figure(_systems(args), gallery, photos, settings, wording)


def _draw_detections(args: argparse.Namespace, wording: Wording) -> Outcome:
    return _draw_dense(args, "det", args.score_thr, wording)


def _draw_segmentation(args: argparse.Namespace, wording: Wording) -> Outcome:
    return _draw_dense(args, "seg", 0.0, wording)


def _draw_dense(args: argparse.Namespace, task: str, score_thr: float, wording: Wording) -> Outcome:
    models = read_trained(args.checkpoints, task, args.method)
    first = next(iter(models.values()))
    truths, root = read_truths(first, args.data, args.max_images)
    return dense_figure(models, truths, root, score_thr, wording)


_DRAWERS: dict[str, Callable[[argparse.Namespace, Wording], Outcome]] = dict(
    masks=_draw_masks,
    attention=_draw_attention,
    tsne=_draw_tsne,
    neighbours=_draw_neighbours,
    pca=_draw_pca,
    detections=_draw_detections,
    segmentation=_draw_segmentation,
)


def _photos(args: argparse.Namespace) -> list[Photo]:
    return read_photos(args.images, args.max_images)


def _systems(args: argparse.Namespace) -> list[Shown]:
    return read_systems(args.weights, args.method, **given_options(args))
