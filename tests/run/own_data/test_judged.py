"""`--data` of a test: one split is enough, and the classes are those of the checkpoint."""

from pathlib import Path
from shutil import rmtree

import pytest

from milan_mm.run.own_data import set_own_data
from milan_mm.run.records.record import Recorded, model_of
from tests.recipes.test_configs import load
from tests.run.own_data.folders import COLOURS, coco_folder, image_folder, label_pairs

CLS = "cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes"
DET = "det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes"
SEG = "seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96"
FOLDERS = {CLS: image_folder, DET: coco_folder, SEG: label_pairs}


def checkpoint(classes: tuple[str, ...] | None = COLOURS, masks: bool = True) -> Recorded:
    """One from before the record, of which mmengine has kept the classes."""
    state = {"roi_head.mask_head.conv.weight": 0} if masks else {}
    meta = dict(dataset_meta=dict(classes=classes))
    return Recorded.of(dict(meta=meta, state_dict=state), "epoch_1.pth")


@pytest.mark.parametrize("recipe", FOLDERS)
def test_a_folder_without_training_split_is_tested_on_the_classes_of_the_checkpoint(
    tmp_path: Path, recipe: str
):
    root = FOLDERS[recipe](tmp_path / "data")
    for path in [*root.rglob("*train*"), *root.glob("classes.txt")]:
        rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileNotFoundError):
        set_own_data(load(recipe), str(root))
    cfg = load(recipe)
    notes = " ".join(set_own_data(cfg, str(root), checkpoint()))
    assert "3 classes, those of epoch_1.pth: 'blue', 'green', 'red'" in notes
    assert model_of(cfg)["num_classes"] == 3
    assert cfg.test_dataloader.dataset.metainfo.classes == COLOURS
    assert cfg.test_dataloader.dataset.data_root == str(root)


@pytest.mark.parametrize("recipe", FOLDERS)
def test_data_of_other_classes_than_the_checkpoint_are_refused(tmp_path: Path, recipe: str):
    root = str(FOLDERS[recipe](tmp_path))
    with pytest.raises(ValueError, match=r"trained on 2 classes and '.*' has 3, .* label 1 on, "):
        set_own_data(load(recipe), root, checkpoint(("blue", "red")))


@pytest.mark.parametrize("recipe", FOLDERS)
def test_the_validation_split_comes_before_a_test_split(tmp_path: Path, recipe: str):
    root = FOLDERS[recipe](tmp_path)
    for path in sorted(root.rglob("*train*")):
        path.rename(path.with_name(path.name.replace("train", "test")))
    notes = " ".join(set_own_data(load(recipe), str(root), checkpoint()))
    assert "val" in notes.replace(str(root), "") and "test" not in notes.replace(str(root), "")


def test_a_checkpoint_that_names_no_classes_is_tested_by_the_training_split(tmp_path: Path):
    cfg = load(CLS)
    set_own_data(cfg, str(image_folder(tmp_path)), checkpoint(None))
    assert cfg.test_dataloader.dataset.metainfo.classes == COLOURS


def test_a_detector_of_boxes_is_tested_without_a_mask_head(tmp_path: Path):
    cfg = load(DET)
    notes = set_own_data(cfg, str(coco_folder(tmp_path)), checkpoint(masks=False))
    assert notes[-1].endswith("epoch_1.pth has no mask head, AP is of boxes")
    assert not model_of(cfg)["masks"]
