"""The record of a run: complete, of plain types, and compared field by field."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from milan_mm.configs import list_configs
from milan_mm.datasets.identity import data_hash
from milan_mm.run.encoder_weights import set_encoder_weights
from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.records.differences import Difference, Kind, differences
from milan_mm.run.records.record import model_of, record_of
from milan_mm.run.records.recorded_model import judged_otherwise, take_model
from milan_mm.run.run_options import RunOptions
from milan_mm.weights.reading import read_checkpoint
from milan_mm.weights.record import read_record
from tests.helpers import TINY_ARCH, save_state
from tests.recipes.test_configs import load
from tests.run.own_data.folders import image_folder, write_image
from tests.weights.zoo import SYSTEMS

CLS = "cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k"
DET = "det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco"
SEG = "seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512"
PRETRAIN = "pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k"
FAMILIES = (CLS, DET, SEG, PRETRAIN)
CLIP = dict(mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323])


def prepared(recipe: str, *fields: str) -> Config:
    cfg = load(recipe)
    prepare(cfg, RunOptions(cfg_options=fields, batch_per_gpu=1), TRAINING)
    return cfg


def record(recipe: str, *fields: str) -> dict[str, Any]:
    return record_of(prepared(recipe, *fields))


def saved(content: dict) -> dict:
    return dict(meta=dict(milan_mm=content), state_dict={})


@pytest.mark.parametrize("recipe", list_configs())
def test_the_record_of_every_recipe_survives_a_safe_file(tmp_path: Path, recipe: str):
    expected = record(recipe)
    file = tmp_path / "epoch_1.pth"
    torch.save(saved(expected), file)
    assert torch.load(file, weights_only=True) == saved(expected)
    assert read_record(read_checkpoint(file)) == expected
    assert expected["recipe"] == Path(recipe).name
    assert expected["model"]["backbone"]["arch"].keys() == {"embed_dims", "num_layers", "num_heads"}
    assert not differences(expected, record(recipe), "resume")


@pytest.mark.parametrize("recipe", FAMILIES)
def test_the_split_of_a_batch_is_recorded_and_makes_no_difference_to_a_test(recipe: str):
    one, other = record(recipe), record_of(prepared_with(recipe, batch_per_gpu=2))
    assert one["total_batch"] == other["total_batch"] == load(recipe).total_batch
    assert one["split"]["batch_per_process"] == 1 and other["split"]["batch_per_process"] == 2
    assert not differences(one, other, "test")


def narrow(recipe: str) -> Config:
    """A recipe of an encoder as small as the files of `SYSTEMS`."""
    cfg = load(recipe)
    cfg.model.backbone.update(arch=TINY_ARCH, out_indices=(2,), global_layers=(2,))
    return cfg


def prepared_with(recipe: str, **options: Any) -> Config:
    cfg = narrow(recipe) if "weights" in options else load(recipe)
    prepare(cfg, RunOptions(**options), TRAINING)
    return cfg


# Fields that a training's command line may have set -> another value than any recipe's
MODEL_FIELDS: dict[str, Any] = {
    "model.backbone.norm_eps": 1e-4,
    "model.backbone.act": "SiLU",
    "model.backbone.patch_bias": False,
    "model.backbone.pre_norm": True,
    "model.backbone.layer_scale": 0.3,
    "model.backbone.with_pos_embed": False,
    "model.backbone.img_size": 320,
    "model.backbone.final_norm": None,  # the other one
    "model.backbone.out_type": "raw",
    "model.backbone.window_size": 7,
    "model.backbone.global_layers": [1],
    "model.backbone.out_indices": [3, 1],
}


def other_value(cfg: Config, name: str) -> Any:
    value = MODEL_FIELDS[name]
    return not cfg.model.backbone.get("final_norm", True) if value is None else value


def with_field(recipe: str, name: str) -> Config:
    """A recipe with another value of a field, as far as it makes a model at all."""
    cfg = load(recipe)
    value = other_value(cfg, name)
    if name.endswith("window_size") and recipe != DET:
        cfg.model.backbone.with_cls_token = False
        cfg.model.backbone.out_type = "featmap"
    cfg.merge_from_dict({name: value})
    return cfg


@pytest.mark.parametrize("name", MODEL_FIELDS)
@pytest.mark.parametrize("recipe", FAMILIES)
def test_a_test_takes_each_option_of_the_training_from_the_record(recipe: str, name: str):
    trained = with_field(recipe, name)
    kept = record_of(trained)
    kept["recipe_hash"] = record_of(load(recipe))["recipe_hash"]  # by --cfg-options
    cfg = load(recipe)
    (note,) = take_model(cfg, kept, "epoch_1.pth", "test")
    assert model_of(cfg) == model_of(trained)
    assert note.startswith("epoch_1.pth: the model takes ") and name.rpartition(".")[2] in note
    assert take_model(cfg, kept, "epoch_1.pth", "test") == []


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("name", MODEL_FIELDS)
@pytest.mark.parametrize("recipe", FAMILIES)
def test_a_contradiction_is_refused_with_both_values(recipe: str, name: str, fixed: bool):
    trained, cfg = with_field(recipe, name), load(recipe)
    kept = record_of(trained)
    if fixed:
        kept["recipe_hash"] = record_of(cfg)["recipe_hash"]
    before = copy.deepcopy(cfg.model.to_dict())
    here, there = (model_of(c)["backbone"][name.rpartition(".")[2]] for c in (cfg, trained))
    with pytest.raises(ValueError) as error:
        take_model(cfg, kept, "epoch_1.pth", "test", [name] if fixed else [])
    assert f"is {there!r} in the checkpoint and {here!r} here" in str(error.value) or (
        ", and " in str(error.value)
    )
    assert cfg.model.to_dict() == before


@pytest.mark.parametrize("recipe", FAMILIES)
def test_statistics_and_classes_are_taken_in_the_order_of_the_recipe(recipe: str):
    kept = record(recipe)
    kept["model"]["statistics"] |= CLIP
    if recipe != PRETRAIN:
        kept["model"]["num_classes"] = 7
    cfg = load(recipe)
    take_model(cfg, kept, "epoch_1.pth", "test")
    assert model_of(cfg) == kept["model"]


@pytest.mark.parametrize("recipe", [CLS, DET, SEG])
@pytest.mark.parametrize("system", SYSTEMS)
def test_what_the_weights_of_every_system_set_is_set_again(
    tmp_path: Path, recipe: str, system: str
):
    file = str(save_state(SYSTEMS[system](tmp_path).content, tmp_path))
    trained, cfg = narrow(recipe), narrow(recipe)
    set_encoder_weights(trained, file)
    kept = record_of(trained)
    kept["recipe_hash"] = "another recipe with this model"
    take_model(cfg, read_record(saved(kept)), "epoch_1.pth", "resume")
    assert model_of(cfg) == model_of(trained)
    assert record_of(cfg)["encoder"] == kept["encoder"]
    assert not differences(kept, record_of(cfg), "resume")


@pytest.mark.parametrize("recipe", [CLS, DET, SEG])
def test_a_test_on_images_of_another_size_than_in_the_training_is_said(recipe: str):
    kept, cfg = record(recipe), prepared(recipe)
    assert judged_otherwise(cfg, kept, "x.pth") == []
    sizes = [t for t in cfg.test_dataloader.dataset.pipeline if "scale" in t]
    sizes[0].scale = 17
    (note,) = judged_otherwise(cfg, kept, "x.pth")
    assert note.startswith("x.pth: tested otherwise than in the validation of its training: ")
    assert "scale is " in note and "there, 17 here" in note
    kept["recipe_hash"] = "another recipe"  # which differs on purpose
    assert judged_otherwise(cfg, kept, "x.pth") == []


def test_an_image_size_of_the_training_that_a_test_forgets_is_named():
    cfg, now = load(CLS), prepared(CLS)
    prepare(cfg, RunOptions(img_size=64, batch_per_gpu=1), TRAINING)
    (note,) = judged_otherwise(now, record_of(cfg), "x.pth")
    assert note.endswith("; the training had --img-size 64")


def test_a_long_list_is_cut_in_a_message():
    difference = Difference("classes", [*map(str, range(80))], None, Kind.CONTRADICTION)
    assert str(difference) == (
        "classes is ['0', '1', '2', '3', '4' and 75 more] in the checkpoint and None here"
    )


def test_a_record_from_before_options_were_kept_has_none():
    kept = record(CLS)
    del kept["options"]
    assert read_record(saved(kept))["options"] == {}


def test_weights_that_the_user_gives_again_must_be_the_same(tmp_path: Path):
    files = {}
    for system in ("openai_clip", "mae"):
        (tmp_path / system).mkdir()
        content = SYSTEMS[system](tmp_path).content
        files[system] = str(save_state(content, tmp_path / system))
    kept = prepared_with(CLS, weights=files["openai_clip"])
    same, other = (prepared_with(CLS, weights=files[name]) for name in ("openai_clip", "mae"))
    assert not differences(record_of(kept), record_of(same), "resume")
    found = differences(record_of(kept), record_of(other), "resume")
    contradictions = {d.field for d in found if d.kind is Kind.CONTRADICTION}
    assert {"encoder.sha256", "encoder.system"} <= contradictions
    without = record_of(prepared_with(CLS, weights=None))
    plain = differences(record_of(kept), without, "resume")
    assert [d.kind for d in plain if d.field == "encoder"] == [Kind.KNOWN]
    added = differences(without, record_of(kept), "resume")
    assert [d.kind for d in added if d.field == "encoder"] == [Kind.CONTRADICTION]
    with pytest.raises(ValueError, match=r"its run started from CLIP, .* and this one from MAE, "):
        take_model(other, record_of(kept), "epoch_1.pth", "resume")
    with pytest.raises(ValueError, match="started from no pretrained encoder and this one from MA"):
        take_model(other, without, "epoch_1.pth", "resume")


RESULT_FIELDS: dict[str, Any] = {
    "optim_wrapper.optimizer.lr": 0.1,
    "optim_wrapper.optimizer.weight_decay": 0.7,
    "model.backbone.drop_path_rate": 0.45,
    "total_batch": 2048,
    "randomness.seed": 5,
    "train_dataloader.dataset.pipeline.2.prob": 0.25,
}


@pytest.mark.parametrize("name", RESULT_FIELDS)
@pytest.mark.parametrize("recipe", FAMILIES)
def test_whatever_changes_the_result_is_a_contradiction_to_a_resumed_run(recipe: str, name: str):
    cfg = load(recipe)
    cfg.merge_from_dict({name: RESULT_FIELDS[name]}, allow_list_keys=True)
    found = differences(record_of(load(recipe)), record_of(cfg), "resume", fixed=[name])
    assert {d.now for d in found if d.kind is Kind.CONTRADICTION} == {RESULT_FIELDS[name]}


@pytest.mark.parametrize("recipe", FAMILIES)
def test_what_only_the_machine_decides_makes_no_difference(recipe: str):
    cfg = load(recipe)
    cfg.merge_from_dict(
        {"train_dataloader.num_workers": 1, "work_dir": "x", "model.backbone.with_cp": True}
    )
    found = differences(record_of(load(recipe)), record_of(cfg), "resume")
    assert {d.kind for d in found} <= {Kind.HARMLESS}


# Reading what anybody may have written

SPOILT: dict[str, Callable[[dict], object]] = {
    "no record at all": lambda r: r.clear(),
    "a text for a number": lambda r: r.update(total_batch="many"),
    "a negative number": lambda r: r.update(total_batch=-1),
    "a number that is none": lambda r: r["schedule"].update(highest_lr=math.nan),
    "a section that is missing": lambda r: r.pop("model"),
    "a field that is missing": lambda r: r["split"].pop("accumulation"),
    "an unknown option": lambda r: r["model"]["backbone"].update(hidden="x"),
    "an option of another type": lambda r: r["model"]["backbone"].update(img_size="large"),
    "a text for an epsilon": lambda r: r["model"]["backbone"].update(norm_eps="small"),
    "a number for an activation": lambda r: r["model"]["backbone"].update(act=7),
    "a text for blocks": lambda r: r["model"]["backbone"].update(global_layers=["first"]),
    "options that exclude each other": lambda r: r["model"]["backbone"].update(window_size=14),
    "no heads": lambda r: r["model"]["backbone"]["arch"].update(num_heads=0),
    "two numbers for three channels": lambda r: r["model"]["statistics"].update(mean=[1.0, 2.0]),
    "classes that are no texts": lambda r: r.update(classes=[1, 2]),
    "a tensor": lambda r: r["settings"].update(model=torch.zeros(1)),
    "a field outside of the encoder": lambda r: r["encoder"]["fields"].update(
        {"model.backbone.init_cfg.checkpoint": "/etc/passwd"}
    ),
    "a text for statistics": lambda r: r["encoder"]["fields"].update(
        {"model.data_preprocessor.mean": "grey"}
    ),
    "a number that no float holds": lambda r: r["schedule"].update(highest_lr=10**400),
    "an option of no reader": lambda r: r["encoder"]["reading"].update(type="x"),
    "a nest without end": lambda r: r["settings"].update(model=nest(500)),
}


def nest(depth: int) -> list:
    found: list = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_damaged_record_is_an_error_of_one_line(tmp_path: Path, spoil: Callable[[dict], object]):
    file = str(save_state(SYSTEMS["openai_clip"](tmp_path).content, tmp_path))
    kept = record_of(prepared_with(CLS, weights=file))
    spoil(kept)
    with pytest.raises(ValueError, match=r"x\.pth: the record of its run is damaged: '\w+' is "):
        read_record(saved(kept), "x.pth")


def test_a_record_of_a_later_version_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="record of version 2, this milan_mm reads up to 1: upd"):
        read_record(saved(record(CLS) | dict(version=2)))


def test_an_option_that_was_written_otherwise_means_the_same():
    kept = record(CLS)
    kept["model"]["backbone"].update(pos_resize=None, img_size=224)
    assert read_record(saved(kept)) == record(CLS)


def test_statistics_of_one_number_are_those_of_all_three_channels():
    cfg = load(CLS)
    place = cfg.model.get("data_preprocessor") or cfg.data_preprocessor
    place.update(mean=[127.5], std=[63.75])
    record = read_record(saved(record_of(cfg)))
    assert record and record["model"]["statistics"]["mean"] == [127.5] * 3
    assert record["model"]["statistics"]["std"] == [63.75] * 3


def test_an_option_that_is_newer_than_the_record_has_its_default():
    kept = record(CLS)
    del kept["model"]["backbone"]["rope_base"]
    assert read_record(saved(kept)) == record(CLS)


@pytest.mark.parametrize("content", [{}, dict(meta=None), dict(meta=[]), dict(meta=dict(cfg=""))])
def test_files_without_a_record_have_none(content: dict):
    assert read_record(content) is None


# Which data these are


def test_data_are_known_by_names_and_sizes_wherever_they_lie(tmp_path: Path):
    first = image_folder(tmp_path / "first")
    second = image_folder(tmp_path / "deep/second")
    expected = data_hash(dict(data_root=str(first), data_prefix="train"))
    settings = dict(data_root=str(second), data_prefix="train")
    assert expected and data_hash(settings) == expected
    write_image(second / "train/red/0.png", size=(64, 64))
    assert data_hash(settings) != expected
    write_image(first / "train/red/more.png")
    assert data_hash(dict(data_root=str(first), data_prefix="train")) != expected


def test_an_annotation_file_is_known_by_its_content(tmp_path: Path):
    settings = dict(data_root=str(tmp_path), ann_file="train.json", data_prefix=dict(img="images"))
    (tmp_path / "train.json").write_text("{}")
    before = data_hash(settings)
    (tmp_path / "train.json").write_text("[]")
    assert before and data_hash(settings) != before


def test_data_that_no_file_stands_for_have_no_hash(tmp_path: Path):
    assert data_hash(dict(type="FakeData", data_root=str(tmp_path / "gone"))) is None


@pytest.mark.parametrize(
    ("recipe", "field"),
    [
        (CLS, "model.head.num_classes"),
        (DET, "model.roi_head.bbox_head.num_classes"),
        (SEG, "model.decode_head.num_classes"),
    ],
)
def test_a_number_of_classes_that_the_user_sets_is_not_overridden(recipe: str, field: str):
    kept, cfg = record(recipe), prepared(recipe, f"{field}=3")
    with pytest.raises(ValueError, match=r"num_classes is .* in the checkpoint and .* here"):
        take_model(cfg, kept, "epoch_1.pth", "resume", [field])
