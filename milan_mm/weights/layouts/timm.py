"""timm's names: DeiT, MoCo v3, DINO, iBOT, MAE, MILAN, MaskFeat, SLIP, DINOv2 and timm itself."""

from milan_mm.weights.layouts import reasons
from milan_mm.weights.layouts.table import MODULES, Layout, Names

TIMM_NAMES: Names = {
    "cls_token": "cls_token",
    "pos_embed": "pos_embed",
    # DeiT's distillation token is one token more, as registers are
    "register_tokens": ("reg_token", "register_tokens", "dist_token"),
    "patch_embed.projection": "patch_embed.proj",
    "pre_norm": "norm_pre",
    "layers.#.ln1": "blocks.#.norm1",
    "layers.#.attn.qkv": "blocks.#.attn.qkv",
    "layers.#.attn.q_norm": "blocks.#.attn.q_norm",
    "layers.#.attn.k_norm": "blocks.#.attn.k_norm",
    "layers.#.attn.norm": "blocks.#.attn.norm",
    "layers.#.attn.proj": "blocks.#.attn.proj",
    "layers.#.gamma_1": ("blocks.#.ls1.gamma", "blocks.#.gamma_1"),
    "layers.#.ln2": "blocks.#.norm2",
    # DINOv2-g has a SwiGLU under other names than timm
    "layers.#.ffn.layers.0.0": ("blocks.#.mlp.fc1", "blocks.#.mlp.w12"),
    "layers.#.ffn.layers.1": ("blocks.#.mlp.fc2", "blocks.#.mlp.w3"),
    "layers.#.ffn.norm": "blocks.#.mlp.norm",
    "layers.#.gamma_2": ("blocks.#.ls2.gamma", "blocks.#.gamma_2"),
    "ln1": "norm",
    "ln2": "fc_norm",
}
# Attention pooling, of SigLIP and PE
POOL_NAMES: Names = {
    name: name for name in ("attn_pool.latent", *(m for m in MODULES if "attn_pool" in m))
}
# timm's SwiGLU in two parts: gates, then values
TIMM_GATES = ("blocks.#.mlp.fc1_g", "blocks.#.mlp.fc1_x")
TIMM_EXTRAS = {
    "head.*": reasons.CLASSIFIER,
    "head_dist.*": reasons.CLASSIFIER,
    "pre_logits.*": reasons.CLASSIFIER,
    "mask_token": reasons.MASK_TOKEN,
    "masked_embed": reasons.MASK_TOKEN,
    "decoder_*": reasons.DECODER,
    "lm_head.*": reasons.PRETRAINING_HEAD,
    "pred_head.*": reasons.PRETRAINING_HEAD,
    "hogs.*": reasons.PRETRAINING_HEAD,
    "pretext_neck.*": reasons.PRETRAINING_HEAD,
    "fpn#.*": reasons.TASK_NECK,
    "fc.*": reasons.PRETRAINING_HEAD,  # MSN's
    "pred.*": reasons.PRETRAINING_HEAD,
    "patch_masking.*": reasons.MASK_TOKEN,  # VISSL's
}
# Beside a `backbone.`: of segmentors and detectors of OpenMMLab, which keep the names of a source.
TIMM_TASKS = reasons.TASK_PARTS | {"neck.*": reasons.NECK}
DINO_HEADS = {
    "head.*": reasons.PRETRAINING_HEAD,
    "dino_head.*": reasons.PRETRAINING_HEAD,
    "ibot_head.*": reasons.PRETRAINING_HEAD,
    "module.head.*": reasons.PRETRAINING_HEAD,
    "module.dino_head.*": reasons.PRETRAINING_HEAD,
    "module.ibot_head.*": reasons.PRETRAINING_HEAD,
}
_VITDET = "blocks.#.attn.rel_pos_h"
_TRUNK_REST = {"visual.head.*": reasons.TEXT_SPACE, "module.visual.head.*": reasons.TEXT_SPACE}

TIMM = Layout(
    names={
        **TIMM_NAMES,
        **POOL_NAMES,
        # of ViTDet, as detectron2 and mmdetection train it
        "layers.#.attn.rel_pos_h": "blocks.#.attn.rel_pos_h",
        "layers.#.attn.rel_pos_w": "blocks.#.attn.rel_pos_w",
    },
    markers=("patch_embed.proj.weight", "pos_embed"),
    absent=(
        "blocks.0.attn.q_bias",
        "blocks.0.attn.v_bias",
        "storage_tokens",
        "rope_embed.periods",
        "rel_pos_bias.relative_position_bias_table",
        "blocks.0.attn.relative_position_bias_table",
        "blocks.0.attn.q_proj.weight",
        "blocks.0.attn.k_proj.weight",
        "blocks.0.mlp.fc1_g.weight",
        "patch_embed.norm.weight",
    ),
    prefixes={
        "": {},
        "module.": {},
        "backbone.": DINO_HEADS | TIMM_TASKS | reasons.TRAINING_PARTS,
        # lightly's: the ViT in a module that masks it
        "backbone.vit.": reasons.TRAINING_PARTS,
        "teacher_backbone.vit.": reasons.TRAINING_PARTS,
        "student_backbone.vit.": reasons.TRAINING_PARTS,
        "teacher_backbone.": reasons.TRAINING_PARTS,
        "student_backbone.": reasons.TRAINING_PARTS,
        "module.backbone.": DINO_HEADS,
        "module.base_encoder.": {
            "module.momentum_encoder.*": reasons.OTHER_MODEL,
            "module.predictor.*": reasons.PRETRAINING_HEAD,
        },
        "visual.": reasons.text_model(""),
        "module.visual.": reasons.text_model("module."),
        "visual.trunk.": reasons.text_model("") | _TRUNK_REST,
        "module.visual.trunk.": reasons.text_model("module.") | _TRUNK_REST,
    },
    extras=TIMM_EXTRAS,
    # finetuned with average pooling: a norm after it replaces the final one; MaskFeat deletes it
    optional={"ln1": ("fc_norm.weight", "pred_head.*", "^decode_head.*", _VITDET), "cls_token": ()},
)
