"""`--fsdp`: a model whose weights, gradients and optimizer states are spread over the processes.

Each process keeps its share of every tensor (torch's FSDP2, `fully_shard`). Before a block runs,
its tensors are gathered, and afterwards they are freed again; what is outside of blocks is one
more group. A run starts as any other does: built, initialised, loaded and resumed whole, then
spread (`milan_mm.engine.sharded_runner`). Checkpoints are whole too, in the layout of one process.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from milan_mm.errors import UserError
from milan_mm.registry import MODEL_WRAPPERS

# Classes whose instances are gathered one at a time: this package's blocks, and mmpretrain's.
BLOCKS = ("EncoderLayer", "PromptingLayer", "TransformerEncoderLayer")


@MODEL_WRAPPERS.register_module()
class FullySharded(nn.Module):
    """Trains a model spread over all processes, in the place of `MMDistributedDataParallel`.

    It computes what that computes: gradients are averaged in float32, and autocast, if the recipe
    has it, rounds the gathered float32 weights as it rounds whole ones. The parts of an accumulated
    batch are averaged one by one, so no process ever holds a whole gradient for long. Validation
    gathers all weights and keeps them until the training goes on, so that processes may then run
    the model differently often.

    Args:
        module: The model, whole. A frozen teacher that is hidden from its modules stays whole.
        blocks: Names of the classes whose instances are gathered one at a time. A model without
            any is gathered as one piece, which spreads gradients and optimizer states only.
    """

    def __init__(self, module: nn.Module, blocks: Sequence[str] = BLOCKS) -> None:
        super().__init__()
        self.module: Any = module
        self.blocks = tuple(blocks)
        self._parts: Sequence[FSDPModule] = []
        self._is_gathered = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model."""
        return self.module(*args, **kwargs)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """Run forward and backward pass, and update; as `MMDistributedDataParallel.train_step`.

        Raises:
            UserError: When the run has not spread the model.
        """
        if not self._parts:
            raise UserError(
                "the model is wrapped by FullySharded and was never spread over the processes: set "
                "runner_type='milan_mm.ShardedRunner' too, or leave both out and pass --fsdp"
            )
        self._release()
        with optim_wrapper.optim_context(self):
            data = self.module.data_preprocessor(data, training=True)
            inputs: Any = dict(mode="loss")
            losses = self(**data, **inputs) if isinstance(data, dict) else self(*data, **inputs)
        loss, logged = self.module.parse_losses(losses)
        optim_wrapper.update_params(loss)
        return logged

    def val_step(self, data: Any) -> list:
        """See `BaseModel.val_step`; on all processes, for the first of them gathers the weights."""
        self.gather()
        return self.module.val_step(data)

    def test_step(self, data: Any) -> list:
        """See `val_step`."""
        self.gather()
        return self.module.test_step(data)

    def shard(self, optimizers: Iterable[Optimizer] = ()) -> None:
        """Keep this process's share of each tensor only; on all processes, and once.

        Args:
            optimizers: Of the model's parameters, with or without states, which follow.

        Raises:
            UserError: For a parameter without dimensions, which cannot be spread.
        """
        if self._parts:
            return
        before = dict(self.module.named_parameters())
        if scalars := [name for name, p in before.items() if not p.ndim]:
            raise UserError(
                f"--fsdp: {scalars[0]} is a single number, which cannot be spread over processes: "
                "train this model without --fsdp"
            )
        mesh = _mesh(next(iter(before.values())).device.type)
        for module in list(self.module.modules()):
            if type(module).__name__ in self.blocks and any(True for _ in module.parameters()):
                fully_shard(module, mesh=mesh, reshard_after_forward=True)
        fully_shard(self.module, mesh=mesh, reshard_after_forward=False)
        fully_shard(self, mesh=mesh)  # has nothing of its own, and is the outermost
        _, *self._parts = [m for m in self.modules() if isinstance(m, FSDPModule)]
        names = {id(parameter): name for name, parameter in before.items()}
        after = dict(self.module.named_parameters())
        for optimizer in optimizers:
            _follow(optimizer, {key: after[name] for key, name in names.items()})
        self._prefetch()
        # torch settles which group is the outermost at the first call of any
        register_fsdp_forward_method(self, "_settle")
        self._settle()

    def gather(self) -> None:
        """Gather all weights until the training goes on; on all processes."""
        for part in self._parts:
            part.unshard()
        if self._parts and not self._is_gathered:
            self._keep_gathered(True)

    @contextmanager
    def whole_states(self, optimizers: Iterable[Optimizer]) -> Iterator[None]:
        """Within the block, state dicts are those of one process; on all processes.

        Tensors are gathered one by one, into the main memory of the first process. The others,
        which must ask for the same state dicts in the same order, get tensors without values.
        """
        with ExitStack() as stack:
            for optimizer in optimizers:
                handle = optimizer.register_state_dict_post_hook(_whole_states)
                stack.callback(handle.remove)
            stack.callback(self.module.register_state_dict_post_hook(_whole_tensors).remove)
            yield

    def share(self) -> tuple[int, int]:
        """Numbers in this process's parameters, and in the whole model's."""
        parameters: list[Any] = list(self.module.parameters())
        return sum(_local(p).numel() for p in parameters), sum(p.numel() for p in parameters)

    def _release(self) -> None:
        if self._is_gathered:
            for part in self._parts:
                part.reshard()
            self._keep_gathered(False)

    def _keep_gathered(self, keep: bool) -> None:
        self._is_gathered = keep
        for part in self._parts[1:]:
            part.set_reshard_after_forward(not keep, recurse=False)

    def _prefetch(self) -> None:
        """State which block is gathered next in the backward pass.

        torch would take the order of the last forward passes, which differs between processes when
        one of them alone has looked at the model.
        """
        outermost, *blocks = self._parts
        for part, earlier in zip([*blocks, outermost], [outermost, *blocks], strict=True):
            part.set_modules_to_backward_prefetch([earlier])

    def _settle(self) -> None:
        pass


