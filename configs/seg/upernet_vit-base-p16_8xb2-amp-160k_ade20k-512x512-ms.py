"""UperNet on ADE20K with a plain ViT-B/16, tested at six scales and flipped.

Training, and the validation during it, are those of the recipe without -ms, whose checkpoints this
one tests.
Expect (published, not measured here): mIoU 0.6 above one scale for MAE, 48.7 (mmsegmentation's
table). Cost: 12 predictions per image, some at 1.75 times the size.
Run: bash tools/dist_test.sh \
    configs/seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512-ms.py CHECKPOINT 8
"""

_base_ = [
    "./upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512.py",
    "../_base_/ade20k_multi_scale.py",
]

tta_pipeline = _base_.multi_scale_pipeline
tta_model = dict(type="milan_mm.MultiScaleSegmentor")
