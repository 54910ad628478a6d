"""Nothing is learnt from a loss or a gradient that is not finite, and nothing of it is saved."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from timm.optim import Lars
from torch import Tensor, nn

from milan_mm.engine.finite.report import read_report
from milan_mm.engine.hooks import finite
from milan_mm.engine.hooks.finite import SKIPS, FiniteHook
from milan_mm.engine.sharding import FullySharded
from tests.forked import in_processes

ROWS, STEPS, BAD = 4, 4, 2  # images of a batch; iterations; the disturbed one, from 0


class Tiny(BaseModel):
    """Two layers around a batch norm, and faults on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 1)
        self.fault: tuple[str, float] = ("", 0.0)
        self.last.weight.register_hook(lambda g: g + self.of("gradient"))

    def of(self, site: str) -> float:
        return self.fault[1] if self.fault[0] == site else 0.0

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = "") -> dict:
        if isinstance(inputs, list):
            inputs = torch.stack(inputs)
        out = self.last(self.norm(self.first(inputs)))
        parts = [(out**2).mean() + self.of("loss"), out.mean()]
        return dict(loss_a=parts, accuracy=out.detach().mean() + self.of("logged"))


class Run:
    """The calls that mmengine's loop makes, without the rest of it.

    Args:
        wrap: Makes the optimizer's wrapper from the model.
    """

    def __init__(
        self,
        folder: Path,
        wrap: Callable[[nn.Module], Any] | None = None,
        accumulation: int = 1,
        model: nn.Module | None = None,
        **settings: Any,
    ) -> None:
        torch.manual_seed(0)
        self.model: Any = model or Tiny()
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.wrapper = (
            wrap(self.model) if wrap else OptimWrapper(optimizer, accumulation, **settings)
        )
        self.hook = FiniteHook("python tools/train.py CONFIG")
        self.iter = 0
        self.runner: Any = SimpleNamespace(
            model=self.model,
            optim_wrapper=self.wrapper,
            hooks=[self.hook],
            message_hub=MessageHub.get_current_instance(),
            work_dir=str(folder),
            logger=logging.getLogger("test"),
            iter=0,
        )
        self.weights: list[dict[str, Tensor]] = []  # before each iteration
        self.hook.before_train(self.runner)

    def step(self, fault: tuple[str, float] = ("", 0.0), rows: int = ROWS) -> None:
        plain = getattr(self.model, "module", self.model)
        self.weights.append({n: p.detach().clone() for n, p in plain.named_parameters()})
        images = torch.randn(rows, 3)
        plain.fault = fault
        if fault[0] == "image":
            images[1, 0] = fault[1]
        if fault[0] == "weight":
            plain.first.weight.data[0, 0] = fault[1]
        batch = dict(inputs=list(images))
        self.hook.before_train_iter(self.runner, 0, batch)
        outputs = self.model.train_step(batch, self.wrapper)
        self.hook.after_train_iter(self.runner, 0, batch, outputs)
        self.runner.iter += 1

    def until(self, site: str, value: float, at: int = BAD, steps: int = STEPS) -> str:
        """The message of the error that ends it."""
        with pytest.raises(FloatingPointError) as caught:
            for number in range(steps):
                self.step((site, value) if number == at else ("", 0.0))
        return str(caught.value)

    def has_stepped(self, since: int) -> bool:
        """Whether weights differ from those before an iteration, but for the disturbed one."""
        plain = getattr(self.model, "module", self.model)
        before = self.weights[since]
        names = [name for name in before if name != "first.weight"]
        return any(not torch.equal(before[n], plain.get_parameter(n)) for n in names)