def gather_weights(model: nn.Module) -> None:
    """Before a model is looked at in the middle of its training; on all processes."""
    if isinstance(model, FullySharded):
        model.gather()


def is_sharded(model: nn.Module) -> bool:
    """Whether the model is spread over the processes."""
    return isinstance(model, FullySharded)


def _mesh(device: str) -> DeviceMesh:
    return init_device_mesh(device, (dist.get_world_size(),))


def _follow(optimizer: Optimizer, replaced: dict[int, nn.Parameter]) -> None:
    """Let an optimizer go on with the parameters that take the place of its own."""
    for group in optimizer.param_groups:
        for i, old in enumerate(group["params"]):
            new: Any = replaced[id(old)]
            group["params"][i] = new
            if old in optimizer.state:
                states = optimizer.state.pop(old)
                optimizer.state[new] = {k: _as_spread(v, old, new) for k, v in states.items()}


def _as_spread(value: Any, old: Tensor, new: DTensor) -> Any:
    """A state of an optimizer, spread as its parameter is if it is as large."""
    if not isinstance(value, Tensor) or value.shape != old.shape:
        return value
    # every process has the whole state and takes its share
    return distribute_tensor(value, new.device_mesh, new.placements, src_data_rank=None)


def _local(tensor: Any) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _whole(value: Any) -> Any:
    """A tensor of all processes in the main memory of the first, and without values elsewhere."""
    if not isinstance(value, DTensor):
        return value
    whole = value.full_tensor()
    return whole.cpu() if dist.get_rank() == 0 else torch.empty_like(whole, device="meta")


def _whole_tensors(module: nn.Module, state_dict: dict, prefix: str, metadata: Any) -> None:
    for name, value in list(state_dict.items()):
        state_dict[name] = _whole(value)


def _whole_states(optimizer: Optimizer, state_dict: dict) -> dict:
    states = {
        key: {name: _whole(value) for name, value in of_one.items()}
        for key, of_one in state_dict["state"].items()
    }
    return state_dict | dict(state=states)
