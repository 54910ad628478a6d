"""No tensor of an encoder is lost, misspelt or misshapen without an error that names it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from milan_mm.weights.loading import load_encoder
from milan_mm.weights.recognising import recognise
from tests.helpers import tiny_vit
from tests.weights.samples import OF_LAYOUTS
from tests.weights.zoo import HEADS, SYSTEMS, Sample, State, noise, prefixed, state_of, timm_vit

# One system for each layout, and those whose files lack what others have.
LOOPED = (
    *OF_LAYOUTS,
    "finetuned_mae",
    "maskfeat",
    "deit_distilled",
    "timm_clip",
    "beit_finetuned",
    "cae",
    "open_clip",
    "mmpretrain_layer_scale",
    "siglip",
    "ijepa",
    "pe_timm",
    "eva02_small",
    "eva02_clip",
    "dinov2_giant",
    "dinov3_plus",
    "dinov3_timm_plus",
)


@pytest.fixture(params=LOOPED)
def sample(request, tmp_path: Path) -> Sample:
    return SYSTEMS[request.param](tmp_path)


def encoder_names(sample: Sample) -> list[str]:
    """All tensors of the encoder but the last blocks', which are spelt like the others."""
    names = [name for name in state_of(sample) if name not in sample.extras]
    last = r"(layers?|layer|blocks|encoderblock)[._]2[./]"
    return [name for name in names if not re.search(last, name)]


def refuse(sample: Sample, state: State, name: str) -> None:
    """Read a changed copy of the file: the error must name the tensor."""
    content = sample.content
    wrapped = [key for key, value in content.items() if value is state_of(sample)]
    content = content | {wrapped[0]: state} if wrapped else state
    with pytest.raises(ValueError, match=re.escape(name)):
        recognise(content, "a.pth", num_heads=HEADS)


def test_a_missing_tensor_is_refused_by_name(sample: Sample):
    state = state_of(sample)
    for name in encoder_names(sample):
        refuse(sample, {n: t for n, t in state.items() if n != name}, name)


def test_a_renamed_tensor_is_refused_by_name(sample: Sample):
    state = state_of(sample)
    for name in encoder_names(sample):
        refuse(sample, {n + "_v2" if n == name else n: t for n, t in state.items()}, name)


def test_a_tensor_of_another_shape_is_refused_by_name(sample: Sample):
    state = state_of(sample)
    for name in encoder_names(sample):
        refuse(sample, state | {name: torch.cat([state[name]] * 2, dim=-1)}, name)
        refuse(sample, state | {name: state[name][None]}, name)


def test_numbers_that_are_none_are_refused_by_name(sample: Sample):
    state = state_of(sample)
    for name in encoder_names(sample)[::5]:
        refuse(sample, state | {name: torch.full_like(state[name], float("nan"))}, name)
        refuse(sample, state | {name: state[name].long()}, name)
        refuse(sample, state | {name: "text"}, name)
        refuse(sample, state | {name: state[name].to_sparse()}, name)
        refuse(sample, state | {name: state[name].to("meta")}, name)


def test_an_unknown_tensor_is_refused_by_name(sample: Sample):
    refuse(sample, state_of(sample) | {"surprise.weight": noise(2)}, "surprise.weight")


@pytest.mark.parametrize("system", ["mae", "dino_backbone", "deit_distilled", "slip", "dinov2"])
def test_a_row_less_in_the_position_table_is_refused(system: str):
    sample = SYSTEMS[system](Path())
    state = state_of(sample)
    (name,) = (n for n in state if n.endswith("pos_embed") and "decoder" not in n)
    refuse(sample, state | {name: state[name][:, :-1]}, "pos_embed")


@pytest.mark.parametrize("system", ["deit_iii", "dinov2_timm"])
def test_a_class_token_without_a_position_is_missed_too(system: str):
    sample = SYSTEMS[system](Path())
    refuse(sample, {n: t for n, t in state_of(sample).items() if n != "cls_token"}, "cls_token")


