"""UperNet on COCO-Stuff 164k at 512 px with a plain ViT-B/16, tested at one scale.

The settings of the ADE20K recipe but for data and length; docs/transfer.md has the origin of each
number.
Expect: no published number for a plain ViT under exactly this protocol. ViT-Adapter-L with BEiT has
mIoU 50.5 with the same length at 640 px (its repository).
Run: bash tools/dist_train.sh \
    seg/upernet_vit-base-p16_8xb2-amp-80k_coco-stuff164k-512x512 8 --weights ENCODER
"""

_base_ = [
    "../_base_/runtime_dense.py",  # first: mmengine then finds `mmseg::`
    "../_base_/upernet_vit.py",
    "../_base_/coco_stuff164k.py",
    "mmseg::_base_/default_runtime.py",
]

model = dict(
    # zeros after normalisation up to the crop, in tests too; a larger image stays as it is
    data_preprocessor=dict(size=_base_.crop_size, test_cfg=dict(size=_base_.crop_size)),
    decode_head=dict(num_classes=_base_.num_classes),
    auxiliary_head=dict(num_classes=_base_.num_classes),
    test_cfg=dict(mode="slide", crop_size=_base_.crop_size, stride=_base_.stride),
)
