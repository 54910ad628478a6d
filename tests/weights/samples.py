"""Files of every system with random weights, to try the tools on before the real ones are there.

They are written by the systems' own or by independent classes (`zoo.py`), always the same for the
same size. From the root of a checkout:

  python -m tests.weights.samples work_dirs/samples                      # one file per layout
  python -m tests.weights.samples work_dirs/samples mae beit openai_clip
  python -m tests.weights.samples work_dirs/samples hf_dinov2 --patch 14 --side 37  # 518 px
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from milan_mm.models.vit_options import ARCHS
from tests.weights import zoo

# One system for each key of `LAYOUTS`.
OF_LAYOUTS = {
    "mae": "timm",
    "beit": "beit",
    "openai_clip": "clip",
    "swag": "swag",
    "torchvision": "torchvision",
    "mmpretrain": "mmpretrain",
    "mmpretrain_beit": "mmpretrain-beit",
    "mmseg": "mmseg",
    "augreg_npz": "augreg-npz",
    "big_vision_npz": "big-vision-npz",
    "dinov3": "dinov3",
    "dinov3_timm": "dinov3-timm",
    "hf_vit": "hf-vit",
    "hf_beit": "hf-beit",
    "hf_dinov2": "hf-dinov2",
    "hf_dinov3": "hf-dinov3",
    "hf_siglip": "hf-siglip",
    "aimv2": "aimv2",
    "aimv2_timm": "aimv2-timm",
    "hf_aimv2": "hf-aimv2",
    "pe": "pe",
    "pe_spatial": "pe-spatial",
    "eva02_official": "eva02",
    "eva02": "eva02-timm",
    "hf_clip": "hf-clip",
}
# What the config.json of a Hugging Face folder says besides sizes.
HF_CONFIGS = dict(
    hf_vit=dict(model_type="vit", layer_norm_eps=1e-12),
    hf_beit=dict(model_type="beit", layer_norm_eps=1e-12, use_mean_pooling=True),
    hf_dinov2=dict(model_type="dinov2_with_registers", layer_norm_eps=1e-6, num_register_tokens=2),
    hf_clip=dict(model_type="clip_vision_model", hidden_act="quick_gelu", layer_norm_eps=1e-5),
    hf_siglip=dict(model_type="siglip_vision_model", hidden_act="gelu_pytorch_tanh"),
    hf_aimv2=dict(model_type="aimv2_vision_model", hidden_act="silu", rms_norm_eps=1e-5),
    hf_dinov3=dict(
        model_type="dinov3_vit", layer_norm_eps=1e-5, num_register_tokens=4, rope_theta=100.0
    ),
)


def write_sample(system: str, folder: Path) -> Path:
    """Write one file, or a folder of Hugging Face.

    Args:
        system: Key of `zoo.SYSTEMS`.

    Returns:
        Its path below `folder`, named after the system.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    content = zoo.SYSTEMS[system](folder).content
    if system.endswith("_npz"):
        file = folder / f"{system}.npz"
        np.savez(file, **{name: tensor.numpy() for name, tensor in content.items()})
        (folder / "augreg.npz").unlink()  # what timm has read
        return file
    if system in HF_CONFIGS:
        folder /= system
        folder.mkdir(exist_ok=True)
        config = dict(
            hidden_size=zoo.D,
            num_hidden_layers=zoo.LAYERS,
            num_attention_heads=zoo.HEADS,
            patch_size=zoo.PATCH,
            image_size=zoo.SIDE * zoo.PATCH,
            hidden_act="gelu",
        )
        save_file({n: t.contiguous() for n, t in content.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config | HF_CONFIGS[system]))
        return folder
    file = folder / f"{system}.pth"
    torch.save(content, file)
    return file


def main(argv: list[str] | None = None) -> None:
    """Write the files and print their paths."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder for the files")
    parser.add_argument(
        "systems",
        nargs="*",
        metavar="SYSTEM",
        help=f"(one for each layout) {', '.join(zoo.SYSTEMS)}",
    )
    parser.add_argument("--arch", choices=list(ARCHS), default="base", help="(base)")
    parser.add_argument("--patch", type=int, default=16, metavar="PX", help="side of a patch (16)")
    parser.add_argument("--side", type=int, default=14, metavar="N", help="patches per side (14)")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.systems if name not in zoo.SYSTEMS]:
        parser.error(f"'{unknown[0]}' is none of {', '.join(zoo.SYSTEMS)}")
    zoo.set_size(**ARCHS[args.arch], patch=args.patch, side=args.side)
    for system in args.systems or OF_LAYOUTS:
        print(write_sample(system, args.out), flush=True)


if __name__ == "__main__":
    main()
