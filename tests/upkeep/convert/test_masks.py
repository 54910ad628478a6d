"""Label maps: palettes, colours, Roboflow's values, and images beside masks."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import VOCSegmentation

from milan_mm.datasets.foreign import convert_hint, find_foreign
from milan_mm.errors import UserError
from milan_mm.upkeep.convert import KINDS
from milan_mm.upkeep.convert.masks import translate, voc_colours
from tests.run.own_data.folders import write_labels
from tests.upkeep.convert.folders import HEIGHT, WIDTH, converted, photo, roboflow_masks, voc

# labels of the four quarters: background, aeroplane, tvmonitor, and the border between objects
QUARTERS = np.zeros((HEIGHT, WIDTH), np.uint8)
QUARTERS[: HEIGHT // 2, WIDTH // 2 :] = 1
QUARTERS[HEIGHT // 2 :, : WIDTH // 2] = 20
QUARTERS[HEIGHT // 2 :, WIDTH // 2 :] = 255


def _voc(root: Path, mode: str, splits: dict[str, list[str]]) -> Path:
    """SegmentationClass as VOC has it (mode P), or in VOC's colours (RGB)."""
    palette = np.zeros((256, 3), np.uint8)
    palette[:21] = voc_colours(21)
    palette[255] = (224, 224, 192)
    (root / "SegmentationClass").mkdir(parents=True)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for split, stems in splits.items():
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(stems))
        for seed, stem in enumerate(stems):
            photo(root / f"JPEGImages/{stem}.jpg", seed + 7 * len(split))
            mask = (
                Image.fromarray(QUARTERS, "P")
                if mode == "P"
                else Image.fromarray(palette[QUARTERS])
            )
            if mode == "P":
                mask.putpalette(palette.ravel().tolist())
            mask.save(root / f"SegmentationClass/{stem}.png")
    return root


def _label(out: Path, split: str, stem: str) -> np.ndarray:
    with Image.open(out / f"annotations/{split}/{stem}.png") as image:
        return np.asarray(image)


SPLITS = dict(train=["a", "b"], val=["c"])


def test_the_colours_are_those_of_pascal_voc():
    """As listed by VOC's development kit and by torchvision's users for years."""
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    colours = voc_colours(21)
    assert {number: colours[number] for number in known} == known


@pytest.mark.parametrize("mode", ["P", "RGB"])
def test_masks_of_voc_are_those_that_torchvision_reads(tmp_path: Path, mode: str):
    root = _voc(tmp_path / "VOCdevkit/VOC2012", mode, SPLITS)
    converted(root, tmp_path / "out", kind="voc-masks")
    _voc(tmp_path / "judge/VOCdevkit/VOC2012", "P", SPLITS)
    judge = VOCSegmentation(str(tmp_path / "judge"), year="2012", image_set="train")
    for stem, (_, target) in zip(SPLITS["train"], judge, strict=True):
        assert (_label(tmp_path / "out", "train", stem) == np.asarray(target)).all()
    names = (tmp_path / "out/classes.txt").read_text().splitlines()
    assert (len(names), names[0], names[1], names[20]) == (
        *(21, "background", "aeroplane", "tvmonitor"),
    )
    assert (tmp_path / "out/images/val/c.jpg").is_file()


def test_a_mask_is_never_taken_for_its_photo(tmp_path: Path):
    """CVAT exports masks without photos; people put these beside the folders of masks."""
    root = _voc(tmp_path / "in", "P", SPLITS)
    shutil.copytree(root / "SegmentationClass", root / "SegmentationObject")
    (root / "JPEGImages").rename(tmp_path / "photos")
    with pytest.raises(UserError, match=r"3 that are missing, .* give their folder by --images"):
        converted(root, tmp_path / "out", kind="voc-masks")
    for path in (tmp_path / "photos").iterdir():
        path.rename(root / path.name)
    converted(root, tmp_path / "out", kind="voc-masks")
    assert [path.name for path in (tmp_path / "out/images/val").iterdir()] == ["c.jpg"]


def test_masks_of_one_bit_are_labels_0_and_1(tmp_path: Path):
    root = _voc(tmp_path / "in", "P", SPLITS)
    for path in (root / "SegmentationClass").iterdir():
        Image.fromarray(QUARTERS == 1).save(path)
    converted(root, tmp_path / "out", kind="voc-masks")
    assert (_label(tmp_path / "out", "val", "c") == (QUARTERS == 1)).all()


def test_a_hint_for_segmentation_names_masks_of_voc_before_its_boxes(tmp_path: Path):
    root = _voc(tmp_path / "my in", "P", SPLITS)
    assert find_foreign(voc(root, SPLITS), "seg") == (KINDS["voc-masks"], root)
    hint = convert_hint(root, "seg")
    assert f"convert_data.py '{root}' 'my in-seg' --from voc-masks, then give" in hint
    assert "'my in-det', then give --data 'my in-det' to a recipe of det/" in convert_hint(
        root, "det"
    )


