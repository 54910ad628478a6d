"""A file that a config names itself fills all of the part that names it, or nothing starts."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.models import ResNet
from mmengine.model import BaseModule, ModuleList, PretrainedInit
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from torchvision.models import resnet18, resnet34, resnet50

from milan_mm.configs import load
from milan_mm.engine.checkpoints import safe_loading
from milan_mm.errors import UserError
from milan_mm.models.plain_vit import PlainViT
from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.run_options import RunOptions
from milan_mm.run.start.pretrained import FRESH, StrictInit, check_whole, read_tensors
from tests.helpers import TINY_ARCH, save_state, tiny_vit
from tests.weights.zoo import timm_vit

Init = dict[str, Any]


class Model(BaseModule):
    """A backbone and a head, as a detector has them."""

    def __init__(self, backbone: nn.Module, head: nn.Module | None = None, **settings) -> None:
        super().__init__(**settings)
        self.backbone, self.head = backbone, head or nn.Identity()


class Linear(BaseModule):
    """The smallest part with weights."""

    def __init__(self, width: int = 3, init_cfg: Init | list[Init] | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.inner = nn.Linear(2, width)


class LoadsItself(Linear):
    """Renames tensors and loads loosely, as Swin and BEiT do in mmdet and mmseg."""

    def init_weights(self) -> None:
        tensors = CheckpointLoader.load_checkpoint(self.init_cfg["checkpoint"])
        renamed = {name.replace("theirs.", "inner."): t for name, t in tensors.items()}
        load_state_dict(self, renamed, strict=False)


def pretrained(path: Path | str, **settings: Any) -> Init:
    return dict(type="Pretrained", checkpoint=str(path)) | settings


def start(model: nn.Module, fresh: tuple[str, ...] = ()) -> None:
    """What a run does before its first step."""
    with safe_loading():
        check = StrictInit(model, fresh)
        model.init_weights()
        check.before_train(SimpleNamespace())


def test_a_resnet_of_torchvision_fills_that_of_mmdet_and_leaves_its_classifier(tmp_path: Path):
    theirs = resnet18().eval()
    path = save_state(theirs.state_dict(), tmp_path)
    ours = ResNet(18, init_cfg=pretrained(path))
    start(Model(ours))
    ours.eval()  # returns nothing
    imgs = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(imgs))))
        x = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        torch.testing.assert_close(ours(imgs)[-1], x)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (resnet34, r"has more blocks than the model: layer1\.2\.conv1\.weight"),
        (resnet50, r"leaves \d+ of 100 tensors at random|has tensors of other shapes"),
        (lambda: timm_vit(), r"leaves 100 of 100 tensors at random: conv1\.weight, "),
        (lambda: resnet18(width_per_group=64, norm_layer=nn.Identity), "leaves 80 of 100 tensors"),
    ],
)
def test_a_resnet_refuses_another_architecture(
    other: Callable[[], nn.Module], message: str, tmp_path: Path
):
    path = save_state(other().state_dict(), tmp_path)
    model = Model(ResNet(18, init_cfg=pretrained(path)))
    with pytest.raises(UserError, match=rf"model\.backbone\.init_cfg: .*weights\.pth ({message})"):
        start(model)


def test_a_plain_vit_names_the_option_that_knows_foreign_names(tmp_path: Path):
    path = save_state(timm_vit().state_dict(), tmp_path)
    vit = PlainViT(TINY_ARCH, img_size=32, patch_size=8, init_cfg=pretrained(path))
    with pytest.raises(UserError, match=r"leaves \d+ of \d+ tensors at random: .*--weights FILE"):
        start(Model(vit))


def test_a_plain_vit_takes_its_own_tensors(tmp_path: Path):
    source = tiny_vit()
    path = save_state(source.state_dict(), tmp_path)
    vit = PlainViT(TINY_ARCH, img_size=32, patch_size=8, init_cfg=pretrained(path))
    start(Model(vit))
    assert all(torch.equal(t, source.state_dict()[n]) for n, t in vit.state_dict().items())


SPELLINGS: dict[str, Callable[[Path], Init | list[Init]]] = {
    "name": pretrained,
    "scoped name": lambda path: pretrained(path, type="mmengine.Pretrained"),
    "class": lambda path: pretrained(path, type=PretrainedInit),
    "list": lambda path: [dict(type="Normal", layer="Linear"), pretrained(path)],
    "prefix": lambda path: pretrained(path, prefix="inner"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("place", ["backbone", "head", "model"])
def test_every_spelling_and_place_is_watched(spelling: str, place: str, tmp_path: Path):
    prefix = "inner." if spelling == "prefix" else ""
    path = save_state({f"{prefix}inner.weight": torch.ones(3, 2)}, tmp_path)  # and no bias
    init_cfg = SPELLINGS[spelling](path)
    parts = {n: Linear(init_cfg=init_cfg if n == place else None) for n in ("backbone", "head")}
    model = Linear(init_cfg=init_cfg) if place == "model" else Model(**parts)
    with pytest.raises(UserError, match=r"leaves 1 of 2 tensors at random: inner\.bias"):
        start(model)


def test_an_override_is_watched(tmp_path: Path):
    path = save_state({"inner.weight": torch.ones(3, 2)}, tmp_path)
    override = dict(pretrained(path), name="head")
    init_cfg = dict(type="Normal", layer="Linear", override=override)
    with pytest.raises(UserError, match=r"model\.head\.init_cfg: .* leaves 1 of 2 tensors"):
        start(Model(Linear(), Linear(), init_cfg=init_cfg))


def test_the_old_argument_pretrained_is_watched(tmp_path: Path):
    path = save_state({"conv1.weight": torch.ones(64, 3, 7, 7)}, tmp_path)
    with pytest.warns(UserWarning, match="deprecated"):
        model = Model(ResNet(18, pretrained=str(path)))
    with pytest.raises(UserError, match="leaves 99 of 100 tensors at random"):
        start(model)


@pytest.mark.parametrize("names", [("theirs.weight",), ("theirs.weight", "theirs.bias")])
def test_a_part_that_loads_in_its_own_way_is_watched_too(names: tuple[str, ...], tmp_path: Path):
    tensors = {"theirs.weight": torch.ones(3, 2), "theirs.bias": torch.ones(3)}
    path = save_state({name: tensors[name] for name in names}, tmp_path)
    model = Model(LoadsItself(init_cfg=pretrained(path)))
    if len(names) == 2:
        start(model)
        assert (model.backbone.inner.bias == 1).all()
    else:
        with pytest.raises(UserError, match=r"leaves 1 of 2 tensors at random: inner\.bias"):
            start(model)


def test_what_is_meant_to_start_afresh_is_named(tmp_path: Path):
    path = save_state({"inner.weight": torch.ones(3, 2)}, tmp_path)
    model = Model(Linear(init_cfg=pretrained(path)))
    start(model, fresh=("backbone.*.bias",))
    assert (model.backbone.inner.weight == 1).all()


def test_a_file_that_nothing_loads_is_refused(tmp_path: Path):
    path = save_state(Linear().state_dict(), tmp_path)
    reached = Model(ModuleList([Linear(init_cfg=pretrained(path))]))
    start(reached)
    forgotten = Model(nn.Sequential(Linear(init_cfg=pretrained(path))))
    with pytest.raises(
        UserError, match=r"model\.backbone\.0\.init_cfg names .* nothing was loaded"
    ):
        start(forgotten)


def test_a_missing_prefix_and_a_missing_file_are_named_before_the_start(tmp_path: Path):
    path = save_state({"neck.a": torch.ones(1), "bbox_head.b": torch.ones(1)}, tmp_path)
    message = r"no tensor with the prefix 'backbone\.': its names begin neck\., bbox_head\."
    with pytest.raises(UserError, match=message):
        StrictInit(Model(Linear(init_cfg=pretrained(path, prefix="backbone."))))
    with pytest.raises(UserError, match=r"'nowhere\.pth' does not exist"):
        StrictInit(Model(Linear(init_cfg=pretrained("nowhere.pth"))))


def test_usual_mistakes_are_noticed_before_any_weight_is_initialised(tmp_path: Path):
    path = save_state({"inner.weight": torch.ones(3, 2)}, tmp_path)
    with pytest.raises(UserError, match="leaves 1 of 2 tensors"):
        StrictInit(Model(Linear(init_cfg=pretrained(path))))


def test_after_the_start_the_model_loads_as_loosely_as_before(tmp_path: Path):
    path = save_state(Linear().state_dict(), tmp_path)
    model = Model(Linear(init_cfg=pretrained(path)))
    with safe_loading():
        check = StrictInit(model)
        copied = copy.deepcopy(model)  # as for a moving average of the weights
        model.init_weights()
        check.before_train(SimpleNamespace())
    load_state_dict(model.backbone, {}, strict=False)
    copied.load_state_dict(model.state_dict())
    Linear().load_state_dict({}, strict=False)  # others are never watched


WHOLE = {
    "missing": (["backbone.inner.bias"], {}, "is missing 1 of the model's 4 tensors"),
    "unknown": ([], {"neck.a": torch.ones(1)}, "holds unknown 1 of"),
    "shape": ([], {"head.inner.bias": torch.ones(9)}, "has other shapes of 1 of"),
}


@pytest.mark.parametrize("case", WHOLE)
def test_load_from_takes_a_checkpoint_of_the_same_model_only(case: str, tmp_path: Path):
    left_out, changed, message = WHOLE[case]
    model = Model(Linear(), Linear())
    tensors = {n: t for n, t in model.state_dict().items() if n not in left_out} | changed
    path = str(save_state(dict(state_dict=tensors), tmp_path))
    remedy = "--weights FILE, from a checkpoint of other classes --init-from FILE"
    with pytest.raises(UserError, match=rf"load_from: .*{message}.* {remedy}"):
        check_whole(path, read_tensors(path), model)


def test_load_from_takes_the_tensors_of_a_wrapped_model(tmp_path: Path):
    model = Model(ResNet(18))
    tensors = {f"module.{n}": t for n, t in model.state_dict().items() if "num_batches" not in n}
    path = str(save_state(dict(state_dict=tensors), tmp_path))
    check_whole(path, read_tensors(path), model)


def test_exceptions_are_a_key_that_a_config_may_have():
    cfg = load("cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes")
    prepare(cfg, RunOptions(cfg_options=["fresh_tensors=['head.*']"]), TRAINING)
    assert list(cfg[FRESH]) == ["head.*"]
