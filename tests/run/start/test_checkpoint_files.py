"""The newest whole checkpoint is found, and none is replaced by accident."""

import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from milan_mm.errors import UserError
from milan_mm.run.start.checkpoint_files import (
    check_nothing_is_replaced,
    check_nothing_later,
    folder_of,
    newest_whole,
)
from tests.run.tiny_runs import run_tiny, tiny_config


def save(folder: Path, name: str, iteration: int, **meta: object) -> Path:
    """A checkpoint of so many iterations."""
    folder.mkdir(parents=True, exist_ok=True)
    content = dict(meta=dict(iter=iteration, epoch=0) | meta, state_dict=dict(a=torch.ones(1000)))
    torch.save(content, folder / name)
    return folder / name


@pytest.fixture
def cfg(tmp_path: Path) -> Config:
    """A run with two checkpoints, of which the second is the last."""
    run = tmp_path / "run"
    save(run, "epoch_1.pth", 10, time="20260101_000000")
    last = save(run, "epoch_2.pth", 20, time="20260101_000001")
    (run / "last_checkpoint").write_text(str(last))
    return Config(dict(work_dir=str(run)))


def found(cfg: Config) -> tuple[str, str]:
    """Name of the checkpoint, and what is said about it."""
    path, _, notes = newest_whole(cfg) or ("", {}, [])
    return Path(path).name, " ".join(notes)


@pytest.mark.parametrize("out_dir", [None, "", "run", "elsewhere"])
def test_checkpoints_are_looked_for_where_mmengine_saves_them(tmp_path: Path, out_dir: str | None):
    def config() -> Config:
        made = tiny_config("epochs", tmp_path / "run")
        made.default_hooks.checkpoint.interval = 8
        if out_dir is not None:
            made.default_hooks.checkpoint.out_dir = str(tmp_path / out_dir)
        return made

    run_tiny(config())
    assert {path.parent for path in tmp_path.rglob("*.pth")} == {folder_of(config())}
    with pytest.raises(UserError, match=r"2 checkpoint\(s\) of an earlier run"):
        run_tiny(config())


def test_the_last_checkpoint_is_taken_without_a_word(cfg: Config):
    assert found(cfg) == ("epoch_2.pth", "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "last_checkpoint' is missing: the newest whole checkpoint is"),
        ("", "last_checkpoint' is empty: the newest whole checkpoint is"),
        ("run/epoch_9.pth", "names run/epoch_9.pth, which is not a whole checkpoint there: the"),
    ],
)
def test_without_a_usable_last_checkpoint_the_newest_is_taken_and_said(
    cfg: Config, text: str | None, reason: str
):
    file = Path(cfg.work_dir, "last_checkpoint")
    file.unlink() if text is None else file.write_text(text)
    name, note = found(cfg)
    assert name == "epoch_2.pth" and reason in note


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_a_torn_file_is_passed_over_and_named(cfg: Config, size: int):
    file = Path(cfg.work_dir, "epoch_2.pth")
    file.write_bytes(file.read_bytes()[:size])
    name, note = found(cfg)
    assert name == "epoch_1.pth" and "epoch_2.pth is damaged" in note


def test_a_flipped_bit_among_the_tensors_is_found(cfg: Config):
    file = Path(cfg.work_dir, "epoch_2.pth")
    content = bytearray(file.read_bytes())
    at = content.index(torch.ones(100).numpy().tobytes()) + 8
    content[at] ^= 1
    file.write_bytes(content)
    name, note = found(cfg)
    assert name == "epoch_1.pth" and "epoch_2.pth" in note


def test_a_folder_without_a_whole_file_is_refused(cfg: Config):
    for file in Path(cfg.work_dir).glob("*.pth"):
        file.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"holds 2 checkpoint\(s\) and none that is whole: .*epoch"):
        newest_whole(cfg)


@pytest.mark.parametrize("move", [shutil.move, shutil.copytree], ids=["moved", "copied"])
def test_a_moved_folder_goes_on_with_its_own_files(cfg: Config, move, tmp_path: Path):
    there = tmp_path / "there"
    move(cfg.work_dir, there)
    path, _, notes = newest_whole(Config(dict(work_dir=str(there))))
    assert (path, notes) == (str(there / "epoch_2.pth"), [])


def test_a_file_that_was_saved_after_the_named_one_is_newer(cfg: Config):
    save(Path(cfg.work_dir), "epoch_3.pth", 30, time="20260101_000002")
    assert found(cfg)[0] == "epoch_3.pth"


def test_a_later_file_of_an_earlier_attempt_is_not_newer(cfg: Config):
    save(Path(cfg.work_dir), "epoch_3.pth", 30, time="20251231_000000")
    assert found(cfg)[0] == "epoch_2.pth"


def test_numbers_in_names_are_compared_in_updates(tmp_path: Path):
    parts = dict(milan_mm=dict(split=dict(accumulation=8)))
    save(tmp_path, "iter_800.pth", 800, **parts)  # update 100
    save(tmp_path, "iter_200.pth", 200)  # update 200, on eight times as many processes
    assert found(Config(dict(work_dir=str(tmp_path))))[0] == "iter_200.pth"


@pytest.mark.parametrize(
    ("hook", "name"),
    [(dict(filename_tmpl="step{}.pth"), "step7.pth"), (dict(out_dir="OUT"), "epoch_1.pth")],
    ids=["filename_tmpl", "out_dir"],
)
def test_checkpoints_are_looked_for_where_the_hook_saves_them(hook, name: str, tmp_path: Path):
    if "out_dir" in hook:
        hook = dict(out_dir=str(tmp_path / "out"))
    folder = tmp_path / ("out/run" if "out_dir" in hook else "run")
    save(folder, name, 7)
    cfg = Config(dict(work_dir=str(tmp_path / "run"), default_hooks=dict(checkpoint=hook)))
    assert found(cfg)[0] == name
    with pytest.raises(UserError, match=name):
        check_nothing_is_replaced(cfg)


@pytest.mark.parametrize("name", ["epoch_3.pth", "iter_500.pth", "best_coco_bbox_mAP_iter_9.pth"])
def test_a_new_run_in_the_folder_of_another_is_refused(name: str, tmp_path: Path):
    save(tmp_path, name, 500)
    cfg = Config(dict(work_dir=str(tmp_path)))
    with pytest.raises(UserError, match=f"holds 1 checkpoint.*'{name}': go on with it by --resume"):
        check_nothing_is_replaced(cfg)


def test_other_files_are_not_in_the_way(tmp_path: Path):
    for name in ("encoder.pth", "epoch_1.txt", "output.log"):
        (tmp_path / name).touch()
    check_nothing_is_replaced(Config(dict(work_dir=str(tmp_path))))


def test_a_trial_replaces_a_trial_and_nothing_else(tmp_path: Path):
    cfg = Config(dict(work_dir=str(tmp_path)))
    save(tmp_path, "epoch_1.pth", 4)
    check_nothing_is_replaced(cfg, allowed=4)
    save(tmp_path, "epoch_2.pth", 400)
    with pytest.raises(UserError, match=r"holds 1 checkpoint.*'epoch_2.pth'"):
        check_nothing_is_replaced(cfg, allowed=4)


def test_going_back_does_not_replace_what_came_later(cfg: Config):
    with pytest.raises(UserError, match=r"1 checkpoint\(s\) later than run/epoch_1.pth, 'epoch_2"):
        check_nothing_later(cfg, Path("run/epoch_1.pth"), 10)
    check_nothing_later(cfg, Path("run/epoch_2.pth"), 20)
