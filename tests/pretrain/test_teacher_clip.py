"""CLIP as a teacher: explicit features and attention, and strictness about weights."""

import gc
import json

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from milan_mm.pretrain.teacher import HiddenTeacher
from milan_mm.pretrain.teacher_clip import CLIPTeacher
from tests.helpers import save_state, saved_clip, teacher_settings


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


def test_teacher_of_another_grid_looks_at_resized_images(tmp_path):
    _, file = saved_clip("shapes-clip", tmp_path)
    teacher = HiddenTeacher(CLIPTeacher(**teacher_settings(file, grid_size=(6, 6))))
    imgs = torch.randn(2, 3, 96, 96)
    features, importance = teacher(imgs)
    assert importance.shape == (2, 36)
    clip = open_clip.create_model("shapes-clip", pretrained=file, force_image_size=48).eval()
    small = F.interpolate(imgs, (48, 48), mode="bicubic", antialias=True)
    torch.testing.assert_close(features[:, 0], clip.encode_image(small), rtol=1e-4, atol=1e-5)


def test_target_of_several_layers_is_their_mean(tmp_path):
    _, file = saved_clip("shapes-clip", tmp_path)
    imgs = torch.randn(2, 3, 96, 96)
    teacher = HiddenTeacher(CLIPTeacher(**teacher_settings(file, num_target_layers=3)))
    visual, outputs = teacher.module.visual, []
    for block in visual.transformer.resblocks:
        block.register_forward_hook(lambda module, args, out: outputs.append(out))
    features, importance = teacher(imgs)
    expected = sum(visual.ln_post(x) @ visual.proj for x in outputs[-3:]) / 3
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    _, alone = HiddenTeacher(CLIPTeacher(**teacher_settings(file)))(imgs)
    assert torch.equal(importance, alone)  # sampling follows the last layer whatever the target


@pytest.mark.parametrize("count", [0, 6])
def test_more_target_layers_than_blocks_are_refused(count):
    with pytest.raises(ValueError, match=f"is {count}, 'shapes-clip' has 5 blocks: choose 1"):
        CLIPTeacher(**teacher_settings(num_target_layers=count))


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


class OpenAIsModule(nn.Module):
    """Tensors under their dotted names, as in the archives of OpenAI's CLIP."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            *path, last = name.split(".")
            owner: nn.Module = self
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner._modules[part]
            owner.register_buffer(last, tensor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", ["archive", "state dict"])
def test_files_of_openai_give_the_features_of_their_weights(tmp_path, quick_name, kind):
    state, plain = saved_clip(quick_name, tmp_path)
    scalars = dict(input_resolution=32, context_length=8, vocab_size=10)
    content = state | {name: torch.tensor(value) for name, value in scalars.items()}
    if kind == "archive":
        file = tmp_path / "ViT-tiny.pt"
        torch.jit.script(OpenAIsModule(content)).save(file)
    else:
        file = save_state(content, tmp_path, "openai.pth")
    imgs = torch.randn(1, 3, 32, 32)
    expected, _ = CLIPTeacher(**teacher_settings(plain, model_name=quick_name)).eval()(imgs)
    features, _ = CLIPTeacher(**teacher_settings(str(file), model_name=quick_name)).eval()(imgs)
    torch.testing.assert_close(features, expected)


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
def test_other_scripted_archives_are_refused_with_a_remedy(tmp_path):
    file = tmp_path / "linear.pt"
    torch.jit.script(nn.Linear(2, 2)).save(file)
    with pytest.raises(ValueError, match=r"TorchScript.*save its state_dict"):
        CLIPTeacher(**teacher_settings(str(file)))
