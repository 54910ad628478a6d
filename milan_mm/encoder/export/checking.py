"""Before an export: can it be written? After it: does the other library compute the same?"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from milan_mm.early import check_new
from milan_mm.encoder.export.graphs import GRAPHS, Graph
from milan_mm.encoder.module import Encoder
from milan_mm.errors import ExistingFileError, UserError
from milan_mm.weights.folders import CONFIG, FOLDER_FILES, PREPROCESSOR_CONFIG

FOLDERS = ("timm", "huggingface")
CHECKPOINTS = ("openmmlab", "mmseg")
FORMATS = (*FOLDERS, *CHECKPOINTS, *GRAPHS)
# Format -> what must be installed to write it, and to load it.
_TO_WRITE = {"onnx": ("onnx", "onnxscript")}
_TO_LOAD = {
    "huggingface": "transformers",
    "openmmlab": "mmpretrain",
    "mmseg": "mmseg",
    "onnx": "onnxruntime",
}
_FILES = (".pth", ".pt", ".pt2", ".safetensors", ".bin", ".onnx")
# Images to what `Graph` gives, or to one tensor of all tokens.
Run = Callable[[Tensor], Sequence[Tensor] | Tensor]


def check_output(out: str | Path, to: str, force: bool, source: str | Path) -> None:
    """Refuse an output that cannot be written, before the weights are read.

    Args:
        out, to, force: See `export`.
        source: File of the encoder.

    Raises:
        ExistingFileError, UserError: See `export`.
    """
    out = Path(out)
    if to not in FORMATS:
        raise UserError(f"format '{to}' is unknown: choose from {', '.join(FORMATS)}")
    suffix = GRAPHS.get(to, "" if to in FOLDERS else ".pth")
    if suffix and out.suffix != suffix:
        raise UserError(f"output '{out}' must end in {suffix} for --to {to}")
    if not suffix and out.suffix in _FILES:
        raise UserError(f"output '{out}' looks like a file: --to {to} writes a folder")
    file = Path(source).resolve()
    if out.exists() and out.resolve() in (file, file.parent):
        verb = "is" if out.resolve() == file else "holds"
        raise UserError(f"output '{out}' {verb} the source itself: give another name")
    if not force:
        check_new(out, source)
    elif out.exists():
        _check_replaced(out, is_file=bool(suffix))
    missing = [name for name in _TO_WRITE.get(to, ()) if find_spec(name) is None]
    if missing:
        names = " ".join(missing)
        raise UserError(f"--to {to} needs {names}, not installed here: pip install {names}")


def _check_replaced(out: Path, is_file: bool) -> None:
    if out.is_dir() == is_file:
        kind = "folder" if is_file else "file"
        raise ExistingFileError(f"output '{out}' is a {kind}, which is not replaced: move it away")
    ours = {CONFIG, PREPROCESSOR_CONFIG, FOLDER_FILES[0]}
    others = [] if is_file else sorted({path.name for path in out.iterdir()} - ours)
    if others:
        raise ExistingFileError(
            f"output '{out}' holds '{others[0]}', which no export writes: give another folder"
        )


def missing_library(to: str) -> str:
    """What loads a format and is not installed; '' if nothing is missing."""
    name = _TO_LOAD.get(to, "")
    return name if name and find_spec(name) is None else ""


@torch.inference_mode()
def largest_difference(encoder: Encoder, run: Run, img_size: tuple[int, int]) -> float:
    """Of the features from ours, over three images, as a share of their largest value.

    Args:
        encoder: Ours, on the CPU.
        run: The other library's.
        img_size: (height, width) of the images in pixels.

    Returns:
        Infinity for features of other shapes; NaN where some are.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 3, *img_size, generator=generator)
    theirs = run(images)
    if isinstance(theirs, Tensor):
        tokens = encoder(images)
        first = [] if tokens.cls_token is None else [tokens.cls_token[:, None]]
        joined = torch.cat([*first, tokens.registers, tokens.patch_tokens], dim=1)
        ours, theirs = [joined], [theirs]
    else:
        ours = list(Graph(encoder)(images))
    if [t.shape for t in ours] != [t.shape for t in theirs]:
        return float("inf")
    a, b = (torch.cat([t.flatten() for t in tokens]) for tokens in (ours, theirs))
    return ((a - b).abs().max() / a.abs().max()).item()
