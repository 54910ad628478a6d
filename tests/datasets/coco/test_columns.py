"""Screening a million annotations never passes one that a look at each would name."""

import copy
import random
from pathlib import Path

import pytest

from milan_mm.datasets.coco.faults import incomplete, object_problems
from milan_mm.datasets.coco.file import CocoFile
from tests.datasets.coco.test_file import CONTENT, TRIANGLE

ODD = [
    *(None, "", "7", "abcd", True, [], {}, [[]], dict(a=1), 0, -1, 0.5, 3, 99, 1e9, -1e9, 10**400),
    *(float("nan"), float("inf"), float("-inf")),
]


def oddities(rng: random.Random) -> object:
    """Something that may stand anywhere in a JSON file."""
    parts = [
        rng.choice(ODD),
        [rng.choice([*ODD, 1, 2, 3, 4]) for _ in range(rng.choice((3, 4, 5, 6, 8)))],
        [rng.uniform(-3, 35) for _ in range(4)],
        [TRIANGLE, [rng.choice([*ODD, 1, 2]) for _ in range(rng.choice((4, 5, 6, 8)))]],
        dict(size=[24, 32], counts=rng.choice(([768], [1, 767], [768.0], [-1, 769], "~~", "PPX"))),
        dict(size=rng.choice(([32, 24], None, 5)), counts=rng.choice(ODD)),
    ]
    return rng.choice(parts)


def annotations(seed: int) -> list:
    """Of 300, some have one or two odd fields, lack one, or are no annotation."""
    rng = random.Random(seed)
    entries = []
    for number in range(300):
        entry = copy.deepcopy(CONTENT["annotations"][0]) | dict(id=number, iscrowd=0, ignore=0)
        for _ in range(rng.choice((0, 0, 1, 2))):
            name = rng.choice(list(entry))
            entry[name] = oddities(rng)
            if rng.random() < 0.1:
                del entry[name]
        entries.append(entry if rng.random() < 0.98 else oddities(rng))
    return entries


@pytest.mark.parametrize("seed", range(20))
def test_what_is_found_is_what_a_look_at_every_annotation_finds(seed):
    entries = annotations(seed)
    file = CocoFile(Path(), CONTENT["images"], entries, CONTENT["categories"])
    faulty, seen = [], set()
    for entry in entries:
        if detail := incomplete(entry):
            faulty.append(detail)
            continue
        if entry["id"] in seen:
            faulty.append("has the id of another annotation")
        seen.add(entry["id"])
        image = file.images_by_id.get(entry["image_id"])
        faulty += [d for _, d in object_problems(entry, image, file.category_names, True, True)]
    assert [problem.detail for problem in file.problems()] == faulty
    assert len(faulty) > 50


def test_few_sound_annotations_are_looked_at():
    entries = [dict(CONTENT["annotations"][0], id=i) for i in range(100)]
    entries[7]["bbox"] = [1, 1, float("nan"), 2]
    entries[9]["segmentation"] = [[1, 2]]
    columns = CocoFile(Path(), CONTENT["images"], entries, CONTENT["categories"]).columns
    assert (columns.suspects.tolist(), columns.mask_suspects.tolist()) == ([7], [9])
