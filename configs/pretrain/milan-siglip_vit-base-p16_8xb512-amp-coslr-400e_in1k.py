"""MILAN, ViT-B/16, ImageNet-1K, 400 epochs; the teacher is SigLIP 2 ViT-B/16 at 224 px.

Our own. The target is the teacher's tokens after its final norm, and patches are sampled by the
attention of its pooling: it has no class token, so the student's has no target. The teacher sees
images in its own statistics.

Expect (not measured): nothing is published.
Weights: timm downloads them; offline, --cfg-options model.head.teacher.pretrained=FILE.
Run: bash tools/dist_train.sh \
    configs/pretrain/milan-siglip_vit-base-p16_8xb512-amp-coslr-400e_in1k.py 8
"""

_base_ = "./milan_vit-base-p16_8xb512-amp-coslr-400e_in1k.py"

model = dict(
    decoder=dict(target_dims=768),
    head=dict(
        teacher=dict(
            type="milan_mm.EncoderTeacher",
            model_name="vit_base_patch16_siglip_224.v2_webli",
            pretrained="timm",
            stats=None,  # its own
        )
    ),
)
