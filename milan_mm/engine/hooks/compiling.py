"""`torch.compile` for the parts of a step: one compilation for all blocks of a kind."""

from collections.abc import Callable, Iterator
from functools import wraps
from types import MethodType
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import nn

from milan_mm.engine.unwrapping import unwrapped
from milan_mm.registry import HOOKS


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles the parts of a step before training, if there is a GPU.

    A class names its parts in `compiled_methods`. All blocks of a kind share their code, so one
    compilation serves them all, and DDP exchanges the gradients of a block while those of earlier
    blocks are computed. mmengine's own switch (`compile=True`) compiles the whole step, which takes
    longer and leaves DDP nothing to overlap. Names of weights do not change. Compiled parts round
    differently and draw other random numbers for drop path.

    Training images should have one size: each new size is compiled again, and from the ninth size
    on the part runs plain. Validation always runs plain, since its images have many sizes.
    """

    def before_train(self, runner: Runner) -> None:
        """Compile, unless there is no GPU: on CPUs compiled blocks are slower than plain ones."""
        if not torch.cuda.is_available():
            print_log("no GPU: nothing is compiled, since it would not be faster", "current")
            return
        model = unwrapped(runner.model)
        count = compile_parts(model)
        print_log(f"{count} parts of the step are compiled, in the first iteration", "current")


def compile_parts(model: nn.Module) -> int:
    """Let the `compiled_methods` of a model's modules run compiled while the model trains.

    Done in place; each is compiled when it is next called in training mode.

    Returns:
        The number of methods of all modules.
    """
    parts = list(_parts(model))
    for module, name in parts:
        method = _compiled_in_training(model, getattr(type(module), name))
        # bound, so that a copy of the model calls it with the copy's weights; whether it runs
        # compiled is up to the original's mode, for copies too
        setattr(module, name, MethodType(method, module))
    return len(parts)


def _parts(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Every module that has something to compile, hidden ones too, with the method's name."""
    for module in model.modules():
        for part in (module, *getattr(module, "hidden_modules", ())):
            yield from ((part, name) for name in getattr(part, "compiled_methods", ()))


def _compiled_in_training(model: nn.Module, plain: Callable) -> Callable:
    compiled = torch.compile(plain, dynamic=False)

    @wraps(plain)
    def method(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # of the whole model: a frozen encoder and the teacher are in eval mode in training, too
        return (compiled if model.training else plain)(self, *args, **kwargs)

    return method
