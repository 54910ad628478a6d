"""What needs its own process: an encoder without mmcv and the like, and transformers as judge."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from milan_mm.encoder.export.writing import TOLERANCE, export
from milan_mm.weights.recognising import read_encoder
from tests.encoder.kinds import weights_of
from tests.encoder.test_export import equal
from tests.helpers import save_state
from tests.weights import zoo

pytestmark = pytest.mark.long

HUGGING_FACE = {
    "mae": "ViTModel",
    "hf_vit": "ViTModel",
    "deit_iii": "Dinov2Model",
    "dinov2": "Dinov2WithRegistersModel",
    "deit_distilled": "Dinov2WithRegistersModel",
    "dinov3_timm": "DINOv3ViTModel",
    "beit": "BeitModel",
    "beit_finetuned": "BeitModel",
    "openai_clip": "CLIPVisionModel",
}
# Source files and folders by kind in, what was found out. transformers 5 and mmpretrain cannot be
# imported together, see Makefile; here one of them must not be.
PROCESS = """
import json, sys
import milan_mm
kinds, named = json.loads(sys.argv[1]), sys.argv[2]
found = dict(by_import=[n for n in sys.modules if n.partition(".")[0] in ("milan_mm", "torch")])
packages = ("mmcv", "mmdet", "mmseg", "mmpretrain")
encoders = {k: milan_mm.load_encoder(source, num_heads=4) for k, (source, _) in kinds.items()}
found |= dict(openmmlab=[name for name in packages if name in sys.modules])
sys.modules.update(dict.fromkeys(packages))  # where they are not installed
found |= dict(heads=milan_mm.load_encoder(named).num_heads)

from PIL import Image
from transformers import AutoImageProcessor
from milan_mm.encoder.export.checking import largest_difference
from milan_mm.encoder.export.hugging_face import load_hugging_face
image = Image.effect_noise((90, 60), 50).convert("RGB")
for kind, (_, folder) in kinds.items():
    encoder = encoders[kind]
    pixels = AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt").pixel_values[0]
    found[kind] = [
        largest_difference(encoder, load_hugging_face(folder), encoder.img_size),
        (pixels - encoder.preprocess(image)).abs().max().item(),
    ]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Kind -> its file, and the folder that it was exported to."""
    paths = {}
    for kind in HUGGING_FACE:
        holder = tmp_path_factory.mktemp(kind)
        weights = weights_of(kind, holder)
        exported = export(weights, holder / "folder", "huggingface")
        assert f"transformers.{HUGGING_FACE[kind]}.from_pretrained" in str(exported)
        paths[kind] = (weights.source, str(exported.path))
    return paths


@pytest.fixture(scope="module")
def found(folders, tmp_path_factory):
    meta = dict(cfg="model = dict(backbone=dict(type='VisionTransformer', arch='b', patch_size=8))")
    state = dict(state_dict=zoo.mmpretrain().content["state_dict"], meta=meta)
    named = save_state(state, tmp_path_factory.mktemp("named"))
    judges = Path(sys.prefix) / "judges"
    path = os.pathsep.join([str(judges), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, json.dumps(folders), str(named)],
        capture_output=True,
        text=True,
        env=os.environ | dict(PYTHONPATH=path),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_it_needs_no_package_of_openmmlab_but_mmengine(found):
    assert found["by_import"] == ["milan_mm"]  # nothing heavy either
    assert found["openmmlab"] == []
    assert found["heads"] == 12  # of arch 'b', which mmpretrain knows


def test_transformers_loads_the_folders_and_computes_the_same(found):
    for kind in HUGGING_FACE:
        features, images = found[kind]
        assert features < TOLERANCE, kind
        assert images < 0.1, kind  # of the statistics' scale; their bicubic rounds elsewhere


def test_folders_of_hugging_face_are_read_again(folders):
    for kind in HUGGING_FACE:
        source, folder = folders[kind]
        added = (".gamma_1", ".gamma_2") if kind == "deit_distilled" else ()
        assert equal(read_encoder(folder), read_encoder(source, num_heads=4), added), kind
