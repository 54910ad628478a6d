"""One row says all about a system, and the docs show every row."""

from pathlib import Path

import pytest
import torch

from milan_mm.weights.finding import Found
from milan_mm.weights.inspecting import inspection
from milan_mm.weights.layouts import LAYOUTS
from milan_mm.weights.recognising import read_encoder
from milan_mm.weights.stated.hugging_face import hugging_face_facts
from milan_mm.weights.statistics import stats_values
from milan_mm.weights.systems import (
    POOLINGS,
    SYSTEMS,
    WEB_DINO_WIDTHS,
    guess_system,
    markdown_table,
)
from tests.weights.samples import write_sample


@pytest.fixture
def page(repo_root: Path) -> str:
    return (repo_root / "docs/weights.md").read_text()


def test_the_docs_show_every_row(page: str):
    assert markdown_table() in page, "print it by: python -m milan_mm.weights.systems"


@pytest.mark.usefixtures("published_size")
def test_the_docs_show_what_inspect_weights_prints(page: str, tmp_path: Path):
    file = write_sample("beit", tmp_path)
    shown = inspection(read_encoder(file)).replace(str(file), "work_dirs/samples/beit.pth")
    assert shown in page


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_file_of_a_layout_is_taken_for_some_system(layout: str):
    state_dict = {"pos_embed": torch.randn(1, 17, 8)}
    assert guess_system(Found("a.pth", layout, "", "", state_dict)) in SYSTEMS


@pytest.mark.parametrize(
    ("width", "wrapper", "system"),
    [
        (768, "", "Franca"),
        (1024, "teacher", "Franca"),
        (1024, "", "Web-DINO"),
        (2688, "", "Web-DINO"),
        (1536, "", "DINOv2"),
        (1536, "teacher", "DINOv2"),  # Franca's ViT-g too, which has the same shapes
    ],
)
def test_the_width_tells_whose_swiglu_it_is(width: int, wrapper: str, system: str):
    names = ("patch_embed.proj.weight", "blocks.0.mlp.w12.weight", "blocks.0.ls1.gamma")
    state = {name: torch.empty(width, 3, 1, 1) for name in names}
    state["pos_embed"] = torch.empty(1, 17, 4)
    assert guess_system(Found("a.pth", "timm", "", wrapper, state)) == system
    config = dict(model_type="dinov2", hidden_size=width, use_swiglu_ffn=True)
    named = "Web-DINO" if width in WEB_DINO_WIDTHS else "DINOv2"
    assert hugging_face_facts(config, {}, Path()).system == named


def test_a_row_names_layouts_statistics_and_poolings_that_exist():
    for row in SYSTEMS.values():
        assert row.layouts and set(row.layouts) <= LAYOUTS.keys()
        assert stats_values(row.stats) and row.pooling in POOLINGS
