"""`--data` of a segmentation recipe: images, label maps and a classes.txt."""

from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, DefaultScope

from milan_mm.run.own_data import set_own_data
from tests.recipes.test_configs import load
from tests.run.own_data.folders import COLOURS, SIDE, label_pairs, write_image, write_labels

RECIPE = "seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96"
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def _dataset(cfg: Config, loader: str, pipeline: list | None = None):
    settings = ConfigDict(cfg[loader].dataset)
    settings.pipeline = settings.pipeline if pipeline is None else pipeline
    with DefaultScope.overwrite_default_scope("mmseg"):
        return DATASETS.build(settings)


@pytest.mark.parametrize("loader", LOADERS)
def test_labels_reach_the_model_as_class_numbers_and_void_as_255(tmp_path: Path, loader: str):
    label_pairs(tmp_path, num_images=1)
    split = "train" if loader == "train_dataloader" else "val"
    stored = np.tile(np.array([0, 1, 2, 3, 255], dtype=np.uint8), (SIDE, 7))[:, :SIDE]
    write_labels(tmp_path / f"annotations/{split}/0.png", stored)
    cfg = load(RECIPE)
    set_own_data(cfg, str(tmp_path))
    changing = ("mmseg.Resize", "mmseg.RandomCrop", "mmseg.RandomFlip")
    pipeline = [t for t in cfg[loader].dataset.pipeline if t.type not in changing]
    dataset = _dataset(cfg, loader, pipeline)
    labels = dataset[0]["data_samples"].gt_sem_seg.data[0]
    expected = np.where(stored > 2, 255, stored)
    assert torch.equal(labels, torch.from_numpy(expected).to(labels.dtype))


def test_every_label_without_a_class_is_void_also_those_outside_the_sample(tmp_path: Path):
    cfg = load(RECIPE)
    set_own_data(cfg, str(label_pairs(tmp_path)))
    label_map = _dataset(cfg, "train_dataloader", []).label_map
    assert label_map == dict.fromkeys(range(3, 255), 255)


def test_classes_heads_and_palette_follow(tmp_path: Path):
    cfg = load(RECIPE)
    set_own_data(cfg, str(label_pairs(tmp_path)))
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 3
    for loader in LOADERS:
        metainfo = _dataset(cfg, loader).metainfo
        assert metainfo["classes"] == COLOURS
        assert metainfo["reduce_zero_label"] is False
        assert len(set(metainfo["palette"])) == 3
        assert not any(t.get("reduce_zero_label") for t in cfg[loader].dataset.pipeline)


def test_weights_of_classes_follow_where_one_is_that_of_no_object(tmp_path: Path):
    root = str(label_pairs(tmp_path))
    cfg = load("seg/mask2former_vit-base-p16_8xb2-amp-160k_ade20k-512x512")
    set_own_data(cfg, root)
    assert cfg.model.decode_head.loss_cls.class_weight == [1.0, 1.0, 1.0, 0.1]
    cfg = load(RECIPE)
    cfg.model.decode_head.loss_decode.class_weight = [0.5, 1.0, 2.0]  # a user's, for these classes
    set_own_data(cfg, root)
    assert cfg.model.decode_head.loss_decode.class_weight == [0.5, 1.0, 2.0]


def test_steps_inside_a_multi_scale_test_follow_too(tmp_path: Path):
    cfg = load(RECIPE)
    inner = dict(type="LoadAnnotations", reduce_zero_label=True)
    reader = dict(type="milan_mm.LoadLabels", num_classes=150)
    cfg.tta_pipeline = [dict(type="TestTimeAug", transforms=[[inner], [reader]])]
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    set_own_data(cfg, str(label_pairs(tmp_path)))
    for pipeline in (cfg.test_dataloader.dataset.pipeline, cfg.tta_pipeline):
        (inner,), (reader,) = pipeline[0].transforms
        assert "reduce_zero_label" not in inner
        assert reader.num_classes == 3


def test_a_recipe_without_auxiliary_head_works(tmp_path: Path):
    cfg = load(RECIPE)
    cfg.model.auxiliary_head = None
    set_own_data(cfg, str(label_pairs(tmp_path)))
    assert cfg.model.decode_head.num_classes == 3


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images/{}", "annotations/{}"),
        ("img_dir/{}", "ann_dir/{}"),
        ("{}/images", "{}/masks"),
        ("images/{}", "labels/{}"),
    ],
)
def test_usual_layouts_and_suffixes_are_found(tmp_path: Path, images: str, labels: str):
    source = label_pairs(tmp_path / "source")
    for split in ("train", "val"):
        for i in range(2):
            write_image(tmp_path / images.format(split) / f"city/{i}.jpg")
            target = tmp_path / labels.format(split) / f"city/{i}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            (source / f"annotations/{split}/{i}.png").rename(target)
    (source / "classes.txt").rename(tmp_path / "classes.txt")
    cfg = load(RECIPE)
    set_own_data(cfg, str(tmp_path))
    dataset = _dataset(cfg, "train_dataloader", [])
    assert len(dataset) == 2
    for i in range(2):
        info = dataset.get_data_info(i)
        assert Path(info["img_path"]).is_file() and Path(info["seg_map_path"]).is_file()


