"""Writing an encoder file: safetensors with the facts that its users need."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from milan_mm.weights.loading import encoder_state_dict
from milan_mm.weights.reading import read_checkpoint
from milan_mm.weights.writing import replacing


def export_encoder(checkpoint: str | Path, out: str | Path, half: bool = False) -> dict[str, str]:
    """Cut the encoder out of a training checkpoint and save it alone, atomically.

    Args:
        checkpoint: See `read_checkpoint`.
        out: Path of the new `.safetensors` file; an existing one is replaced in one step.
        half: Store float16, half the size; loading turns it back into float32.

    Returns:
        The metadata stored in the file.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise ValueError(f"output '{out}' must end in .safetensors")
    state_dict = encoder_state_dict(read_checkpoint(checkpoint), checkpoint)
    embed_dims, _, patch_size, _ = state_dict["patch_embed.projection.weight"].shape
    num_layers = 1 + max(int(n.split(".")[1]) for n in state_dict if n.startswith("layers."))
    metadata = dict(
        format="pt",
        layout="milan_mm encoder",
        source=Path(checkpoint).name,
        embed_dims=str(embed_dims),
        num_layers=str(num_layers),
        patch_size=str(patch_size),
        num_patches=str(state_dict["pos_embed"].shape[1] - int("cls_token" in state_dict)),
    )
    dtype = torch.float16 if half else torch.float32
    with replacing(out) as partial:
        save_file({n: t.to(dtype).contiguous() for n, t in state_dict.items()}, partial, metadata)
    return metadata
