"""`--data` of a pretraining recipe: any folder tree of images."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmpretrain.datasets import CustomDataset

from milan_mm.run.own_data import set_own_data
from tests.recipes.test_configs import load
from tests.run.own_data.folders import image_folder, label_pairs, write_image

RECIPE = "pretrain/milan_vit-mini-p8_1xb64-amp-coslr-12e_shapes"


def _images(cfg: Config) -> set[str]:
    """What mmpretrain's data set finds with the changed config."""
    settings = dict(cfg.train_dataloader.dataset, pipeline=[])
    assert settings.pop("type") == "CustomDataset"
    dataset = CustomDataset(**settings)
    assert "gt_label" not in dataset.get_data_info(0)
    return {str(Path(dataset.get_data_info(i)["img_path"])) for i in range(len(dataset))}


def test_images_at_the_top_and_at_any_depth_are_found(tmp_path: Path):
    names = ("top.png", "a/one.JPG", "a/b/c/d/two.webp", "e/three.TIFF")
    written = {str(write_image(tmp_path / name)) for name in names}
    (tmp_path / "a/notes.txt").write_text("no image")
    cfg = load(RECIPE)
    notes = set_own_data(cfg, str(tmp_path))
    assert _images(cfg) == written
    assert notes[0].startswith(f"--data {tmp_path}: 4 images in 4 folder(s)")


def test_only_the_training_split_is_used_where_there_is_one(tmp_path: Path):
    image_folder(tmp_path)
    cfg = load(RECIPE)
    notes = set_own_data(cfg, str(tmp_path))
    assert _images(cfg) == {str(path) for path in (tmp_path / "train").rglob("*.png")}
    assert "6 images in 3 folder(s)" in notes[0]
    assert "not used: 'val' next to 'train'" in notes[1]


def test_label_maps_are_no_images_to_learn_from(tmp_path: Path):
    label_pairs(tmp_path)
    cfg = load(RECIPE)
    set_own_data(cfg, str(tmp_path))
    assert _images(cfg) == {str(path) for path in (tmp_path / "images/train").glob("*.png")}


def test_the_pipeline_and_the_schedule_stay(tmp_path: Path):
    write_image(tmp_path / "a.png")
    recipe, cfg = load(RECIPE), load(RECIPE)
    set_own_data(cfg, str(tmp_path))
    assert cfg.train_dataloader.dataset.pipeline == recipe.train_dataloader.dataset.pipeline
    for field in ("model", "optim_wrapper", "param_scheduler", "train_cfg", "total_batch"):
        assert cfg[field] == recipe[field]


def test_a_folder_without_images_is_refused(tmp_path: Path):
    (tmp_path / "empty/notes.txt").parent.mkdir()
    (tmp_path / "empty/notes.txt").touch()
    with pytest.raises(ValueError, match=r"has no images at any depth.*\.jpg"):
        set_own_data(load(RECIPE), str(tmp_path))


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"--data '.*gone' does not exist: give"):
        set_own_data(load(RECIPE), str(tmp_path / "gone"))


def test_a_file_is_no_folder(tmp_path: Path):
    path = write_image(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match=r"a\.png' is a file: give the folder"):
        set_own_data(load(RECIPE), str(path))


def test_a_config_of_another_library_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"default_scope 'mmpose'.*mmpretrain, mmdet and mmseg"):
        set_own_data(Config(dict(default_scope="mmpose", model={})), str(tmp_path))


def test_a_recipe_that_mixes_data_sets_is_refused(tmp_path: Path):
    write_image(tmp_path / "a.png")
    cfg = load(RECIPE)
    part = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[part, part])
    with pytest.raises(ValueError, match="mixes 2 data sets"):
        set_own_data(cfg, str(tmp_path))


def test_a_wrapper_of_the_recipe_stays(tmp_path: Path):
    write_image(tmp_path / "a.png")
    cfg = load(RECIPE)
    part = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type="RepeatDataset", dataset=part, times=3)
    set_own_data(cfg, str(tmp_path))
    assert cfg.train_dataloader.dataset.times == 3
    assert cfg.train_dataloader.dataset.dataset.data_root == str(tmp_path)