def test_the_summary_tells_the_pairs_the_classes_and_the_share_of_void_pixels(tmp_path: Path):
    notes = " ".join(set_own_data(load(RECIPE), str(label_pairs(tmp_path))))
    assert "3 classes in classes.txt: 'blue', 'green', 'red'" in notes
    assert (
        f"2 pairs of '{tmp_path / 'images/train'}' and '{tmp_path / 'annotations/train'}'" in notes
    )
    assert f"{1 / SIDE:.1%} of the pixels of 2 label maps are not labelled (values 3)" in notes


def test_a_class_without_pixels_in_the_sample_is_named(tmp_path: Path):
    label_pairs(tmp_path)
    for path in (tmp_path / "annotations/val").iterdir():
        write_labels(path, np.zeros((SIDE, SIDE)))
    notes = set_own_data(load(RECIPE), str(tmp_path))
    assert notes[2].endswith("not labelled; no pixel of 'green', 'red'")


def _rgb(root: Path) -> None:
    write_labels(root / "annotations/train/0.png", np.zeros((SIDE, SIDE, 3)))


def _many_values(root: Path) -> None:
    values = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 7
    write_labels(root / "annotations/val/1.png", values)


def _mostly_void(root: Path) -> None:
    for path in (root / "annotations/train").iterdir():
        labels = np.full((SIDE, SIDE), 4)
        labels[:2] = 0
        write_labels(path, labels)


def _all_ignored(root: Path) -> None:
    for path in (root / "annotations/train").iterdir():
        write_labels(path, np.full((SIDE, SIDE), 255))


def _truncated(root: Path) -> None:
    path = root / "annotations/train/1.png"
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (
            lambda root: (root / "classes.txt").unlink(),
            FileNotFoundError,
            r"classes\.txt' does not exist: write the names of the classes into it, one per line",
        ),
        (
            lambda root: (root / "classes.txt").write_text("blue\n\nred\n"),
            ValueError,
            r"line 2 of '.*classes\.txt' is blank: each line names a class",
        ),
        (
            lambda root: (root / "classes.txt").write_text("blue\nred\nblue\n"),
            ValueError,
            r"classes\.txt' names 'blue' more than once",
        ),
        (
            lambda root: (root / "classes.txt").write_text("blue\n"),
            ValueError,
            r"names 1 class\(es\), the limits are 2 and 254",
        ),
        (
            lambda root: (root / "classes.txt").write_bytes(b"\xff\xfe\x00"),
            ValueError,
            r"classes\.txt' is not UTF-8 text",
        ),
        (
            lambda root: rmtree(root / "images/val"),
            FileNotFoundError,
            r"no val split of images and labels: looked for '.*images/val', '.*annotations/val'",
        ),
        (
            lambda root: (root / "annotations/val/1.png").unlink(),
            FileNotFoundError,
            r"1 of 2 files in '.*images/val' have no partner, first '1\.png': "
            r"add '.*annotations/val/1\.png'",
        ),
        (
            lambda root: (root / "images/val/1.png").unlink(),
            FileNotFoundError,
            r"1 of 2 files in '.*annotations/val' have no partner, first '1\.png'",
        ),
        (
            lambda root: (root / "images/val/1.png").rename(root / "images/val/1.jpg"),
            ValueError,
            r"images/val' holds '1 \.(png|jpg)', '1 \.(png|jpg)': all files must be of one type",
        ),
        (
            lambda root: [path.unlink() for path in (root / "images/val").iterdir()],
            ValueError,
            r"images/val' holds nothing: all files must be",
        ),
        (_rgb, ValueError, r"annotations/train/0\.png' has 3 channels"),
        (_many_values, ValueError, r"val/1\.png' holds 4 values without a class, first 3, 4"),
        (_mostly_void, ValueError, r"94% of the labelled pixels have no class, most in '.*train/"),
        (_all_ignored, ValueError, r"no pixel of '.*annotations/train' has a class"),
        (_truncated, ValueError, r"annotations/train/1\.png' cannot be read: .*repair it"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(tmp_path: Path, spoil, error, message: str):
    spoil(label_pairs(tmp_path))
    with pytest.raises(error, match=message):
        set_own_data(load(RECIPE), str(tmp_path))


def test_values_beyond_8_bits_are_refused(tmp_path: Path):
    from PIL import Image

    label_pairs(tmp_path)
    Image.fromarray(np.full((SIDE, SIDE), 300, dtype=np.uint16)).save(
        tmp_path / "annotations/train/0.png"
    )
    with pytest.raises(ValueError, match="has values from 300 to 300, the limits are 0 and 255"):
        set_own_data(load(RECIPE), str(tmp_path))


def test_labels_without_names_of_classes_are_refused():
    from milan_mm.datasets.label_pairs import LabelPairs

    with pytest.raises(ValueError, match=r"set metainfo\.classes"):
        LabelPairs.get_label_map(None)
