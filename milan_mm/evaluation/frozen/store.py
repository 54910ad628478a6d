"""Features on the disk: a folder for each split, written part by part and read by mapping.

A folder holds

    manifest.json           what the features depend on (`FeatureSpec`), and a checksum of each part
    images.json             names, labels and classes of the images
    POOLING.safetensors     one tensor 'features' (N, blocks, D) for each pooling

The tensor files have their full size from the start, so that a full disk shows before the first
image is read. A part is a run of images; its checksum is written down once its rows are on the
disk. What was interrupted or damaged is computed again part by part, and the rest is kept.
"""

import json
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, tensor

from milan_mm.errors import MissingFileError, UserError
from milan_mm.evaluation.frozen.feature_set import FeatureSet
from milan_mm.evaluation.frozen.spec import DTYPES, FeatureSpec
from milan_mm.run.records.json_file import read_json, write_json

VERSION = 1
MANIFEST, IMAGES = "manifest.json", "images.json"
_TENSOR = "features"
_PART_BYTES, _PART_IMAGES = 32 * 2**20, 4096  # of one pooling, at most, in a part
_READ_BYTES = 4 * 2**20
_ALIGNMENT = 64
_NAMES = dict(float32="F32", float16="F16")  # of safetensors


@dataclass(frozen=True)
class Images:
    """The labelled images of a split, in the order of the features.

    Attributes:
        names: Relative to the folder of the split. labels: In [0, len(classes)).
        classes: Their names.
    """

    names: Sequence[str]
    labels: Sequence[int]
    classes: Sequence[str]


