#!/usr/bin/env python
"""Write model-index.yml and the metafiles of configs/ from the recipes, in OpenMMLab's schema.

To be run after a change of a recipe's name or docstring: python .ci/model_index.py
"""

import ast
import re
from pathlib import Path
from typing import Any

import yaml

from milan_mm.configs import find_config, list_configs, load

ROOT = Path(__file__).resolve().parents[1]
PAPER = dict(
    URL="https://arxiv.org/abs/2208.06049",
    Title="MILAN: Masked Image Pretraining on Language Assisted Representation",
)
TASKS = dict(  # `None`: pretraining has no result of its own
    cls=["Image Classification"],
    depth=["Depth Estimation"],
    det=["Object Detection", "Instance Segmentation"],
    pretrain=None,
    seg=["Semantic Segmentation"],
)
BOXES_ONLY = ("FCOS",)
DATA = dict(
    in1k="ImageNet-1k",
    coco="COCO",
    lvis="LVIS v1",
    ade20k="ADE20K",
    cityscapes="Cityscapes",
    nyu="NYU Depth v2",
    cifar10="CIFAR-10",
    photographs="Tiny-ImageNet (40 classes)",
    shapes="generated scenes (tools/make_shapes.py)",
) | {"pascal-context-59": "Pascal Context (59)", "coco-stuff164k": "COCO-Stuff 164k"}
HEADER = "# Written by .ci/model_index.py from the recipes.\n"


def main() -> None:
    """Write every file."""
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")


def files() -> dict[Path, str]:
    """What each file has to hold."""
    index = [f"configs/{folder}/metafile.yml" for folder in TASKS]
    found = {ROOT / "model-index.yml": _yaml(dict(Import=index))}
    for folder in TASKS:
        models = [_model(name) for name in list_configs() if name.startswith(f"{folder}/")]
        collection = dict(
            Name=f"milan_mm/{folder}", Metadata=dict(Architecture=["ViT"]), Paper=PAPER
        )
        content = dict(Collections=[collection], Models=models)
        found[ROOT / f"configs/{folder}/metafile.yml"] = _yaml(content)
    return found


def _model(name: str) -> dict[str, Any]:
    """The entry of a recipe."""
    cfg, folder, stem = load(name), name.split("/")[0], name.rsplit("/", 1)[-1]
    data = next(title for key, title in DATA.items() if re.search(rf"_{key}(-|$)", stem))
    length = cfg.train_cfg
    unit = "Epochs" if "max_epochs" in length else "Iterations"
    metadata: dict[str, Any] = {
        "Training Data": data,
        "Batch Size": cfg.total_batch,
        unit: length.get("max_epochs") or length.max_iters,
    }
    tasks = TASKS[folder]
    if cfg.model.type in BOXES_ONLY:
        tasks = ["Object Detection"]
    return {
        "Name": stem,
        "In Collection": f"milan_mm/{folder}",
        "Config": f"configs/{name}.py",
        "Metadata": metadata | _stated(name),
        # numbers belong to weights, and these are a user's: what others published is in Metadata
        "Results": tasks and [dict(Task=task, Dataset=data, Metrics={}) for task in tasks],
        # mmengine's inferencers ask for the key; without a value they warn of random weights
        "Weights": None,
    }


def _stated(name: str) -> dict[str, str]:
    """What a recipe's docstring expects, with whose numbers they are, and what it costs."""
    text = " ".join((ast.get_docstring(ast.parse(find_config(name).read_text())) or "").split())
    found = {"Description": text.split(". ")[0].rstrip(".")}
    for part in re.findall(r"((?:Expect|Cost)\b.*?)(?= (?:Expect|Cost|Run|Data)\b|$)", text):
        key, _, value = part.partition(":")
        key, *whose = key.split(" ", 1)
        remark = f"{whose[0]} " if whose and whose[0].startswith("(") else ""
        if value and (remark or not whose):
            found[key] = remark + value.strip()
    return found


def _yaml(content: dict) -> str:
    return HEADER + yaml.dump(
        content, sort_keys=False, width=100, allow_unicode=True, Dumper=_WithoutAnchors
    )


class _WithoutAnchors(yaml.SafeDumper):
    """Repeats what stands in several places."""

    def ignore_aliases(self, data: object) -> bool:
        return True


if __name__ == "__main__":
    main()
