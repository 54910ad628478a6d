"""Models as Hugging Face, timm and open_clip store them: names on the hub, and their configs."""

from pathlib import Path
from textwrap import shorten

from huggingface_hub import snapshot_download

from milan_mm.errors import UserError
from milan_mm.weights.folders import (
    CONFIG,
    FOLDER_FILES,
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_FILES,
    PREPROCESSOR_CONFIG,
    read_json,
)
from milan_mm.weights.names import HUB_PREFIXES, nearest
from milan_mm.weights.reading import weights_file
from milan_mm.weights.stated.facts import HubFacts
from milan_mm.weights.stated.hugging_face import hugging_face_facts
from milan_mm.weights.stated.open_clip import open_clip_facts
from milan_mm.weights.stated.timm import timm_facts

_DOWNLOADED = ["*config.json", FOLDER_FILES[0], OPEN_CLIP_FILES[0]]  # no pickles, no code


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
        return snapshot_download(name, allow_patterns=_DOWNLOADED)
    except Exception as error:  # a wrong name, no network, a full disk
        reason = shorten(str(error), 200, placeholder=" ...")
        raise UserError(
            f"'{path}' could not be downloaded: {reason} - give a name of the Hugging Face hub, or "
            f"the path of a local file or folder; {nearest(path)}"
        ) from None


def read_hub_facts(path: str | Path) -> HubFacts:
    """Read the configs in the folder of a weights file.

    Args:
        path: The folder, or the weights file in it. Files of other names than these frameworks
            give them have no config: one in the same folder belongs to another model.

    Raises:
        MissingFileError: When a folder holds no weights file.
        UserError: When the configs are not JSON, or ask for what `PlainViT` does not have.
    """
    path = Path(path)
    file = weights_file(path) if path.is_dir() else path
    if file.name in OPEN_CLIP_FILES:
        config = read_json(file.parent / OPEN_CLIP_CONFIG)
        return open_clip_facts(config, file.parent) if config else HubFacts()
    if file.name not in FOLDER_FILES:
        return HubFacts()
    config = read_json(file.parent / CONFIG)
    if "architecture" in config:
        return timm_facts(config, file.parent)
    if "model_type" in config:
        preprocessor = read_json(file.parent / PREPROCESSOR_CONFIG)
        return hugging_face_facts(config, preprocessor, file.parent)
    return HubFacts()
