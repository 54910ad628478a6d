"""A model's folder as Hugging Face, timm or open_clip save it: JSON files, and one weights file."""

import json
from pathlib import Path

from milan_mm.errors import UserError
from milan_mm.weights.budget import MAX_LIST

CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"
PREPROCESSOR_CONFIG = "preprocessor_config.json"
# Of a folder, the first of these that is there.
FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def folder_files(folder: Path) -> tuple[str, ...]:
    """Names of weights files that are read from a folder, in order of preference.

    open_clip's repositories often hold the same weights as a CLIP of Hugging Face too, which may be
    in several parts; timm's hold its own image tower.

    Raises:
        UserError: When config.json is damaged.
    """
    if not (folder / OPEN_CLIP_CONFIG).is_file():
        return FOLDER_FILES
    is_timms = "architecture" in read_json(folder / CONFIG)
    return FOLDER_FILES + OPEN_CLIP_FILES if is_timms else OPEN_CLIP_FILES + FOLDER_FILES


def read_json(file: Path) -> dict:
    """The content of a JSON file; empty where there is no file, or no object in it.

    Raises:
        UserError: When it is not JSON, or larger than any such file.
    """
    if not file.is_file():
        return {}
    if (size := file.stat().st_size) > MAX_LIST:
        raise UserError(
            f"'{file}' has {size / 2**20:.0f} MiB, and {MAX_LIST // 2**20} are read: it is "
            "not a model's config"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of JSON or of UTF-8
        raise UserError(f"'{file}' is damaged: {error}") from None
    return content if isinstance(content, dict) else {}