PLACES = dict(
    image="first nan or inf",
    weight="the weight first.weight is not finite",
    loss="the loss itself, which Tiny computes from finite outputs",
    gradient="the gradient of weight of last",
)


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("site", PLACES)
@pytest.mark.parametrize("clip", [None, dict(max_norm=1.0), dict(type="value", clip_value=1.0)])
def test_the_weights_are_those_before_the_step_and_the_place_is_named(
    tmp_path: Path, site: str, value: str, clip: dict | None
):
    if clip and "clip_value" in clip and (site, value) == ("gradient", "inf"):
        return  # what clips infinity to 1 leaves nothing wrong
    run = Run(tmp_path, clip_grad=clip and dict(clip))
    message = run.until(site, float(value))
    assert not run.has_stepped(since=BAD)
    assert f"(iteration {BAD + 1})" in message
    if site == "image":
        assert "images that are not finite: 'image 2 of 4 (pixels)'" in message
        assert "mend or remove these images" in message
    else:
        assert PLACES[site] in message and "lower learning rate" in message
    assert (tmp_path / f"nonfinite_iter_{BAD + 1}.pth").is_file()


@pytest.mark.parametrize("kind", [partial(torch.optim.AdamW, fused=True), Lars, torch.optim.Rprop])
def test_any_optimizer_is_kept_from_stepping(tmp_path: Path, kind: Callable):
    run = Run(tmp_path, lambda model: OptimWrapper(kind(model.parameters(), lr=0.1)))
    run.until("gradient", float("nan"))
    assert run.has_stepped(since=BAD - 1) and not run.has_stepped(since=BAD)


def test_a_number_that_is_only_logged_stops_nothing(tmp_path: Path):
    run = Run(tmp_path)
    for _ in range(STEPS):
        run.step(("logged", float("nan")))
    assert run.has_stepped(since=STEPS - 1)


def test_of_an_accumulated_update_the_part_is_named_and_no_part_is_learnt_from(tmp_path: Path):
    run = Run(tmp_path, accumulation=2)
    message = run.until("image", float("nan"), at=2)  # the first part of the second update
    assert "(iteration 3, update 2)" in message
    assert not run.has_stepped(since=2)


def test_a_part_is_not_saved_either(tmp_path: Path):
    run = Run(tmp_path, accumulation=2)
    run.step(("image", float("nan")))
    with pytest.raises(FloatingPointError, match=r"the loss is nan.*image 2 of 4"):
        run.hook.after_train_epoch(run.runner)


def test_a_model_that_rarely_steps_is_left_alone(tmp_path: Path):
    class Rare(Tiny):
        def train_step(self, data: dict, optim_wrapper: Any) -> dict:
            return self.parse_losses(self(**self.data_preprocessor(data, True), mode="loss"))[1]

    run = Run(tmp_path, model=Rare())
    for _ in range(2 * SKIPS):
        run.step()


@pytest.mark.parametrize("extra", [torch.ones(2), "text"])
def test_a_model_may_return_other_things_than_losses(tmp_path: Path, extra: Any):
    class Calling(Tiny):
        def forward(self, inputs: Any, data_samples: Any = None, mode: str = "") -> dict:
            return dict(extra=extra) if mode == "tensor" else super().forward(inputs, mode=mode)

        def train_step(self, data: dict, optim_wrapper: Any) -> dict:
            self(data["inputs"], mode="tensor")
            return super().train_step(data, optim_wrapper)

    run = Run(tmp_path, model=Calling())
    run.step()
    assert "the loss is nan" in run.until("loss", float("nan"))


