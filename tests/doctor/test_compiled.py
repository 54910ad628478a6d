"""Packages with compiled code are called, not only imported."""

import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from milan_mm.doctor.compiled import CALLS, check_compiled
from milan_mm.doctor.fault import Fault

# mmcv has a check of its own; the others come with a package that is called, or have a fallback
# in Python.
ELSEWHERE = {"onedl-mmcv", "onnx", "hf-xet", "markupsafe"}


@pytest.mark.parametrize("distribution", CALLS)
def test_each_package_gives_the_known_answer(distribution: str):
    assert CALLS[distribution]()


def test_every_dependency_with_compiled_code_is_called():
    direct = {canonicalize_name(Requirement(line).name) for line in metadata.requires("milan_mm")}
    compiled = {
        canonicalize_name(distribution.metadata["Name"])
        for distribution in metadata.distributions()
        if any(file.suffix == ".so" for file in distribution.files or ())
    }
    tools = {"mypy", "ruff", "ninja"}  # of developers
    assert not direct & compiled - CALLS.keys() - ELSEWHERE - tools


def test_an_extension_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch):
    for name in ("pycocotools", "pycocotools.mask", "pycocotools._mask"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "pycocotools._mask", None)
    with pytest.raises(Fault, match="pycocotools does not work") as fault:
        check_compiled()
    assert "--force-reinstall" in fault.value.remedy


def test_a_wrong_answer_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(CALLS, "scipy", lambda: False)
    with pytest.raises(Fault, match="scipy gives wrong answers"):
        check_compiled()