@pytest.mark.parametrize("system", ["dinov3", "dinov3_timm", "hf_dinov3"])
def test_another_number_of_registers_is_refused(system: str):
    sample = SYSTEMS[system](Path())
    state = state_of(sample)
    (name,) = (n for n in state if n.endswith(("reg_token", "storage_tokens", "register_tokens")))
    for changed in (state[name][:, :2], torch.cat([state[name]] * 2, dim=1)):
        refuse(sample, state | {name: changed}, name)


@pytest.mark.parametrize("change", [lambda t: t * 1.1, lambda t: t * 1e300, lambda t: -t])
def test_periods_of_no_rotary_positions_are_refused(change: Callable):
    sample = SYSTEMS["dinov3"](Path())
    state = state_of(sample)
    periods = state["rope_embed.periods"].double()
    refuse(sample, state | {"rope_embed.periods": change(periods)}, "rope_embed.periods")


def test_the_distillation_token_is_missed_by_name():
    sample = SYSTEMS["deit_distilled"](Path())
    state = {n: t for n, t in state_of(sample).items() if n != "dist_token"}
    refuse(sample, state, "dist_token")


@pytest.mark.parametrize(
    ("name", "design"),
    [
        ("blocks.0.mlp.w1.weight", r"a gated MLP \(SwiGLU\)"),
        ("blocks.2.attn.inner_attn_ln.weight", "a norm inside of the attention"),
    ],
)
def test_a_design_of_another_layout_is_refused_with_the_reason(name: str, design: str):
    state = timm_vit().state_dict() | {name: noise(2)}
    with pytest.raises(ValueError, match=rf"'{name}': {design}.*ViT-B"):
        recognise(state, "a.pth")


@pytest.mark.parametrize("name", ["pos_embed", "embedder.weight", "cls_token.token"])
def test_c_radio_in_nvidias_form_is_refused_with_the_reason(name: str):
    state = {f"radio_model.model.patch_generator.{name}": noise(2)}
    with pytest.raises(ValueError, match=r"C-RADIO.*cut out of one table.*timm's form is read"):
        recognise(state, "a.pth")


def test_an_mlp_whose_layers_differ_in_width_is_refused():
    state = timm_vit(mlp_ratio=2).state_dict()
    state["blocks.1.mlp.fc2.weight"] = noise(48, 192)
    with pytest.raises(ValueError, match=r"fc2.weight' is \(48, 192\), the model needs \(48, 96\)"):
        recognise(state, "a.pth", num_heads=HEADS)


def test_gates_without_values_are_refused():
    state = state_of(SYSTEMS["dinov3_timm_plus"](Path()))
    kept = {n: t for n, t in state.items() if "mlp.fc1_x" not in n}
    with pytest.raises(ValueError, match=r"missing tensors .*blocks\.0\.mlp\.fc1_x\.weight"):
        recognise(kept, "a.pth", num_heads=HEADS)


def test_two_spellings_of_one_tensor_are_refused():
    state = timm_vit(init_values=0.1).state_dict()
    state["blocks.1.gamma_1"] = noise(48)
    message = "holds both blocks.1.ls1.gamma and blocks.1.gamma_1: keep one"
    with pytest.raises(ValueError, match=message):
        recognise(state, "a.pth")


def test_a_shared_and_an_own_bias_table_are_refused():
    sample = SYSTEMS["beit"](Path())
    state = state_of(sample)
    table = state["rel_pos_bias.relative_position_bias_table"]
    state = state | {"blocks.0.attn.relative_position_bias_table": table}
    with pytest.raises(ValueError, match=r"holds both rel_pos_bias\..*blocks\.0\.attn"):
        recognise(dict(model=state), "a.pth")


