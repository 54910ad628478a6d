"""NaN and infinity in images, weights, losses and gradients: what a run does with them.

    python -m benchmarks.reliability.nonfinite [TASK ...]

For each of 4 tasks, 4 sites, 2 values and 2 precisions, a small run of a recipe is disturbed at its
third update. It must stop before the optimizer steps, leave only finite checkpoints, name the
module and the image, and leave a report that repeats the step. Takes 2 minutes per task on a CPU.
Prints a line for each fault, and at the end how many were handled.
"""

import itertools
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import MODELS as ANY_MODELS
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import Tensor, nn

from milan_mm.configs import load
from milan_mm.registry import HOOKS, MODELS
from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.replay import replay_report
from milan_mm.run.run_options import RunOptions
from milan_mm.run.training import train
from milan_mm.shapes.files import write_shapes

RECIPES = dict(
    pretrain="pretrain/milan_vit-micro-p8_1xb32-coslr-2e_shapes",
    cls="cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes",
    det="det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes",
    seg="seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96",
)
SITES = ("image", "weight", "loss", "gradient")
VALUES = ("nan", "inf")
BATCH, UPDATE = 4, 3  # images; the update that is disturbed, from 1
PLACE = 1  # of the image in its batch
LAYER = "backbone.layers.1.attn.qkv"


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and where; see `SITES` and `VALUES`."""

    site: str
    value: str

    def strikes(self, site: str) -> bool:
        """Whether this is its site and its update."""
        iteration = MessageHub.get_current_instance().get_info("iter")
        return self.site == site and iteration == UPDATE - 1

    def poison(self, tensor: Tensor) -> Tensor:
        """A copy with one bad value."""
        tensor = tensor.detach().clone()
        tensor.view(-1)[0] = float(self.value)
        return tensor


class _Now:
    """The fault of the run at hand, which the parts below look up."""

    fault: Fault | None = None


def _strikes(site: str) -> Fault | None:
    return _Now.fault if _Now.fault and _Now.fault.strikes(site) else None


@HOOKS.register_module(name="ReliabilityDisturbingHook", force=True)
class DisturbingHook(Hook):
    """Spoils an image, or a weight, before the step."""

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if fault := _strikes("image"):
            inputs = [image.float() for image in data_batch["inputs"]]
            inputs[PLACE] = fault.poison(inputs[PLACE])
            is_stacked = isinstance(data_batch["inputs"], Tensor)
            data_batch["inputs"] = torch.stack(inputs) if is_stacked else inputs
        if fault := _strikes("weight"):
            weight = runner.model.get_submodule(LAYER).weight
            weight.data.copy_(fault.poison(weight))


def _disturbed(kind: type) -> type:
    """A model with a bad loss, or a bad gradient of one weight."""

    class Disturbed(kind):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.get_submodule(LAYER).weight.register_hook(self._spoil)

        @staticmethod
        def _spoil(gradient: Tensor) -> Tensor:
            fault = _strikes("gradient")
            return fault.poison(gradient) if fault else gradient

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            out = super().forward(*args, **kwargs)
            if isinstance(out, dict) and (fault := _strikes("loss")):
                name = next(name for name in out if "loss" in name)
                # its gradient stays finite, so only a look at the loss itself finds it
                bad = torch.tensor(float(fault.value))
                is_list = isinstance(out[name], list)
                out[name] = [v + bad for v in out[name]] if is_list else out[name] + bad
            return out

    return Disturbed


def small_config(task: str, data: Path, work_dir: Path, **fields: Any) -> Config:
    """A recipe on 16 scenes: 5 updates of 4 images, a checkpoint after each.

    Args:
        data: Of `write_shapes`.
        fields: Dotted names of other fields.
    """
    cfg = load(RECIPES[task])
    cfg.model.backbone.arch = dict(embed_dims=48, num_layers=4, num_heads=4)
    if task == "pretrain":
        cfg.model.decoder.update(embed_dims=48, decoder_embed_dims=32)
    if task == "cls":
        cfg.model.head.in_channels = 48
    if task == "det":
        cfg.model.backbone.global_layers = (1, 3)
        cfg.model.neck.in_channels = 48
    if task == "seg":
        cfg.model.backbone.out_indices = (0, 1, 2, 3)
        cfg.model.neck.embed_dim = 48
        cfg.model.decode_head.in_channels = [48] * 4
        cfg.model.auxiliary_head.in_channels = 48
    scope = cfg.model.get("_scope_", cfg.default_scope)
    kind = ANY_MODELS.get(cfg.model.type if "." in cfg.model.type else f"{scope}.{cfg.model.type}")
    name = f"ReliabilityDisturbed{kind.__name__}"
    if name not in MODELS.module_dict:
        MODELS.register_module(name=name, module=_disturbed(kind))
    cfg.model.type = f"milan_mm.{name}"
    roots = dict(pretrain="imagenet", cls="colours", det="coco", seg="ade/ADEChallengeData2016")
    cfg.train_dataloader.dataset.data_root = str(data / roots[task])
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=BATCH)
    for name in ("val_dataloader", "val_cfg", "val_evaluator"):
        cfg.pop(name, None)
    cfg.total_batch = BATCH
    cfg.auto_scale_lr = dict(base_batch_size=BATCH)
    cfg.param_scheduler = [dict(type="ConstantLR", factor=1.0, by_epoch=False)]
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=UPDATE + 2)
    if task in ("pretrain", "cls"):
        cfg.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=2)
    checkpoint = dict(type="CheckpointHook", by_epoch=False, interval=1, max_keep_ckpts=-1)
    cfg.default_hooks = ConfigDict(cfg.get("default_hooks") or {}, checkpoint=checkpoint)
    cfg.custom_hooks = [dict(type="milan_mm.ReliabilityDisturbingHook"), *cfg.custom_hooks]
    cfg.work_dir = str(work_dir)
    cfg.log_level = "ERROR"
    cfg.merge_from_dict(fields)
    return cfg


def write_data(root: Path) -> Path:
    """16 scenes in the layouts of all tasks."""
    write_shapes(root, 16, 16, 2, seed=0, size=96)
    write_shapes(root / "colours-all", 16, 1, 2, seed=0, size=96, classes="colour")
    (root / "colours").symlink_to(root / "colours-all" / "imagenet", target_is_directory=True)
    return root


def run(cfg: Config, fault: Fault | None, amp: bool = False) -> tuple[Config, str, Runner | None]:
    """Train; the prepared config, the error that stopped it, and the runner.

    Args:
        amp: In bfloat16.
    """
    forget_runs()
    _Now.fault = fault
    watch = _Watch()
    try:
        notes = prepare(cfg, RunOptions(amp=amp), TRAINING)
        with watch:
            train(cfg, None, notes)
    except FloatingPointError as error:
        return cfg, str(error), watch.runner
    return cfg, "", watch.runner


class _Watch:
    """Keeps the runner of a training that does not return."""

    runner: Runner | None = None

    def __enter__(self) -> None:
        self._train = Runner.train
        watch = self

        def noting(runner: Runner) -> nn.Module:
            watch.runner = runner
            return watch._train(runner)

        Runner.train = noting

    def __exit__(self, *_: object) -> None:
        Runner.train = self._train


def forget_runs() -> None:
    """Clear mmengine's globals, which outlive a run."""
    for manager in (DefaultScope, MessageHub, MMLogger, Visualizer):
        manager._instance_dict.clear()


