"""Training checkpoints as their authors and users write them: wrappers, prefixes, other entries."""

import pickle
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmpretrain.models import BEiTViT, DeiT3
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn

from milan_mm.models.plain_vit import PlainViT
from milan_mm.weights.loading import load_encoder
from milan_mm.weights.recognising import read_encoder, recognise
from tests.helpers import randomise
from tests.weights import zoo
from tests.weights.zoo import HEADS, D, State, mm_sizes, mm_tokens, noise, prefixed, timm_vit


def assert_features(content: dict, expected: Callable[[Tensor], Tensor], **options) -> None:
    """What is read computes what the source computes."""
    encoder = recognise(content, "a.pth", num_heads=HEADS, **options)
    vit = PlainViT(**encoder.model_settings(), out_type="raw").eval()
    load_encoder(vit, encoder)
    imgs = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(vit(imgs)[0], expected(imgs), rtol=1e-5, atol=1e-5)


# -------------------------------------------------------------------- the systems' own files
def cae_training() -> tuple[State, Callable]:
    sample = zoo.cae()
    neck = {f"pretext_neck.regressors.0.{n}": noise(4) for n in ("gamma_1", "attn.q_bias")}
    return sample.content["model"] | neck | {"pretext_neck.head.weight": noise(5, D)}, sample.tokens


def beit_v2() -> tuple[State, Callable]:
    sample = zoo.beit()
    blocks = {n: t for n, t in sample.content["model"].items() if n.startswith("blocks.0.")}
    layers = {n.replace("blocks.0.", "cls_pt_layers.0."): t for n, t in blocks.items()}
    return sample.content["model"] | layers | {"cls_pt_norm.weight": noise(D)}, sample.tokens


def dinov2_training() -> tuple[State, Callable]:
    """Three chunks of one block, as in a teacher_checkpoint.pth."""
    sample = zoo.dinov2()
    state = zoo.renamed(sample.content, (r"blocks\.(\d+)\.(.*)", r"blocks.\1.\1.\2"))
    return prefixed(state, "backbone.") | {"dino_head.last_layer.weight": noise(3)}, sample.tokens


def mmpretrain_moco_v3() -> tuple[State, Callable]:
    sample = zoo.mmpretrain()
    state = sample.content["state_dict"]
    ema = {n.replace("backbone.", "momentum_encoder.module.0."): t for n, t in state.items()}
    return state | ema | {"momentum_encoder.steps": torch.tensor(3)}, sample.tokens


def mmpretrain_cae() -> tuple[State, Callable]:
    model = randomise(
        BEiTViT(**mm_sizes(), use_abs_pos_emb=True, use_rel_pos_bias=False, final_norm=True)
    )
    state = model.state_dict()
    return prefixed(state, "backbone.") | prefixed(state, "teacher."), mm_tokens(model)


def mmpretrain_deit_iii(trained: bool) -> tuple[State, Callable]:
    """Its class normalises by `ln1` before the MLP too, so `ln2` keeps its initial values."""
    with pytest.warns(UserWarning, match="use_layer_scale"):
        model = randomise(DeiT3(**mm_sizes()))
    state = prefixed(model.state_dict(), "backbone.")
    if not trained:
        second = [n for n in state if ".ln2." in n]
        state |= {n: torch.full_like(state[n], float(n.endswith("weight"))) for n in second}
    return state, mm_tokens(model)


def upernet(model: nn.Module) -> tuple[State, Callable]:
    """As BEiT, MAE and data2vec segment: a pyramid in the backbone, and no final norm."""
    model.norm = nn.Identity()
    heads = {"decode_head.conv_seg.weight": noise(3, D), "auxiliary_head.bias": noise(2)}
    state = prefixed(model.state_dict() | {"fpn1.0.weight": noise(D, D, 2, 2)}, "backbone.")
    return state | heads, model.forward_features


def msn() -> tuple[State, Callable]:
    """Its projection is called `fc`."""
    model = timm_vit()
    head = {"fc.fc1.weight": noise(8, D), "fc.bn1.num_batches_tracked": torch.tensor(3)}
    return prefixed(model.state_dict() | head, "module."), model.forward_features


