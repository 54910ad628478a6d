"""The ablation in miniature varies what the paper varies, and its table says what was measured."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image
from safetensors.torch import save_file

from milan_mm.configs import load
from milan_mm.evaluation import ablation
from milan_mm.evaluation.ablation import (
    PUBLISHED,
    choose_labelled,
    images_by_class,
    miniature,
    row_recipe,
    set_epochs,
    slip_settings,
    write_table,
)
from milan_mm.registry import MODELS
from milan_mm.run.building import build_without_memory
from tests.helpers import STATS

SLIP = dict(
    type="milan_mm.TimmTeacher",
    model_name="vit_tiny_patch16_224",
    pretrained="random",
    grid_size=(12, 12),
    input_stats=STATS,
    stats=STATS,
    projection_dims=24,
)
each_row = pytest.mark.parametrize("number", list(PUBLISHED))


def small(number: int) -> Config:
    """A row in miniature, with random teachers."""
    mini = load(ablation.PRETRAIN)
    mini.model.head.teacher.pretrained = "random"
    return miniature(load(row_recipe(number)), mini, SLIP)


@each_row
def test_a_row_in_miniature_is_made_of_the_parts_of_its_recipe_at_paper_scale(number):
    paper = build_without_memory(load(row_recipe(number)))
    mini = build_without_memory(small(number))
    for part in ("mask_generator", "decoder", "head"):
        assert type(getattr(mini, part)) is type(getattr(paper, part))
    assert mini.mask_generator.mask_ratio == paper.mask_generator.mask_ratio
    assert mini.head.loss_tokens == paper.head.loss_tokens
    assert getattr(mini.head, "norm_pix", None) == getattr(paper.head, "norm_pix", None)
    teachers = [type(m.head.teacher.module) if m.head.teacher else None for m in (mini, paper)]
    assert teachers[0] is teachers[1]


@each_row
def test_a_row_in_miniature_trains(number):
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(small(number).model)
    loss = model.loss(torch.randn(2, 3, 96, 96))["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@each_row
def test_rows_in_miniature_differ_in_the_model_only(number):
    row, mini = small(number).to_dict(), load(ablation.PRETRAIN).to_dict()
    for cfg in (row, mini):
        model = cfg.pop("model")
        for part in ("backbone", "data_preprocessor"):
            cfg[part] = model[part]
    assert row == mini


def test_row_8_in_miniature_is_the_small_recipe_of_milan_itself():
    mini = load(ablation.PRETRAIN)
    row = miniature(load(row_recipe(8)), mini)
    assert row.to_dict() == mini.to_dict()


def test_a_row_of_another_teacher_is_refused_without_one():
    with pytest.raises(ValueError, match=r"no second teacher given \(--slip-teacher\)"):
        miniature(load(row_recipe(9)), load(ablation.PRETRAIN))


def test_a_row_beyond_the_paper_is_taught_by_the_encoder_of_its_file():
    mini = load(ablation.PRETRAIN)
    settings = ablation.file_settings(mini, ablation.STAND_INS[13])
    row = miniature(load(row_recipe(13)), mini, settings)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(row.model)
    teacher = model.head.teacher.module
    assert type(teacher).__name__ == "EncoderTeacher"
    assert teacher.target_dims == model.decoder.target_dims == 192
    table = write_table([], {10: ablation.NO_FILE.format(row=10)})
    assert "| 10 | siglip | prompting | semantic | no weights of its teacher given" in table


def test_row_9_in_miniature_has_the_shipped_slip_as_teacher():
    mini = load(ablation.PRETRAIN)
    settings = slip_settings(load(row_recipe(9)), mini, "shipped", None)
    model = build_without_memory(miniature(load(row_recipe(9)), mini, settings))
    teacher = model.head.teacher.module
    assert type(teacher).__name__ == "TimmTeacher"
    assert teacher.target_dims == model.decoder.target_dims == 128
    assert teacher.grid_size == mini.model.head.teacher.grid_size


def test_finetuned_encoder_is_the_pretrained_one():
    pretrain, finetune = (load(n).model.backbone for n in (ablation.PRETRAIN, ablation.FINETUNE))
    for key in ("type", "arch", "img_size", "patch_size"):
        assert pretrain[key] == finetune[key]


@pytest.mark.parametrize("name", [ablation.PRETRAIN, ablation.FINETUNE])
def test_the_learning_rate_falls_to_zero_after_any_number_of_epochs(name):
    cfg = load(name)
    set_epochs(cfg, 7)
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[-1].T_max == 7
    assert cfg.train_cfg.get("val_interval", 7) == 7


@pytest.mark.parametrize(("updates", "length"), [(600, None), (30, 10), (1, 1)])
def test_a_warm_up_is_at_most_a_third_of_a_training(updates: int, length: int | None):
    cfg = load(ablation.FINETUNE)
    before = cfg.param_scheduler[0].end
    ablation.limit_warm_up(cfg, updates)
    assert cfg.param_scheduler[0].end == (length or before)


def test_width_of_a_slip_teacher_is_read_from_its_file(tmp_path):
    save_file({"visual.x": torch.zeros(1), "image_projection": torch.zeros(64, 40)}, tmp_path / "s")
    (tmp_path / "s").rename(tmp_path / "slip.safetensors")
    path = str(tmp_path / "slip.safetensors")
    settings = slip_settings(load(row_recipe(9)), load(ablation.PRETRAIN), path, "vit_small_x")
    assert settings["projection_dims"] == 40
    assert settings["grid_size"] == (12, 12)
    assert (settings["pretrained"], settings["model_name"]) == (path, "vit_small_x")


def test_a_file_without_projection_is_no_slip_teacher(tmp_path):
    path = tmp_path / "dino.safetensors"
    save_file({"patch_embed.proj.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="holds 0 tensors 'image_projection'"):
        slip_settings(load(row_recipe(9)), load(ablation.PRETRAIN), str(path), None)


# Data


def write_images(root: Path, counts: dict[str, int]) -> Path:
    """Images of one colour: 'train/a': 3 gives three in root/train/a."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            pixels = np.full((20, 20, 3), 10 * i, dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{i:02}.png")
    return root


