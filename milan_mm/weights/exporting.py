"""Writing an encoder file: safetensors with the facts that its users need."""

from pathlib import Path

import torch

from milan_mm.errors import UserError
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.reading import file_sha256, metadata_sha256, tensors_sha256, weights_file
from milan_mm.weights.recognising import read_encoder
from milan_mm.weights.storing import save_tensors


def export_encoder(
    source: str | Path | Encoder, out: str | Path, half: bool = False
) -> dict[str, str]:
    """Save an encoder alone, under the names of `PlainViT`, atomically.

    Args:
        source: A file of any layout, see `read_encoder`, or what was read from it.
        out: Path of the new `.safetensors` file; an existing one is replaced in one step.
        half: Store float16, half the size; loading turns it back into float32.

    Returns:
        The metadata stored in the file: what `Encoder` knows, and checksums: `source_sha256` over
        the source file, `sha256` over the tensors and `metadata_sha256` over all other entries, as
        `milan_mm.weights.reading` takes them.
    """
    out = Path(out)
    _check_suffix(out)
    encoder = source if isinstance(source, Encoder) else read_encoder(source)
    file = weights_file(encoder.source)
    if file.resolve() == out.resolve():
        raise UserError(f"output '{out}' is the source itself: give another name")
    return write_encoder(encoder, out, half, source_sha256=file_sha256(file))


def write_encoder(
    encoder: Encoder, out: str | Path, half: bool = False, **facts: str
) -> dict[str, str]:
    """As `export_encoder`, of tensors that need not be in any file.

    Args:
        facts: Further metadata.
    """
    _check_suffix(out)
    dtype = torch.float16 if half else torch.float32
    tensors = {n: t.to(dtype).contiguous() for n, t in encoder.state_dict.items()}
    metadata = encoder.metadata() | facts
    metadata["sha256"] = tensors_sha256(tensors)
    metadata["metadata_sha256"] = metadata_sha256(metadata)
    save_tensors(out, tensors, metadata)
    return metadata


def _check_suffix(out: str | Path) -> None:
    if Path(out).suffix != ".safetensors":
        raise UserError(f"output '{out}' must end in .safetensors")