SOLO_LEARN = (
    "classifier", "projector", "predictor", "momentum_projector", "momentum_classifier", "head",
    "momentum_head", "dino_loss_func",
)  # fmt: skip
LIGHTLY = (
    "teacher_head.dino_head", "student_head.dino_head", "dino_criterion.center", "ibot_loss.center",
    "online_classifier.classification_head", "prediction_head", "decoder", "decoder_embed",
)  # fmt: skip


def solo_learn() -> tuple[State, Callable]:
    """Any of its methods; `main_linear.py` evaluates the `backbone`."""
    model = timm_vit()
    state = prefixed(model.state_dict(), "backbone.")
    state |= prefixed(timm_vit().state_dict(), "momentum_backbone.")
    around = {f"{name}.weight": noise(2) for name in SOLO_LEARN}
    return state | around | {"queue_ptr": torch.zeros(1)}, model.forward_features


def lightly(teacher: str, **settings) -> tuple[State, Callable]:
    """The ViT stands in a module that masks it."""
    model, student = timm_vit(**settings), timm_vit(**settings)
    state = prefixed(model.state_dict(), f"{teacher}.vit.") | {f"{teacher}.mask_token": noise(1)}
    if teacher != "backbone":
        state |= prefixed(student.state_dict(), "student_backbone.vit.")
    return state | {f"{name}.weight": noise(2) for name in LIGHTLY}, model.forward_features


def lightly_train(prefix: str) -> tuple[State, Callable]:
    """An export of the model in its wrapper."""
    model = timm_vit()
    head = {"embed_head.weight": noise(3)} if prefix.startswith("wrapped") else {}
    return prefixed(model.state_dict(), prefix) | head, model.forward_features


def vissl() -> tuple[dict, Callable]:
    model = timm_vit()
    trunk = model.state_dict() | {"patch_masking.masked_embed": noise(1, D)}
    heads = {"0.last_layer.weight": noise(2)}
    return dict(base_model=dict(model=dict(trunk=trunk, heads=heads))), model.forward_features


@pytest.mark.parametrize(
    ("wrapper", "build", "system"),
    [
        ("target_encoder", msn, "MSN"),
        ("state_dict", solo_learn, "solo-learn"),
        ("state_dict", lambda: lightly("backbone"), "lightly"),
        ("state_dict", lambda: lightly("teacher_backbone", reg_tokens=2), "lightly"),
        ("model", lambda: lightly_train("_model."), "timm"),
        ("model", lambda: lightly_train("wrapped_model._model."), "timm"),
        (
            "state_dict",
            lambda: lightly_train("teacher_embedding_model.wrapped_model._model."),
            "timm",
        ),
        ("classy_state_dict", vissl, "VISSL"),
        ("state_dict", lambda: upernet(zoo.timm_beit(use_rel_pos_bias=True)), "finetuned BEiT"),
        ("state_dict", lambda: upernet(timm_vit()), "finetuned ViT"),
        ("model", cae_training, "CAE"),
        ("model", beit_v2, "BEiT v2"),
        ("teacher", dinov2_training, "DINOv2"),
        ("state_dict", mmpretrain_moco_v3, "mmpretrain or milan_mm"),
        ("state_dict", mmpretrain_cae, "CAE"),
        ("state_dict", lambda: mmpretrain_deit_iii(trained=False), "mmpretrain or milan_mm"),
    ],
)
def test_a_training_checkpoint_gives_the_features_of_its_source(
    wrapper: str, build: Callable, system: str
):
    state, tokens = build()
    content = {wrapper: state, "epoch": 3}
    assert recognise(content, "a.pth", num_heads=HEADS).system == system
    assert_features(content, tokens)


@pytest.mark.parametrize(
    ("content", "prefix"),
    [
        (lambda taken, other: dict(target_encoder=other, encoder=taken), "module."),
        (
            lambda taken, other: dict(
                state_dict=prefixed(taken, "student_") | prefixed(other, "teacher_")
            ),
            "backbone.vit.",
        ),
    ],
)
def test_of_two_encoders_the_student_is_taken_on_request(content: Callable, prefix: str):
    student, teacher = timm_vit(), timm_vit()
    states = [prefixed(model.state_dict(), prefix) for model in (student, teacher)]
    both = content(*states)
    assert_features(both, teacher.forward_features)
    assert_features(both, student.forward_features, student=True)


