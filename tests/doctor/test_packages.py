"""Each fault of a package is named with the command that fixes it."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import mmcv.ops
import pytest
import torch

from milan_mm.doctor import packages
from milan_mm.doctor.fault import Fault


class _Distribution:
    def __init__(self, name: str, version: str) -> None:
        self.metadata, self.version = {"Name": name}, version


def test_mmcv_without_compiled_ops_is_told_to_recompile(monkeypatch: pytest.MonkeyPatch):
    def import_without_ext(module: str):
        raise ModuleNotFoundError("No module named 'mmcv._ext'")

    monkeypatch.setattr(packages, "import_quietly", import_without_ext)
    with pytest.raises(Fault, match=r"mmcv\._ext") as fault:
        packages.check_mmcv_ops("cpu")
    assert "--no-build-isolation" in fault.value.remedy
    assert "--no-cache-dir 'onedl-mmcv>=" in fault.value.remedy


def test_a_transformers_that_breaks_mmpretrain_is_named(monkeypatch):
    def import_with_new_transformers(module: str):
        raise TypeError("NoneType takes no arguments")  # what version 5.17 led to

    monkeypatch.setattr(packages, "import_quietly", import_with_new_transformers)
    monkeypatch.setattr(metadata, "version", lambda name: "5.17.0")
    with pytest.raises(Fault, match=r"with transformers 5\.17\.0 installed: .*NoneType") as fault:
        packages.check_transformers()
    assert fault.value.remedy.endswith("uninstall -y transformers")


@pytest.mark.parametrize("first", ["register", "pretrain.milan"])
def test_mmpretrain_can_be_imported_beside_transformers_5(first: str):
    # a process of its own: transformers 5 lies where only this test looks
    judges = Path(sys.prefix) / "judges"
    line = f"import milan_mm.{first}, mmpretrain.models, transformers as t; print(t.__version__)"
    path = os.pathsep.join(map(str, [judges, *filter(None, [os.environ.get("PYTHONPATH")])]))
    done = subprocess.run(
        [sys.executable, "-c", line],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1].startswith("5."), done.stderr


def test_a_wrong_nms_is_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mmcv.ops, "nms", lambda *a, **k: (None, torch.tensor([0, 1, 2])))
    with pytest.raises(Fault, match=r"kept \[0, 1, 2\], wanted \[0, 2\]"):
        packages.check_mmcv_ops("cpu")


def test_a_wrong_roi_align_is_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mmcv.ops, "roi_align", lambda *a, **k: torch.zeros(1, 1, 2, 2))
    with pytest.raises(Fault, match=r"roi_align on cpu gave \[0\.0"):
        packages.check_mmcv_ops("cpu")


def test_two_opencv_builds_are_named_and_one_is_kept(monkeypatch: pytest.MonkeyPatch):
    builds = [_Distribution(n, "4.12.0.88") for n in ("opencv-python", "opencv_python_headless")]
    monkeypatch.setattr(metadata, "distributions", lambda: builds)
    with pytest.raises(Fault, match=r"2 OpenCV builds.*opencv-python 4\.12") as fault:
        packages.check_one_opencv()
    assert "uninstall -y opencv-python &&" in fault.value.remedy
    assert fault.value.remedy.endswith("--force-reinstall opencv-python-headless==4.12.0.88")


def test_an_emptied_cv2_folder_is_a_fault(monkeypatch: pytest.MonkeyPatch):
    # What uninstalling one of two builds leaves: a folder that imports as an empty namespace.
    monkeypatch.setitem(sys.modules, "cv2", type(sys)("cv2"))
    with pytest.raises(Fault, match="import cv2 failed") as fault:
        packages.check_one_opencv()
    assert "--force-reinstall opencv-python-headless" in fault.value.remedy


def test_a_package_that_does_not_import_is_named_with_its_distribution(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, "mmdet", None)
    with pytest.raises(Fault, match="import mmdet failed") as fault:
        packages.check_package("mmdet")
    # It is installed, so pip would do nothing unless forced.
    assert "--force-reinstall --no-deps 'onedl-mmdetection>=" in fault.value.remedy


def test_an_older_package_is_named_with_both_versions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "version", lambda name: "1.0")
    with pytest.raises(Fault, match=r"onedl-mmcv 1\.0, wanted >=2\.3\.6"):
        packages.check_package("mmcv")


def test_upstream_packages_are_accepted_and_said(monkeypatch: pytest.MonkeyPatch):
    def not_found(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", not_found)
    assert "not from onedl-mmcv" in packages.check_package("mmcv")


def test_a_python_without_wheels_is_a_fault(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(Fault, match=r"Python 3\.13\.0, wanted 3\.11 or 3\.12"):
        packages.check_python()
