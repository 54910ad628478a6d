"""Mask2Former on ADE20K at 512 px with a plain ViT-L/16 and a simple pyramid, at one scale.

The settings of the ViT-B recipe, with the drop path of UperNet's for ViT-L.
Expect: no published number for a plain ViT-L without adapter under exactly this protocol.
ViT-Adapter-L with BEiT has mIoU 58.3 at 640 px (its repository).
Run: bash tools/dist_train.sh \
    seg/mask2former_vit-large-p16_8xb2-amp-160k_ade20k-512x512 8 --weights ENCODER
"""

_base_ = ["./mask2former_vit-base-p16_8xb2-amp-160k_ade20k-512x512.py"]

embed_dims = 1024

model = dict(
    backbone=dict(arch="large", drop_path_rate=0.15),
    neck=dict(in_channels=embed_dims),
)
