"""Dividing images into training and validation: seeded, by class, without twins on both sides."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from milan_mm.errors import UserError
from milan_mm.files import sha256_of
from milan_mm.upkeep.convert.samples import Sample

_AUGMENTED = ".rf."  # in Roboflow's names: what is before it is the photo that was varied


def split(
    samples: Sequence[Sample], share: float, seed: int
) -> tuple[list[Sample], list[Sample], int]:
    """Divide samples.

    Images of equal content, and Roboflow's variants of one photo, stay on one side. Each such group
    counts for its rarest class, and of each class the same share is taken.

    Args:
        share: Of the groups that go to validation, 0 to 1.

    Returns:
        Training and validation, both in the order given, and the number of images that are twins.

    Raises:
        UserError: When one of the sides would be empty.
    """
    groups = _groups(samples)
    wanted = round(share * len(groups))
    if not 0 < wanted < len(groups):
        raise UserError(
            f"--val-share {share:g} of {len(groups)} different images gives {wanted} for "
            "validation: give a share that leaves at least one image on both sides"
        )
    counts = Counter(label for group in groups for label in _labels(group))
    strata: dict[int, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        rarest = min(_labels(group), key=lambda label: (counts[label], label), default=-1)
        strata[rarest].append(number)
    chosen: set[int] = set()
    generator = random.Random(seed)
    for label, size in _quotas({k: len(v) for k, v in strata.items()}, wanted).items():
        chosen.update(generator.sample(strata[label], size))
    val = {id(sample) for number in chosen for sample in groups[number]}
    parts = ([s for s in samples if id(s) not in val], [s for s in samples if id(s) in val])
    return *parts, len(samples) - len(groups)


def _labels(group: Sequence[Sample]) -> set[int]:
    return {label for sample in group for label in sample.labels}


def _quotas(sizes: dict[int, int], wanted: int) -> dict[int, int]:
    """How many of each class, in proportion; the largest remainders get what rounding leaves."""
    total = sum(sizes.values())
    exact = {label: size * wanted / total for label, size in sorted(sizes.items())}
    quotas = {label: int(value) for label, value in exact.items()}
    by_rest = sorted(exact, key=lambda label: (quotas[label] - exact[label], label))
    for label in by_rest[: wanted - sum(quotas.values())]:
        quotas[label] += 1
    return quotas


def _groups(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Twins together; only files of one size are read for it."""
    sizes = Counter(sample.path.stat().st_size for sample in samples)
    parent: dict[object, int] = {}
    groups: dict[int, list[Sample]] = {}
    for number, sample in enumerate(samples):
        keys: list[object] = []
        if sizes[sample.path.stat().st_size] > 1:
            keys.append(sha256_of(sample.path))
        if _AUGMENTED in sample.path.name:
            keys.append(sample.path.name.partition(_AUGMENTED)[0])
        known = sorted({parent[key] for key in keys if key in parent})
        own = known[0] if known else number
        for other in known[1:]:  # the sample joins two groups
            groups[own] += groups.pop(other)
            parent.update({key: own for key, group in parent.items() if group == other})
        groups.setdefault(own, []).append(sample)
        parent.update(dict.fromkeys(keys, own))
    return list(groups.values())
