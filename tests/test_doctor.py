"""The self-check names each fault and the command that fixes it."""

import shutil
import sys
from collections import namedtuple
from importlib import metadata

import mmcv.ops
import pytest
import torch

from milan_mm import doctor
from milan_mm.doctor import Fault


class _Distribution:
    def __init__(self, name: str, version: str) -> None:
        self.metadata, self.version = {"Name": name}, version


def test_this_installation_passes_every_check(capsys: pytest.CaptureFixture[str]):
    assert doctor.main() == 0, capsys.readouterr().out
    assert "nms and roi_align give the known answers on cpu" in capsys.readouterr().out


def test_a_fault_gives_exit_code_1_and_the_other_checks_still_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def broken() -> str:
        raise Fault("the disk is on fire", "pour water")

    monkeypatch.setattr(doctor, "all_checks", lambda: {"a": broken, "b": lambda: "fine"})
    assert doctor.main() == 1
    fault, remedy, fine, summary = capsys.readouterr().out.splitlines()
    assert fault.startswith("FAULT") and "the disk is on fire" in fault
    assert remedy.endswith("pour water")
    assert fine.startswith("ok") and summary.startswith("1 fault")


def test_mmcv_without_compiled_ops_is_told_to_recompile(monkeypatch: pytest.MonkeyPatch):
    def import_without_ext(module: str):
        raise ModuleNotFoundError("No module named 'mmcv._ext'")

    monkeypatch.setattr(doctor, "_import", import_without_ext)
    with pytest.raises(Fault, match=r"mmcv\._ext") as fault:
        doctor.check_mmcv_ops("cpu")
    assert "--no-build-isolation" in fault.value.remedy
    assert "--no-cache-dir 'onedl-mmcv>=" in fault.value.remedy


def test_a_transformers_that_breaks_mmpretrain_is_named(monkeypatch):
    def import_with_new_transformers(module: str):
        raise TypeError("NoneType takes no arguments")  # what version 5.17 led to

    monkeypatch.setattr(doctor, "_import", import_with_new_transformers)
    monkeypatch.setattr(metadata, "version", lambda name: "5.17.0")
    with pytest.raises(Fault, match=r"with transformers 5\.17\.0 installed: .*NoneType") as fault:
        doctor.check_transformers()
    assert fault.value.remedy.endswith("uninstall -y transformers")


def test_a_wrong_nms_is_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mmcv.ops, "nms", lambda *a, **k: (None, torch.tensor([0, 1, 2])))
    with pytest.raises(Fault, match=r"kept \[0, 1, 2\], wanted \[0, 2\]"):
        doctor.check_mmcv_ops("cpu")


def test_a_wrong_roi_align_is_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mmcv.ops, "roi_align", lambda *a, **k: torch.zeros(1, 1, 2, 2))
    with pytest.raises(Fault, match=r"roi_align on cpu gave \[0\.0"):
        doctor.check_mmcv_ops("cpu")


def test_two_opencv_builds_are_named_and_one_is_kept(monkeypatch: pytest.MonkeyPatch):
    builds = [_Distribution(n, "4.12.0.88") for n in ("opencv-python", "opencv_python_headless")]
    monkeypatch.setattr(metadata, "distributions", lambda: builds)
    with pytest.raises(Fault, match=r"2 OpenCV builds.*opencv-python 4\.12") as fault:
        doctor.check_one_opencv()
    assert "uninstall -y opencv-python &&" in fault.value.remedy
    assert fault.value.remedy.endswith("--force-reinstall opencv-python-headless==4.12.0.88")


def test_an_emptied_cv2_folder_is_a_fault(monkeypatch: pytest.MonkeyPatch):
    # What uninstalling one of two builds leaves: a folder that imports as an empty namespace.
    monkeypatch.setitem(sys.modules, "cv2", type(sys)("cv2"))
    with pytest.raises(Fault, match="import cv2 failed") as fault:
        doctor.check_one_opencv()
    assert "--force-reinstall opencv-python-headless" in fault.value.remedy


def test_a_package_that_does_not_import_is_named_with_its_distribution(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, "mmdet", None)
    with pytest.raises(Fault, match="import mmdet failed") as fault:
        doctor.check_package("mmdet")
    # It is installed, so pip would do nothing unless forced.
    assert "--force-reinstall --no-deps 'onedl-mmdetection>=" in fault.value.remedy


def test_an_older_package_is_named_with_both_versions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "version", lambda name: "1.0")
    with pytest.raises(Fault, match=r"onedl-mmcv 1\.0, wanted >=2\.3\.6"):
        doctor.check_package("mmcv")


def test_upstream_packages_are_accepted_and_said(monkeypatch: pytest.MonkeyPatch):
    def not_found(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", not_found)
    assert "not from onedl-mmcv" in doctor.check_package("mmcv")


def test_a_full_disk_is_a_fault(monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")(2**40, 2**40, 2**29)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(Fault, match=r"0\.5 GiB free") as fault:
        doctor.check_disk()
    assert "--work-dir" in fault.value.remedy


def test_a_python_without_wheels_is_a_fault(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(Fault, match=r"Python 3\.13\.0, wanted 3\.11 or 3\.12"):
        doctor.check_python()
