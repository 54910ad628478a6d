"""A model as it was trained, from its checkpoint alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from milan_mm.engine.checkpoints import safe_loading
from milan_mm.errors import UserError
from milan_mm.inference.known_types import SCOPES, check_types
from milan_mm.palette import class_palette
from milan_mm.registry import MODELS
from milan_mm.run.config_nodes import config_nodes, type_name
from milan_mm.run.fields.given import set_written_out
from milan_mm.run.records.record import Recorded, checkpoint_file
from milan_mm.run.records.recorded_model import take_model, take_old_rule
from milan_mm.run.silence import silence
from milan_mm.run.start.fitting import check_fit
from milan_mm.weights.config_text import read_config
from milan_mm.weights.reading import read_checkpoint, read_metadata
from milan_mm.weights.recognising import recognise

Task = Literal["cls", "det", "seg", "depth", "pretrain"]
_TASKS: dict[str, Task] = dict(mmdet="det", mmseg="seg")


@dataclass(frozen=True)
class Saved:
    """A checkpoint of a training, read and not built yet.

    Attributes:
        path: The file.
        config: Of the training, with what its record and the user's options say; its files need
            not exist.
        task: 'cls', 'det', 'seg', 'depth', or 'pretrain', whose models predict nothing.
        classes: Names by label; None where the checkpoint does not know them.
        palette: Colours by label, RGB, 0-255; None without classes.
        recorded: What the checkpoint says about its run.
        tensors: All of the model, by name.
        notes: Lines for the user.
    """

    path: str
    config: Config
    task: Task
    classes: list[str] | None
    palette: list[tuple[int, int, int]] | None
    recorded: Recorded
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Restored:
    """A model that is ready to predict.

    Attributes:
        model: With its weights, in eval mode, on the device.
        device: Where it is.
        path, config, task, classes, palette, recorded, notes: See `Saved`.
    """

    path: str
    config: Config
    model: nn.Module
    device: torch.device
    task: Task
    classes: list[str] | None
    palette: list[tuple[int, int, int]] | None
    recorded: Recorded
    notes: tuple[str, ...] = ()


def restore(
    checkpoint: str | Path,
    device: str | torch.device | None = None,
    cfg_options: Sequence[str] | None = None,
) -> Restored:
    """Build the model of a checkpoint and load its weights, all of them.

    Args:
        checkpoint: Of any training of this package, or another one of mmdet, mmseg or mmpretrain
            whose config is in the file.
        device: None takes the GPU, if there is one.
        cfg_options: Fields of its config as 'key=value', e.g. 'model.test_cfg.rcnn.score_thr=0.2'.

    Raises:
        MissingFileError, UserError: When the file is not such a checkpoint, naming what it is, or
            an option or device cannot be used.
    """
    return build(read(checkpoint, cfg_options), device)


@silence()
def read(checkpoint: str | Path, cfg_options: Sequence[str] | None = None) -> Saved:
    """Read a checkpoint and its config; no model is built.

    Args:
        checkpoint, cfg_options: See `restore`.

    Raises:
        MissingFileError, UserError: See `restore`.
    """
    path = str(checkpoint)
    recorded, tensors, text = _read_file(path)
    config = Config(read_config(text, path))
    _check_model(config, path)
    notes = []
    if recorded.record:
        take_model(config, recorded.record, path, "test")
    else:
        notes = [
            f"{path} has no record of its training (it is of an earlier version): its config says "
            "what its model was",
            *take_old_rule(config),
        ]
    _forget_files(config.model)
    if cfg_options:
        set_written_out(config, cfg_options)
    for part in (config.model, config.get("data_preprocessor"), config.get("tta_model")):
        check_types(part, config.default_scope, path)
    classes = recorded.classes
    return Saved(
        path=path,
        config=config,
        task=_task(config),
        classes=classes,
        palette=_palette(recorded, len(classes)) if classes else None,
        recorded=recorded,
        tensors=tensors,
        notes=tuple(notes),
    )


@silence()
def build(saved: Saved, device: str | torch.device | None = None) -> Restored:
    """Build the model of a checkpoint that was read, see `restore`."""
    place = find_device(device)
    config = saved.config
    settings = config.model.copy()
    if config.get("data_preprocessor"):  # as mmengine's runner does
        settings.setdefault("data_preprocessor", config.data_preprocessor)
    with DefaultScope.overwrite_default_scope(config.default_scope), safe_loading():
        model = MODELS.build(settings)
    check_fit(saved.path, saved.tensors, model.state_dict())
    model.load_state_dict(saved.tensors)
    if place.type != "cuda":
        model = revert_sync_batchnorm(model)  # a norm that only GPUs can compute
    model.to(place).eval()
    return Restored(
        path=saved.path,
        config=config,
        model=model,
        device=place,
        task=saved.task,
        classes=saved.classes,
        palette=saved.palette,
        recorded=saved.recorded,
        notes=saved.notes,
    )


def find_device(device: str | torch.device | None = None) -> torch.device:
    """The device that a user means; the GPU, if there is one, without a name.

    Raises:
        UserError: When there is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise UserError(f"--device {device}: give cpu, cuda or cuda:N") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"--device {device}: this machine has {torch.cuda.device_count()} GPU(s) that torch "
            "can use: give another one, or cpu"
        )
    return found


