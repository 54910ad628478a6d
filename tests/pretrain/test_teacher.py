"""What every teacher is: frozen, hidden, shown the right statistics and the right size."""

import pytest
import torch
from torch import Tensor, nn

from milan_mm.pretrain.teacher import HiddenTeacher
from milan_mm.registry import MODELS
from tests.helpers import STATS, teacher_settings

CLIP_STATS = dict(
    mean=[122.7709, 116.7460, 104.0937], std=[68.5005, 66.6323, 70.3232]
)  # RGB, 0-255
KINDS = {
    "CLIP": dict(type="milan_mm.CLIPTeacher"),
    "SLIP": dict(
        type="milan_mm.TimmTeacher", model_name="vit_shapes_patch8_96", projection_dims=128
    ),
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def build(kind: str = "CLIP", **settings) -> nn.Module:
    """One of the shipped teachers."""
    return MODELS.build(teacher_settings("shipped", **KINDS[kind], **settings)).eval()


def hidden(*args, **settings) -> HiddenTeacher:
    return HiddenTeacher(build(*args, **settings))


def test_teacher_has_no_gradient():
    teacher = hidden()
    imgs = torch.randn(1, 3, 96, 96, requires_grad=True)
    features, importance = teacher(imgs)
    assert not features.requires_grad
    assert not importance.requires_grad
    assert not any(p.requires_grad for p in teacher.module.parameters())


def test_teacher_stays_in_eval_mode_after_train():
    model = nn.Sequential(hidden())
    model.train()
    assert not any(module.training for module in model[0].module.modules())


def test_teacher_is_absent_from_parameters_buffers_and_checkpoints():
    model = nn.Sequential(hidden(), nn.Linear(2, 2))
    assert list(model.state_dict()) == ["1.weight", "1.bias"]
    assert [name for name, _ in model.named_parameters()] == ["1.weight", "1.bias"]
    assert not list(model.buffers())


@every_kind
def test_teacher_follows_the_model_to_a_dtype_and_a_device(kind):
    model = nn.Sequential(hidden(kind, stats=CLIP_STATS))
    model.double()
    tensors = [*model[0].module.parameters(), *model[0].module.buffers()]
    assert {t.dtype for t in tensors} == {torch.float64}
    assert model[0](torch.randn(1, 3, 96, 96, dtype=torch.float64))[0].dtype == torch.float64
    model.to("meta")
    assert all(p.is_meta for p in model[0].module.parameters())


def test_other_statistics_equal_normalising_the_raw_image_with_them():
    raw = torch.rand(2, 3, 96, 96, dtype=torch.float64) * 255

    def normalise(stats: dict) -> Tensor:
        mean, std = (torch.tensor(stats[key]).view(3, 1, 1) for key in ("mean", "std"))
        return (raw - mean) / std

    adapted = hidden(stats=CLIP_STATS).double()
    native = hidden(input_stats=CLIP_STATS, stats=CLIP_STATS).double()
    out, importance = adapted(normalise(STATS))
    expected, expected_importance = native(normalise(CLIP_STATS))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(importance, expected_importance, rtol=1e-4, atol=1e-4)
    same_again, _ = native(normalise(STATS))
    assert (same_again - expected).abs().max() > 1e-2  # the statistics do matter


@pytest.mark.parametrize("stats", [STATS, CLIP_STATS])
def test_importance_alone_is_that_of_the_whole_answer_without_the_last_block(stats):
    teacher = hidden(stats=stats)
    imgs = torch.randn(2, 3, 96, 96)
    _, expected = teacher(imgs)
    calls = []
    teacher.module.vit.layers[-1].register_forward_hook(lambda *args: calls.append(1))
    assert torch.equal(teacher.importance(imgs), expected)
    assert not calls
    teacher(imgs)
    assert calls


def test_target_of_several_layers_is_their_mean():
    teacher, outputs = hidden(num_target_layers=3), []
    vit = teacher.module.vit
    for block in vit.layers:
        block.register_forward_hook(lambda module, args, out: outputs.append(out))
    imgs = torch.randn(2, 3, 96, 96)
    features, importance = teacher(imgs)
    expected = sum(teacher.module.projection(vit.ln1(x)) for x in outputs[-3:]) / 3
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    _, alone = hidden()(imgs)
    assert torch.equal(importance, alone)  # sampling follows the last layer whatever the target


@every_kind
@pytest.mark.parametrize("count", [0, 6])
def test_more_target_layers_than_blocks_are_refused(kind, count):
    with pytest.raises(ValueError, match=f"is {count}, '.*' has 5 blocks: choose 1"):
        build(kind, num_target_layers=count)


def test_cpus_take_some_images_at_a_time_with_the_same_answers(monkeypatch):
    teacher = hidden()
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


def test_under_autocast_matrices_are_rounded_once_and_results_stay_bit_for_bit():
    module = build(stats=CLIP_STATS)
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


@every_kind
def test_a_teacher_is_built_without_memory(kind):
    with torch.device("meta"):
        teacher = MODELS.build(teacher_settings("random", **KINDS[kind]))
    assert teacher.target_dims == 128
    assert all(p.is_meta for p in teacher.parameters())
