"""What every teacher is: frozen, hidden, shown the right statistics and the right size."""

import pytest
import torch
from torch import Tensor, nn

from milan_mm.pretrain.teacher import HiddenTeacher
from milan_mm.pretrain.teacher_clip import CLIPTeacher
from milan_mm.registry import MODELS
from tests.helpers import STATS, saved_clip, teacher_settings

CLIP_STATS = dict(
    mean=[122.7709, 116.7460, 104.0937], std=[68.5005, 66.6323, 70.3232]
)  # RGB, 0-255


def test_teacher_has_no_gradient():
    head = HiddenTeacher(CLIPTeacher(**teacher_settings()))
    imgs = torch.randn(1, 3, 96, 96, requires_grad=True)
    features, importance = head(imgs)
    assert not features.requires_grad
    assert not importance.requires_grad
    assert not any(p.requires_grad for p in head.module.parameters())


def test_teacher_stays_in_eval_mode_after_train():
    model = nn.Sequential(HiddenTeacher(CLIPTeacher(**teacher_settings())))
    model.train()
    assert not any(module.training for module in model[0].module.modules())


def test_teacher_is_absent_from_parameters_buffers_and_checkpoints():
    model = nn.Sequential(HiddenTeacher(CLIPTeacher(**teacher_settings())), nn.Linear(2, 2))
    assert list(model.state_dict()) == ["1.weight", "1.bias"]
    assert [name for name, _ in model.named_parameters()] == ["1.weight", "1.bias"]
    assert not list(model.buffers())


def test_teacher_follows_the_model_to_a_dtype_and_a_device():
    model = nn.Sequential(HiddenTeacher(CLIPTeacher(**teacher_settings(stats=CLIP_STATS))))
    model.double()
    tensors = [*model[0].module.parameters(), *model[0].module.buffers()]
    assert {t.dtype for t in tensors} == {torch.float64}
    assert model[0](torch.randn(1, 3, 96, 96, dtype=torch.float64))[0].dtype == torch.float64
    model.to("meta")
    assert all(p.is_meta for p in model[0].module.parameters())


def test_other_statistics_equal_normalising_the_raw_image_with_them(tmp_path):
    _, file = saved_clip("shapes-clip", tmp_path)
    raw = torch.rand(2, 3, 96, 96, dtype=torch.float64) * 255

    def normalise(stats: dict) -> Tensor:
        mean, std = (torch.tensor(stats[key]).view(3, 1, 1) for key in ("mean", "std"))
        return (raw - mean) / std

    adapted = HiddenTeacher(CLIPTeacher(**teacher_settings(file, stats=CLIP_STATS))).double()
    native_settings = teacher_settings(file, input_stats=CLIP_STATS, stats=CLIP_STATS)
    native = HiddenTeacher(CLIPTeacher(**native_settings)).double()
    out, importance = adapted(normalise(STATS))
    expected, expected_importance = native(normalise(CLIP_STATS))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(importance, expected_importance, rtol=1e-4, atol=1e-4)
    same_again, _ = native(normalise(STATS))
    assert (same_again - expected).abs().max() > 1e-2  # the statistics do matter


@pytest.mark.parametrize("stats", [STATS, CLIP_STATS])
@pytest.mark.parametrize(
    ("kind", "model_name"), [("CLIP", "shapes-clip"), ("Timm", "vit_shapes_patch8_96")]
)
def test_importance_alone_is_that_of_the_whole_answer_without_the_last_block(
    kind, model_name, stats
):
    settings = teacher_settings("shipped", model_name=model_name, stats=stats)
    if kind == "Timm":
        settings["projection_dims"] = 128
    teacher = HiddenTeacher(MODELS.build(dict(type=f"milan_mm.{kind}Teacher", **settings)))
    visual = teacher.module.visual
    last = visual.blocks[-1] if kind == "Timm" else visual.transformer.resblocks[-1]
    imgs = torch.randn(2, 3, 96, 96)
    _, expected = teacher(imgs)
    calls = []
    last.register_forward_hook(lambda *args: calls.append(1))
    assert torch.equal(teacher.importance(imgs), expected)
    assert not calls
    teacher(imgs)
    assert calls


def test_cpus_take_some_images_at_a_time_with_the_same_answers(monkeypatch):
    teacher = HiddenTeacher(CLIPTeacher(**teacher_settings("shipped")))
    imgs = torch.randn(5, 3, 96, 96)
    expected = teacher(imgs)
    sizes = []
    teacher.module.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    monkeypatch.setattr("milan_mm.pretrain.teacher.IMAGES_PER_THREAD", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    answers = [*teacher(imgs), teacher.importance(imgs)]
    for ours, reference in zip(answers, [*expected, expected[1]], strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5)
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize(
    ("kind", "model_name"), [("CLIP", "shapes-clip"), ("Timm", "vit_shapes_patch8_96")]
)
def test_under_autocast_matrices_are_rounded_once_and_results_stay_bit_for_bit(kind, model_name):
    settings = teacher_settings("shipped", model_name=model_name, stats=CLIP_STATS)
    if kind == "Timm":
        settings["projection_dims"] = 128
    module = MODELS.build(dict(type=f"milan_mm.{kind}Teacher", **settings)).eval()
    imgs = torch.randn(2, 3, 96, 96)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = module(imgs)
    before = sum(p.nbytes for p in module.parameters())
    teacher = HiddenTeacher(module)
    with torch.autocast("cpu", torch.bfloat16):
        answers = [teacher(imgs), teacher(imgs)]
    answers.append(teacher(imgs))  # it stays in that precision
    for features, importance in answers:
        assert torch.equal(features, expected[0])
        assert torch.equal(importance, expected[1])
    assert torch.equal(teacher.importance(imgs), expected[1])
    assert sum(p.nbytes for p in module.parameters()) < 0.56 * before
