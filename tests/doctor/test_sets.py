"""The report says which set of versions is installed, and whether it was run."""

import re
from importlib import metadata

import pytest

from milan_mm.configs import list_constraints
from milan_mm.doctor.sets import check_versions


def _pinned(name: str) -> dict[str, str]:
    text = list_constraints()[name].read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", list_constraints())
def test_an_installed_set_is_named_with_when_it_was_run(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "version", _pinned(name).__getitem__)
    line = check_versions()
    assert line.startswith(f"as in constraints{name and '-'}{name}.txt, run 20"), line


def test_another_version_is_named_beside_the_one_that_was_run(monkeypatch: pytest.MonkeyPatch):
    versions = _pinned("") | {"timm": "9.9"}
    monkeypatch.setattr(metadata, "version", versions.__getitem__)
    line = check_versions()
    assert line.startswith("not a set that was run; nearest is constraints.txt")
    assert f"timm 9.9 ({_pinned('')['timm']})" in line