# ------------------------------------------------------------------------------ two encoders
def two_encoders() -> State:
    """timm's names and, under another prefix, CLIP's."""
    clip = state_of(SYSTEMS["open_clip"](Path()))
    return timm_vit().state_dict() | {n: t for n, t in clip.items() if "module.visual." in n}


def test_two_layouts_are_refused_until_one_is_chosen():
    message = r"more than one layout, timm \('\*'\) and clip \('module\.visual\.\*'\).*--layout"
    with pytest.raises(ValueError, match=message):
        recognise(two_encoders(), "a.pth")


@pytest.mark.parametrize("layout", ["timm", "clip"])
def test_the_chosen_layout_decides(layout: str):
    encoder = recognise(two_encoders(), "a.pth", layout=layout, num_heads=HEADS)
    assert encoder.layout == layout
    assert "another encoder, which was not asked for" in encoder.dropped.values()


def test_an_unknown_layout_is_refused():
    with pytest.raises(ValueError, match="layout 'vit' is unknown: choose from timm, beit"):
        recognise(timm_vit().state_dict(), "a.pth", layout="vit")


def test_a_layout_that_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"for layout beit it is missing 'blocks\.0\.attn\.q_bias'"
    ):
        recognise(timm_vit().state_dict(), "a.pth", layout="beit")


def test_two_towers_of_one_layout_are_refused():
    state = timm_vit().state_dict()
    with pytest.raises(ValueError, match=r"more than one layout, timm .* and timm "):
        recognise(state | prefixed(state, "backbone."), "a.pth")


def test_the_teacher_is_taken_unless_the_student_is_asked_for():
    content = SYSTEMS["dino_full"](Path()).content
    for student, prefix in ((False, "backbone."), (True, "module.backbone.")):
        encoder = recognise(content, "a.pth", student=student, num_heads=HEADS)
        expected = content["student" if student else "teacher"][f"{prefix}cls_token"]
        assert torch.equal(encoder.state_dict["cls_token"], expected)


def test_a_student_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="holds no entry 'student'"):
        recognise(timm_vit().state_dict(), "a.pth", student=True)


# ----------------------------------------------------------------------------------- heads
def test_moco_v3s_small_vit_has_twice_the_heads():
    sizes = dict(embed_dim=384, depth=12, num_heads=12, img_size=224, patch_size=16)
    state = prefixed(timm_vit(**sizes).state_dict(), "module.base_encoder.")
    encoder = recognise(dict(state_dict=state), "a.pth")
    assert encoder.settings["arch"]["num_heads"] == 12
    assert "the tensors do not show" in encoder.assumed["num_heads"]


def test_heads_that_contradict_the_file_are_refused():
    with pytest.raises(ValueError, match="says 4 and --num-heads says 6 attention heads"):
        recognise(SYSTEMS["beit"](Path()).content, "a.pth", num_heads=6)


# --------------------------------------------------------------------- options of the model
@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("beit", r"layer_scale=0\.1.*rel_pos_bias_grid=\(4, 4\)"),
        ("open_clip", r"norm_eps=1e-05.*patch_bias=False, pre_norm=True"),
        ("openai_clip", "act='QuickGELU'"),
        ("dinov2", "num_registers=2"),
        ("dinov3", r"with_pos_embed=False.*rope_base=100\.0"),
    ],
)
def test_a_model_without_an_option_that_the_file_needs_is_refused(name: str, option: str):
    encoder = recognise(SYSTEMS[name](Path()).content, "a.pth", num_heads=HEADS)
    with pytest.raises(ValueError, match=rf"a\.pth needs a model\.backbone with .*{option}"):
        load_encoder(tiny_vit(), encoder)


def test_a_model_with_other_heads_than_the_file_is_refused():
    encoder = recognise(SYSTEMS["mae"](Path()).content, "a.pth", num_heads=6)
    with pytest.raises(ValueError, match=r"has 6 attention heads, this model\.backbone 4: set"):
        load_encoder(tiny_vit(), encoder)