def test_a_trained_second_norm_of_deit_iii_counts():
    """As in files that mmpretrain converted from DeiT III's own."""
    state, _ = mmpretrain_deit_iii(trained=True)
    encoder = recognise(dict(state_dict=state), "a.pth", num_heads=HEADS)
    own = state["backbone.layers.1.ln2.weight"]
    assert torch.equal(encoder.state_dict["layers.1.ln2.weight"], own)


def test_a_simmim_checkpoint_is_read_without_yacs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = ModuleType("yacs.config")

    class CfgNode(dict):
        """As yacs's: a dict with attributes of its own."""

        def __init__(self, content: dict) -> None:
            super().__init__(content)
            self.__dict__.update(__immutable__=True, __deprecated_keys__=set())

    CfgNode.__module__, CfgNode.__qualname__, module.CfgNode = "yacs.config", "CfgNode", CfgNode
    sample = zoo.simmim()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "yacs", ModuleType("yacs"))
        patch.setitem(sys.modules, "yacs.config", module)
        config = CfgNode(dict(MODEL=CfgNode(dict(TYPE="vit")), BASE=[""], AMP_OPT_LEVEL="O1"))
        torch.save(sample.content | dict(config=config, epoch=799), tmp_path / "ckpt.pth")
    encoder = read_encoder(tmp_path / "ckpt.pth")
    assert encoder.system == "SimMIM"
    assert encoder.dropped["config"] == "entry of the training, not of the model"


def test_the_distillation_token_of_deit_is_one_token_more():
    model = randomise(VisionTransformerDistilled(**zoo.sizes())).eval()
    assert_features(dict(model=model.state_dict()), model.forward_features)


# ------------------------------------------------------------------------------------- heads
@pytest.mark.parametrize(
    ("prefix", "width", "heads"),
    [
        ("module.visual.", 384, 12),  # SLIP and its CLIP and SimCLR
        ("module.base_encoder.", 384, 12),  # MoCo v3
        ("module.base_encoder.", 192, 12),  # MAE-Lite's MoCo v3
        ("backbone.", 384, 6),
    ],
)
def test_small_vits_have_the_heads_that_their_system_published(prefix: str, width: int, heads: int):
    state = prefixed(published_vit(width), prefix)
    encoder = recognise(dict(state_dict=state), "a.pth")
    assert encoder.settings["arch"]["num_heads"] == heads
    assert "the tensors do not show" in encoder.assumed["num_heads"]


@pytest.mark.parametrize(
    ("width", "beside", "published"),
    [
        (192, dict(decoder=True), "3 and with 12"),  # MAE and MAE-Lite
        (384, dict(decoder=True), "6 and with 12"),
        (384, dict(fc_norm=True), "6 and with 12"),
    ],
)
def test_heads_are_asked_for_where_several_numbers_were_published(
    width: int, beside: dict, published: str
):
    state = published_vit(width)
    if "decoder" in beside:
        state["decoder_blocks.0.attn.qkv.weight"] = noise(9, 3)
    else:
        state |= {f"fc_norm.{n}": state.pop(f"norm.{n}") for n in ("weight", "bias")}
    with pytest.raises(ValueError, match=rf"{published} attention heads, .*pass --num-heads"):
        recognise(dict(model=state), "a.pth")
    encoder = recognise(dict(model=state), "a.pth", num_heads=12)
    assert encoder.settings["arch"]["num_heads"] == 12 and "num_heads" not in encoder.assumed


def published_vit(width: int) -> State:
    sizes = dict(embed_dim=width, depth=12, num_heads=3, img_size=224, patch_size=16)
    return timm_vit(**sizes).state_dict()


# ------------------------------------------------------------------------------------- twins
def test_the_rotary_twin_of_deit_iii_is_named_until_the_user_says_what_it_is():
    content = zoo.deit_iii().content
    encoder = recognise(content, "a.pth", num_heads=HEADS)
    assert "rope_axial_ape" in encoder.assumed["positions"]
    said = recognise(content, "a.pth", num_heads=HEADS, system="DeiT III")
    assert "positions" not in said.assumed


@pytest.mark.parametrize(("flag", "stats"), [(True, "imagenet"), (False, "half")])
@pytest.mark.parametrize("sample", [zoo.beit, zoo.beit_finetuned])
def test_the_command_line_of_beits_scripts_tells_the_statistics(
    sample: Callable, flag: bool, stats: str
):
    args = Namespace(model="beit_base_patch16_224", imagenet_default_mean_and_std=flag)
    encoder = recognise(sample().content | dict(args=args), "a.pth")
    assert encoder.stats == stats and "stats" not in encoder.assumed


