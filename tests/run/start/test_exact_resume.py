"""A resumed run computes what the undisturbed one would have computed, to the last bit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.reliability.exact_resume import StoppedHook, Training, differences, losses
from benchmarks.reliability.small_recipes import TASKS, write_images
from benchmarks.reliability.splits import LIMIT, largest_difference
from milan_mm.run.start.origin import Start
from tests.helpers import forget_runs
from tests.run.tiny_runs import WatchHook, run_tiny, tiny_config

UPDATES, STOP = 6, 5  # of 12 iterations; the fifth is the first part of an update


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exact") / "scenes"
    write_images(folder)
    return folder


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    return lambda at: monkeypatch.setattr(StoppedHook, "at", at)


@pytest.mark.long
@pytest.mark.parametrize("task", TASKS)
def test_a_run_that_failed_goes_on_to_the_bit(
    task: str, images: Path, tmp_path: Path, stop: Callable
):
    def run(name: str, at: int | None = None, resume: bool = False) -> Path:
        stop(at)
        forget_runs()
        Training(task, images, tmp_path / name, UPDATES).run(resume)
        return tmp_path / name

    undisturbed = run("undisturbed")
    with pytest.raises(RuntimeError, match="on purpose"):
        run("stopped", at=STOP)
    stopped = run("stopped", resume=True)
    assert [i for i, _ in losses(stopped)] == [*range(STOP), *range(STOP - 1, 2 * UPDATES)]
    assert differences(stopped, undisturbed) == []


@pytest.mark.long
def test_two_killed_processes_go_on_to_the_bit_beside_pictures_and_knn(
    images: Path, tmp_path: Path
):
    def run(name: str, at: int | None = None, resume: bool = False) -> bool:
        training = Training("pretrain", images, tmp_path / name, UPDATES, processes=2, watched=True)
        return training.run_apart(at, "SIGKILL", resume)

    assert not run("undisturbed")
    assert run("stopped", at=7)
    assert not run("stopped", resume=True)
    assert differences(tmp_path / "stopped", tmp_path / "undisturbed", processes=2) == []


@pytest.mark.long
def test_two_processes_with_two_parts_have_the_losses_of_one_with_four(
    images: Path, tmp_path: Path
):
    one = Training("pretrain", images, tmp_path / "one", UPDATES, parts=4)
    assert largest_difference(one) <= LIMIT


def _trained(folder: Path, schedule: str, resume: Path | None = None) -> tuple[torch.Tensor, list]:
    """Weights, and the images of each update, of a run that states no total batch."""
    cfg = tiny_config(
        schedule,
        folder,
        optim_wrapper=dict(accumulative_counts=3),
        train_dataloader=dict(batch_size=5),
        default_hooks=dict(checkpoint=dict(interval=4, by_epoch=schedule == "epochs")),
    )
    cfg.pop("total_batch")
    if schedule == "epochs":
        cfg.default_hooks.checkpoint.interval = 1
    runner = run_tiny(cfg, Start(resume=str(resume)) if resume else None)
    return runner.model.body.detach().clone(), [*WatchHook.images]


@pytest.mark.parametrize(
    ("schedule", "saved"),
    [
        # every fourth of 16 iterations, at the end of an update of three
        ("iterations", {"iter_6": 6, "iter_9": 9, "iter_12": 12, "iter_16": 16}),
        # after each of 4 epochs of 7 iterations
        ("epochs", {"epoch_1": 9, "epoch_2": 15, "epoch_3": 21, "epoch_4": 28}),
    ],
)
def test_checkpoints_hold_whole_updates_only(schedule: str, saved: dict, tmp_path: Path):
    weights, seen = _trained(tmp_path / "whole", schedule)
    files = {p.stem: torch.load(p, weights_only=False) for p in (tmp_path / "whole").glob("*.pth")}
    assert {name: file["meta"]["iter"] for name, file in files.items()} == saved
    for name in [*saved][:-1]:
        resumed, rest = _trained(tmp_path / name, schedule, tmp_path / "whole" / f"{name}.pth")
        assert torch.equal(resumed, weights)
        assert rest == seen[-len(rest) :]
        assert len(rest) == len(seen) - saved[name] // 3
