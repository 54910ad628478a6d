"""Models as Hugging Face and timm store them: names on the hub, and facts from `config.json`."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from huggingface_hub import snapshot_download

from milan_mm.errors import UserError
from milan_mm.weights.reading import FOLDER_FILES
from milan_mm.weights.statistics import stats_name
from milan_mm.weights.systems import HF_TYPES, timm_system

ACTS = {"gelu": "GELU", "quick_gelu": "QuickGELU"}
# What a name on the Hugging Face hub starts with here -> its owner there.
HUB_PREFIXES = {"hf:": "", "timm:": "timm/"}


def local_path(path: str | Path) -> str | Path:
    """The folder of a model on the Hugging Face hub; any other path is returned as it is.

    Args:
        path: 'hf:OWNER/NAME', or 'timm:NAME' for timm's own models, e.g.
            'timm:vit_base_patch16_224.dino'. Downloaded once, without any code.

    Raises:
        UserError: When the model does not exist, or there is no network.
    """
    prefix = next((p for p in HUB_PREFIXES if str(path).startswith(p)), None)
    if prefix is None:
        return path
    name = HUB_PREFIXES[prefix] + str(path).removeprefix(prefix)
    try:
        return snapshot_download(name, allow_patterns=["*config.json", *FOLDER_FILES[:1]])
    except Exception as error:  # a wrong name, no network, a full disk
        reason = shorten(str(error), 200, placeholder=" ...")
        raise UserError(
            f"'{path}' could not be downloaded: {reason} - give a name of the Hugging Face hub, or "
            "the path of a local file or folder"
        ) from None


@dataclass(frozen=True)
class HubFacts:
    """Options of an encoder that a config states; None where it states none."""

    system: str | None = None
    embed_dims: int | None = None
    img_size: int | None = None
    patch_size: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    norm_eps: float | None = None
    act: str | None = None
    num_registers: int | None = None
    rope_base: float | None = None
    pos_resize: str | None = None
    stats: str | None = None
    pooling: str | None = None


def read_hub_facts(path: str | Path) -> HubFacts:
    """Read config.json and preprocessor_config.json in the folder of a weights file.

    Args:
        path: The folder, or the weights file in it. Files of other names than `FOLDER_FILES` have
            no config: one in the same folder belongs to another model.

    Raises:
        UserError: When they are not JSON, or ask for what `PlainViT` does not have.
    """
    path = Path(path)
    if not path.is_dir() and path.name not in FOLDER_FILES:
        return HubFacts()
    folder = path if path.is_dir() else path.parent
    config = _read_json(folder / "config.json")
    if str(config.get("model_type")) in HF_TYPES:
        return _hugging_face(config, _read_json(folder / "preprocessor_config.json"), folder)
    if "architecture" in config and isinstance(config.get("pretrained_cfg"), dict):
        return _timm(config)
    return HubFacts()


def _read_json(file: Path) -> dict:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of JSON or of UTF-8
        raise UserError(f"'{file}' is damaged: {error}") from None
    return content if isinstance(content, dict) else {}


def _hugging_face(config: dict, preprocessor: dict, folder: Path) -> HubFacts:
    act = str(config.get("hidden_act", "gelu"))
    if act not in ACTS:
        raise UserError(
            f"'{folder}/config.json' says hidden_act='{act}', supported are {', '.join(ACTS)}"
        )
    pooling = None
    if "use_mean_pooling" in config:
        pooling = "mean" if config["use_mean_pooling"] else "cls"
    rope = "rope_theta" if "rope_theta" in config else "pos_embed_rope_base"
    is_pair = isinstance(config.get("image_size"), list)  # height and width: not a square grid
    return HubFacts(
        system=HF_TYPES[config["model_type"]],
        embed_dims=_number(config, "hidden_size", folder),
        img_size=None if is_pair else _number(config, "image_size", folder),
        patch_size=_number(config, "patch_size", folder),
        num_layers=_number(config, "num_hidden_layers", folder),
        num_heads=_number(config, "num_attention_heads", folder),
        norm_eps=_number(config, "layer_norm_eps", folder, float),
        act=ACTS[act],
        num_registers=_number(config, "num_register_tokens", folder),
        rope_base=_number(config, rope, folder, float),
        stats=stats_name(preprocessor.get("image_mean"), preprocessor.get("image_std")),
        pooling=pooling,
    )


def _number(config: dict, name: str, folder: Path, kind: type = int) -> Any:
    """A number, 0 or more, or None; a whole number unless `kind` is float."""
    value: Any = config.get(name)
    if value is None:
        return None
    if type(value) not in (int, kind) or not 0 <= value < math.inf:
        wanted = "a number" if kind is float else "a whole number"
        raise UserError(f"'{folder}/config.json' says {name}={value!r}, which is not {wanted}")
    return kind(value)


def _timm(config: dict) -> HubFacts:
    pretrained = config["pretrained_cfg"]
    name = f"{config['architecture']}.{pretrained.get('tag', '')}"
    pooling = {"token": "cls", "avg": "mean"}.get(str(config.get("global_pool")))
    return HubFacts(
        system=timm_system(name),
        act="QuickGELU" if "quickgelu" in name else None,
        stats=stats_name(pretrained.get("mean"), pretrained.get("std")),
        pooling=pooling,
    )
