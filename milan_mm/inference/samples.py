"""Pictures as a model takes them, and those that it cannot take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.dataset import Compose
from torch.utils.data import Dataset

from milan_mm.datasets.decoding import reason_of
from milan_mm.datasets.loading import LoadImage
from milan_mm.inference.pictures import Picture


@dataclass(frozen=True)
class Unreadable:
    """A picture that was skipped, and why."""

    picture: Picture
    reason: str


@dataclass(frozen=True)
class Sample:
    index: int
    picture: Picture
    size: tuple[int, int]
    image: np.ndarray | None
    inputs: dict[str, Any]


class Samples(Dataset):
    """Pictures as the model takes them."""

    def __init__(self, pipeline: Compose, pictures: Sequence[Picture], with_images: bool) -> None:
        self.pipeline, self.pictures, self.with_images = pipeline, pictures, with_images

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample | Unreadable:
        picture = self.pictures[index]
        load, *rest = self.pipeline.transforms
        results: dict[str, Any] = dict(img_path=picture.path, img_id=picture.image_id)
        try:
            # the error itself, not the advice that `transform` adds
            results = load.read(results) if isinstance(load, LoadImage) else load(results)
            image: np.ndarray = results["img"]
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            return Unreadable(picture, reason_of(error))
        try:
            for transform in rest:
                results = transform(results)
        except Exception as error:  # such as OpenCV's, of a side that shrinks to nothing
            return Unreadable(picture, refusal(image.shape[:2], error))
        # without strides of its own, and independent of what transforms do to theirs
        kept = np.ascontiguousarray(image[..., ::-1]) if self.with_images else None
        return Sample(index, picture, image.shape[:2], kept, results)


def refusal(size: tuple[int, int], error: Exception) -> str:
    """Why a picture that can be read is skipped."""
    return f"the model cannot take its {pixels_of(size)} ({reason_of(error)})"


def pixels_of(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]} pixels"


def as_it_is(sample: Any) -> Any:
    """No tensors are made of arrays."""
    return sample
