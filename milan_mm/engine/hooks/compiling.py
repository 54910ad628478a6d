"""`torch.compile` for the parts of a step: one compilation for all blocks of a kind."""

from collections.abc import Iterator
from types import MethodType

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from milan_mm.models.block import EncoderLayer
from milan_mm.models.plain_vit import PlainViT
from milan_mm.pretrain.decoder import PretrainDecoder, PromptingLayer
from milan_mm.pretrain.targets import TargetHead
from milan_mm.pretrain.teacher import HiddenTeacher, Teacher
from milan_mm.registry import HOOKS

# The methods in which a step spends its time. The teacher is one piece, since it has no gradients;
# those of a whole encoder would arrive at once, and leave DDP nothing to overlap.
METHODS: dict[type[nn.Module], tuple[str, ...]] = {
    Teacher: ("look", "attend"),
    PlainViT: ("embed",),
    EncoderLayer: ("forward",),
    PretrainDecoder: ("embed", "predict"),
    PromptingLayer: ("forward",),
    TargetHead: ("loss",),
}


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles the parts of a step before training, where there is a GPU.

    All blocks of a kind are one piece of code, so that compiling it once serves all of them: the
    first iterations take some seconds longer, where mmengine's own switch (`compile=True`) compiles
    the whole step. In distributed training the gradients of a block are exchanged as soon as they
    are there. Names of weights stay as they are. Compiled parts round differently, and draw other
    random numbers for drop path.

    Training images should have one size: every other is compiled anew, from the ninth on it runs
    plain. Validation runs plain, since its batches and images have many sizes.
    """

    def __init__(self) -> None:
        self._compiled = False

    def before_train(self, runner: Runner) -> None:
        """Compile, unless there is no GPU: on CPUs compiled blocks were slower than plain ones."""
        if not torch.cuda.is_available():
            print_log("no GPU: nothing is compiled, which would not be faster", "current")
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        count = compile_parts(model)
        self._compiled = True
        print_log(f"{count} parts of the step are compiled, in the first iteration", "current")

    def before_val(self, runner: Runner) -> None:
        """Compile nothing for sizes of images that come once."""
        if self._compiled:
            torch.compiler.set_stance("force_eager")

    def after_val(self, runner: Runner) -> None:
        """Go on with what is compiled."""
        if self._compiled:
            torch.compiler.set_stance("default")


def compile_parts(model: nn.Module) -> int:
    """Let the `METHODS` of a model run compiled from their next call on, in place.

    Returns:
        The number of methods of all its modules.
    """
    parts = list(_parts(model))
    for module, method in parts:
        if method == "forward":
            module.compile(dynamic=False)
        else:  # bound, so that a copy of the model calls it with the copy's weights
            compiled = torch.compile(getattr(type(module), method), dynamic=False)
            setattr(module, method, MethodType(compiled, module))
    return len(parts)


def _parts(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for module in model.modules():
        part = module.module if isinstance(module, HiddenTeacher) else module
        for kind, methods in METHODS.items():
            if isinstance(part, kind):
                yield from ((part, method) for method in methods)