def _read_file(path: str) -> tuple[Recorded, Mapping[str, Tensor], str]:
    """What a checkpoint says, its tensors, and the text of its config."""
    content = read_checkpoint(checkpoint_file(path))
    recorded = Recorded.of(content, path)
    tensors, text = content.get("state_dict"), recorded.meta.get("cfg")
    if not isinstance(tensors, Mapping) or not isinstance(text, str):
        raise UserError(f"{path} {_what_it_is(content, path)}")
    return recorded, tensors, text


def _what_it_is(content: Mapping[str, Any], path: str) -> str:
    """What a file is that no training of mmengine has written, and what it is for."""
    try:
        encoder = recognise(content, path, metadata=read_metadata(path))
    except UserError:
        return (
            "is not a checkpoint of a training: it has no weights with the config that mmengine "
            "saves beside them; give the epoch_N.pth or iter_N.pth of a work directory"
        )
    return (
        f"is an encoder alone ({encoder.system}), without a head: train one by tools/train.py "
        f"CONFIG --weights {path}"
    )


def _check_model(config: Config, path: str) -> None:
    model, scope = config.get("model"), config.get("default_scope")
    if not isinstance(model, dict) or "type" not in model or scope not in SCOPES:
        raise UserError(
            f"{path}: its config has no model of mmpretrain, mmdet or mmseg (default_scope is "
            f"{scope!r}): give a checkpoint of tools/train.py"
        )


def _forget_files(model: ConfigDict) -> None:
    """Drop what would fill parts of a model that the checkpoint fills."""
    for _, node in config_nodes(model):
        for key in ("init_cfg", "pretrained"):
            if (
                not {"model_name", "input_stats"} & node.keys()
            ):  # a teacher is not in the checkpoint
                node.pop(key, None)


def _task(config: Config) -> Task:
    with MODELS.switch_scope_and_registry(config.default_scope) as registry:
        kind = registry.get(config.model.type)
    from mmpretrain.models import BaseSelfSupervisor  # not before our registry

    if isinstance(kind, type) and issubclass(kind, BaseSelfSupervisor):
        return "pretrain"
    if predicts_depth(config):
        return "depth"
    return _TASKS.get(config.default_scope, "cls")


def predicts_depth(config: Config) -> bool:
    """Whether the model is mmseg's `DepthEstimator`."""
    return type_name(config.model) == "DepthEstimator"


def _palette(recorded: Recorded, num_classes: int) -> list[tuple[int, int, int]]:
    """The colours that the data set of the training had for its classes, or our own."""
    given = (recorded.meta.get("dataset_meta") or {}).get("palette")
    if not isinstance(given, list | tuple) or len(given) < num_classes:
        return class_palette(num_classes)
    try:
        colours = [(int(r), int(g), int(b)) for r, g, b in given[:num_classes]]
    except (TypeError, ValueError):
        return class_palette(num_classes)
    fits = all(0 <= value < 256 for colour in colours for value in colour)
    return colours if fits else class_palette(num_classes)