def problems(
    task: str,
    fault: Fault,
    amp: bool,
    data: Path,
    folder: Path,
    before: dict[str, Tensor] | None = None,
) -> Iterator[str]:
    """What a disturbed run did wrong.

    Args:
        before: The model after the last good update of the undisturbed run; None takes that of
            the last checkpoint.
    """
    cfg, error, runner = run(small_config(task, data, folder), fault, amp)
    if not error:
        yield "the run went on"
        return
    for path in sorted(folder.glob("iter_*.pth")):
        content = torch.load(path, weights_only=False)
        if any(not t.isfinite().all() for t in tensors_of(content)):
            yield f"{path.name} is not finite"
    last = Path((folder / "last_checkpoint").read_text())
    saved = torch.load(folder / last.name, weights_only=False)["state_dict"]
    before = saved if before is None else before
    if last.name != f"iter_{UPDATE - 1}.pth" or not same(saved, before):
        yield f"{last.name} differs from the undisturbed run's"
    live = dict(runner.model.named_parameters()) if runner else {}
    weight = live.pop(f"{LAYER}.weight")
    if not same(live, {name: before[name] for name in live}):
        yield "the optimizer stepped"
    if fault.site != "weight" and not torch.equal(weight, before[f"{LAYER}.weight"]):
        yield "the optimizer stepped"
    expected = dict(
        image=" (pixels)",
        weight=f"the weight {LAYER}.weight is not finite",
        loss="the loss itself",
        gradient=f"the gradient of weight of {LAYER}",
    )[fault.site]
    if expected not in error or f"iteration {UPDATE}" not in error:
        yield f"the message is: {error}"
    yield from _replayed(cfg, fault, folder, error)


