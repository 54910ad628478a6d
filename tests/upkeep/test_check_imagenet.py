"""Planted faults of an ImageNet folder are found, each as its own kind."""

import runpy
from pathlib import Path

import pytest
import torchvision.datasets.imagenet as tv_imagenet

from milan_mm.upkeep.check_imagenet import check_imagenet
from milan_mm.upkeep.findings import Findings

TENCH, GOLDFISH, SHARK = "n01440764", "n01443537", "n01484850"


def check(root: Path, allow_subset: bool = True) -> Findings:
    findings = Findings(allow_subset)
    check_imagenet(root, findings, num_workers=0)
    return findings


def test_a_sound_subset_has_no_faults_and_says_how_much_is_missing(imagenet):
    findings = check(imagenet)
    assert not findings.faults
    assert findings.counts == [
        "images in train: 12 of 1,281,167, 1,281,155 fewer",
        "classes in train: 3 of 1,000, 997 fewer",
        "images in val: 3 of 50,000, 49,997 fewer",
        "classes in val: 3 of 1,000, 997 fewer",
    ]


def test_a_subset_is_faulty_unless_it_is_allowed(imagenet):
    faults = check(imagenet, allow_subset=False).faults
    assert len(faults["counts are too low"].names) == 4
    assert faults["classes do not have 50 validation images"].names[0] == f"val/{TENCH}: 1"


def test_every_image_is_decoded_to_its_end(imagenet):
    for name in (f"train/{TENCH}/{TENCH}_0.JPEG", f"val/{SHARK}/ILSVRC2012_val_00000003.JPEG"):
        content = (imagenet / name).read_bytes()
        (imagenet / name).write_bytes(content[: len(content) // 2])
    (imagenet / f"train/{TENCH}/{TENCH}_3.JPEG").write_bytes(b"")
    names = check(imagenet).faults["images cannot be read"].names
    assert [name.split(":")[0] for name in names] == [
        f"train/{TENCH}/{TENCH}_0.JPEG",
        f"train/{TENCH}/{TENCH}_3.JPEG",
        f"val/{SHARK}/ILSVRC2012_val_00000003.JPEG",
    ]


def test_processes_find_what_one_finds(imagenet):
    (imagenet / f"train/{TENCH}/{TENCH}_0.JPEG").write_bytes(b"no image")
    findings = Findings(allow_subset=True)
    check_imagenet(imagenet, findings, num_workers=2)
    assert findings == check(imagenet)


@pytest.fixture
def flat(imagenet: Path) -> Path:
    """val/ as the archive of image-net.org unpacks: no class folders."""
    for path in sorted(imagenet.glob("val/*/*")):
        path.rename(imagenet / "val" / path.name)
        path.parent.rmdir()
    return imagenet


def test_a_flat_val_is_detected_and_its_images_are_still_read(flat):
    (flat / "val/ILSVRC2012_val_00000002.JPEG").write_bytes(b"no image")
    findings = check(flat)
    fault = findings.faults["images are in val/ itself, not in a folder of their class"]
    assert fault.names == [f"val/ILSVRC2012_val_{i:08d}.JPEG" for i in (1, 2, 3)]
    assert "ILSVRC2012_devkit_t12.tar.gz" in findings.report("data")
    assert len(findings.faults["images cannot be read"].names) == 1
    assert "images in val: 3 of 50,000, 49,997 fewer" in findings.counts


def test_the_fix_as_it_is_shown_sorts_a_flat_val(flat, tmp_path, monkeypatch):
    classes = [SHARK, TENCH, SHARK]
    monkeypatch.setattr(tv_imagenet, "parse_devkit_archive", lambda root: None)
    monkeypatch.setattr(tv_imagenet, "load_meta_file", lambda root: ({}, classes))
    shown = check(flat).report("data")
    # what a shell takes from "<<'END'" up to a line that is "END" and nothing else
    script, end, _ = shown.split("python - <<'END'\n")[1].partition("\nEND\n")
    assert end
    (tmp_path / "fix.py").write_text(script)
    runpy.run_path(str(tmp_path / "fix.py"))
    found = {path.name: path.parent.name for path in flat.glob("val/*/*")}
    assert found == {f"ILSVRC2012_val_{i:08d}.JPEG": classes[i - 1] for i in (1, 2, 3)}
    assert not list(flat.glob("val/*.JPEG"))


def test_a_missing_split_is_named(imagenet):
    (imagenet / "val").rename(imagenet / "validation")
    assert check(imagenet).faults["folders are missing"].names == [str(imagenet / "val")]


def test_a_folder_that_is_no_class_of_imagenet_is_named(imagenet):
    for split in ("train", "val"):
        (imagenet / split / SHARK).rename(imagenet / split / "shark")
    names = check(imagenet).faults["class folders are not classes of ImageNet-1K"].names
    assert names == ["train/shark", "val/shark"]


def test_a_class_of_one_split_only_is_named(imagenet):
    (imagenet / "val" / GOLDFISH).rename(imagenet / "val/n01491361")
    kind = "classes are in one split only, which shifts the labels after them"
    assert check(imagenet).faults[kind].names == [f"train/{GOLDFISH}", "val/n01491361"]


def test_an_image_in_the_folder_of_another_class_is_named(imagenet):
    (imagenet / f"train/{TENCH}/{TENCH}_0.JPEG").rename(imagenet / f"train/{SHARK}/{TENCH}_0.JPEG")
    kind = "images are in the folder of another class than their name says"
    assert check(imagenet).faults[kind].names == [f"train/{SHARK}/{TENCH}_0.JPEG"]


def test_an_empty_class_folder_is_named(imagenet):
    (imagenet / "train/n01491361").mkdir()
    kind = "class folders hold no images"
    assert check(imagenet).faults[kind].names == ["train/n01491361"]


def test_files_that_are_no_images_are_a_remark(imagenet):
    (imagenet / f"train/{TENCH}/README.txt").write_text("")
    findings = check(imagenet)
    assert not findings.faults
    assert findings.notes == [f"1 other file is ignored, the first is 'train/{TENCH}/README.txt'"]


def test_the_sheet_names_split_synset_and_class(imagenet):
    cells = check_imagenet(imagenet, Findings(allow_subset=True), num_workers=0)
    assert len(cells) == 15
    assert cells[0].caption == f"train {TENCH} tench, Tinca tinca"
    assert cells[-1].caption.startswith(f"val {SHARK} great white shark")
    assert cells[0].picture.shape == (64, 64, 3)