def test_labelled_images_are_equally_many_of_each_class_and_always_the_same():
    images = {"b": [f"b/{i:02}" for i in range(20)], "a": [f"a/{i:02}" for i in range(8)]}
    lines = choose_labelled(images, 8)
    assert lines == [f"a/{i:02} 0" for i in (0, 2, 4, 6)] + [f"b/{i:02} 1" for i in (0, 5, 10, 15)]
    reversed_images = {name: files[::-1] for name, files in images.items()}
    assert choose_labelled(reversed_images, 8) == lines


def test_a_class_that_is_too_small_gives_all_that_it_has():
    images = {"a": ["a/0", "a/1"], "b": [f"b/{i}" for i in range(9)]}
    labels = [line.split()[1] for line in choose_labelled(images, 10)]
    assert (labels.count("0"), labels.count("1")) == (2, 5)


def test_an_image_folder_is_read_by_class(tmp_path):
    root = write_images(tmp_path, {"train/a": 3, "train/b": 1, "val/a": 1, "val/b": 1})
    images, num_val = images_by_class(root)
    assert {name: sorted(files) for name, files in images.items()} == {
        "a": ["a/00.png", "a/01.png", "a/02.png"],
        "b": ["b/00.png"],
    }
    assert num_val == 2


@pytest.mark.parametrize(
    "lacking, message",
    [
        ("val/b", "class 'b' has 3 images in .*train and 0 in .*val, at least 1"),
        ("train/a", "class 'a' has 1 images in .*val and 0 in .*train, at least 1"),
    ],
)
def test_a_class_that_one_part_lacks_is_named(tmp_path, lacking, message):
    counts = {"train/a": 2, "train/b": 3, "val/a": 1, "val/b": 1}
    del counts[lacking]
    with pytest.raises(ValueError, match=message):
        images_by_class(write_images(tmp_path, counts))


def test_a_class_folder_without_images_counts_as_missing(tmp_path):
    root = write_images(tmp_path, {"train/a": 2, "train/b": 3, "val/a": 1, "val/b": 0})
    with pytest.raises(ValueError, match="class 'b' has 3 images"):
        images_by_class(root)


def test_a_missing_part_is_named_with_the_layout(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"gone' does not exist: .*train/CLASS/\* and val/CLASS/\*"
    ):
        images_by_class(tmp_path / "gone")


# Table


def results(**values: list[float]) -> list[dict]:
    """Rows of the results file: row_1=[30, 31] gives two seeds of row 1."""
    return [
        dict(row=int(name.split("_")[1]), seed=seed, value=value)
        for name, tops in values.items()
        for seed, value in enumerate(tops)
    ]


def test_the_table_gives_mean_and_spread_over_seeds_beside_the_paper():
    tops = [30.0, 31.5, 32.1]
    table = write_table(results(row_8=tops), {})
    expected = f"{np.mean(tops):.1f} ± {np.std(tops, ddof=1):.1f}"
    assert f"| 8 | clip | prompting | semantic | {expected} | 3 | 85.4 |" in table


def test_a_row_without_results_says_why_and_shows_no_number():
    table = write_table([], {9: ablation.NO_SLIP})
    assert f"| 9 | slip | prompting | semantic | {ablation.NO_SLIP} | 0 | 84.4 |" in table
    assert "| 1 | pixel | mae | uniform | not run | 0 | 83.0 |" in table


def test_a_step_is_the_difference_of_means_with_its_standard_error():
    before, after = [30.0, 31.0, 32.0], [35.0, 36.5, 35.5]
    table = write_table(results(row_1=before, row_2=after), {})
    gain = np.mean(after) - np.mean(before)
    error = np.hypot(*(np.std(v, ddof=1) / 3**0.5 for v in (before, after)))
    assert f"| 1 to 2 | target: pixels to CLIP | {gain:+.1f} ± {error:.1f} | +0.9 |" in table


def test_a_difference_below_two_standard_errors_is_called_noise():
    table = write_table(results(row_7=[30.0, 34.0], row_8=[31.0, 35.0]), {})
    assert "+1.0 ± 2.8, within noise" in table


@pytest.mark.parametrize(
    "tops, verdict",
    [
        ((1, 2, 3, 4), "order 1 < 2 < 7 < 8 reappeared."),
        ((1, 2, 4, 3), "did not reappear: not 7 < 8."),
        ((2, 1, 4, 3), "did not reappear: not 1 < 2 and not 7 < 8."),
    ],
)
def test_the_table_says_which_part_of_the_order_reappeared(tops, verdict):
    values = {f"row_{row}": [float(top)] for row, top in zip((1, 2, 7, 8), tops, strict=True)}
    assert verdict in write_table(results(**values), {})


def test_nothing_is_said_of_the_order_before_all_four_rows_are_there():
    table = write_table(results(row_1=[1.0], row_2=[2.0], row_7=[3.0]), {})
    assert "reappear" not in table
