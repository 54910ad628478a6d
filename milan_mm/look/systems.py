"""The encoders that a figure compares, and what its caption says of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from milan_mm.errors import UserError
from milan_mm.evaluation.encoders import heads_of, load_frozen_encoder
from milan_mm.models.plain_vit import PlainViT
from milan_mm.text import count
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.reading import file_sha256
from milan_mm.weights.recognising import read_encoder

SHORT_HASH = 8  # digits in captions


@dataclass(frozen=True)
class Shown:
    """An encoder in a figure.

    Attributes:
        name: Of its column or panel.
        vit: Frozen, on the GPU if there is one.
        encoder: What was read from its file.
        sha256: Checksum of the file.
    """

    name: str
    vit: PlainViT
    encoder: Encoder
    sha256: str

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return next(self.vit.parameters()).device

    @property
    def size(self) -> int:
        """Side in pixels of the images that it was trained on."""
        return self.vit.grid_size[0] * self.vit.patch_size

    @property
    def reference(self) -> str:
        """The file and its checksum, for captions."""
        file = short_path(self.encoder.source)
        known = "" if self.name == self.encoder.system else f"{self.encoder.system}, "
        return f"{self.name} = {file} ({known}sha256 {self.sha256[:SHORT_HASH]})"

    @property
    def facts(self) -> dict[str, Any]:
        """What it takes to read the same encoder again."""
        return dict(
            name=self.name,
            file=self.encoder.source,
            sha256=self.sha256,
            system=self.encoder.system,
            layout=self.encoder.layout,
            stats=self.encoder.stats,
            pooling=self.encoder.pooling,
            options=self.encoder.options,
        )


def read_systems(
    files: Sequence[str], names: Sequence[str] | None = None, **options: Any
) -> list[Shown]:
    """Read the encoders of weights files.

    Args:
        files: See `read_encoder`.
        names: What the figure calls them; None takes their systems, and the files where two
            are of one system.
        options: Of `read_encoder`, for all files.

    Raises:
        MissingFileError, UserError: For a file that cannot be read, or a wrong number of names.
    """
    check_names(names, files, "--weights")
    encoders = [read_encoder(file, **options) for file in files]
    labels = list(names or _names_of(encoders))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return [
        Shown(
            name=label,
            vit=load_frozen_encoder(encoder)[0].to(device),
            encoder=encoder,
            sha256=file_sha256(encoder.source),
        )
        for label, encoder in zip(labels, encoders, strict=True)
    ]


def image_sizes(wanted: int | None, shown: Sequence[Shown], times: int = 1) -> list[int]:
    """Side in pixels of the images that each encoder sees.

    Args:
        wanted: What the user asks for; None takes that of each encoder's own pretraining.
        times: How many times as large as that.

    Raises:
        UserError: When it is not a multiple of a patch.
    """
    if not wanted:
        return [times * system.size for system in shown]
    for system in shown:
        patch = system.vit.patch_size
        if wanted % patch:
            common = math.lcm(*(s.vit.patch_size for s in shown))
            nearest = max(1, round(wanted / common)) * common
            raise UserError(
                f"images of {wanted} px are not a multiple of the patches of {patch} px of "
                f"{system.name}: pass --img-size {nearest}"
            )
    return [wanted] * len(shown)


def layer_of(layer: int | None, system: Shown) -> int:
    """Number of a block from 0.

    Args:
        layer: As users count, from 1, or from the end with -1 as the last; None is the last.

    Raises:
        UserError: When there is no such block.
    """
    depth = system.vit.num_layers
    if layer is None:
        return depth - 1
    if layer == 0 or not -depth <= layer <= depth:
        raise UserError(
            f"--layer {layer}: {system.name} has {depth} blocks, give 1 to {depth}, or -1 for the "
            "last"
        )
    return layer - 1 if layer > 0 else depth + layer


def describe_layers(layers: Sequence[int], shown: Sequence[Shown]) -> str:
    """'block 12 of 12', see `describe_each`."""
    named = [f"block {i + 1} of {s.vit.num_layers}" for i, s in zip(layers, shown, strict=True)]
    return describe_each(named, shown)


def describe_sizes(sizes: Sequence[int], shown: Sequence[Shown]) -> str:
    """'Images of 224 px.', see `describe_each`."""
    return f"Images of {describe_each([f'{size} px' for size in sizes], shown)}."


def describe_features(shown: Sequence[Shown]) -> str:
    """'class token after the final norm', as the system's classification pools; `describe_each`."""
    pooled = dict(cls="class token", mean="mean of the patches", pool="mean of the patches")
    texts = [
        pooled[system.encoder.pooling] + " after the final norm" * ends_in_norm(system)
        for system in shown
    ]
    return describe_each(texts, shown)


def ends_in_norm(system: Shown) -> bool:
    """Whether a norm follows the last block."""
    return system.vit.options.final_norm


def describe_each(texts: Sequence[str], shown: Sequence[Shown]) -> str:
    """What all systems have in common, or the text of each one where they differ."""
    if len(set(texts)) == 1:
        return texts[0]
    return ", ".join(f"{text} ({s.name})" for text, s in zip(texts, shown, strict=True))


def count_heads(system: Shown) -> int:
    """Attention heads."""
    return heads_of(system.vit)


def _names_of(encoders: Sequence[Encoder]) -> list[str]:
    """Their systems where those differ and are known; else the files."""
    systems = [encoder.system for encoder in encoders]
    if len(set(systems)) == len(systems) and not any(" or " in name for name in systems):
        return systems
    return distinct_names([encoder.source for encoder in encoders])


def check_names(names: Sequence[str] | None, files: Sequence[str], option: str) -> None:
    """Refuse `--method` where it does not name each file of an option differently."""
    if names and len(names) != len(files):
        raise UserError(
            f"--method gives {count(len(names), 'name')}, {option} {count(len(files), 'file')}: "
            "name each of them"
        )
    if names and len(set(names)) < len(names):
        raise UserError(f"--method gives a name twice ({', '.join(names)}): name each differently")


def distinct_names(files: Sequence[str]) -> list[str]:
    """Names of files, as short as they differ; of 'work/mae/epoch_1.pth' the folder, 'mae'."""
    paths = [Path(file) for file in files]
    parts = [
        path.parent.parts if _says_nothing(path.stem) else (*path.parent.parts, path.stem)
        for path in paths
    ]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names) and all(names):
            return names
    return [f"{path.stem} {i + 1}" for i, path in enumerate(paths)]


def short_path(source: str | Path) -> str:
    """A file's name, and its folder's where the name is that of any checkpoint."""
    path = Path(source)
    return "/".join(path.parts[-2:]) if _says_nothing(path.stem) else path.name


def _says_nothing(name: str) -> bool:
    """Whether a file has the name of any checkpoint, e.g. 'epoch_400'."""
    return name.split("_")[0] in ("epoch", "iter", "latest", "checkpoint", "model", "best")
