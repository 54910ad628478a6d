"""Mask R-CNN on COCO at 1024 px with a plain ViT-B/16, 12 epochs for 8 GPUs with 2 images each.

Published (authors of HPM, their repository, issue 2): 16 images per iteration, 88,750 iterations,
all else as in the 100-epoch recipe, so a learning rate of 1e-4. They give no AP for it there.
Derived here: the learning rate falls after the same shares of the training, 0.889 and 0.963.
Expect: nothing is published for exactly this recipe. Cost: two images per GPU take about 20 GB
(derived from detectron2's 10.9 GB with one, weights and optimizer included).
Run: bash tools/dist_train.sh configs/det/mask-rcnn_vit-base-p16_8xb2-amp-lsj-12e_coco.py 8 \
    --weights ENCODER
"""

_base_ = "./mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco.py"

gpus, batch_per_gpu = 8, 2
total_batch = gpus * batch_per_gpu
max_iters = 88_750  # 12 epochs of 118,287 images at a total batch of 16
train_dataloader = dict(batch_size=batch_per_gpu)
auto_scale_lr = dict(base_batch_size=total_batch)
param_scheduler = [
    dict(type="milan_mm.WarmupLR", start_factor=0.001, by_epoch=False, end=250),
    dict(type="MultiStepLR", by_epoch=False, milestones=[78_889, 85_463], gamma=0.1),
]
train_cfg = dict(max_iters=max_iters)
