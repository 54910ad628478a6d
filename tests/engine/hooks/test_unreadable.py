"""One rule for damaged images and damaged labels: skipped, counted, at most 1 % of the data."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, RepeatDataset
from PIL import Image
from torch.utils.data import DataLoader

from milan_mm.datasets import labels, loading  # noqa: F401 (register)
from milan_mm.engine.hooks.unreadable import UnreadableImagesHook

# which file of a sample each transform reads
PIPELINES = dict(
    images=(dict(type="milan_mm.LoadImage"), "img_path"),
    labels=(dict(type="milan_mm.LoadLabels", num_classes=9), "seg_map_path"),
)
each_kind = pytest.mark.parametrize("kind", PIPELINES)


class _Samples(BaseDataset):
    """The first sample is damaged, the others are whole."""

    def load_data_list(self) -> list[dict]:
        paths = [str(Path(self.data_root, name)) for name in ("damaged.png", "whole.png")]
        common = dict(reduce_zero_label=False, label_map=None, seg_fields=[])
        key, number = self.metainfo["key"], self.metainfo["number"]
        return [common | {key: paths[min(i, 1)]} for i in range(number)]


def _runner(folder: Path, kind: str, number: int, times: int = 1) -> SimpleNamespace:
    values = np.random.default_rng(0).integers(0, 9, (64, 64), dtype=np.uint8)
    Image.fromarray(values).save(folder / "whole.png")
    content = (folder / "whole.png").read_bytes()
    (folder / "damaged.png").write_bytes(content[: len(content) // 2])
    step, key = PIPELINES[kind]
    dataset = _Samples(
        data_root=str(folder), metainfo=dict(key=key, number=number), pipeline=[step]
    )
    wrapped = RepeatDataset(dataset, times) if times > 1 else dataset
    loader = DataLoader(wrapped, collate_fn=list)
    return SimpleNamespace(
        train_dataloader=loader, iter=0, logger=SimpleNamespace(warning=lambda text: None)
    )


@each_kind
def test_a_damaged_file_among_hundreds_is_skipped_and_reported(tmp_path: Path, kind: str):
    runner, said = _runner(tmp_path, kind, 200), []
    runner.logger.warning = said.append
    hook = UnreadableImagesHook()
    hook.before_train(runner)
    assert len(list(runner.train_dataloader)) == 200
    hook.after_train(runner)
    assert said == [f"1 of 201 reads of {kind} failed and were skipped"]


@each_kind
@pytest.mark.parametrize("times", [1, 100])
def test_the_share_is_of_the_data_set_however_often_a_run_repeats_it(
    tmp_path: Path, kind: str, times: int
):
    runner = _runner(tmp_path, kind, 60, times)
    UnreadableImagesHook().before_train(runner)
    with pytest.raises(ValueError, match=rf"^1 of 60 {kind} could not be read, the limit is 1%"):
        runner.train_dataloader.dataset[0]


@each_kind
def test_outside_of_training_the_first_one_is_an_error_that_names_it(tmp_path: Path, kind: str):
    runner = _runner(tmp_path, kind, 200)
    with pytest.raises(ValueError, match=r"damaged\.png' cannot be read: "):
        runner.train_dataloader.dataset[0]


@each_kind
def test_the_failures_of_all_processes_count_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    runner, hook = _runner(tmp_path, kind, 150), UnreadableImagesHook(interval=1)
    hook.before_train(runner)
    _ = runner.train_dataloader.dataset[0]
    hook.after_train_iter(runner, 0)  # one of 150
    monkeypatch.setattr(
        "milan_mm.engine.hooks.unreadable.all_reduce", lambda counts: counts.mul_(2)
    )
    with pytest.raises(ValueError, match=f"2 of 150 {kind} could not be read"):
        hook.after_train_iter(runner, 0)
