"""A map of features by t-SNE: Figure 2 of MILAN's paper, for any encoders and classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from milan_mm.errors import UserError
from milan_mm.look.gallery import Gallery, draw_classes, encode_gallery, find_gallery
from milan_mm.look.outcome import Outcome, Wording, make_facts, name_weights
from milan_mm.look.systems import Shown, describe_features, describe_sizes, image_sizes
from milan_mm.visualization.scatter import Cloud, scatter_figure
from milan_mm.visualization.style import LOOKS


@dataclass(frozen=True)
class TsneSettings:
    """What is drawn.

    Attributes:
        data, split: See `find_gallery`.
        classes: Random classes; None takes 20, or all where there are fewer.
        per_class: Images of each class, at most.
        seed: Of the classes, the images and the map.
        perplexity: Neighbours that t-SNE looks at, roughly.
        k: Neighbours that the purity counts.
        img_size: Side of the images; None takes that of each encoder's pretraining.
        cache: Folder for features.
        workers: Processes that read images.
    """

    data: str
    split: str = "val"
    classes: int | None = None
    per_class: int = 50
    seed: int = 0
    perplexity: float = 30.0
    k: int = 10
    img_size: int | None = None
    cache: Path = Path("work_dirs/look/features")
    workers: int | None = None


USUAL_CLASSES = 20  # as in the paper


def purity(points: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of the k nearest neighbours of a point that have its label, over all points.

    Args:
        points: (N, D) float; nearest by the Euclidean distance, which for vectors of length 1 gives
            the order of the cosine.
        labels: (N,) int.
        k: At most N-1.

    Returns:
        Between 0 and 1.
    """
    from sklearn.neighbors import NearestNeighbors

    judge = NearestNeighbors(n_neighbors=k).fit(points.astype(np.float64))
    nearest = judge.kneighbors(return_distance=False)  # (N, k), no point is its own neighbour
    return float((labels[nearest] == labels[:, None]).mean())


def chance_purity(labels: np.ndarray) -> float:
    """The purity of random neighbours."""
    counts = np.bincount(labels)
    return float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1)))


def embed(features: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """(N, D) to (N, 2) by scikit-learn's t-SNE."""
    from sklearn.manifold import TSNE

    return TSNE(perplexity=perplexity, random_state=seed, init="pca").fit_transform(features)


def tsne_figure(
    shown: Sequence[Shown], gallery: Gallery, settings: TsneSettings, wording: Wording
) -> Outcome:
    """Draw a panel per encoder.

    Args:
        gallery: See `choose_images`.

    Raises:
        UserError: When too few images can be read.
    """
    sizes = image_sizes(settings.img_size, shown)
    features, gallery = encode_gallery(shown, gallery, sizes, settings.cache, settings.workers)
    _check_number(gallery, settings)
    chance = chance_purity(gallery.labels)
    clouds, lines, purities = [], [], []
    for system, rows in zip(shown, features, strict=True):
        own = purity(rows.numpy(), gallery.labels, settings.k)
        points = embed(rows.numpy(), settings.perplexity, settings.seed)
        drawn = purity(points, gallery.labels, settings.k)
        purities.append(dict(name=system.name, features=round(own, 4), map=round(drawn, 4)))
        text = f"{settings.k}-NN purity {own:.1%}"
        lines.append(f"{system.name}: {text}, in the map {drawn:.1%} (by chance {chance:.1%})")
        clouds.append(Cloud(points, system.name, text))
    caption = _caption(shown, gallery, settings, sizes, purities, chance)
    figure = scatter_figure(
        clouds, gallery.labels, gallery.classes, wording.drawn(caption), wording.width
    )
    facts = make_facts(
        "t-SNE of features",
        caption,
        wording,
        shown,
        data=str(gallery.root),
        classes=list(gallery.classes),
        num_images=len(gallery),
        seed=settings.seed,
        perplexity=settings.perplexity,
        k=settings.k,
        purity=purities,
        chance=round(chance, 4),
        img_size=sizes,
    )
    return Outcome(figure, facts, lines)


def choose_images(settings: TsneSettings) -> Gallery:
    """Draw classes and images.

    Raises:
        MissingFileError, UserError: For too few classes or images, or without scikit-learn.
    """
    if not find_spec("sklearn"):
        raise UserError(
            "t-SNE needs scikit-learn, which is not installed: pip install 'milan_mm[look]'"
        )
    gallery = find_gallery(settings.data, settings.split, needs_labels=True)
    there = len(gallery.classes)
    if settings.classes and settings.classes > there:
        raise UserError(
            f"--classes {settings.classes}: '{gallery.root}' has {there} classes, give 2 to {there}"
        )
    wanted = settings.classes or USUAL_CLASSES
    if wanted < 2:
        raise UserError(f"--classes {wanted}: purity compares classes, give 2 or more")
    gallery = draw_classes(gallery, wanted, settings.per_class, settings.seed)
    _check_number(gallery, settings)
    return gallery


def _check_number(gallery: Gallery, settings: TsneSettings) -> None:
    number = len(gallery)
    for option, value in (("perplexity", settings.perplexity), ("k", settings.k)):
        if value >= number:
            raise UserError(
                f"--{option} {value:g} needs more than {value:g} images, {len(gallery.classes)} "
                f"classes in '{gallery.root}' give {number}: lower it to {max(1, number // 3)}, or "
                "take more classes or images (--classes, --images-per-class)"
            )


def _caption(
    shown: Sequence[Shown],
    gallery: Gallery,
    settings: TsneSettings,
    sizes: Sequence[int],
    purities: Sequence[dict],
    chance: float,
) -> str:
    numbers = "; ".join(
        f"{p['name']} {p['features']:.1%}, in the map {p['map']:.1%}" for p in purities
    )
    shared = ""
    if len(gallery.classes) > LOOKS:
        shared = f"Colour and marker tell {LOOKS} classes apart, others share them. "
    return (
        f"t-SNE of features ({describe_features(shown)}, scaled to length 1) of {len(gallery)} "
        f"images in {len(gallery.classes)} random classes of "
        f"{gallery.root}. {shared}"
        f"Perplexity {settings.perplexity:g}, seed {settings.seed}. "
        f"{describe_sizes(sizes, shown)} Purity, the share of the {settings.k} nearest "
        f"neighbours that have a point's class: {numbers}; by chance {chance:.1%}. "
        f"{name_weights(shown)}"
    )
