"""Folders that transformers itself has written give the features that it computes from them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from milan_mm.models.plain_vit import PlainViT
from milan_mm.weights.loading import load_encoder
from milan_mm.weights.recognising import read_encoder
from tests.weights import transformers_files
from tests.weights.transformers_files import MODELS, REFUSED

pytestmark = pytest.mark.long
SYSTEMS = {
    "siglip-vision": "SigLIP",
    "siglip": "SigLIP",
    "aimv2": "AIMv2",
    "ijepa": "I-JEPA",
    "clip": "CLIP",
    "clip-gelu": "open_clip",
    "metaclip-2": "MetaCLIP 2",
    "beit": "finetuned BEiT",
    "data2vec": "data2vec",
    "msn": "MSN",
    "dinov2-g": "DINOv2",
    "dinov3": "DINOv3",
    "dinov3-plus": "DINOv3",
}
REASONS = {
    "siglip-naflex": "keeps the shape of every image",
    "aimv2-native": "computes its positions from each image",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transformers")
    path = os.pathsep.join(
        [str(Path(sys.prefix) / "judges"), *os.environ.get("PYTHONPATH", "").split()]
    )
    done = subprocess.run(
        [sys.executable, transformers_files.__file__, str(folder)],
        capture_output=True,
        text=True,
        env=os.environ | dict(PYTHONPATH=path),
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_features_are_those_of_transformers(folders: Path):
    for name, system in SYSTEMS.items():
        encoder = read_encoder(folders / name)
        assert encoder.system == system
        vit = PlainViT(**encoder.model_settings(), out_type="raw").eval()
        load_encoder(vit, encoder)
        expected = load_file(folders / name / "expected.safetensors")
        for size in (key.removeprefix("images ") for key in expected if "images" in key):
            with torch.no_grad():
                (tokens,) = vit(expected[f"images {size}"])
            close = dict(rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
            torch.testing.assert_close(tokens, expected[f"tokens {size}"], **close)
            if vit.options.with_pool:
                with torch.no_grad():
                    pooled = vit.attn_pool(tokens)
                torch.testing.assert_close(pooled, expected[f"pooled {size}"], **close)


@pytest.mark.parametrize("name", REFUSED)
def test_designs_that_are_not_plain_are_refused_with_the_reason(folders: Path, name: str):
    with pytest.raises(ValueError, match=REASONS[name]):
        read_encoder(folders / name)


def test_every_model_of_the_judge_is_compared_or_refused():
    assert MODELS.keys() == SYSTEMS.keys() | REASONS.keys()
