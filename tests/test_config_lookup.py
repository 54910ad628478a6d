"""Configs are found by name, and a wrong name says what was meant."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from milan_mm import configs
from milan_mm.__main__ import _usage
from milan_mm.configs import find_config, list_configs, load


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configs folder with two recipes of one stem, two others, and a base."""
    names = ["pretrain/milan_vit-base", "det/mask-rcnn_vit-base", "det/small", "seg/small"]
    for name in [*names, "_base_/schedule"]:
        path = tmp_path / "configs" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    monkeypatch.setattr(configs, "shipped_folder", lambda name: tmp_path / name)
    return tmp_path / "configs"


def test_list_leaves_out_bases(shipped: Path):
    assert list_configs() == [
        "det/mask-rcnn_vit-base",
        "det/small",
        "pretrain/milan_vit-base",
        "seg/small",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "pretrain/milan_vit-base",
        "pretrain/milan_vit-base.py",
        "configs/pretrain/milan_vit-base.py",
        "milan_vit-base",
        "milan_vit-base.py",
    ],
)
def test_every_spelling_finds_the_same_file(shipped: Path, name: str):
    assert find_config(name) == shipped / "pretrain/milan_vit-base.py"


def test_an_existing_file_wins_over_a_recipe(shipped: Path, monkeypatch: pytest.MonkeyPatch):
    mine = shipped.parent / "milan_vit-base.py"
    mine.write_text("")
    monkeypatch.chdir(shipped.parent)
    assert find_config("milan_vit-base.py").resolve() == mine


def test_a_wrong_name_is_answered_in_one_line_with_the_closest(shipped: Path):
    with pytest.raises(FileNotFoundError) as error:
        find_config("mask-rcnn_vit-bse")
    message = str(error.value)
    assert "mask-rcnn_vit-bse" in message and "\n" not in message
    assert message.index("det/mask-rcnn_vit-base") < message.index("pretrain/milan_vit-base")
    assert "python -m milan_mm configs" in message


def test_an_ambiguous_stem_names_both_recipes(shipped: Path):
    with pytest.raises(ValueError, match="det/small, seg/small"):
        find_config("small")


def test_a_config_inherits_from_mmseg_whatever_its_distribution_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # the table that mmengine starts with
    monkeypatch.setitem(MODULE2PACKAGE, "mmseg", "mmsegmentation")
    mine = tmp_path / "mine.py"
    mine.write_text("_base_ = 'mmseg::_base_/models/upernet_mae.py'")
    assert load(mine).model.type == "EncoderDecoder"
    assert Config.fromfile(mine).model.type == "EncoderDecoder"  # from then on


@pytest.mark.parametrize("name", ["shape.py", "shapes"])  # a letter or the suffix is missing
def test_a_misspelt_base_is_answered_with_the_closest_recipe(tmp_path: Path, name: str):
    recipe = "milan_mm::det/mask-rcnn_vit-mini-p8_1xb8-250i_"
    mine = tmp_path / "mine.py"
    mine.write_text(f"_base_ = '{recipe}{name}'")
    with pytest.raises(FileNotFoundError) as error:
        load(mine)
    message = f"there is no '{recipe}{name}' for its _base_; closest: {recipe}shapes.py"
    assert message in str(error.value)


def test_help_lists_every_tool_with_its_first_line(repo_root: Path):
    usage = _usage()
    for path in repo_root.glob("tools/[!_]*.py"):
        first_line = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
        assert first_line, f"{path.name} has no docstring"
        assert re.search(rf"^  {path.stem} +{re.escape(first_line)}$", usage, re.MULTILINE)


def test_an_unknown_tool_exits_with_the_closest_name(tmp_path: Path):
    command = [sys.executable, "-m", "milan_mm", "doctr"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "'doctr'; closest: doctor" in done.stderr
