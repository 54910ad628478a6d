"""An untrained encoder of the shape of a trained one, as a file that every task takes."""

from dataclasses import replace
from pathlib import Path

import torch

from milan_mm.evaluation.encoders import load_frozen_encoder, random_encoder_like
from milan_mm.run.records.canonical import settings_hash
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.reading import metadata_sha256, tensors_sha256
from milan_mm.weights.storing import save_tensors

METHOD = "untrained"
SEED = 0


def write_untrained(encoder: Encoder, folder: Path) -> Path:
    """Draw the weights of an encoder anew, always the same for a shape.

    Args:
        encoder: With its tensors; its image statistics and pooling stay.
        folder: Where the file goes; one that is there is kept.

    Returns:
        The file.

    Raises:
        MissingFileError, UserError: See `load_encoder`.
    """
    key = settings_hash([encoder.settings, encoder.stats, encoder.pooling, SEED])[:8]
    out = folder / f"{METHOD}_{key}.safetensors"
    if out.is_file():
        return out
    vit, _ = load_frozen_encoder(encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        drawn = random_encoder_like(vit)
    tensors = {name: tensor.contiguous() for name, tensor in drawn.state_dict().items()}
    own = replace(encoder, source=out.name, state_dict=tensors, assumed={}, dense={})
    metadata = own.metadata() | dict(sha256=tensors_sha256(tensors))
    save_tensors(out, tensors, metadata | dict(metadata_sha256=metadata_sha256(metadata)))
    return out