def _replayed(cfg: Config, fault: Fault, folder: Path, error: str) -> Iterator[str]:
    """What the report does wrong, in the state of a new process."""
    forget_runs()
    cfg.model.backbone.pop("init_cfg", None)
    lines = replay_report(cfg, folder / f"nonfinite_iter_{UPDATE}.pth")
    if not any("(the same)" in line for line in lines):
        yield f"the replay had another loss: {lines[-2]}"
    place = error.partition("first ")[2].partition(" (")[0].partition(", which")[0]
    if fault.site == "loss":
        place = lines[-1].partition("first ")[2].replace("the output of the model as a whole", "")
        place = place if not lines[-1].endswith("the model as a whole") else lines[-1][6:]
    if place not in lines[-1]:
        yield f"the replay found '{lines[-1]}' and the run '{place}'"
    if fault.site == "image":
        name = error.partition("images that are not finite: '")[2].partition(" (")[0]
        if not any(line.startswith(f"not finite when it was read: {name}") for line in lines):
            yield f"the replay does not name {name}"


def tensors_of(content: Any) -> Iterator[Tensor]:
    """All floating-point tensors of a file, at any depth."""
    if isinstance(content, Tensor):
        if content.is_floating_point():
            yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from tensors_of(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from tensors_of(value)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether the tensors of two state dicts are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def undisturbed(task: str, amp: bool, data: Path, folder: Path) -> dict[str, Tensor]:
    """The model after the update before `UPDATE`."""
    _, error, _ = run(small_config(task, data, folder), None, amp)
    assert not error, error
    return torch.load(folder / f"iter_{UPDATE - 1}.pth", weights_only=False)["state_dict"]


def main(tasks: list[str]) -> int:
    torch.set_num_threads(1)
    good = count = 0
    with tempfile.TemporaryDirectory() as root:
        data = write_data(Path(root, "data"))
        for task, amp in itertools.product(tasks or RECIPES, (False, True)):
            before = undisturbed(task, amp, data, Path(root, "undisturbed"))
            shutil.rmtree(Path(root, "undisturbed"))
            for site, value in itertools.product(SITES, VALUES):
                folder = Path(root, "run")
                found = list(problems(task, Fault(site, value), amp, data, folder, before))
                shutil.rmtree(folder)
                count += 1
                good += not found
                name = f"{task}, {site} {value}, {'bfloat16' if amp else 'float32'}"
                print(f"{name}: {'; '.join(found) or 'good'}", flush=True)
    print(f"non-finite values handled: {good} of {count}")
    return 0 if good == count else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
