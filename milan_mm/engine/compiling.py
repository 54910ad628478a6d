"""`torch.compile` for transformer blocks: one compilation for all blocks of a kind."""

from collections.abc import Iterator

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from milan_mm.layers import EncoderLayer
from milan_mm.pretrain.decoder import PromptingLayer
from milan_mm.pretrain.teacher import HiddenTeacher
from milan_mm.registry import HOOKS


@HOOKS.register_module()
class CompileBlocksHook(Hook):
    """Compiles the blocks of encoder, decoder and teacher before training, where there is a GPU.

    All blocks of a kind are one piece of code, so that compiling it once serves all of them: the
    first iteration takes seconds longer, where mmengine's own switch (`compile=True`) compiles the
    whole step. In distributed training gradients are exchanged block by block as ever. Names of
    weights stay as they are. Compiled and plain blocks round differently.

    Blocks with different drop path rates are different code, see `set_compile`.
    """

    def before_train(self, runner: Runner) -> None:
        """Compile, unless there is no GPU: on CPUs compiled blocks were slower than plain ones."""
        if not torch.cuda.is_available():
            print_log("no GPU: blocks are not compiled, which would not be faster", "current")
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        count = compile_blocks(model)
        print_log(f"{count} blocks are compiled, in the first iteration", "current")


def compile_blocks(model: nn.Module) -> int:
    """Let the transformer blocks of a model run compiled from their next call on, in place.

    Returns:
        The number of blocks.
    """
    blocks = list(_blocks(model))
    for block in blocks:
        block.compile(dynamic=False)
    return len(blocks)


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        if isinstance(module, (EncoderLayer, PromptingLayer)):
            yield module
        elif isinstance(module, HiddenTeacher):
            yield from module.module.blocks
