"""Variants of ImageNet: read in the layouts in which they are published, with its labels."""

from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from timm.data import ImageNetInfo, RealLabelsImagenet

from milan_mm.datasets import imagenet_variants, variants
from milan_mm.datasets.imagenet_variants import ImageNetVariant
from milan_mm.datasets.variants import ALEXNET_ERRORS, find_variant

IDS = ImageNetInfo("imagenet-1k").label_names()


def published_subset(variant: str) -> list[str]:
    """The classes of -A or -R, as timm has copied them from their authors."""
    name = f"_info/{variant.replace('-', '_')}_synsets.txt"
    return (resources.files("timm.data") / name).read_text().split()


def lay_out(root: Path, *names: str) -> Path:
    """Empty files in place of images: nothing reads them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def labels_of(variant: str, root: Path) -> dict[str, object]:
    dataset = ImageNetVariant(variant, str(root), serialize_data=False)
    return {
        str(Path(info["img_path"]).relative_to(root)): info["gt_label"]
        for info in dataset.data_list
    }


@pytest.fixture
def three_classes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A small ImageNet, since one of 75,000 folders takes minutes."""
    monkeypatch.setattr(imagenet_variants, "class_ids", lambda: tuple(IDS[:3]))
    of_three = replace(variants.VARIANTS["imagenet-c"], num_classes=3)
    monkeypatch.setitem(variants.VARIANTS, "imagenet-c", of_three)
    return IDS[:3]


@pytest.mark.parametrize("variant", ["imagenet-a", "imagenet-r"])
def test_a_subset_keeps_the_labels_of_imagenet_1k(variant: str, tmp_path: Path):
    own = published_subset(variant)
    root = lay_out(tmp_path, *(f"{name}/a.jpg" for name in own))
    found = labels_of(variant, root)
    assert found == {f"{name}/a.jpg": IDS.index(name) for name in own}
    assert len(found) == 200


def test_folders_of_imagenet_v2_are_numbers_and_not_sorted_as_text(tmp_path: Path):
    root = lay_out(tmp_path, *(f"{label}/b.jpeg" for label in range(1000)))
    assert labels_of("imagenet-v2", root) == {f"{label}/b.jpeg": label for label in range(1000)}


@pytest.mark.parametrize("archive", ["", "noise/"])
def test_imagenet_c_has_every_corruption_at_every_severity(
    archive: str, tmp_path: Path, three_classes: list[str]
):
    names = [
        f"{archive}{corruption}/{severity}/{name}/c.JPEG"
        for corruption in ALEXNET_ERRORS
        for severity in range(1, 6)
        for name in three_classes
    ]
    found = labels_of("imagenet-c", lay_out(tmp_path, *names))
    assert found == {name: three_classes.index(Path(name).parts[-2]) for name in names}
    assert len(found) == 15 * 5 * 3


def test_real_has_all_labels_of_an_image_and_leaves_out_images_without_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = "n01440764/"
    names = [f"ILSVRC2012_val_{i + 1:08d}.JPEG" for i in range(50_000)]
    published = RealLabelsImagenet(names).real_labels
    monkeypatch.setattr(Path, "rglob", lambda root, _: [root / folder / name for name in names])
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    found = labels_of("imagenet-real", tmp_path)
    assert found == {folder + name: sorted(labels) for name, labels in published.items() if labels}
    assert len(found) == 46_837


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["n01440764/a.jpg"], "1 of the 1000 class folders of ImageNet-Sketch; missing is"),
        ([*(f"{name}/a.jpg" for name in IDS), "extra/a.jpg"], "'extra', which is not a class"),
        ([*(f"{name}/a.jpg" for name in IDS[1:]), f"{IDS[0]}/a.txt"], "has no images"),
    ],
)
def test_another_layout_is_one_line(names: list[str], message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        labels_of("imagenet-sketch", lay_out(tmp_path, *names))


def test_missing_parts_of_imagenet_c_are_named(tmp_path: Path, three_classes: list[str]):
    root = lay_out(
        tmp_path, *(f"noise/gaussian_noise/{s}/{n}/a.JPEG" for s in (1, 2) for n in three_classes)
    )
    with pytest.raises(FileNotFoundError, match="gaussian_noise' has no folder 3"):
        labels_of("imagenet-c", root)


def test_real_needs_every_validation_image(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"lacks 50,000 of the 50,000 .*_00000001\.JPEG"):
        labels_of("imagenet-real", tmp_path)


def test_a_variant_is_looked_for_under_its_usual_names(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no folder imagenet-sketch or sketch"):
        find_variant("imagenet-sketch", tmp_path)
    (tmp_path / "sketch").mkdir()
    assert find_variant("imagenet-sketch", tmp_path) == tmp_path / "sketch"


def test_a_subset_of_another_number_of_classes_is_refused(tmp_path: Path):
    root = lay_out(tmp_path, *(f"{name}/a.jpg" for name in IDS[:199]))
    with pytest.raises(ValueError, match="199 class folders, ImageNet-A has 200"):
        labels_of("imagenet-a", root)
