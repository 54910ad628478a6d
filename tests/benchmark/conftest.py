"""A CLIP small enough for whole steps of the benchmarks."""

import json

import open_clip
import pytest


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an architecture of open_clip; grid and decoder stay the recipe's."""
    folder = tmp_path_factory.mktemp("clip")
    name = "contest-quickgelu"
    config = dict(
        embed_dim=24,
        quick_gelu=True,
        # mmpretrain assumes heads of 64 channels
        vision_cfg=dict(image_size=224, patch_size=16, layers=2, width=128, head_width=64),
        text_cfg=dict(context_length=8, vocab_size=10, width=64, heads=1, layers=1),
    )
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return name
