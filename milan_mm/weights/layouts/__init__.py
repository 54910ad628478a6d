"""How pretrained plain ViTs are stored: one written table per layout, one file per family of names.

A layout is a spelling of the same encoder. Its table (`table.py`) names every parameter of
`PlainViT` in that spelling, the whole names by which it is recognised, and what a file may hold
besides the encoder or do without, each with the reason. Which system wrote a file is another
question, see `systems.py`. To add a layout, write its table and list it here.

Sources: the code that writes the files, as cited per system in docs/weights.md.
"""

from milan_mm.weights.layouts.aimv2 import AIMV2, AIMV2_TIMM, HF_AIMV2
from milan_mm.weights.layouts.beit import BEIT
from milan_mm.weights.layouts.clip import CLIP, HF_CLIP
from milan_mm.weights.layouts.dinov3 import DINOV3, DINOV3_TIMM
from milan_mm.weights.layouts.eva02 import EVA02, EVA02_TIMM
from milan_mm.weights.layouts.flax import AUGREG, BIG_VISION
from milan_mm.weights.layouts.hugging_face import HF_BEIT, HF_DINOV2, HF_DINOV3, HF_VIT
from milan_mm.weights.layouts.mmpretrain import MMPRETRAIN, MMPRETRAIN_BEIT, MMSEG
from milan_mm.weights.layouts.pe import PE, PE_SPATIAL
from milan_mm.weights.layouts.siglip import HF_SIGLIP
from milan_mm.weights.layouts.timm import TIMM
from milan_mm.weights.layouts.torchvision import SWAG, TORCHVISION

LAYOUTS = {
    "timm": TIMM,
    "beit": BEIT,
    "clip": CLIP,
    "swag": SWAG,
    "torchvision": TORCHVISION,
    "mmpretrain": MMPRETRAIN,
    "mmpretrain-beit": MMPRETRAIN_BEIT,
    "mmseg": MMSEG,
    "augreg-npz": AUGREG,
    "big-vision-npz": BIG_VISION,
    "dinov3": DINOV3,
    "dinov3-timm": DINOV3_TIMM,
    "hf-vit": HF_VIT,
    "hf-beit": HF_BEIT,
    "hf-dinov2": HF_DINOV2,
    "hf-dinov3": HF_DINOV3,
    "hf-siglip": HF_SIGLIP,
    "aimv2": AIMV2,
    "aimv2-timm": AIMV2_TIMM,
    "hf-aimv2": HF_AIMV2,
    "pe": PE,
    "pe-spatial": PE_SPATIAL,
    "eva02": EVA02,
    "eva02-timm": EVA02_TIMM,
    "hf-clip": HF_CLIP,
}
