"""A checkpoint alone is enough to have its model again, and no code in it is run."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from milan_mm.configs import list_configs, load
from milan_mm.errors import MissingFileError, UserError
from milan_mm.inference.predicting import Predictor, prediction_pipeline
from milan_mm.inference.restoring import read, restore
from tests.inference.saved import CLS, DET, PRETRAIN, SEG, save_checkpoint, save_recipe

OLD = Path(__file__).resolve().parents[1] / "compatibility/files"
TASKS = {CLS: "cls", DET: "det", SEG: "seg", PRETRAIN: "pretrain"}


@pytest.mark.parametrize("recipe", TASKS)
def test_a_checkpoint_gives_its_model_with_all_weights(tmp_path: Path, recipe: str):
    _, path, tensors = save_recipe(recipe, tmp_path)
    found = restore(path, device="cpu")
    assert found.task == TASKS[recipe]
    assert not found.model.training
    state = found.model.state_dict()
    assert state.keys() == tensors.keys()
    assert all(torch.equal(state[name], tensors[name]) for name in tensors)
    assert found.recorded.record is not None and not found.notes


@pytest.mark.parametrize(
    "recipe", [n for n in list_configs() if "/ablation/" not in n and "vit-large" not in n]
)
def test_the_saved_config_of_every_recipe_is_read(tmp_path: Path, recipe: str):
    cfg = load(recipe)
    content = dict(meta=dict(cfg=cfg.pretty_text), state_dict={})
    torch.save(content, tmp_path / "epoch_1.pth")
    found = read(tmp_path / "epoch_1.pth")
    assert found.task == recipe.partition("/")[0]
    if found.task != "pretrain":
        names = [transform.type.rpartition(".")[2] for transform in prediction_pipeline(found)]
        assert names[0].startswith("LoadImage") and names[-1] in (
            *("PackInputs", "PackDetInputs", "PackSegInputs"),
            "TestTimeAug",
        )


def test_other_statistics_and_sizes_come_out_as_in_training(tmp_path: Path):
    cfg = load(CLS)
    cfg.model.backbone.img_size = 64
    cfg.model.data_preprocessor.update(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0])
    path, _ = save_checkpoint(cfg, tmp_path / "epoch_1.pth")
    found = restore(path, device="cpu").model
    assert found.data_preprocessor.mean.flatten().tolist() == [1.0, 2.0, 3.0]
    assert found.data_preprocessor.std.flatten().tolist() == [4.0, 5.0, 6.0]
    assert found.backbone.grid_size == (8, 8)


def test_what_weights_set_is_taken_from_the_record_where_the_config_does_not_say_it(
    tmp_path: Path,
):
    _, path, _ = save_recipe(SEG, tmp_path)
    content = torch.load(path)
    assert "'pos_resize" not in content["meta"]["cfg"]
    content["meta"]["milan_mm"]["model"]["backbone"]["pos_resize"] = "bilinear"
    torch.save(content, path)
    assert restore(path, device="cpu").config.model.backbone.pos_resize == "bilinear"


def test_a_checkpoint_from_before_the_record_is_restored_with_a_note():
    found = restore(OLD / "classifier.pth", device="cpu")
    assert found.task == "cls" and found.classes == ["bright", "dark"]
    assert "has no record of its training" in found.notes[0]


def test_files_that_filled_the_model_may_be_gone(tmp_path: Path):
    cfg = load(CLS)
    cfg.model.backbone.init_cfg = dict(type="milan_mm.EncoderWeights", checkpoint="gone.pth")
    path, _ = save_checkpoint(cfg, tmp_path / "epoch_1.pth")
    assert "init_cfg" not in restore(path, device="cpu").config.model.backbone


def test_fields_of_the_config_can_be_overridden_and_misspelt_ones_are_refused(tmp_path: Path):
    _, path, _ = save_recipe(DET, tmp_path)
    found = restore(path, "cpu", ["model.test_cfg.rcnn.max_per_img=2"])
    assert found.model.test_cfg.rcnn.max_per_img == 2
    with pytest.raises(UserError, match="max_per_image"):
        read(path, ["model.test_cfg.rcnn.max_per_image=2"])


RUNS_CODE = dict(
    statement="import os\nos.mkdir('MARK')",
    call="model = dict(type=__import__('os').mkdir('MARK'))",
    comprehension="model = [print() for x in (1, 2)]",
    positional="model = dict([('type', print())])",
    unpacked="model = dict(**{'type': 'os.mkdir'})",
)


@pytest.mark.parametrize("kind", RUNS_CODE)
def test_code_in_a_config_is_refused_and_not_run(tmp_path: Path, kind: str, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(meta=dict(cfg=RUNS_CODE[kind]), state_dict={}), "epoch_1.pth")
    with pytest.raises(UserError, match=r"holds code, which is not run: line 1, "):
        restore("epoch_1.pth")
    assert not Path("MARK").exists()


def _by_import(cfg):
    cfg.model.neck.update(type="os.mkdir", path="MARK")


def _by_module(cfg):
    cfg.model.neck.update(type="evil")


def _by_evaluation(cfg):
    cfg.model.test_cfg.rcnn.nms.type = "__import__('os').mkdir('MARK')"


def _by_scope(cfg):
    cfg.model.neck["_scope_"] = "evil"


def _from_elsewhere(cfg):
    kind = dict(type="AutoModelForCausalLM", _scope_="mmpretrain", trust_remote_code=True)
    cfg.model.neck.update(kind, name_or_path="evil")


def _in_the_pipeline(cfg):
    cfg.test_dataloader.dataset.pipeline.append(dict(type="os.mkdir", path="MARK"))


@pytest.mark.parametrize(
    "change",
    [_by_import, _by_module, _by_evaluation, _by_scope, _from_elsewhere, _in_the_pipeline],
)
def test_nothing_is_built_but_what_the_libraries_have_registered(
    tmp_path: Path, change: Callable, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text("import os\nos.mkdir('MARK')")
    Path("evil").mkdir()
    Path("evil/registry.py").write_text("import os\nos.mkdir('MARK')")
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg = load(DET)
    path, _ = save_checkpoint(cfg, tmp_path / "epoch_1.pth", record=False)
    change(cfg)
    torch.save(torch.load(path) | dict(meta=dict(cfg=cfg.pretty_text)), path)
    with pytest.raises(
        UserError,
        match=r"is not registered|looks like code|its config is of '(evil|__import__|os)|"
        "asks to run code from elsewhere",
    ):
        Predictor(restore(path, device="cpu"))
    assert not Path("MARK").exists()


def test_other_files_are_refused_with_what_they_are(tmp_path: Path, repo_root: Path):
    encoder = repo_root / "milan_mm/assets/milan_mini_shapes.safetensors"
    with pytest.raises(UserError, match=r"is an encoder alone .* --weights "):
        read(encoder)
    torch.save(dict(weight=torch.ones(2)), tmp_path / "weights.pth")
    with pytest.raises(UserError, match="is not a checkpoint of a training"):
        read(tmp_path / "weights.pth")
    torch.save(dict(meta=dict(cfg="a = 1"), state_dict={}), tmp_path / "epoch_2.pth")
    with pytest.raises(UserError, match="its config has no model"):
        read(tmp_path / "epoch_2.pth")
    with pytest.raises(MissingFileError, match="does not exist"):
        read(tmp_path / "gone.pth")
    (tmp_path / "weights.pth").unlink()
    torch.save(dict(meta=dict(cfg="", iter=4), state_dict={}), tmp_path / "iter_4.pth")
    with pytest.raises(UserError, match=r"is a folder: name a checkpoint; its newest is .*iter_4"):
        read(tmp_path)


def test_a_checkpoint_without_one_of_the_tensors_is_refused(tmp_path: Path):
    _, path, _ = save_recipe(CLS, tmp_path)
    content = torch.load(path)
    del content["state_dict"]["head.fc.bias"]
    torch.save(content, path)
    with pytest.raises(UserError, match=r"is missing 1 of .* tensors, first 'head.fc.bias'"):
        restore(path)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="--device cuda:99: this machine has"):
        restore(OLD / "classifier.pth", device="cuda:99")
    with pytest.raises(UserError, match="--device gpu: give cpu, cuda or cuda:N"):
        restore(OLD / "classifier.pth", device="gpu")
