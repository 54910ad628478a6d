"""Do the categories of a COCO file, the classes of a config and its heads agree?"""

from collections.abc import Iterator

from mmengine.config import Config, ConfigDict
from mmengine.fileio import list_from_file

from milan_mm.datasets.coco.file import CocoFile
from milan_mm.errors import UserError
from milan_mm.run.config_nodes import config_nodes, type_name
from milan_mm.text import shorten_list


def classes_of(dataset: dict, file: CocoFile) -> list[str]:
    """The classes that mmdet will take: those of the config, else those of COCO, or of the file."""
    classes = (dataset.get("metainfo") or {}).get("classes")
    if isinstance(classes, str):
        return list_from_file(classes)
    if classes is None and type_name(dataset) == "LVISV1Dataset":
        return list(file.category_names.values())
    if classes is None:
        from mmdet.datasets import CocoDataset

        return list(CocoDataset.METAINFO["classes"])
    return list(classes)


def ids_of(file: CocoFile, classes: list[str]) -> list:
    """Ids of the categories that the config names, in the order of the file."""
    return [c["id"] for c in file.categories if c["name"] in classes]


def check_classes(file: CocoFile, field: str, classes: list[str]) -> list[str]:
    """Every class once and in the file's order, since mmdet numbers them by the file.

    Args:
        field: Of the data set in the config.
        classes: Those of the config.

    Returns:
        A line about categories of the file that are none of them, if any.

    Raises:
        UserError: Names the first that differs.
    """
    named = list(file.category_names.values())
    found = [name for name in named if name in classes]
    remedy = (
        f"set {field}.metainfo.classes and the heads' num_classes to the file's categories, or let "
        "--data DIR do it"
    )
    missing = [name for name in classes if name not in named]
    if missing:
        raise UserError(
            f"annotation file '{file.path}' does not have {len(missing)} of the config's "
            f"{len(classes)} classes, first '{missing[0]}'; its categories are "
            f"{shorten_list(named)}: {remedy}"
        )
    if found != classes:
        first = next(i for i, name in enumerate(classes) if name != found[i])
        raise UserError(
            f"annotation file '{file.path}' lists the categories in another order than the config, "
            f"whose class {first} is '{classes[first]}', not '{found[first]}': {remedy}"
        )
    unused = [name for name in named if name not in classes]
    if not unused:
        return []
    return [
        f"{file.path}: {len(unused)} categories are not classes of the config: "
        + shorten_list(unused)
    ]


def check_heads(cfg: Config, field: str, classes: list[str]) -> None:
    """The heads of the model must have as many classes as the data set in `field`.

    Raises:
        UserError: Names the head.
    """
    for name, num_classes in _heads(cfg.model):
        if num_classes != len(classes):
            raise UserError(
                f"{name}={num_classes}, but {field} has {len(classes)} classes: pass "
                f"--cfg-options {name}={len(classes)}"
            )


def _heads(model: ConfigDict) -> Iterator[tuple[str, int]]:
    """The numbers of classes of box and mask heads, which may be lists, and their fields."""
    for name, node in config_nodes(model, "model"):
        if "num_classes" in node and ("bbox_head" in name or "mask_head" in name):
            yield f"{name}.num_classes", node["num_classes"]
        if "num_things_classes" in node:  # of Mask2Former
            yield f"{name}.num_things_classes", node["num_things_classes"]