def test_labelmap_of_cvat_names_classes_and_colours(tmp_path: Path):
    root = tmp_path / "in"
    for n in range(4):
        photo(root / f"images/{n}.png", n)
        colours = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        colours[:, : WIDTH // 2] = (250, 50, 83)
        colours[0] = (1, 2, 3)  # not in the list
        path = root / f"SegmentationClass/{n}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(colours).save(path)
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:250,50,83::\n"
    )
    converted(root, tmp_path / "out", val_share=0.25)
    assert (tmp_path / "out/classes.txt").read_text() == "background\ncat\n"
    for path in (tmp_path / "out/annotations").rglob("*.png"):
        with Image.open(path) as image:
            labels = np.asarray(image)
        assert (labels[0] == 255).all()
        assert (labels[1:, : WIDTH // 2] == 1).all() and (labels[1:, WIDTH // 2 :] == 0).all()


def test_boxes_of_voc_come_first_where_there_are_both(tmp_path: Path):
    root = _voc(tmp_path / "in", "P", SPLITS)
    (root / "Annotations").mkdir()
    (root / "Annotations/a.xml").write_text("<annotation/>")
    with pytest.raises(UserError, match=r"no XML file of .* has an object"):
        converted(root, tmp_path / "out")


@pytest.mark.parametrize("value", [1, 7])
def test_values_of_roboflow_are_numbered_without_gaps(tmp_path: Path, value: int):
    root = roboflow_masks(tmp_path / "in", f"Pixel Value, Class\n0, background\n{value}, cat\n")
    converted(root, tmp_path / "out")
    assert (tmp_path / "out/classes.txt").read_text() == "background\ncat\n"
    for split in ("train", "val"):
        labels = _label(tmp_path / "out", split, "0")
        assert (labels[:, : WIDTH // 2] == 1).all() and (labels[:, WIDTH // 2 :] == 0).all()
    assert sorted(p.name for p in (tmp_path / "out/images/val").iterdir()) == ["0.jpg", "1.jpg"]


def test_a_name_over_two_lines_does_not_move_the_classes_after_it(tmp_path: Path):
    rows = 'Pixel Value, Class\n0,"back\nground"\n1,cat\n'
    converted(roboflow_masks(tmp_path / "in", rows), tmp_path / "out")
    assert (tmp_path / "out/classes.txt").read_text() == "back ground\ncat\n"


def test_labels_of_whole_images_are_not_masks(tmp_path: Path):
    """Roboflow's export of several labels per image has a _classes.csv too."""
    root = roboflow_masks(tmp_path / "in")
    for path in root.glob("*/_classes.csv"):
        path.write_text("filename, cat, dog\n0.jpg, 1, 0\n1.jpg, 0, 1\n")
    assert find_foreign(root) is None


def test_splits_of_roboflow_need_the_same_classes(tmp_path: Path):
    root = roboflow_masks(tmp_path / "in")
    (root / "valid/_classes.csv").write_text("Pixel Value, Class\n0, background\n1, dog\n")
    with pytest.raises(UserError, match="have different classes"):
        converted(root, tmp_path / "out")


def test_a_photo_without_mask_or_a_mask_without_photo_is_named(tmp_path: Path):
    root = roboflow_masks(tmp_path / "in")
    (root / "train/0_mask.png").unlink()
    with pytest.raises(UserError, match="1 of 4 images would be dropped: 1 that have no mask"):
        converted(root, tmp_path / "out")
    (root / "train/0.jpg").unlink()
    (root / "train/1.jpg").unlink()
    with pytest.raises(UserError, match="1 that are missing, though they have a mask"):
        converted(root, tmp_path / "out")


def test_images_beside_masks_are_split_and_types_made_equal(tmp_path: Path):
    root = tmp_path / "in"
    for n, ending in enumerate(["jpg", "png", "png", "png"]):
        photo(root / f"images/{n}.{ending}", n)
        write_labels(root / f"masks/{n}.png", np.full((HEIGHT, WIDTH), n % 2))
    (root / "classes.txt").write_text("other\ncat\n")
    lines = converted(root, tmp_path / "out", val_share=0.25)
    images = [p for p in (tmp_path / "out/images").rglob("*") if p.is_file()]
    assert len(images) == 4 and {p.suffix for p in images} == {".png"}
    assert "images of several types (.jpg .png): all are saved as PNG" in lines
    (first,) = (p for p in images if p.stem == "0")
    with Image.open(first) as new, Image.open(root / "images/0.jpg") as old:
        assert (np.asarray(new) == np.asarray(old)).all()


def test_photos_without_masks_are_counted_and_a_damaged_mask_ends_it(tmp_path: Path):
    root = tmp_path / "in"
    for n in range(5):
        photo(root / f"images/{n}.jpg", n)
        write_labels(root / f"masks/{n}.png", np.full((HEIGHT, WIDTH), n % 2))
    (root / "classes.txt").write_text("other\ncat\n")
    (root / "masks/4.png").unlink()
    lines = converted(root, tmp_path / "out", val_share=0.25)
    assert "left out: 1 image without a mask" in lines
    (root / "masks/3.png").write_bytes((root / "masks/3.png").read_bytes()[:60])
    with pytest.raises(UserError, match=r"3\.png' cannot be read: .*; repair it, or remove it"):
        converted(root, tmp_path / "other", val_share=0.25)
    assert not (tmp_path / "other").exists()


def test_a_colour_or_value_outside_the_table_means_not_labelled():
    colours = np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8)
    assert translate(colours, {(1, 2, 3): 4}).tolist() == [[4, 255]]
    assert translate(np.array([[3, 1000]], np.int32), {3: 0}).tolist() == [[0, 255]]
