"""k-NN accuracy while a pretraining runs: tools/knn.py agrees, and the training does not notice."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from milan_mm.errors import UserError
from milan_mm.evaluation import voting
from milan_mm.evaluation.knn import Knn, KnnSettings
from milan_mm.weights.reading import read_checkpoint
from milan_mm.weights.recognising import read_encoder
from tests.run.pretraining_runs import labelled_images, logged, losses, pretrain, pretraining_config


@HOOKS.register_module(name="Damaging", force=True)
class Damaging(Hook):
    """Overwrites a file in the first iteration."""

    def __init__(self, path: str) -> None:
        self.path = path

    def after_train_iter(self, *_: object, **__: object) -> None:
        Path(self.path).write_bytes(b"no image")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return labelled_images(tmp_path_factory.mktemp("knn") / "images")


def measured(work_dir: Path) -> dict[int, dict]:
    """The lines of k-NN by epoch."""
    return {line["epoch"]: line for line in logged(work_dir) if "knn/top1" in line}


def test_the_numbers_are_those_of_the_tool_on_the_checkpoint(tmp_path):
    images = labelled_images(tmp_path / "images", val=12, noise=130)
    cfg = pretraining_config(images, tmp_path)
    cfg.optim_wrapper.optimizer.lr = 0.03  # so that the encoder changes a lot
    pretrain(cfg, knn_data=str(images), knn_interval=1)
    found = measured(tmp_path)
    assert list(found) == [0, 1, 2]
    assert [line["step"] for line in found.values()] == [0, 3, 6]  # iterations
    for epoch in (1, 2):
        encoder = read_encoder(tmp_path / f"epoch_{epoch}.pth")
        tool = Knn.of(encoder, images, KnnSettings(num_workers=0)).measured()
        expected = tool["weights", "cls_token", 20]["top-1"].value
        assert 0 < expected < 100  # else equality would say little
        assert found[epoch]["knn/top1"] == pytest.approx(expected)
    assert len({line["knn/top1"] for line in found.values()}) == 3, found


def test_the_training_does_not_notice_it(images, tmp_path):
    """With augmentation from the global generators, which the samples' own seeds would hide."""
    ends, models = [], []
    for name, tracking in dict(plain={}, looked_at=dict(knn_data=str(images))).items():
        cfg = pretraining_config(images, tmp_path / name)
        cfg.train_dataloader.dataset.pipeline.pop(0)
        cfg.train_dataloader.num_workers = 1  # whose seeds are drawn from torch's generator
        runner = pretrain(cfg, pictures_interval=1 if tracking else None, **tracking)
        ends.append((torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()))  # noqa: NPY002
        models.append(runner.model)
    assert losses(tmp_path / "plain") == losses(tmp_path / "looked_at")
    assert torch.equal(ends[0][0], ends[1][0]) and ends[0][1:] == ends[1][1:]
    for (name, left), right in zip(
        models[0].state_dict().items(), models[1].state_dict().values(), strict=True
    ):
        assert torch.equal(left, right), name
    assert all(m.training for m in models[1].backbone.modules())


def test_the_log_line_has_chance_best_counts_and_seconds(images, tmp_path):
    runner = pretrain(pretraining_config(images, tmp_path), knn_data=str(images), knn_limit=21)
    (log,) = tmp_path.glob("*/*.log")
    lines = [line for line in log.read_text().splitlines() if "INFO - k-NN " in line]
    assert len(lines) == 3 and "k-NN before the training: top-1 " in lines[0]
    assert "(chance 33.33 %), best so far " in lines[-1]
    assert "21 of 24 training and 12 of 12 validation images of 3 classes, " in lines[-1]
    best, epoch = runner.message_hub.get_info("knn_best")
    found = measured(tmp_path)
    assert best == max(line["knn/top1"] for line in found.values()) == found[epoch]["knn/top1"]
    saved = read_checkpoint(tmp_path / "epoch_2.pth")["message_hub"]["runtime_info"]
    assert saved["knn_best"] == [best, epoch]  # a resumed run goes on with it


def test_the_last_epoch_is_measured_whatever_the_interval(images, tmp_path):
    cfg = pretraining_config(images, tmp_path, epochs=3)
    pretrain(cfg, knn_data=str(images), knn_interval=2)
    assert list(measured(tmp_path)) == [0, 2, 3]


def test_an_image_that_cannot_be_read_ends_the_run_before_it_starts(tmp_path):
    images = labelled_images(tmp_path / "images")
    (images / "val/red/1.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"val/red/1\.png' cannot be read"):
        pretrain(pretraining_config(images, tmp_path / "run"), knn_data=str(images))
    assert not list((tmp_path / "run").glob("*.pth"))


def test_an_image_that_is_damaged_later_costs_one_measurement(tmp_path):
    images = labelled_images(tmp_path / "images")
    cfg = pretraining_config(images, tmp_path / "run")
    cfg.custom_hooks.append(dict(type="Damaging", path=str(images / "val/red/1.png")))
    pretrain(cfg, knn_data=str(images), knn_interval=1)
    assert list(measured(tmp_path / "run")) == [0]
    (log,) = (tmp_path / "run").glob("*/*.log")
    assert "k-NN after epoch 1 is left out: image '" in log.read_text()
    assert len(losses(tmp_path / "run")) == 6


def test_a_measurement_that_fails_costs_no_training(images, tmp_path, monkeypatch):
    """Memory runs out, say, while the neighbours are looked for."""
    vote = voting.knn_predict
    calls = iter([vote])

    def predict(*given, **settings):
        return next(calls)(*given, **settings)  # the second call finds none

    monkeypatch.setattr(voting, "knn_predict", predict)
    pretrain(pretraining_config(images, tmp_path), knn_data=str(images))
    assert list(measured(tmp_path)) == [0] and len(losses(tmp_path)) == 6
    (log,) = tmp_path.glob("*/*.log")
    assert log.read_text().count("is left out: ") == 2 and "StopIteration" in log.read_text()


def test_a_limit_is_spread_over_all_classes(images, tmp_path):
    cfg = pretraining_config(images, tmp_path)
    runner = pretrain(cfg, knn_data=str(images), knn_limit=20, knn_interval=2)
    (hook,) = [h for h in runner.hooks if type(h).__name__ == "KnnHook"]
    assert sorted(hook.labels["train"][hook.chosen["train"]].bincount()) == [6, 7, 7]


def test_fewer_images_than_neighbours_are_refused(images, tmp_path):
    with pytest.raises(UserError, match="--knn-limit 19 leaves 19 training images, and 20"):
        cfg = pretraining_config(images, tmp_path)
        pretrain(cfg, knn_data=str(images), knn_limit=19)
