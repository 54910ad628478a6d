"""Files of figures say what they show and how to make them again."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.errors import MissingFileError, UserError
from milan_mm.visualization.figure_files import figure_paths, picture_of, read_facts, save_figure
from milan_mm.visualization.panels import Frame, Panel, panel_figure

FACTS = dict(title="A title", caption="Größe < 1 & more", command="python tools/look.py 'a b'")


def _figure():
    red = np.full((8, 8, 3), (255, 0, 0), np.uint8)
    return panel_figure([[Panel(red)]], Frame(["red"], caption="below"))


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_facts_come_back_from_the_file(ending: str, tmp_path: Path):
    path = tmp_path / f"figure{ending}"
    save_figure(_figure(), [path], FACTS)
    assert read_facts(path) == FACTS


def test_a_png_has_title_and_caption_for_other_programs(tmp_path: Path):
    save_figure(_figure(), [tmp_path / "figure.png"], FACTS)
    with Image.open(tmp_path / "figure.png") as image:
        assert image.text["Title"] == FACTS["title"]
        assert image.text["Description"] == FACTS["caption"]


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_the_same_figure_is_the_same_file(ending: str, tmp_path: Path):
    paths = [tmp_path / f"{name}{ending}" for name in "ab"]
    for path in paths:
        save_figure(_figure(), [path], FACTS)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_picture_has_the_size_of_its_figure():
    figure = _figure()
    width, height = figure.get_size_inches()
    picture = picture_of(figure, dpi=100)
    assert abs(picture.shape[1] - 100 * width) <= 1 and abs(picture.shape[0] - 100 * height) <= 1
    assert (picture == (255, 0, 0)).all(axis=2).any()


def test_without_an_ending_both_kinds_are_written():
    assert figure_paths("a/b") == [Path("a/b.png"), Path("a/b.svg")]
    assert figure_paths("a/b.svg") == [Path("a/b.svg")]
    assert figure_paths("vit-b.v2") == [Path("vit-b.v2.png"), Path("vit-b.v2.svg")]
    with pytest.raises(UserError, match=r"'a.pdf': figures are written as .png or .svg"):
        figure_paths("a.pdf")


def test_a_folder_is_not_overwritten(tmp_path: Path):
    with pytest.raises(UserError, match="is a folder: name a file in it"):
        figure_paths(tmp_path)


def test_files_without_facts_are_refused(tmp_path: Path):
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.png")
    (tmp_path / "broken.svg").write_text("<svg")
    for name, message in {
        "photo.png": "does not say how it was made",
        "broken.svg": "cannot be read",
    }.items():
        with pytest.raises(UserError, match=message):
            read_facts(tmp_path / name)
    with pytest.raises(MissingFileError, match="does not exist"):
        read_facts(tmp_path / "nothing.png")


def test_a_figure_with_too_many_pixels_is_refused_before_anything_is_written(tmp_path: Path):
    paths = [tmp_path / "figure.png", tmp_path / "figure.svg"]
    with pytest.raises(UserError, match=r"pixels long at --dpi 30000, the limit is 65535: pass"):
        save_figure(_figure(), paths, FACTS, dpi=30_000)
    assert not list(tmp_path.iterdir())
