"""An encoder as a graph of torch: torch.export, TorchScript, ONNX.

All three serve any batch, and any image whose sides are multiples of the patch size. Two kinds of
encoders serve the size of `img_size` only: those with relative position bias, whose tables are
resized by splines, and those with windows, where torch.export and ONNX draw conclusions from the
size of the example.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from milan_mm.encoder.module import Encoder
from milan_mm.errors import UserError

GRAPHS = {"torch-export": ".pt2", "torchscript": ".pt", "onnx": ".onnx"}
# What loads each of them.
HOLDERS = {
    "torch-export": "torch.export.load('{}').module()",
    "torchscript": "torch.jit.load('{}')",
    "onnx": "onnxruntime.InferenceSession('{}')",
}
# Of the images and of what `Graph` gives.
AXES = dict(
    images=("batch", "channels", "height", "width"),
    cls_token=("batch", "dims"),
    registers=("batch", "registers", "dims"),
    patch_tokens=("batch", "tokens", "dims"),
    feature_map=("batch", "dims", "rows", "columns"),
)
ONNX_BYTES = 2**31  # of a file
LARGEST_SIDE = 512  # patches along a side that graphs of torch.export and ONNX take


class Graph(nn.Module):
    """An encoder whose output is a plain tuple: [class token,] [registers,] patch tokens, map."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def names(self) -> list[str]:
        """Of the outputs."""
        optional = dict(
            cls_token=self.encoder.has_cls_token, registers=bool(self.encoder.num_registers)
        )
        return [n for n, there in optional.items() if there] + ["patch_tokens", "feature_map"]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) to the tensors of `names`."""
        tokens = self.encoder(images)
        return tuple(getattr(tokens, name) for name in self.names)


def serves_any_size(encoder: Encoder) -> bool:
    """Whether the graph of an encoder takes images of other sizes than its own."""
    options = encoder.vit.options
    return not (options.rel_pos_bias_grid or options.window_size)


def write_graph(encoder: Encoder, to: str, path: str | Path) -> None:
    """Write a graph.

    Args:
        encoder: On the CPU, in eval mode.
        to: Key of `GRAPHS`.
        path: New file.

    Raises:
        UserError: When the format has no room for the parameters.
    """
    size = sum(p.numel() * p.element_size() for p in encoder.parameters())
    if to == "onnx" and size >= ONNX_BYTES:
        raise UserError(
            f"the encoder has {size / 2**30:.1f} GiB, an .onnx file holds {ONNX_BYTES / 2**30:g}: "
            "take --to torch-export or torchscript"
        )
    graph = Graph(encoder).eval()
    height, width = encoder.img_size
    if serves_any_size(encoder):  # an example of unequal sides, so that none are taken for equal
        height += encoder.patch_size
    example = torch.zeros(2, 3, height, width)
    with torch.no_grad(), _quiet():
        if to == "torchscript":
            torch.jit.trace(graph, example, check_trace=False).save(str(path))
        elif to == "onnx":
            _write_onnx(graph, example, path)
        else:
            shapes = (_shapes(encoder),)
            # by the path of another suffix torch would warn
            program = torch.export.export(graph, (example,), dynamic_shapes=shapes)
            with Path(path).open("wb") as file:
                torch.export.save(program, file)


def load_graph(to: str, path: str | Path) -> Callable[[Tensor], Sequence[Tensor]]:
    """A function from images to the tensors of `Graph.names`, by the library that runs the file."""
    if to == "torchscript":
        with _quiet():
            return torch.jit.load(str(path))
    if to == "torch-export":
        with _quiet(), Path(path).open("rb") as file:
            return torch.export.load(file).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: [
        torch.from_numpy(array) for array in session.run(None, dict(images=images.numpy()))
    ]


def _shapes(encoder: Encoder) -> dict[int, Any]:
    """Dimensions of the images that are free."""
    free: dict[int, Any] = {0: torch.export.Dim("batch")}
    if serves_any_size(encoder):
        for i, name in ((2, "rows"), (3, "columns")):
            free[i] = encoder.patch_size * torch.export.Dim(name, min=2, max=LARGEST_SIDE)
    return free


def _write_onnx(graph: Graph, example: Tensor, path: str | Path) -> None:
    torch.onnx.export(
        graph,
        (example,),
        str(path),
        dynamo=True,
        dynamic_shapes=(_shapes(graph.encoder),),
        input_names=["images"],
        output_names=graph.names,
        external_data=False,  # one file, up to the 2 GB of the format
        verbose=False,
    )
    _name_axes(path)


def _name_axes(path: str | Path) -> None:
    """Readable names for the free axes, which the exporter calls by formulas ('s18*s30')."""
    import onnx

    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in zip(value.type.tensor_type.shape.dim, AXES[value.name], strict=True):
            if axis.HasField("dim_param"):
                axis.dim_param = name
    onnx.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say about their own insides."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
