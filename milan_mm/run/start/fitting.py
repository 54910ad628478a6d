"""Whether the tensors of a checkpoint are those of a model: names and shapes, all of them.

mmengine would load what fits and go on with the rest random.
"""

import copy
from collections.abc import Mapping

from mmengine.config import Config
from mmengine.model import BaseModule
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.run.building import build_without_memory
from milan_mm.run.config_nodes import config_nodes


def check_fit(path: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Compare a checkpoint with a model.

    Args:
        path: Of the checkpoint, for the message.
        found: Its tensors by name. wanted: Those of the model.

    Raises:
        UserError: Naming the first tensor that is missing, unknown or of another shape.
    """
    missing = [name for name in wanted if name not in found]
    unknown = [name for name in found if name not in wanted]
    for verb, names in (
        ("is missing", missing),
        ("holds unknown", unknown),
        ("has other shapes of", other_shapes(found, wanted)),
    ):
        if names:
            raise UserError(
                f"{path} {verb} {len(names)} of the model's {len(wanted)} tensors, first "
                f"'{names[0]}': it belongs to another config"
            )


def other_shapes(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Names that both sides have, with tensors of different shapes."""
    return [n for n in wanted if n in found and wanted[n].shape != found[n].shape]


def class_tensors(cfg: Config) -> set[str]:
    """Names of a model's tensors whose shape follows from its number of classes.

    No list of layers says so: the model is built once more, without memory, for one class more.
    """
    larger = copy.deepcopy(cfg)
    for _, node in config_nodes(larger.model):
        if isinstance(node.get("num_classes"), int):
            node["num_classes"] += 1
    with_more = build_without_memory(larger).state_dict()
    return set(other_shapes(build_without_memory(cfg).state_dict(), with_more))


def forget_files(model: nn.Module) -> None:
    """Read no pretrained file into a model that a checkpoint fills; it may be gone by now."""
    for module in model.modules():
        if isinstance(module, BaseModule) and (found := module.init_cfg):
            parts = [found] if isinstance(found, Mapping) else found
            module.init_cfg = [part for part in parts if "checkpoint" not in part]
