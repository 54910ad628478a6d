"""Names of other layouts: what is written under them is read back as it was."""

from pathlib import Path

import pytest
import torch

from milan_mm.weights.layouts import LAYOUTS
from milan_mm.weights.recognising import read_encoder, recognise
from milan_mm.weights.spelling import spell
from tests.helpers import save_state
from tests.weights import zoo

# Layout -> a system whose files come in it, of those that keep our shapes.
SYSTEMS = {
    "timm": "deit",
    "beit": "beit",
    "mmpretrain": "mae",
    "mmpretrain-beit": "beit",
    "torchvision": "mae",
    "dinov3": "dinov3_timm",
    "dinov3-timm": "dinov3_timm",
    "hf-vit": "mae",
    "hf-beit": "beit",
    "hf-dinov2": "dinov2",
    "hf-dinov3": "dinov3_timm",
}


@pytest.mark.parametrize("layout", SYSTEMS)
def test_spelt_tensors_are_read_back_as_they_were(layout: str, tmp_path: Path):
    file = save_state(zoo.SYSTEMS[SYSTEMS[layout]](tmp_path).content, tmp_path)
    encoder = read_encoder(file, num_heads=4)
    spelt = spell(encoder.state_dict, layout)
    again = recognise(spelt, "spelt", num_heads=4)
    assert again.layout == layout
    assert again.state_dict.keys() == encoder.state_dict.keys()
    assert all(torch.equal(t, again.state_dict[n]) for n, t in encoder.state_dict.items())


def test_a_tensor_without_a_name_there_is_refused():
    with pytest.raises(ValueError, match=r"layout hf-vit has no name for 'pre_norm\.weight'"):
        spell({"pre_norm.weight": torch.ones(3)}, "hf-vit")


def test_a_key_bias_is_not_lost_in_silence():
    bias = {"layers.0.attn.qkv.bias": torch.ones(9)}
    assert LAYOUTS["beit"].key_bias is False
    with pytest.raises(ValueError, match=r"no key bias, and 'layers\.0\.attn\.qkv\.bias'"):
        spell(bias, "beit")
    assert spell({"layers.0.attn.qkv.bias": torch.zeros(9)}, "beit").keys() == {
        "blocks.0.attn.q_bias",
        "blocks.0.attn.v_bias",
    }
