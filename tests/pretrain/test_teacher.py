"""The frozen teacher: frozen, hidden, and strict about weights. Its numbers: test_parity.py."""

import gc
import json

import open_clip
import pytest
import torch
from torch import Tensor, nn

from milan_mm.pretrain.teacher import CLIPTeacher, HiddenTeacher
from tests.helpers import STATS, randomise, save_state, teacher_settings

CLIP_STATS = dict(
    mean=[122.7709, 116.7460, 104.0937], std=[68.5005, 66.6323, 70.3232]
)  # RGB, 0-255


@pytest.fixture(scope="module")
def quick_name(tmp_path_factory) -> str:
    """A tiny architecture with QuickGELU, known to open_clip by the returned name."""
    config = dict(
        embed_dim=24,
        quick_gelu=True,
        vision_cfg=dict(image_size=32, patch_size=8, layers=2, width=32, head_width=8),
        text_cfg=dict(context_length=8, vocab_size=10, width=16, heads=2, layers=1),
    )
    folder = tmp_path_factory.mktemp("open_clip")
    (folder / "test-tiny-quickgelu.json").write_text(json.dumps(config))
    (folder / "test-tiny.json").write_text(json.dumps(config | dict(quick_gelu=False)))
    open_clip.add_model_config(folder)
    return "test-tiny-quickgelu"


def saved_clip(name: str, folder) -> tuple[dict[str, Tensor], str]:
    """Random weights of an architecture, as a state dict and as a file."""
    state = randomise(open_clip.create_model(name)).state_dict()
    # sharper attention than at initialisation, so that the importance differs between patches
    state = {n: t * 4 if n.endswith("in_proj_weight") else t for n, t in state.items()}
    return state, str(save_state(state, folder))


def test_class_feature_equals_what_open_clip_calls_the_image_feature(tmp_path):
    clip = open_clip.create_model("shapes-clip").eval()
    file = save_state(clip.state_dict(), tmp_path)
    imgs = torch.randn(2, 3, 96, 96)
    features, _ = HiddenTeacher(CLIPTeacher(**teacher_settings(str(file))))(imgs)
    torch.testing.assert_close(features[:, 0], clip.encode_image(imgs), rtol=1e-5, atol=1e-5)


def test_shipped_weights_load():
    teacher = CLIPTeacher(**teacher_settings("shipped"))
    assert (teacher.grid_size, teacher.target_dims) == ((12, 12), 128)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # from looking at every object
def test_text_tower_is_gone():
    def text_towers() -> int:
        return sum(
            isinstance(o, nn.Module) and hasattr(o, "token_embedding") for o in gc.get_objects()
        )

    gc.collect()
    before = text_towers()
    teacher = CLIPTeacher(**teacher_settings())
    assert text_towers() == before
    assert {name.split(".")[0] for name, _ in teacher.named_parameters()} == {"visual"}


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


def test_image_size_changes_the_grid(tmp_path, quick_name):
    teacher = CLIPTeacher(**teacher_settings(model_name=quick_name, image_size=48))
    assert teacher.grid_size == (6, 6)


def test_openai_weights_in_a_gelu_tower_are_refused_without_a_download():
    with pytest.raises(
        ValueError, match=r"QuickGELU.*'ViT-B-16' has GELU: use 'ViT-B-16-quickgelu'"
    ):
        CLIPTeacher(**teacher_settings("openai", model_name="ViT-B-16"))


def test_gelu_weights_in_a_quickgelu_tower_are_refused_without_a_download():
    with pytest.raises(ValueError, match="'laion2b_s34b_b88k' is not a known tag"):
        CLIPTeacher(**teacher_settings("laion2b_s34b_b88k", model_name="ViT-B-16-quickgelu"))


def test_file_in_the_layout_of_openai_in_a_gelu_tower_is_refused(tmp_path, quick_name):
    state, _ = saved_clip(quick_name, tmp_path)
    scalars = dict(input_resolution=32, context_length=8, vocab_size=10)
    file = save_state(state | {k: torch.tensor(v) for k, v in scalars.items()}, tmp_path)
    with pytest.raises(ValueError, match="has GELU: use 'test-tiny-quickgelu'"):
        CLIPTeacher(**teacher_settings(str(file), model_name="test-tiny"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(pretrained=""), "has no weights: set teacher.pretrained"),
        (dict(pretrained=None), "has no weights: set teacher.pretrained"),
        (dict(pretrained="no-such-tag"), "weights 'no-such-tag'.*could not be loaded"),
        (dict(pretrained="missing/file.pt"), "weights 'missing/file.pt'.*could not be loaded"),
        (dict(model_name="ViT-Z-99"), "teacher 'ViT-Z-99' is no architecture of open_clip"),
        (dict(model_name="RN50"), "teacher 'RN50' has no plain ViT"),
        (dict(pretrained="shipped", model_name="ViT-S-32"), "no weights of ViT-S-32 are shipped"),
    ],
)
def test_unknown_teachers_and_weights_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CLIPTeacher(**teacher_settings(**settings))


def test_damaged_weights_are_refused(tmp_path):
    _, file = saved_clip("shapes-clip", tmp_path)
    data = (tmp_path / "weights.pth").read_bytes()
    (tmp_path / "weights.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"weights\.pth.*(damaged|could not be loaded)"):
        CLIPTeacher(**teacher_settings(file))


def test_weights_of_another_architecture_are_refused(tmp_path, quick_name):
    _, file = saved_clip(quick_name, tmp_path)
    with pytest.raises(ValueError, match="of teacher 'shapes-clip' could not be loaded"):
        CLIPTeacher(**teacher_settings(file))


def test_weights_without_the_image_tower_are_refused(tmp_path):
    state, _ = saved_clip("shapes-clip", tmp_path)
    file = save_state({n: t for n, t in state.items() if "visual" not in n}, tmp_path)
    with pytest.raises(ValueError, match="could not be loaded"):
        CLIPTeacher(**teacher_settings(str(file)))


@pytest.mark.filterwarnings("ignore:.*TorchScript:UserWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_archive_is_refused_with_a_remedy(tmp_path):
    file = tmp_path / "ViT-B-16.pt"
    torch.jit.script(nn.Linear(2, 2)).save(file)
    with pytest.raises(ValueError, match=r"TorchScript.*tag 'openai'"):
        CLIPTeacher(**teacher_settings(str(file)))
