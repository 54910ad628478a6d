"""Beyond Table 4, row 12: target EVA-02-CLIP, prompting decoder, semantic sampling.

Its tokens are projected to the space of images and texts, as those of CLIP in row 8.
Expect (not measured): nothing is published.
Run: bash tools/dist_train.sh \
    pretrain/ablation/row-12-evaclip-prompting-semantic_vit-base-p16_8xb512-amp-coslr-400e_in1k 8
"""

_base_ = "../milan-siglip_vit-base-p16_8xb512-amp-coslr-400e_in1k.py"

model = dict(
    decoder=dict(target_dims=512),
    head=dict(
        teacher=dict(
            model_name="eva02_base_patch16_clip_224.merged2b",
            pretrained="timm",
            projection="head.weight",
        )
    ),
)
