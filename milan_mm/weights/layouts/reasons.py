"""Why a tensor is not part of the encoder."""

CLASSIFIER = "a classifier; every task trains its own"
DETECTOR = "part of a detector"
SEGMENTOR = "part of a segmentor"
TASK_NECK = "neck of a detector or segmentor"
NECK = "neck of the pretraining or of a task"
PRETRAINING_HEAD = "head of the pretraining"
DECODER = "decoder of the pretraining"
MASK_TOKEN = "mask token of the pretraining"
TEXT_TOWER = "text tower"
TEXT_SPACE = "projection between image and text space"
OTHER_MODEL = "another model of the pretraining"
LOSS = "part of a loss"
COUNTER = "index or setting that this package computes itself"

# Of EVA-02: sines and cosines, once for the encoder and once for each block.
ROTARY_TABLES = {
    f"{place}rope.freqs_{kind}": COUNTER
    for place in ("", "blocks.#.attn.")
    for kind in ("cos", "sin")
}
# What a self-supervised training in one module holds beside its encoders.
TRAINING_PARTS = {
    "classifier.*": CLASSIFIER,
    "online_classifier.*": CLASSIFIER,
    "momentum_*": OTHER_MODEL,
    "projector.*": PRETRAINING_HEAD,
    "predictor.*": PRETRAINING_HEAD,
    "prototypes*": PRETRAINING_HEAD,
    "*head.*": PRETRAINING_HEAD,
    "decoder.*": DECODER,
    "decoder_embed.*": DECODER,
    "*mask_token": MASK_TOKEN,
    "*criterion*": LOSS,
    "*loss*": LOSS,
    "queue*": LOSS,
}
# What detectors and segmentors of OpenMMLab and detectron2 hold beside their backbone.
TASK_PARTS = {
    "rpn_head.*": DETECTOR,
    "roi_head.*": DETECTOR,
    "roi_heads.*": DETECTOR,
    "proposal_generator.*": DETECTOR,
    "bbox_head.*": DETECTOR,
    "mask_head.*": DETECTOR,
    "query_head.*": DETECTOR,
    "semantic_head.*": DETECTOR,
    "panoptic_head.*": DETECTOR,
    "panoptic_fusion_head.*": DETECTOR,
    "query_embedding.*": DETECTOR,
    "decode_head.*": SEGMENTOR,
    "auxiliary_head.*": SEGMENTOR,
}


def text_model(prefix: str) -> dict[str, str]:
    """What an image-text model holds outside of its image tower, with the reasons."""
    text = ("transformer.*", "token_embedding.*", "positional_embedding", "ln_final.*", "text.*")
    space = ("text_projection", "image_projection", "image_mlp.*", "logit_scale", "logit_bias")
    counts = ("input_resolution", "context_length", "vocab_size", "attn_mask")
    return {
        **{prefix + name: TEXT_TOWER for name in text},
        **{prefix + name: TEXT_SPACE for name in space},
        **{prefix + name: COUNTER for name in counts},
    }