def test_gradients_may_be_sparse(tmp_path: Path):
    class Table(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(7, 3, sparse=True)

        def forward(self, inputs: Any, data_samples: Any = None, mode: str = "") -> dict:
            rows = self.table(torch.tensor([1, 1, 2, 3]))
            return super().forward(torch.stack(inputs) + rows, mode=mode)

    run = Run(tmp_path, lambda m: OptimWrapper(torch.optim.SGD(m.parameters(), 0.1)), model=Table())
    run.until("gradient", float("nan"))
    assert not run.has_stepped(since=BAD)


def test_two_optimizers_are_both_kept_from_stepping(tmp_path: Path):
    from mmengine.optim import OptimWrapperDict

    class Two(Tiny):
        def train_step(self, data: dict, optim_wrapper: Any) -> dict:
            losses = self(**self.data_preprocessor(data, True), mode="loss")
            loss, numbers = self.parse_losses(losses)
            for wrapper in optim_wrapper.values():
                wrapper.zero_grad()
            loss.backward()
            for wrapper in optim_wrapper.values():
                wrapper.step()
            return numbers

    def wrap(model: nn.Module) -> OptimWrapperDict:
        parts = dict(first=model.first, last=model.last)
        wrappers = {n: OptimWrapper(torch.optim.SGD(m.parameters(), 0.1)) for n, m in parts.items()}
        return OptimWrapperDict(**wrappers)

    run = Run(tmp_path, wrap, model=Two())
    run.until("loss", float("inf"))
    assert not run.has_stepped(since=BAD)


@pytest.mark.parametrize("fused", [False, True])
def test_with_a_loss_scale_overflows_are_normal_until_there_are_too_many(
    tmp_path: Path, fused: bool
):
    class Scaled(OptimWrapper):  # as mmengine's AmpOptimWrapper, which wants a GPU
        loss_scaler = torch.amp.GradScaler("cpu")

        def backward(self, loss: Tensor) -> None:
            self.loss_scaler.scale(loss).backward()
            self._inner_count += 1

        def step(self) -> None:
            self.loss_scaler.step(self.optimizer)
            self.loss_scaler.update()

    run = Run(tmp_path, lambda m: Scaled(torch.optim.AdamW(m.parameters(), lr=0.1, fused=fused)))
    overflow = ("gradient", float("inf"))
    for _ in range(SKIPS - 1):
        run.step(overflow)
    assert not run.has_stepped(since=0)
    run.step()
    assert run.has_stepped(since=0)
    with pytest.raises(FloatingPointError, match=f"overflowed float16 in {SKIPS} updates in a row"):
        for _ in range(SKIPS):
            run.step(overflow)
    assert len(run.weights) == 2 * SKIPS


def test_nothing_waits_for_the_device_before_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Numbers of the meta device cannot be read at all."""
    monkeypatch.setattr(finite, "broken_state", lambda _: [])
    run = Run(tmp_path, model=Tiny().to("meta"))
    handed_in = []
    run.hook._agreement = SimpleNamespace(exchange=handed_in.append, latest=lambda: 0)
    batch = dict(inputs=torch.zeros(ROWS, 3, device="meta"))
    run.hook.before_train_iter(run.runner, 0, batch)
    outputs = run.model.train_step(batch, run.wrapper)
    run.hook.after_train_iter(run.runner, 0, batch, outputs)
    assert [flag.device.type for flag in handed_in] == ["meta"]


def test_what_was_learnt_before_the_answer_came_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As on a GPU, where the step does not wait; the replay takes the weights of the checkpoint."""
    monkeypatch.setattr(FiniteHook, "_is_known", lambda *_: False)
    run = Run(tmp_path)
    checkpoint = tmp_path / "iter_2.pth"
    torch.save(dict(state_dict=run.model.state_dict()), checkpoint)
    run.runner.message_hub.update_info("last_ckpt", str(checkpoint))
    message = run.until("image", float("nan"))
    assert len(run.weights) == BAD + 1
    assert "first nan: the output of data_preprocessor" in message and "(pixels)" in message
    report = read_report(tmp_path / f"nonfinite_iter_{BAD + 1}.pth")
    assert report.checkpoint == str(checkpoint) and not report.state_dict


def test_a_step_that_makes_the_weights_infinite_is_not_saved(tmp_path: Path):
    run = Run(tmp_path, lambda m: OptimWrapper(torch.optim.SGD(m.parameters(), lr=1e38)))
    run.step()
    run.model.first.weight.data[0] = float("inf")
    with pytest.raises(FloatingPointError, match=r"not finite after iteration 2: 'first.weight'"):
        run.hook.after_train_epoch(run.runner)


@pytest.mark.parametrize("part", ["buffer", "optimizer", "average"])
def test_whatever_a_checkpoint_holds_is_looked_at(tmp_path: Path, part: str):
    run = Run(tmp_path)
    average = EMAHook()
    average.ema_model = Tiny()
    run.runner.hooks.append(average)
    run.step()
    tensor = dict(
        buffer=run.model.norm.running_mean,
        optimizer=run.wrapper.optimizer.state[run.model.last.bias]["exp_avg"],
        average=average.ema_model.last.bias.data,
    )[part]
    name = dict(
        buffer="norm.running_mean", optimizer="exp_avg of last.bias", average="average of last.bias"
    )[part]
    tensor[0] = float("nan")
    with pytest.raises(FloatingPointError, match=f"'{name}'"):
        run.hook.after_train_epoch(run.runner)


def test_what_other_hooks_save_is_looked_at_in_the_checkpoint_itself(tmp_path: Path):
    run = Run(tmp_path)
    run.step()
    state = run.wrapper.optimizer.state_dict()
    state["state"][1]["exp_avg"][0] = float("inf")
    checkpoint = dict(state_dict=run.model.state_dict(), optimizer=state)
    with pytest.raises(FloatingPointError, match=r"'state.1.exp_avg'"):
        run.hook.before_save_checkpoint(run.runner, checkpoint)


def test_a_look_before_a_validation_does_not_spare_the_next_update(tmp_path: Path):
    run = Run(tmp_path)
    run.step()
    run.hook.before_val(run.runner)
    run.step()
    run.runner.iter -= 1  # hooks save before mmengine counts the iteration
    run.model.first.weight.data[0] = float("inf")
    with pytest.raises(FloatingPointError, match=r"2: 'first.weight'"):
        run.hook.before_save_checkpoint(run.runner, dict(state_dict=run.model.state_dict()))


def test_what_was_infinite_from_the_start_may_be_saved(tmp_path: Path):
    model = Tiny()
    model.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    run = Run(tmp_path, model=model)
    run.step()
    run.hook.after_train_epoch(run.runner)
    run.hook.before_val(run.runner)


def test_a_report_that_cannot_be_written_hides_nothing(tmp_path: Path):
    (tmp_path / "file").touch()
    run = Run(tmp_path / "file")
    message = run.until("loss", float("nan"))
    assert (
        message.startswith("the loss is nan") and "no report was written (File exists)" in message
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_all_processes_stop_at_the_update_in_which_one_has_a_bad_image(tmp_path: Path, rank: int):
    (tmp_path / "meet").mkdir()

    def train(own: int) -> tuple[str, bool]:
        run = Run(tmp_path)
        run.model = run.runner.model = MMDistributedDataParallel(run.model)
        site = "image" if own == rank else ""
        return run.until(site, float("nan")), run.has_stepped(since=BAD)

    (one, first_stepped), (other, second_stepped) = in_processes(2, train, tmp_path / "meet")
    assert one == other and not first_stepped and not second_stepped
    assert f"(iteration {BAD + 1}, process {rank} of 2)" in one
    assert "'image 2 of 4 (pixels)'" in one
    assert len(list(tmp_path.glob("nonfinite_*"))) == 1


def test_what_only_one_process_holds_is_named_by_all(tmp_path: Path):
    def look(own: int) -> str:
        run = Run(tmp_path)
        run.step()
        run.model.norm.running_mean[0] = float("nan") if own else 0.0
        with pytest.raises(FloatingPointError) as caught:
            run.hook.before_saving(run.runner)
        return str(caught.value)

    messages = in_processes(2, look, tmp_path)
    assert len(set(messages)) == 1 and "'norm.running_mean'" in messages[0]


def test_shards_of_a_gradient_are_looked_at_together(tmp_path: Path):
    (tmp_path / "meet").mkdir()

    def train(own: int) -> tuple[str, bool]:
        run = Run(tmp_path)
        model = run.model
        run.model = run.runner.model = FullySharded(model)
        run.model.shard([run.wrapper.optimizer])
        message = run.until("image" if own == 1 else "", float("nan"))
        before = run.weights[BAD]
        now = dict(model.named_parameters())
        return message, any(not bool((before[n] == now[n]).full_tensor().all()) for n in before)

    (one, first_stepped), (other, second_stepped) = in_processes(2, train, tmp_path / "meet")
    assert one == other and not first_stepped and not second_stepped
    assert "process 1 of 2" in one
