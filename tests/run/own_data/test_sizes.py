"""Own photos of several sizes reach the model at the size of the recipe, in training and tests."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from torch import Tensor

from milan_mm.run.own_data import set_own_data
from tests.recipes.test_configs import load
from tests.run.own_data.folders import COLOURS, coco_content, write_image, write_labels

SIZES = ((60, 150), (300, 200), (96, 96), (480, 640))  # height, width
NAMES = dict(
    det="det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes",
    seg="seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96",
)


def _folder(task: str, root: Path) -> Path:
    for split in ("train", "val"):
        names = [f"{i}.png" for i in range(len(SIZES))]
        for i, (name, size) in enumerate(zip(names, SIZES, strict=True)):
            write_image(root / "images" / split / name, seed=i, size=size)
            labels = np.resize(np.arange(3), size)
            if task == "seg":
                write_labels(root / "annotations" / split / name, labels)
        if task == "det":
            content = coco_content(names)
            for image, (height, width) in zip(content["images"], SIZES, strict=True):
                image.update(height=height, width=width)
            (root / "annotations").mkdir(exist_ok=True)
            (root / f"annotations/{split}.json").write_text(json.dumps(content))
    (root / "classes.txt").write_text("\n".join(COLOURS))
    return root


def _inputs(cfg: Config, loader: str, training: bool) -> list[tuple[Tensor, list]]:
    """Batches as the model gets them: one of all images in training, one of each in tests."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(cfg[loader].dataset)
        samples = [dataset[i] for i in range(len(dataset))]
        batches = [samples] if training else [[sample] for sample in samples]
        preprocess = MODELS.build(cfg.model.data_preprocessor)
        found = []
        for batch in batches:
            data = {key: [sample[key] for sample in batch] for key in batch[0]}
            data = preprocess(data, training)
            found.append((data["inputs"], data["data_samples"]))
    return found


@pytest.mark.parametrize("task", NAMES)
def test_training_sees_one_size(task: str, tmp_path: Path):
    cfg = load(NAMES[task])
    set_own_data(cfg, str(_folder(task, tmp_path)))
    ((inputs, samples),) = _inputs(cfg, "train_dataloader", training=True)
    assert inputs.shape == (len(SIZES), 3, 96, 96)
    if task == "seg":
        assert {tuple(s.gt_sem_seg.data.shape[-2:]) for s in samples} == {(96, 96)}
    else:  # boxes moved with their images
        (box, *_) = samples[3].gt_instances.bboxes
        assert box.numpy() == pytest.approx(np.array([2, 3, 14, 17]) * 96 / 640, abs=1)


@pytest.mark.parametrize("task", NAMES)
@pytest.mark.parametrize("loader", ["val_dataloader", "test_dataloader"])
def test_tests_see_the_size_of_training(task: str, loader: str, tmp_path: Path):
    cfg = load(NAMES[task])
    set_own_data(cfg, str(_folder(task, tmp_path)))
    batches = _inputs(cfg, loader, training=False)
    for (inputs, (sample,)), size in zip(batches, SIZES, strict=True):
        assert sample.ori_shape == size
        assert max(inputs.shape[-2:]) == 96
        assert not any(side % 8 for side in inputs.shape[-2:])  # whole patches
        if task == "seg":
            assert sample.gt_sem_seg.data.shape[-2:] == size  # judged at full size
