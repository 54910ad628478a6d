"""The teacher of photographs: a CLIP that learns from class names, the same for the same seed."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torchvision.transforms.functional import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    rgb_to_grayscale,
)

from milan_mm.errors import UserError
from milan_mm.photographs.arms import CAPTIONS, SHUFFLED, VIEWS
from milan_mm.photographs.captions import TEMPLATES, tokens_of, words_of
from milan_mm.photographs.cells import TeacherCell
from milan_mm.photographs.data import read_classes
from milan_mm.photographs.measures import evaluate
from milan_mm.photographs.models import CLIP, create, encode_texts, load, load_teacher
from milan_mm.photographs.pixels import (
    change_colours,
    random_colours,
    random_views,
    read_split,
)
from milan_mm.photographs.teacher import train_teacher
from milan_mm.photographs.training import Stage, groups, shuffle
from milan_mm.photographs.views import LEAST_AREA, batches, train_on_views
from milan_mm.pretrain.clip_training import normalise, save_clip, standardise
from milan_mm.weights.storing import save_tensors
from tests.helpers import randomise

# By role: a name and a colour of each class. BGR, since OpenCV writes the images.
CLASSES = dict(
    teacher={"sky": (250, 160, 90), "leaf, foliage": (40, 160, 60), "brick": (40, 50, 180)},
    student={"sand": (140, 190, 220), "night": (40, 20, 10)},
)
STAGES = (Stage(0.5, 12, 12, 2e-3, 3), Stage(0.0, 12, 4, 1e-3, 1))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of one colour and noise, not all of 64 px."""
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    lines = ["folder\tname\trole"]
    for role, classes in CLASSES.items():
        for number, (name, colour) in enumerate(classes.items()):
            lines.append(f"{role[0]}{number}\t{name}\t{role}")
            for split, count in (("train", 8), ("val", 4)):
                folder = root / role / split / f"{role[0]}{number}"
                folder.mkdir(parents=True)
                for i in range(count):
                    image = np.array(colour) + rng.normal(0, 20, (64, 64 + 16 * (i % 2), 3))
                    cv2.imwrite(str(folder / f"{i}.jpg"), image.clip(0, 255).astype(np.uint8))
    (root / "classes.tsv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def trained(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("out")
    for file, name in dict(a=CAPTIONS, again=CAPTIONS, control=SHUFFLED, views=VIEWS).items():
        train_teacher(photographs, out / f"{file}.safetensors", name, 0, STAGES)
    train_teacher(photographs, out / "views again.safetensors", VIEWS, 0, STAGES)
    return {path.stem: path for path in out.iterdir()}


def test_a_seed_gives_the_same_weights_again_and_the_controls_others(trained):
    stated = {}
    for name, path in trained.items():
        with safe_open(path, "pt") as file:
            stated[name] = file.metadata()
        assert float(stated[name].pop("processor_seconds")) > 0
    assert stated["a"] == stated["again"]  # sha256 of all tensors, and the numbers
    assert stated["views"] == stated["views again"]
    assert len({facts["sha256"] for facts in stated.values()}) == 3


def test_the_teacher_of_images_alone_has_seen_no_caption(trained, photographs):
    """Its text tower is as it was drawn, and it has no zero-shot accuracy."""
    torch.manual_seed(0)
    drawn, learnt = create().state_dict(), load(trained["views"]).state_dict()
    changed = {name for name in drawn if not torch.equal(drawn[name].half(), learnt[name].half())}
    assert {"visual.proj", "visual.class_embedding", "visual.conv1.weight"} <= changed
    assert all(name.startswith("visual.") for name in changed)
    numbers = evaluate(trained["views"], photographs)
    assert {name.split("_")[0] for name in numbers} == {"knn", "chance"}
    assert numbers["knn_teacher_classes"] == 1
    with safe_open(trained["views"], "pt") as file:
        assert file.metadata()["captions"] == "none"
        assert "DATA --no-captions --seed 0" in file.metadata()["command"]


def test_what_a_teacher_took_is_known_after_an_interruption_while_it_was_measured(
    photographs, tmp_path, monkeypatch
):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "captions.safetensors"
    cell = TeacherCell(CAPTIONS, 0, "teacher", photographs, file, tmp_path / "captions")
    assert cell.job
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("milan_mm.photographs.teacher.evaluate", interrupted)
        train_teacher(photographs, file, stages=STAGES[1:])
    resumed = TeacherCell(CAPTIONS, 0, "teacher", photographs, file, cell.folder)
    assert resumed.job is None
    rows = resumed.rows()
    assert [row["metric"] for row in rows] == [
        f"{measure}_{role}_classes" for role in CLASSES for measure in ("zero_shot", "knn")
    ]
    assert all(row["processor_seconds"] > 0 for row in rows)
    elsewhere = TeacherCell(CAPTIONS, 0, "teacher", photographs, file, tmp_path / "other/captions")
    assert "processor_seconds" not in elsewhere.rows()[0]


def test_the_two_views_of_an_image_are_what_the_teacher_of_images_alone_puts_together():
    """Trained on noise, which has no classes, it finds the other view of an image among others."""
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8)
    images = images.repeat(8, 1).repeat(8, 2)
    found = []
    for steps in (1, 40):
        model = train_on_views(images, 0, (Stage(0.0, 16, steps, 2e-3, 0),))
        rng = np.random.default_rng(1)
        right = []
        with torch.no_grad():
            for _ in range(4):
                first, second = (model.encode_image(view_of(images, rng), True) for _ in range(2))
                right.append((first @ second.T).argmax(1) == torch.arange(16))
        found.append(torch.cat(right).float().mean().item())
    assert found[1] > 1.3 * found[0]


