"""Hostile and broken data, each put into a small sound data set."""

from benchmarks.reliability.payloads.coco import COCO
from benchmarks.reliability.payloads.folders import CLASSES, FOREIGN, PAIRS
from benchmarks.reliability.payloads.images import EPS, IMAGES
from benchmarks.reliability.payloads.sound import (
    MARKER,
    OUTSIDE,
    SECRET,
    Payload,
    first_image,
    sound,
)

__all__ = ["EPS", "MARKER", "OUTSIDE", "PAYLOADS", "SECRET", "Payload", "first_image", "sound"]

PAYLOADS: tuple[Payload, ...] = (*COCO, *IMAGES, *PAIRS, *CLASSES, *FOREIGN)