def test_the_command_line_of_a_training_tells_the_twins_apart():
    content = dict(model=zoo.deit_iii().content)
    rotary = Namespace(model="rope_axial_ape_deit_small_patch16_LS")
    with pytest.raises(ValueError, match=r"with --model rope_axial_ape_deit.*not a plain ViT"):
        recognise(content | dict(args=rotary), "a.pth", num_heads=HEADS)
    plain = Namespace(model="deit_small_patch16_LS")
    encoder = recognise(content | dict(args=plain), "a.pth", num_heads=HEADS)
    assert encoder.system == "DeiT III" and "positions" not in encoder.assumed


@pytest.mark.parametrize(
    ("name", "design"),
    [("blocks.0.attn.proj_l.weight", "talking heads"), ("blocks.0.attn.temperature", "XCiT")],
)
def test_another_attention_is_refused_by_its_kind(name: str, design: str):
    with pytest.raises(ValueError, match=rf"'{name}': an attention .*{design}"):
        recognise(timm_vit().state_dict() | {name: noise(2)}, "a.pth")


@pytest.mark.parametrize("name", ["freqs", "rope.freqs"])
def test_learned_rotary_positions_are_refused(name: str):
    state = zoo.deit_iii().content | {name: noise(2, 3, 4)}
    with pytest.raises(ValueError, match=rf"'{name}': rotary positions with learned frequencies"):
        recognise(state, "a.pth")


def test_the_activation_of_siglips_towers_is_assumed():
    model = timm_vit(class_token=False, global_pool="avg", fc_norm=False)
    encoder = recognise(model.state_dict(), "a.pth", num_heads=HEADS)
    assert "GELUTanh" in encoder.assumed["act"]


# -------------------------------------------------------------------- systems by the user
@pytest.mark.parametrize(
    ("file", "system", "message"),
    [
        ("dino_backbone", "CLIP", "has no norm before the first block, which CLIP has"),
        ("mae", "BEiT", "has no relative position bias, .* has no layer scale, .* has a position"),
        ("cae", "BEiT", "has no relative position bias"),
        ("beit", "CAE", "has no position table"),
        ("beit", "MAE", "has relative position bias, which MAE does not have"),
        ("deit_iii", "DeiT", "has layer scale, which DeiT does not have"),
        ("dinov3", "DINOv2", "has no position table"),
        ("openai_clip", "SLIP", "has a norm before the first block"),
        ("hf_vit", "data2vec", "has no relative position bias"),
    ],
)
def test_a_system_that_contradicts_the_tensors_is_refused(file: str, system: str, message: str):
    content = zoo.SYSTEMS[file](Path()).content
    with pytest.raises(
        ValueError, match=rf"--system '{system}' contradicts the tensors: .*{message}"
    ):
        recognise(content, "a.pth", num_heads=HEADS, system=system)


@pytest.mark.parametrize(
    ("file", "system"),
    [
        ("timm_clip", "CLIP"),
        ("open_clip", "CLIP"),
        ("beit", "mc-BEiT"),
        ("mae", "SplitMask"),
        ("dino_backbone", "MAE"),
        ("hf_vit", "DINO"),
        ("mmpretrain", "MoCo v3"),
        ("deit_distilled", "DeiT"),
    ],
)
def test_a_system_that_fits_the_tensors_is_taken(file: str, system: str):
    content = zoo.SYSTEMS[file](Path()).content
    assert recognise(content, "a.pth", num_heads=HEADS, system=system).system == system


# ------------------------------------------------------------------- wrappers and prefixes
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model_state_dict", "net", "model"])
@pytest.mark.parametrize(
    "prefix",
    [
        "_orig_mod.",
        "module._orig_mod.",
        "model.",
        "module.model.",
        "net.",
        "module.backbone.",
        "backbone.net.",
        "model.backbone.",
        "model.module._orig_mod.",
    ],
)
@pytest.mark.parametrize("system", ["dino_backbone", "beit", "mmpretrain_layer_scale"])
def test_wrappers_and_prefixes_of_frameworks_are_taken_off(system: str, prefix: str, wrapper: str):
    sample = zoo.SYSTEMS[system](Path())
    state = prefixed(zoo.state_of(sample), prefix)
    encoder = recognise({wrapper: state} if wrapper else state, "a.pth", num_heads=HEADS)
    assert encoder.layout == sample.layout


