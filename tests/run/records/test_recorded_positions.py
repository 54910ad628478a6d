"""The rule by which positions are resized is in the record, and known of files without one."""

import pytest
import torch
from mmengine.config import Config

from milan_mm.configs import load
from milan_mm.run.prepare import TEST, TRAINING, prepare
from milan_mm.run.records.record import Recorded, record_of
from milan_mm.run.records.recorded_model import OLD_RULE, take_model, take_old_rule
from milan_mm.run.run_options import RunOptions
from milan_mm.run.start.continuation import record_from_config
from milan_mm.weights.recognising import recognise
from tests.helpers import TINY_ARCH, tiny_vit

DET = "det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes"
SEG = "seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96"
CLS = "cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes"
FIELD = "model.backbone.pos_resize"


def prepared(recipe: str, *fields: str) -> Config:
    cfg = load(recipe)
    prepare(cfg, RunOptions(cfg_options=fields), TRAINING)
    return cfg


def test_the_record_names_the_rule_also_where_the_recipe_leaves_it_open():
    cfg = load(DET)
    assert record_of(cfg)["model"]["backbone"]["pos_resize"] == "bicubic"
    cfg.model.backbone.pos_resize = "bicubic"  # written out, it is the same model
    assert record_of(cfg)["model"]["backbone"]["pos_resize"] == "bicubic"


@pytest.mark.parametrize("recipe", [DET, SEG, CLS])
def test_a_test_takes_the_rule_of_the_training(recipe: str):
    record = record_of(prepared(recipe, f"{FIELD}=bicubic-offset"))
    cfg = prepared(recipe)
    (note,) = take_model(cfg, record, "epoch_1.pth", "test")
    assert cfg.model.backbone.pos_resize == "bicubic-offset" and "pos_resize=" in note


def test_a_rule_that_contradicts_the_training_is_refused():
    cfg, record = prepared(DET, f"{FIELD}=bicubic-offset"), record_of(prepared(DET))
    message = r"pos_resize is 'bicubic' in the checkpoint and 'bicubic-offset' here: leave that"
    with pytest.raises(ValueError, match=message):
        take_model(cfg, record, "epoch_1.pth", "test", fixed=[FIELD])


@pytest.mark.parametrize(("recipe", "rule"), [(DET, OLD_RULE), (SEG, OLD_RULE), (CLS, None)])
def test_a_checkpoint_without_a_record_keeps_the_rule_of_its_version(recipe: str, rule: str | None):
    cfg = load(recipe)
    notes = take_old_rule(cfg)
    assert cfg.model.backbone.get("pos_resize") == rule and len(notes) == (rule is not None)
    before = record_from_config(dict(cfg=load(recipe).pretty_text))
    assert before is not None
    assert before["model"]["backbone"] == record_of(cfg)["model"]["backbone"]
    cfg = load(recipe)
    assert take_old_rule(cfg, fixed=[FIELD]) == [] and "pos_resize" not in cfg.model.backbone


@pytest.mark.parametrize("recipe", [DET, SEG])
@pytest.mark.parametrize("has_config", [True, False])
def test_such_a_checkpoint_is_tested_by_the_rule_of_its_version(recipe: str, has_config: bool):
    meta = dict(cfg=load(recipe).pretty_text) if has_config else {}
    old = Recorded.of(dict(meta=meta, state_dict={}), "old.pth")
    cfg = load(recipe)
    notes = prepare(cfg, RunOptions(recorded=old), TEST)
    assert cfg.model.backbone.pos_resize == OLD_RULE
    assert any("pos_resize='bicubic-antialias'" in note for note in notes)


def test_an_encoder_takes_the_rule_from_the_record_of_its_training():
    cfg = load(CLS)
    cfg.model.backbone.update(
        arch=TINY_ARCH, img_size=32, patch_size=8, pos_resize="bicubic-offset"
    )
    vit = tiny_vit(out_type="avg_featmap")
    state = {f"backbone.{name}": tensor for name, tensor in vit.state_dict().items()}
    checkpoint = dict(state_dict=state, meta=dict(milan_mm=record_of(cfg)))
    encoder = recognise(checkpoint, "epoch_1.pth")
    assert encoder.settings["pos_resize"] == "bicubic-offset"
    assert "pos_resize" not in encoder.assumed
    torch.testing.assert_close(encoder.state_dict["pos_embed"], vit.pos_embed.detach())