def view_of(images: np.ndarray, rng: np.random.Generator) -> Tensor:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return standardise(random_colours(random_views(pixels, LEAST_AREA, rng), rng))


def test_the_teacher_learns_the_names_of_its_classes_and_says_where_it_comes_from(
    trained, photographs
):
    with safe_open(trained["a"], "pt") as file:
        stated = file.metadata()
    numbers = json.loads(stated["evaluation"])
    assert numbers == {k: round(v, 4) for k, v in evaluate(trained["a"], photographs).items()}
    assert numbers["zero_shot_teacher_classes"] == numbers["knn_teacher_classes"] == 1
    assert numbers["chance_student_classes"] == 0.5
    assert (stated["model"], stated["seed"], stated["captions"]) == (CLIP, "0", "class names")
    assert json.loads(stated["classes"]) == read_classes(photographs).teacher
    assert stated["command"] == "tools/train_photographs_clip.py DATA --seed 0 --threads 1"
    with safe_open(trained["control"], "pt") as file:
        assert file.metadata()["captions"] == "shuffled"
        assert "DATA --shuffled --seed 0" in file.metadata()["command"]


@pytest.mark.parametrize("name", ["a", "views"])
def test_milan_takes_the_file_as_a_teacher(name, trained, photographs):
    images, _ = read_split(photographs / "student/val", read_classes(photographs).student, 64)
    pixels = normalise(images)
    with torch.no_grad():
        features, importance = load_teacher(trained[name])(pixels)
        expected = load(trained[name]).encode_image(pixels)
    assert features.shape == (8, 65, 128) and importance.shape == (8, 64)
    assert importance.min() > 0 and importance.std(1).min() > 0  # attention of the class token
    torch.testing.assert_close(features[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_the_control_has_the_same_captions_on_other_images():
    labels = np.repeat(np.arange(5), 20)
    shuffled = shuffle(labels, seed=0)
    assert np.array_equal(np.sort(shuffled), labels)
    assert (shuffled == labels).mean() < 0.4
    assert np.array_equal(shuffled, shuffle(labels, seed=0))


def test_no_group_has_two_images_of_a_class_and_no_image_comes_again_before_all_have_been():
    labels = np.array([0, 1, 2] * 4)
    drawn = groups(labels, 3, np.random.default_rng(0))
    first = np.array([next(drawn) for _ in range(4)])
    assert all(set(labels[group]) == {0, 1, 2} for group in first)
    assert sorted(first.flatten()) == list(range(12))
    assert len(set(labels[next(groups(labels, 2, np.random.default_rng(0)))])) == 2


def test_captions_are_encoded_as_open_clip_does_in_any_language():
    model = randomise(create()).eval()
    captions = [template.format(word) for template in TEMPLATES for word in ("fly", "ウサギ")]
    with torch.no_grad():
        expected = model.encode_text(tokens_of(captions), normalize=True)
        torch.testing.assert_close(encode_texts(model, captions), expected, rtol=1e-4, atol=1e-5)
    assert tokens_of(captions).unique(dim=0).shape == (len(captions), 24)
    assert words_of(dict(a="fly,  insect", b="moth")) == ["fly", "moth"]
    with pytest.raises(UserError, match=r"class 'b' .* 26 tokens, the limit is 24"):
        words_of(dict(a="fly", b="x " * 18))


def test_views_are_crops_of_the_images_and_mirrored_ones():
    ramp = torch.linspace(0, 1, 8).expand(40, 3, 8, 8).contiguous()
    whole = random_views(ramp, 1.0, np.random.default_rng(0))
    same = [is_close(view, ramp[0]) for view in whole]
    turned = [is_close(view, ramp[0].flip(2)) for view in whole]
    assert all(a != b for a, b in zip(same, turned, strict=True))
    assert 5 < sum(same) < 35
    parts = random_views(ramp, 0.25, np.random.default_rng(0))
    spread = parts.amax((1, 2, 3)) - parts.amin((1, 2, 3))
    assert spread.min() > 0.4 and spread.max() < 1 and parts.min() >= 0 and parts.max() <= 1


def test_colours_change_as_torchvision_changes_them():
    pixels = torch.rand(4, 3, 8, 8) * 0.4 + 0.3
    one, none = torch.ones(4, 1, 1), torch.zeros(4, 1, 1)
    for place, theirs in enumerate((adjust_brightness, adjust_contrast, adjust_saturation)):
        for factor in (0.7, 1.3):
            factors = [one, one, one, none]
            factors[place] = factor * one
            torch.testing.assert_close(
                change_colours(pixels, *factors), theirs(pixels, factor), rtol=0, atol=2e-3
            )
    grey = change_colours(pixels, one, one, none, none)
    torch.testing.assert_close(grey, rgb_to_grayscale(pixels, 3), rtol=0, atol=1e-3)
    third = change_colours(pixels, one, one, one, 2 * torch.pi / 3 * one)
    torch.testing.assert_close(third, adjust_hue(pixels, 1 / 3), rtol=0, atol=1e-3)


def test_each_image_has_colours_of_its_own_and_a_fifth_are_grey():
    pixels = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    views = random_colours(pixels.expand(500, -1, -1, -1), np.random.default_rng(0))
    assert views.min() == 0 and views.max() == 1 and len(views.unique(dim=0)) == 500
    is_grey = (views.amax(1) - views.amin(1)).amax((1, 2)) < 1e-5
    assert 0.15 < is_grey.float().mean() < 0.25


def test_no_image_comes_again_before_all_have_been():
    drawn = batches(10, 4, np.random.default_rng(0))
    numbers = np.concatenate([next(drawn) for _ in range(5)])
    assert sorted(numbers[:10]) == sorted(numbers[10:]) == list(range(10))


def test_no_image_is_twice_in_a_batch_where_it_would_be_a_rival_of_itself():
    drawn = batches(10, 7, np.random.default_rng(0))
    assert all(len({*next(drawn)}) == 7 for _ in range(20))


def is_close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-5)


def test_images_are_read_as_rgb_and_a_damaged_one_is_named(photographs, tmp_path):
    images, labels = read_split(
        photographs / "teacher/train", read_classes(photographs).teacher, 64
    )
    assert images.shape == (24, 64, 64, 3) and labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    np.testing.assert_allclose(images[:8].mean((0, 1, 2)), (90, 160, 250), atol=8)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/bad.jpg").write_bytes(b"\xff\xd8 cut")
    with pytest.raises(UserError, match=r"a/bad\.jpg' cannot be read: "):
        read_split(tmp_path, dict(a="a"), 64)


def test_a_file_of_another_size_is_refused_in_one_line(tmp_path):
    model = create()
    tensors = dict(model.state_dict())
    tensors["visual.proj"] = tensors["visual.proj"][:, :64].contiguous()
    save_tensors(tmp_path / "other.safetensors", tensors, {})
    with pytest.raises(UserError, match=r"not a photos-clip: 'visual\.proj' is \(\d+, 64\)"):
        load(tmp_path / "other.safetensors")
    save_clip(model, CLIP, tmp_path / "same.safetensors", "command")
    load(tmp_path / "same.safetensors")
