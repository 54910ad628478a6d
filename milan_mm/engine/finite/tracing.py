"""A step's forward and backward pass once more, with a look at the output of every module.

Made for the step after which a loss or a gradient was not finite. Training itself has no hooks on
its modules.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from milan_mm.engine.generators import set_generators
from milan_mm.engine.norms import stored


@dataclass(frozen=True)
class Row:
    """Values of one tensor of a step.

    Attributes:
        module: Dotted name of the module; empty for the model as a whole.
        what: 'output', 'gradient of the output', or 'gradient of NAME', a parameter.
        low, high: Of the finite values; NaN where there are none.
        share: Of the values that are NaN or infinite, 0-1.
        kinds: Which of the two they are, e.g. 'nan' or 'inf and nan'.
    """

    module: str
    what: str
    low: float
    high: float
    share: float
    kinds: str


@dataclass
class Trace:
    """What a replayed step computed.

    Attributes:
        rows: In the order of computation, forward before backward.
        loss: Of the batch; NaN where the step failed before there was one.
        losses: All numbers that the model returned, by name.
    """

    rows: list[Row] = field(default_factory=list)
    loss: float = float("nan")
    losses: dict[str, float] = field(default_factory=dict)

    @property
    def first(self) -> Row | None:
        """The first tensor that is not finite; None if all are."""
        return next((row for row in self.rows if row.share), None)


def replay(
    model: nn.Module,
    wrapper: OptimWrapper,
    batch: Any,
    states: dict | None,
    caller: nn.Module | None = None,
) -> Trace:
    """Repeat a step of training up to its gradients; the optimizer does not step.

    Gradients and running statistics of the model are replaced.

    Args:
        model: Without what distributed training wraps around it.
        wrapper: Gives the precision and the loss scale.
        batch: As it came from the data loader.
        states: Of the generators, see `generator_states`; None leaves them.
        caller: What is called in the place of the model, if that cannot be called alone.
    """
    trace = Trace()
    model.train()
    model.zero_grad()
    if states is not None:
        set_generators(states)
    step: Any = model  # mmengine's BaseModel
    with _watched(model, trace.rows), torch.enable_grad():
        with wrapper.optim_context(model):
            data = step.data_preprocessor(batch, True)
            call: Any = caller or model
            mode: Any = dict(mode="loss")
            returned = call(**data, **mode) if isinstance(data, dict) else call(*data, **mode)
        loss, numbers = step.parse_losses(returned)
        trace.losses = {name: value.item() for name, value in numbers.items()}
        trace.loss = loss.item()
        if loss.requires_grad:
            scaler = getattr(wrapper, "loss_scaler", None)
            scale = scaler.get_scale() if scaler else 1.0
            (loss * scale).backward()
    return trace


def named_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All modules by name, those included that keep themselves out of the tree (teachers)."""
    for name, module in model.named_modules():
        yield name, module
        for hidden in getattr(module, "hidden_modules", ()):
            for inner, part in hidden.named_modules():
                yield ".".join(filter(None, (name, inner))), part


@contextmanager
def _watched(model: nn.Module, rows: list[Row]) -> Iterator[None]:
    """Within the block, each output and each gradient adds a row."""
    handles: list[Any] = []

    def watch(name: str, module: nn.Module) -> None:
        def look(_: nn.Module, __: object, output: Any) -> None:
            tensors = list(_tensors(output))
            if tensors:
                rows.append(_row(name, "output", tensors))
            for tensor in tensors:
                if tensor.requires_grad:
                    tensor.register_hook(
                        lambda grad: rows.append(_row(name, "gradient of the output", [grad]))
                    )

        handles.append(module.register_forward_hook(look))
        for own, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                handles.append(parameter.register_hook(_gradient_row(rows, name, own)))

    for name, module in named_parts(model):
        watch(name, module)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _gradient_row(rows: list[Row], module: str, parameter: str) -> Any:
    def look(grad: Tensor) -> None:
        rows.append(_row(module, f"gradient of {parameter}", [grad]))

    return look


def _tensors(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors of what a module returned."""
    if isinstance(output, Tensor):
        if output.is_floating_point() and output.numel():
            yield output
    elif isinstance(output, dict):
        for item in output.values():
            yield from _tensors(item)
    elif isinstance(output, (list, tuple)):
        for item in output:
            yield from _tensors(item)


@torch.no_grad()
def _row(module: str, what: str, tensors: list[Tensor]) -> Row:
    count = broken = 0
    has_nan = has_inf = False
    lows, highs = [], []
    for tensor in tensors:
        values = stored(tensor.detach())
        is_finite = values.isfinite()
        finite = values if (whole := bool(is_finite.all())) else values[is_finite]
        count += values.numel()
        broken += values.numel() - finite.numel()
        has_nan |= not whole and bool(values.isnan().any())
        has_inf |= not whole and bool(values.isinf().any())
        if finite.numel():
            lows.append(finite.min().item())
            highs.append(finite.max().item())
    low, high = (min(lows), max(highs)) if lows else (float("nan"), float("nan"))
    kinds = " and ".join(["inf"] * has_inf + ["nan"] * has_nan)
    return Row(module, what, low, high, broken / count, kinds)
