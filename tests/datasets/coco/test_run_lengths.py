"""Compressed run lengths: as many pixels as pycocotools encoded; damage is noticed."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from milan_mm.datasets.coco.run_lengths import count_pixels


def decode_slowly(text: str) -> int:
    """Digit by digit, as pycocotools' C code does, with its limits; -1 for a damaged one."""
    runs: list[int] = []
    place = 0
    while place < len(text):
        value, digits, more = 0, 0, True
        while more:
            if place == len(text):
                return -1
            digit = ord(text[place]) - 48
            if not 0 <= digit < 64:
                return -1
            value |= (digit & 31) << (5 * digits)
            place, digits, more = place + 1, digits + 1, bool(digit & 32)
            if not more and digit & 16:
                value -= 1 << (5 * digits)
        value += runs[-2] if len(runs) > 2 else 0
        if digits > 7 or not 0 <= value < 1 << 31:
            return -1
        runs.append(value)
    return sum(runs) if text else -1


def test_what_pycocotools_encodes_covers_the_image():
    generator = np.random.default_rng(0)
    texts, sizes = [], []
    for share in (0, 0.001, 0.01, 0.5, 0.99, 1) * 8:
        height, width = generator.integers(1, 200, 2)
        inside = np.asfortranarray(generator.random((height, width)) < share, dtype=np.uint8)
        inside[: height // 2, : width // 3] = 1
        texts.append(coco_mask.encode(inside)["counts"].decode())
        sizes.append(height * width)
    assert count_pixels(texts).tolist() == sizes
    assert [count_pixels([text])[0] for text in texts] == sizes


def test_garbage_is_decoded_as_by_a_slow_decoder():
    generator = np.random.default_rng(1)
    texts = [
        "".join(chr(48 + code) for code in generator.integers(0, top, length))
        for top, length in zip((16, 32, 64, 70) * 500, generator.integers(0, 14, 2000), strict=True)
    ]
    found = count_pixels(texts).tolist()
    assert found == [decode_slowly(text) for text in texts]
    assert 0.2 < np.mean(np.array(found) >= 0) < 0.8


@pytest.mark.parametrize("text", ["", "~~~~", "é", "o", "ooooooooooooooo0"])
def test_damage_is_marked_and_leaves_others_alone(text):
    assert count_pixels(["8", text, "8"]).tolist() == [8, -1, 8]
    assert count_pixels([text]).tolist() == [-1]


def test_no_masks_are_no_numbers():
    assert count_pixels([]).tolist() == []
