"""`torch.compile` for transformer blocks: one compilation for all blocks of a kind."""

from collections.abc import Iterator

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from milan_mm.layers import EncoderLayer
from milan_mm.registry import HOOKS


@HOOKS.register_module()
class CompileBlocksHook(Hook):
    """Compiles the blocks of encoder, decoder and teacher before training, where there is a GPU.

    mmengine's own switch (`compile=True`) compiles a whole training step, which takes minutes and
    begins again at every break of the graph. All blocks of a kind are one piece of code, so that
    compiling it once serves all of them; between the blocks there is little to win. Names of
    weights stay as they are. Compiled and plain blocks round differently.
    """

    def before_train(self, runner: Runner) -> None:
        """Compile, unless there is no GPU: on a CPU the first step would take minutes."""
        if not torch.cuda.is_available():
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        count = compile_blocks(model)
        print_log(f"{count} blocks are compiled: the first iteration takes a minute", "current")


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
    from milan_mm.pretrain.decoder import PromptingLayer
    from milan_mm.pretrain.teacher import HiddenTeacher

    for module in model.modules():
        if isinstance(module, (EncoderLayer, PromptingLayer)):
            yield module
        elif isinstance(module, HiddenTeacher):
            yield from module.module.blocks
