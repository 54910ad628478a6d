"""A pretrained encoder as this package knows it, and how its own files describe one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.models.positions import RESIZE_RULES
from milan_mm.models.vit_options import WEIGHT_OPTIONS, ViTOptions
from milan_mm.weights.layouts import reasons
from milan_mm.weights.settings import Settings
from milan_mm.weights.stated.facts import plain_dense
from milan_mm.weights.statistics import stats_values
from milan_mm.weights.systems import POOLINGS, SYSTEMS

OWN_LAYOUT = "milan_mm encoder"
# Of `PlainViT`: what a setting is where nobody sets it.
DEFAULTS: dict[str, Any] = {name: getattr(ViTOptions, name) for name in WEIGHT_OPTIONS}
DEFAULTS["pos_resize"] = "bicubic"  # what a `PlainViT` does without the option
# Settings that tensors do not contradict.
_ONLY_STATED = ("layer_scale", "img_size", "arch", "act", "pos_resize")
# Types of the settings in the metadata of an encoder file.
_KINDS: dict[str, Any] = dict(
    arch=dict,
    img_size=int,
    patch_size=int,
    with_cls_token=bool,
    final_norm=bool,
    norm_eps=float,
    act=str,
    patch_bias=bool,
    pre_norm=bool,
    layer_scale=float | None,
    with_pos_embed=bool,
    pos_resize=str,
    rel_pos_bias_grid=list | None,
    num_registers=int,
    rope_base=float | None,
    rope_kind=str,
    rope_grid=list | None,
    mlp_dims=int | None,
    norm=str,
    patch_norm=bool,
    qk_norm=bool,
    attn_norm=bool,
    mlp_norm=bool,
    pool_heads=int,
    pool_dims=int | None,
)


@dataclass(frozen=True)
class Encoder:
    """A pretrained encoder, and all that is known about it.

    Attributes:
        source: The file.
        layout: Key of `LAYOUTS`.
        state_dict: float32 tensors under the names of `PlainViT`.
        settings: See `Settings.values`.
        system: Key of `SYSTEMS`: the most probable origin.
        stats: How the images of the pretraining were normalised, see `stats_text`.
        pooling: 'cls' or 'mean', what the system's own classification takes.
        assumed: Setting or attribute -> sentence, where the file does not settle the value.
        dropped: Name in the file -> why it is not part of the encoder.
        added: Name here -> what was made up, since the file has no such tensor.
        theirs: Name here -> name in the file.
        options: Those of `READ_OPTIONS` that were given, to read the file the same way again.
        dense: Windows and relative positions of a detector, see `stated.training.dense_options`.
    """

    source: str
    layout: str
    state_dict: dict[str, Tensor]
    settings: dict[str, Any]
    system: str
    stats: str
    pooling: str
    assumed: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)
    theirs: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    dense: dict[str, Any] = field(default_factory=dict)

    def model_settings(self) -> dict[str, Any]:
        """The settings that differ from the defaults of `PlainViT`, complete enough to build one.

        Raises:
            UserError: When the heads or the grid of the position table are unknown.
        """
        arch = self.settings["arch"]
        if "num_heads" not in arch:
            raise UserError(
                f"{self.source} has {arch['num_layers']} blocks of width {arch['embed_dims']}, and "
                "the tensors do not show the number of attention heads: pass --num-heads, "
                "that of the pretraining"
            )
        if "img_size" not in self.settings:
            raise UserError(
                f"{self.source} has positions for {self.num_patches} patches, which is not a "
                "square grid: such encoders are not supported here"
            )
        return {n: v for n, v in self.settings.items() if n not in DEFAULTS or v != DEFAULTS[n]}

    @property
    def finetuned(self) -> str:
        """What the file holds besides the encoder, which was finetuned with it; '' for nothing."""
        parts = {"detector": reasons.DETECTOR, "segmentor": reasons.SEGMENTOR}
        whole = [name for name, part in parts.items() if part in self.dropped.values()]
        return f"as part of a {whole[0]}, not as its pretraining left it" if whole else ""

    @property
    def num_patches(self) -> int:
        """Patches that its positions are for."""
        if "pos_embed" in self.state_dict:
            return self.state_dict["pos_embed"].shape[1] - int("cls_token" in self.state_dict)
        return (self.settings.get("img_size", 0) // self.settings["patch_size"]) ** 2

    def metadata(self) -> dict[str, str]:
        """All that is known, but names of tensors, as the metadata of an encoder file."""
        settings = self.settings
        side = settings.get("img_size", 0) // settings["patch_size"]
        return dict(
            format="pt",
            layout=OWN_LAYOUT,
            source=Path(self.source).name,
            source_layout=self.layout,
            system=self.system,
            stats=self.stats,
            pooling=self.pooling,
            grid=f"{side}x{side}" if side else "not square",
            embed_dims=str(settings["arch"]["embed_dims"]),
            num_layers=str(settings["arch"]["num_layers"]),
            patch_size=str(settings["patch_size"]),
            num_patches=str(self.num_patches),
            settings=json.dumps(settings),
            assumed=json.dumps(self.assumed),
            **(dict(dense=json.dumps(self.dense)) if self.dense else {}),
        )


@dataclass(frozen=True)
class Stated:
    """What the metadata of an encoder file say; see `Encoder`."""

    settings: dict[str, Any]
    system: str
    stats: str
    pooling: str
    assumed: dict[str, str]
    dense: dict[str, Any] = field(default_factory=dict)


def read_stated(metadata: Mapping[str, str], path: str | Path) -> Stated | None:
    """What an encoder file of this package states; None for other files, and for old ones.

    Raises:
        UserError: When the metadata are damaged.
    """
    if metadata.get("layout") != OWN_LAYOUT or "settings" not in metadata:
        return None
    settings = _read_dict(metadata, "settings", path)
    if not settings.keys() <= _KINDS.keys():
        raise UserError(f"{path}: its metadata 'settings' hold unknown options: {settings}")
    wrong = [name for name, value in settings.items() if not isinstance(value, _KINDS[name])]
    if wrong or not all(type(n) is int and n > 0 for n in settings.get("arch", {}).values()):
        raise UserError(f"{path}: its metadata 'settings' are damaged: {settings}")
    if settings.get("pos_resize", "bicubic") not in RESIZE_RULES:
        raise UserError(f"{path}: its metadata 'settings' are damaged: {settings}")
    if metadata.get("system") not in SYSTEMS:
        raise UserError(f"{path}: its metadata name an unknown system: {metadata.get('system')}")
    if metadata.get("pooling") not in POOLINGS:
        raise UserError(f"{path}: its metadata 'pooling' are '{metadata.get('pooling')}': damaged")
    try:
        stats_values(metadata.get("stats", ""))
    except UserError as error:
        raise UserError(f"{path}: its metadata 'stats' are damaged: {error}") from None
    return Stated(
        settings={n: tuple(v) if isinstance(v, list) else v for n, v in settings.items()},
        system=metadata["system"],
        stats=metadata["stats"],
        pooling=metadata["pooling"],
        assumed=_read_dict(metadata, "assumed", path),
        dense=plain_dense(_read_dict(metadata, "dense", path)),
    )


def reconcile(inferred: Settings, stated: Stated, path: str) -> dict[str, Any]:
    """Settings as an encoder file states them, which override what its tensors only suggest.

    Raises:
        UserError: When its tensors contradict them.
    """
    values, own = inferred.values, stated.settings
    for name, value in own.items():
        settled = name not in inferred.assumed and name not in _ONLY_STATED
        if settled and name in values and values[name] != value:
            raise UserError(
                f"{path}: its metadata say {name}={value}, its tensors {values[name]}: it is "
                "damaged"
            )
    arch, own_arch = values["arch"], own.get("arch", {})
    if any(arch.get(n, v) != v for n, v in own_arch.items() if n not in inferred.assumed):
        raise UserError(f"{path}: its metadata say arch={own_arch}, else it is {arch}")
    return values | own | dict(arch=arch | own_arch)


def _read_dict(metadata: Mapping[str, str], name: str, path: str | Path) -> dict[str, Any]:
    try:
        content = json.loads(metadata.get(name, "{}"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its metadata '{name}' are damaged: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: its metadata '{name}' are damaged: {content}")
    return content
