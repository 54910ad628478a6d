"""What every teacher is: frozen, hidden, shown the right statistics and the right size."""

import torch
from torch import Tensor, nn

from milan_mm.pretrain.teacher import HiddenTeacher
from milan_mm.pretrain.teacher_clip import CLIPTeacher
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