@dataclass
class Store:
    """The features of one split, complete or not.

    Attributes:
        folder: See above. spec: What they depend on.
        parts: For each part a checksum by pooling; None for one that is not there.
    """

    folder: Path
    spec: FeatureSpec
    parts: list[dict[str, int] | None] = field(default_factory=list)

    @classmethod
    def open(cls, folder: str | Path) -> "Store":
        """Read a manifest; the features are not looked at.

        Raises:
            MissingFileError, UserError: When there is none of this version, or it is damaged.
        """
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            raise MissingFileError(
                f"'{folder}' is not a folder of features, since it has no {MANIFEST}: "
                "tools/extract.py makes one for each split"
            )
        content = read_json(folder / MANIFEST, VERSION)
        try:
            assert content is not None
            store = cls(folder, FeatureSpec.read(content["spec"]), list(content["parts"]))
            assert len(store.parts) == store.num_parts
        except (AssertionError, KeyError, TypeError, ValueError):
            raise UserError(
                f"'{folder / MANIFEST}' is damaged, or of another version of milan_mm: remove "
                "the folder, and its features are computed again"
            ) from None
        return store

    @property
    def part_size(self) -> int:
        """Images of a part."""
        row = len(self.spec.needs.blocks) * self.spec.width * DTYPES[self.spec.dtype].itemsize
        return min(max(1, _PART_BYTES // row), _PART_IMAGES)

    @property
    def num_parts(self) -> int:
        """Of all images."""
        return -(-self.spec.num_images // self.part_size)

    @property
    def missing(self) -> list[range]:
        """The images of the parts that are not there."""
        size, total = self.part_size, self.spec.num_images
        return [
            range(i * size, min((i + 1) * size, total))
            for i, part in enumerate(self.parts)
            if part is None
        ]

    @property
    def is_complete(self) -> bool:
        """Whether all features are there."""
        return None not in self.parts

    def file(self, pooling: str) -> Path:
        """The tensor file of a pooling."""
        return self.folder / f"{pooling}.safetensors"

    def read(self, pooling: str) -> FeatureSet:
        """Features, labels and names; the features are mapped, not read.

        Raises:
            UserError: When they are not complete, or a file is damaged; see `check` for its
                content.
        """
        spec = self.spec
        if not self.is_complete:
            left = sum(map(len, self.missing))
            raise UserError(
                f"'{self.folder}' has no features yet of {left:,} of {spec.num_images:,} images: "
                "the same command of tools/extract.py goes on"
            )
        images = self.images()
        try:
            with safe_open(self.file(pooling), framework="pt") as file:
                features: Tensor = file.get_tensor(_TENSOR)
        except Exception as error:  # a damaged file leads to any kind of error
            raise self._damaged(self.file(pooling), str(error)) from None
        if tuple(features.shape) != self._shape() or features.dtype != DTYPES[spec.dtype]:
            raise self._damaged(self.file(pooling), f"it has the shape {tuple(features.shape)}")
        return FeatureSet(
            features=features,
            labels=tensor(images.labels),
            classes=tuple(images.classes),
            names=images.names,
            blocks=spec.needs.blocks,
            pooling=pooling,
        )

    def images(self) -> Images:
        """Names, labels and classes of the images.

        Raises:
            UserError: When they are damaged.
        """
        content = read_json(self.folder / IMAGES, VERSION)
        try:
            assert content is not None
            images = Images(content["names"], content["labels"], content["classes"])
            assert len(images.names) == len(images.labels) == self.spec.num_images
            assert all(0 <= label < len(images.classes) for label in images.labels)
        except (AssertionError, KeyError, TypeError):
            raise self._damaged(self.folder / IMAGES, "names and labels do not fit") from None
        return images

    def check(self) -> list[str]:
        """Compare every part with its checksum, at the speed of the disk; bad ones become missing.

        Returns:
            What was wrong, in a line for each file.
        """
        found = []
        for pooling in self.spec.needs.poolings:
            path, bad = self.file(pooling), 0
            for i, part in enumerate(self.parts):
                if part is not None and _checksum(path, *self.place(i)) != part.get(pooling):
                    self.parts[i] = None
                    bad += 1
            if bad:
                found.append(f"{bad} of {len(self.parts)} parts of '{path}' are damaged")
        return found

    def _shape(self) -> tuple[int, int, int]:
        return self.spec.num_images, len(self.spec.needs.blocks), self.spec.width

    def place(self, part: int) -> tuple[int, int]:
        """First byte of a part in a tensor file, and its bytes."""
        _, blocks, width = self._shape()
        row = blocks * width * DTYPES[self.spec.dtype].itemsize
        first = part * self.part_size
        rows = min(self.part_size, self.spec.num_images - first)
        return len(self.header()) + first * row, rows * row

    def header(self) -> bytes:
        """What a tensor file starts with; padded, so that the numbers are aligned."""
        size = self.spec.nbytes // len(self.spec.needs.poolings)
        entry = dict(
            dtype=_NAMES[self.spec.dtype], shape=list(self._shape()), data_offsets=[0, size]
        )
        facts = {name: json.dumps(value) for name, value in self.spec.facts.items()}
        text = json.dumps({"__metadata__": facts, _TENSOR: entry}).encode()
        text += b" " * (-(8 + len(text)) % _ALIGNMENT)
        return len(text).to_bytes(8, "little") + text

    def save(self) -> None:
        """Write the manifest."""
        write_json(self.folder / MANIFEST, VERSION, dict(spec=self.spec.facts, parts=self.parts))

    def _damaged(self, path: Path, why: str) -> UserError:
        return UserError(
            f"'{path}' is damaged ({why}): remove the folder '{self.folder}', and its features "
            "are computed again"
        )


def find_store(root: str | Path, spec: FeatureSpec) -> Store | None:
    """A complete store below a folder whose features are those of a spec, or more of them."""
    for manifest in sorted(Path(root).glob(f"{spec.weights_sha256[:8]}_{spec.split}_*/{MANIFEST}")):
        with suppress(UserError):  # of another version
            store = Store.open(manifest.parent)
            if store.is_complete and store.spec.serves(spec):
                return store
    return None


def _checksum(path: Path, offset: int, size: int) -> int | None:
    """CRC-32 of a range of bytes; None where the file is shorter."""
    total = 0
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while size:
                if not (content := file.read(min(size, _READ_BYTES))):
                    return None
                total, size = zlib.crc32(content, total), size - len(content)
    except OSError:
        return None
    return total