def test_what_stands_beside_a_wrapped_model_is_dropped_with_a_reason():
    state = prefixed(zoo.dino_backbone().content, "module.model.")
    beside = {"module.criterion.weight": noise(5), "module.ema_model.module.x": noise(2)}
    encoder = recognise(dict(state_dict=state | beside), "a.pth", num_heads=HEADS)
    assert encoder.dropped["module.criterion.weight"] == "part of a loss"
    with pytest.raises(ValueError, match=r"unknown tensors: module\.surprise"):
        recognise(state | {"module.surprise": noise(2)}, "a.pth", num_heads=HEADS)


def test_two_encoders_in_wrappers_are_refused():
    state = zoo.dino_backbone().content
    two = prefixed(state, "model.") | prefixed(state, "net.")
    with pytest.raises(ValueError, match=r"timm \('net\.\*'\) and timm \('model\.\*'\): choose"):
        recognise(two, "a.pth")


def test_a_strange_prefix_is_named():
    state = prefixed(zoo.dino_backbone().content, "student_vit.")
    with pytest.raises(ValueError, match=r"in layout timm under 'student_vit\.\*'.*cut it off"):
        recognise(state, "a.pth")


def test_names_that_become_one_are_refused():
    state = zoo.dino_backbone().content
    with pytest.raises(ValueError, match=r"holds 'cls_token' twice, once as '_orig_mod\."):
        recognise(state | {"_orig_mod.cls_token": noise(1, 1, D)}, "a.pth")


# ------------------------------------------------------------------------- other networks
@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("layer1.0.conv1.weight", "a ResNet"),
        ("module.visual.layer1.0.conv1.weight", "a ResNet"),
        ("backbone.bottom_up.res2.0.conv1.weight", "a ResNet of detectron2"),
        ("layers.0.blocks.0.attn.qkv.weight", "a Swin Transformer"),
        ("backbone.stages.0.blocks.0.attn.w_msa.qkv.weight", "a hierarchical network"),
        ("stages.0.0.conv_dw.weight", "a hierarchical network"),
        ("modality_encoders.IMAGE.local_encoder.proj.weight", "data2vec 2, which normalises after"),
        ("backbone.encoder.blocks.0.residual1.norm.weight", "CAPI, with RMS norms"),
        ("module.patch_embed.stem.0.weight", "a ViT whose patches a stem"),
    ],
)
def test_other_networks_are_refused_by_their_kind_in_one_line(name: str, network: str):
    state = {name: noise(2), "patch_embed.proj.weight": noise(4, 3, 4, 4), "norm.weight": noise(4)}
    with pytest.raises(ValueError, match=f"'{name}': {network}.*, not a plain ViT$"):
        recognise(state, "a.pth")


def test_the_post_norm_vit_of_eva_clip_is_refused_by_its_width():
    """Its tensors are those of EVA's ViT-g."""
    model = zoo.timm_eva(embed_dim=1792, depth=1, use_rot_pos_emb=False, mlp_ratio=0.1)
    state = prefixed(model.state_dict(), "visual.")
    with pytest.raises(ValueError, match=r"width 1792 .* normalises after each branch: not a "):
        recognise(state, "a.pth", num_heads=16)


def test_stages_of_another_network_are_not_taken_for_chunks_of_blocks():
    names = ("blocks.0.0.conv_dw.weight", "blocks.1.0.conv_dw.weight", "conv_stem.weight")
    with pytest.raises(ValueError, match=r"blocks\.0\.0.*a network of stages.*not a plain ViT$"):
        recognise({name: noise(2) for name in names}, "a.pth")


def test_a_pickle_of_detectron2_is_refused_in_one_line(tmp_path: Path):
    file = tmp_path / "R-50.pkl"
    file.write_bytes(pickle.dumps({"model": {"stem.conv1.weight": [1.0]}}))
    with pytest.raises(
        ValueError, match=r"R-50\.pkl' is a pickle, as detectron2 .*not a plain ViT"
    ):
        read_encoder(file)


def test_a_torch_file_of_that_ending_is_read(tmp_path: Path):
    file = tmp_path / "a.pkl"
    torch.save(zoo.dino_backbone().content, file, _use_new_zipfile_serialization=False)
    assert read_encoder(file, num_heads=HEADS).layout == "timm"
