"""The images whose features are most similar to those of a query."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from milan_mm.datasets.decoding import decode
from milan_mm.errors import UserError
from milan_mm.evaluation.voting import neighbours
from milan_mm.files import read_regular
from milan_mm.look.gallery import Gallery, encode_gallery, find_gallery
from milan_mm.look.images import Photo, square
from milan_mm.look.outcome import Outcome, Wording, make_facts, name_weights
from milan_mm.look.systems import Shown, describe_features, describe_sizes, image_sizes
from milan_mm.visualization.panels import Frame, Panel, panel_figure
from milan_mm.visualization.style import RIGHT, WRONG

SHOWN_SIZE = 224  # side of the drawn images in pixels
_TRAIN_CHUNK = 65536


@dataclass(frozen=True)
class NeighbourSettings:
    """What is drawn.

    Attributes:
        data, split: See `find_gallery`.
        k: Neighbours of each query.
        img_size: Side of the images that are encoded; None takes that of each encoder's own
            pretraining.
        cache: Folder for features.
        workers: Processes that read images.
    """

    data: str
    split: str = "train"
    k: int = 7
    img_size: int | None = None
    cache: Path = Path("work_dirs/look/features")
    workers: int | None = None


def choose_gallery(settings: NeighbourSettings) -> Gallery:
    """The images among which neighbours are looked for.

    Raises:
        MissingFileError, UserError: When there are too few.
    """
    gallery = find_gallery(settings.data, settings.split, needs_labels=False)
    _check_number(gallery, settings)
    return gallery


def neighbours_figure(
    shown: Sequence[Shown],
    gallery: Gallery,
    photos: Sequence[Photo],
    settings: NeighbourSettings,
    wording: Wording,
) -> Outcome:
    """Draw a row per query and encoder: the query, then its neighbours by falling similarity.

    A query's own file is never its neighbour. The class of a query is the name of its folder, if
    that is a class of the data; its neighbours are then marked right or wrong.

    Args:
        gallery: See `choose_gallery`.

    Raises:
        UserError: When too few images can be read.
    """
    sizes = image_sizes(settings.img_size, shown)
    features, gallery = encode_gallery(shown, gallery, sizes, settings.cache, settings.workers)
    _check_number(gallery, settings)
    queries = Gallery(Path(), tuple(str(p.path) for p in photos), (), np.empty(0, np.int64))
    asked, _ = encode_gallery(shown, queries, sizes, settings.cache, workers=0)
    labels = [_label_of(photo, gallery) for photo in photos]
    rows, row_titles, right, marked = [], [], 0, 0
    for i, photo in enumerate(photos):
        for system, known, query in zip(shown, features, asked, strict=True):
            ids, similarities = most_similar(query[i], known, _own(photo, gallery), settings.k)
            row = [_query_panel(photo, labels[i], gallery)]
            for index, similarity in zip(ids, similarities, strict=True):
                panel, is_right = _neighbour_panel(gallery, index, similarity, labels[i])
                row.append(panel)
                marked += is_right is not None
                right += bool(is_right)
            rows.append(row)
            row_titles.append(system.name if len(shown) > 1 else "")
    caption = _caption(shown, gallery, sizes, right, marked)
    frame = Frame(
        titles=["query", *(str(n + 1) for n in range(len(rows[0]) - 1))],
        row_titles=row_titles,
        caption=wording.drawn(caption),
        width=wording.width,
    )
    facts = make_facts(
        "Nearest neighbours",
        caption,
        wording,
        shown,
        photos,
        data=str(gallery.root),
        k=settings.k,
        right=right,
        marked=marked,
        img_size=sizes,
    )
    return Outcome(panel_figure(rows, frame), facts)


def _check_number(gallery: Gallery, settings: NeighbourSettings) -> None:
    if settings.k >= len(gallery):
        raise UserError(
            f"--k {settings.k} needs more than {settings.k} images, '{gallery.root}' has "
            f"{len(gallery)}: give 1 to {len(gallery) - 1}"
        )


def most_similar(
    query: Tensor, features: Tensor, left_out: Sequence[int], k: int
) -> tuple[list[int], list[float]]:
    """Numbers and cosine similarities of the k nearest features.

    Args:
        query: (D,) float of length 1. features: (N, D) float of length 1.
        left_out: Features that do not count.
    """
    k_more = min(len(features), k + len(left_out))
    ids = torch.arange(len(features))
    similarity, found = neighbours(features, ids, query[None], k_more, train_chunk=_TRAIN_CHUNK)
    pairs = zip(found[0].tolist(), similarity[0].tolist(), strict=True)
    kept = [(i, s) for i, s in pairs if i not in left_out][:k]
    return [i for i, _ in kept], [s for _, s in kept]


def _own(photo: Photo, gallery: Gallery) -> list[int]:
    """Numbers of the query's own file in the gallery."""
    path = photo.path.resolve()  # links, e.g. in a folder that was sorted by hand, are followed
    same_name = (i for i, name in enumerate(gallery.names) if name.endswith(photo.path.name))
    return [i for i in same_name if gallery.path(i).resolve() == path]


def _label_of(photo: Photo, gallery: Gallery) -> int | None:
    folder = photo.path.absolute().parent.name
    return gallery.classes.index(folder) if folder in gallery.classes else None


def _query_panel(photo: Photo, label: int | None, gallery: Gallery) -> Panel:
    name = photo.path.stem if label is None else gallery.classes[label]
    return Panel(square(photo, SHOWN_SIZE), note=name)


def _neighbour_panel(
    gallery: Gallery, index: int, similarity: float, label: int | None
) -> tuple[Panel, bool | None]:
    """A neighbour, and whether its class is that of the query; None where that is unknown."""
    path = gallery.path(index)
    pixels = square(Photo(path, decode(read_regular(path))[..., ::-1].copy()), SHOWN_SIZE)
    note = f"{similarity:.2f}"
    if not gallery.classes:
        return Panel(pixels, note=note), None
    name = gallery.classes[gallery.labels[index]]
    if label is None:
        return Panel(pixels, note=f"{note} {name}"), None
    is_right = int(gallery.labels[index]) == label
    mark = "✓" if is_right else f"✗ {name}"
    frame = RIGHT if is_right else WRONG
    return Panel(pixels, note=f"{note} {mark}", frame=frame, dashed=not is_right), is_right


def _caption(
    shown: Sequence[Shown],
    gallery: Gallery,
    sizes: Sequence[int],
    right: int,
    marked: int,
) -> str:
    marks = ""
    if marked:
        marks = (
            " Solid blue and ✓: the query's class, dashed and ✗: another one; right are "
            f"{right} of {marked}."
        )
    return (
        f"Nearest neighbours among {len(gallery)} images of {gallery.root}, by the cosine "
        f"similarity (below each) of features ({describe_features(shown)}).{marks} "
        f"{describe_sizes(sizes, shown)} {name_weights(shown)}"
    )
