"""The COCO recipes against the published plain-ViT detector, part by part.

Published: arXiv 2203.16527 and the configs of detectron2's ViTDet project. Its rules are written
anew here, in their slowest form.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import HorizontalBoxes, bbox_overlaps
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmengine.structures import InstanceData
from mmpretrain.models.utils import LayerNorm2d
from PIL import Image
from torch import Tensor, nn

from milan_mm.configs import load
from milan_mm.run.building import build_without_memory

BASE = "det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco"
LARGE = "det/mask-rcnn_vit-large-p16_8xb8-amp-lsj-100e_coco"
SHORT = "det/mask-rcnn_vit-base-p16_8xb2-amp-lsj-12e_coco"

# Field of the merged config: value of the ViT-B recipe
PUBLISHED = {
    "model.backbone.arch": "base",
    "model.backbone.patch_size": 16,
    "model.backbone.with_cls_token": False,
    "model.backbone.final_norm": False,
    "model.backbone.window_size": 14,
    "model.backbone.global_layers": [2, 5, 8, 11],
    "model.backbone.rel_pos_grid": [64, 64],
    "model.backbone.drop_path_rate": 0.1,
    "model.neck.out_channels": 256,
    "model.rpn_head.num_convs": 2,
    "model.rpn_head.bbox_coder.target_stds": [1.0, 1.0, 1.0, 1.0],
    "model.rpn_head.loss_cls.type": "CrossEntropyLoss",
    "model.rpn_head.loss_cls.use_sigmoid": True,
    "model.rpn_head.loss_bbox.type": "L1Loss",
    "model.roi_head.bbox_head.type": "Shared4Conv1FCBBoxHead",
    "model.roi_head.bbox_head.reg_class_agnostic": False,
    "model.roi_head.bbox_head.bbox_coder.target_stds": [0.1, 0.1, 0.2, 0.2],
    "model.roi_head.bbox_head.loss_cls.use_sigmoid": False,
    "model.roi_head.bbox_head.loss_bbox.type": "L1Loss",
    "model.roi_head.bbox_roi_extractor.roi_layer.sampling_ratio": 0,
    "model.roi_head.bbox_roi_extractor.roi_layer.output_size": 7,
    "model.roi_head.mask_roi_extractor.roi_layer.output_size": 14,
    "model.train_cfg.rpn.allowed_border": -1,
    "model.train_cfg.rpn.sampler.num": 256,
    "model.train_cfg.rpn.sampler.pos_fraction": 0.5,
    "model.train_cfg.rpn_proposal.nms_pre": 2000,
    "model.train_cfg.rpn_proposal.max_per_img": 1000,
    "model.train_cfg.rpn_proposal.nms.iou_threshold": 0.7,
    "model.train_cfg.rcnn.sampler.num": 512,
    "model.train_cfg.rcnn.sampler.pos_fraction": 0.25,
    "model.train_cfg.rcnn.sampler.add_gt_as_proposals": True,
    "model.train_cfg.rcnn.mask_size": 28,
    "model.test_cfg.rpn.nms_pre": 1000,
    "model.test_cfg.rpn.max_per_img": 1000,
    "model.test_cfg.rpn.nms.iou_threshold": 0.7,
    "model.test_cfg.rcnn.score_thr": 0.05,
    "model.test_cfg.rcnn.nms.iou_threshold": 0.5,
    "model.test_cfg.rcnn.max_per_img": 100,
    "model.test_cfg.rcnn.mask_thr_binary": 0.5,
    "model.data_preprocessor.mean": [123.675, 116.28, 103.53],
    "model.data_preprocessor.std": [58.395, 57.12, 57.375],
    "model.data_preprocessor.bgr_to_rgb": True,
    "train_dataloader.dataset.filter_cfg": dict(filter_empty_gt=True, min_size=0),
    "optim_wrapper.optimizer.type": "AdamW",
    "optim_wrapper.optimizer.lr": 1e-4,
    "optim_wrapper.optimizer.betas": [0.9, 0.999],
    "optim_wrapper.optimizer.weight_decay": 0.1,
    "optim_wrapper.paramwise_cfg.layer_decay_rate": 0.7,
    "total_batch": 64,
    "train_cfg.max_iters": 184375,
    "train_cfg.val_interval": 5000,
    "param_scheduler": [
        dict(type="milan_mm.WarmupLR", start_factor=0.001, by_epoch=False, end=250),
        dict(type="MultiStepLR", by_epoch=False, milestones=[163889, 177546], gamma=0.1),
    ],
}
LARGE_DIFFERS = {
    "model.backbone.arch": "large",
    "model.backbone.global_layers": [5, 11, 17, 23],
    "model.backbone.drop_path_rate": 0.4,
    "optim_wrapper.paramwise_cfg.layer_decay_rate": 0.8,
}
SHORT_DIFFERS = {
    "total_batch": 16,
    "train_cfg.max_iters": 88750,
    "param_scheduler": [
        dict(type="milan_mm.WarmupLR", start_factor=0.001, by_epoch=False, end=250),
        dict(type="MultiStepLR", by_epoch=False, milestones=[78889, 85463], gamma=0.1),
    ],
}


def plain(value: object) -> object:
    """Lists for tuples, dicts for mmengine's."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize(
    ("recipe", "differs"), [(BASE, {}), (LARGE, LARGE_DIFFERS), (SHORT, SHORT_DIFFERS)]
)
def test_merged_config_is_the_published_recipe(recipe, differs):
    config, expected = load(recipe), PUBLISHED | differs
    found = {}
    for field in expected:
        node = config
        for part in field.split("."):
            node = node[part]
        found[field] = plain(node)
    assert found == plain(expected)


def test_warm_up_is_detectron2s():
    config = load(BASE)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    warm_up = PARAM_SCHEDULERS.build(
        config.param_scheduler[0], default_args=dict(optimizer=optimizer)
    )
    for update in range(260):
        # WarmupParamScheduler: linear in update / 250 up to, and without, update 250
        expected = 0.001 + 0.999 * update / 250 if update < 250 else 1.0
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-9)
        warm_up.step()


def test_gradients_are_not_clipped():
    assert "clip_grad" not in load(BASE).optim_wrapper


# The network


@pytest.fixture(scope="module", params=[BASE, LARGE])
def detector(request: pytest.FixtureRequest) -> tuple[nn.Module, Config]:
    config = load(request.param)
    return build_without_memory(config), config


def test_relative_positions_are_in_every_block_and_as_long_as_its_attention_reaches(detector):
    model, config = detector
    for i, layer in enumerate(model.backbone.layers):
        length = 127 if i in config.model.backbone.global_layers else 27
        width = model.backbone.embed_dims // layer.attn.num_heads
        assert layer.attn.rel_pos_h.shape == layer.attn.rel_pos_w.shape == (length, width)


def test_backbone_has_neither_class_token_nor_last_norm(detector):
    backbone = detector[0].backbone
    assert not {"cls_token", "ln1.weight"} & set(dict(backbone.named_parameters()))
    assert isinstance(backbone.ln1, nn.Identity)
    assert tuple(backbone.pos_embed.shape[1:]) == (14 * 14, backbone.embed_dims)


def test_drop_path_grows_linearly_over_the_blocks(detector):
    model, config = detector
    rates = [layer.drop_path.drop_prob for layer in model.backbone.layers]
    last = len(rates) - 1
    assert rates == pytest.approx(
        [config.model.backbone.drop_path_rate * i / last for i in range(last + 1)]
    )


def test_norms_outside_the_backbone_are_layer_norms_over_the_channels(detector):
    model, _ = detector
    kinds = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    parts = (model.neck, model.rpn_head, model.roi_head)
    norms = [m for part in parts for m in part.modules() if isinstance(m, kinds)]
    # pyramid: one between its two enlargements and two in each of four levels; heads: four each
    assert len(norms) == 9 + 4 + 4
    assert {type(norm) for norm in norms} == {LayerNorm2d}
    assert {norm.eps for norm in norms} == {1e-6}


def test_channel_norm_equals_its_formula():
    norm = LayerNorm2d(6, eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, 3, 5)
    mean = x.mean(dim=1, keepdim=True)
    expected = (x - mean) / (((x - mean) ** 2).mean(dim=1, keepdim=True) + 1e-6).sqrt()
    expected = expected * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(norm(x), expected, atol=1e-6, rtol=1e-5)


def test_convolutions_have_a_bias_exactly_where_no_norm_follows(detector):
    model, _ = detector
    for level in model.neck.levels:
        assert [m.bias is None for m in level[1] if isinstance(m, nn.Conv2d)] == [True, True]
    heads = (model.rpn_head, model.roi_head)
    blocks = [m for head in heads for m in head.modules() if isinstance(m, ConvModule)]
    assert len(blocks) == 2 + 4 + 4
    assert all((block.conv.bias is None) == block.with_norm for block in blocks)


def test_rpn_has_two_convolutions_without_norm(detector):
    rpn = detector[0].rpn_head
    assert [(c.conv.kernel_size, c.with_norm, type(c.activate)) for c in rpn.rpn_conv] == [
        ((3, 3), False, nn.ReLU),
        ((3, 3), False, nn.ReLU),
    ]
    assert (rpn.rpn_cls.out_channels, rpn.rpn_reg.out_channels) == (3, 3 * 4)


def test_box_head_has_four_convolutions_and_one_layer_of_1024(detector):
    head = detector[0].roi_head.bbox_head
    order = ("conv", "norm", "act")
    assert [(c.conv.kernel_size, c.with_norm, c.order) for c in head.shared_convs] == [
        ((3, 3), True, order)
    ] * 4
    assert [(fc.in_features, fc.out_features) for fc in head.shared_fcs] == [(256 * 7 * 7, 1024)]
    assert (head.fc_cls.out_features, head.fc_reg.out_features) == (81, 4 * 80)


def test_mask_head_has_four_convolutions_and_enlarges_without_norm(detector):
    head = detector[0].roi_head.mask_head
    assert [(c.conv.kernel_size, c.with_norm) for c in head.convs] == [((3, 3), True)] * 4
    assert isinstance(head.upsample, nn.ConvTranspose2d)
    assert (head.upsample.kernel_size, head.upsample.stride) == ((2, 2), (2, 2))
    assert head.conv_logits.out_channels == 80


# Anchors, levels, matching


def test_anchors_are_of_32_to_512_pixels_in_three_shapes_around_every_stride():
    generator = TASK_UTILS.build(load(BASE).model.rpn_head.anchor_generator)
    sizes = [(4, 3), (2, 2), (1, 1), (1, 1), (1, 1)]
    for size, stride, side, anchors in zip(
        sizes,
        (4, 8, 16, 32, 64),
        (32, 64, 128, 256, 512),
        generator.grid_priors(sizes, device="cpu"),
        strict=True,
    ):
        expected = []
        for y in range(size[0]):
            for x in range(size[1]):
                for ratio in (0.5, 1.0, 2.0):
                    w, h = side / math.sqrt(ratio), side * math.sqrt(ratio)
                    cx, cy = x * stride, y * stride
                    expected.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
        torch.testing.assert_close(anchors, torch.tensor(expected), atol=1e-3, rtol=0)


def test_regions_go_to_the_level_of_the_published_rule():
    config = load(BASE).model.roi_head
    sides = torch.tensor([1.0, 20, 111, 112, 150, 223, 224, 447, 448, 1024])
    rois = torch.stack([torch.zeros(10), torch.zeros(10), torch.zeros(10), sides, sides], dim=1)
    for part in (config.bbox_roi_extractor, config.mask_roi_extractor):
        with DefaultScope.overwrite_default_scope("mmdet"):
            extractor = MODELS.build(part)
        levels = [min(max(math.floor(4 + math.log2(side / 224)), 2), 5) for side in sides.tolist()]
        assert (extractor.map_roi_levels(rois, 4) + 2).tolist() == levels
        assert all(layer.aligned for layer in extractor.roi_layers)


def published_labels(overlaps: Tensor, low: float, high: float, low_quality: bool) -> list[int]:
    """detectron2's matching. overlaps: (objects, boxes). 1 positive, 0 negative, -1 ignored."""
    labels = []
    for j in range(overlaps.shape[1]):
        best = max(overlaps[:, j].tolist())
        labels.append(1 if best >= high else 0 if best < low else -1)
    if low_quality:
        for row in overlaps.tolist():
            best = max(row)
            labels = [
                1 if value == best else label for value, label in zip(row, labels, strict=True)
            ]
    return labels


@pytest.mark.parametrize(
    ("part", "low", "high", "low_quality"),
    [("rpn", 0.3, 0.7, True), ("rcnn", 0.5, 0.5, False)],
)
def test_boxes_are_matched_to_objects_by_the_published_rules(part, low, high, low_quality):
    assigner = TASK_UTILS.build(load(BASE).model.train_cfg[part].assigner)
    sides = torch.tensor([3.0, 9, 30, 60, 120])  # the first two overlap no anchor by 0.3
    corner = torch.rand(len(sides), 2) * 200
    objects = torch.cat([corner, corner + sides[:, None] * torch.tensor([1.0, 1.3])], dim=1)
    centre, half = torch.rand(2000, 2) * 300, torch.rand(2000, 2) * 60 + 8
    boxes = torch.cat([centre - half, centre + half], dim=1)
    boxes = torch.cat([boxes, objects[2:].repeat(40, 1) + torch.randn(120, 4) * 4])
    result = assigner.assign(
        InstanceData(priors=boxes), InstanceData(bboxes=objects, labels=torch.zeros(5).long())
    )
    overlaps = bbox_overlaps(objects, boxes)
    expected = published_labels(overlaps, low, high, low_quality)
    assert result.gt_inds.clamp(max=1).tolist() == expected
    assert {-1, 0, 1} >= set(expected) >= {0, 1}
    # the smallest objects have a positive anchor in the RPN, and in it alone
    weak = overlaps[0].max() < 0.3
    assert weak and (1 in result.gt_inds.tolist()) == low_quality


def test_rpn_loss_is_a_mean_over_the_sampled_anchors_of_the_batch():
    """BCE and L1 summed over 256 anchors of an image, divided by 256 times the images."""
    config = load(BASE)
    head_config = config.model.rpn_head
    head_config.update(train_cfg=config.model.train_cfg.rpn, test_cfg=config.model.test_cfg.rpn)
    with DefaultScope.overwrite_default_scope("mmdet"):
        head = MODELS.build(head_config)
    sizes = [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]
    scores = [torch.randn(2, 3, *size) for size in sizes]
    deltas = [torch.randn(2, 12, *size) for size in sizes]
    metas = [dict(img_shape=(128, 128), pad_shape=(128, 128), batch_input_shape=(128, 128))] * 2
    objects = [
        InstanceData(bboxes=torch.tensor([[8.0, 8, 70, 60]]), labels=torch.zeros(1).long()),
        InstanceData(bboxes=torch.tensor([[2.0, 2, 6, 6]]), labels=torch.zeros(1).long()),
    ]
    seen = []
    original = head._get_targets_single

    def recording(*args, **kwargs):
        seen.append(original(*args, **kwargs))
        return seen[-1]

    head._get_targets_single = recording
    losses = head.loss_by_feat(scores, deltas, objects, metas)
    cls = torch.cat([s.permute(0, 2, 3, 1).reshape(2, -1) for s in scores], dim=1)
    reg = torch.cat([d.permute(0, 2, 3, 1).reshape(2, -1, 4) for d in deltas], dim=1)
    cls_sum = reg_sum = torch.zeros(())
    for i, (labels, label_weights, targets, target_weights, *_) in enumerate(seen):
        assert int((label_weights > 0).sum()) == 256
        positive = (labels == 0).float()  # class 0 is 'object', 1 the background
        terms = nn.functional.softplus(cls[i]) - cls[i] * positive
        cls_sum = cls_sum + (terms * label_weights).sum()
        reg_sum = reg_sum + ((reg[i] - targets).abs() * target_weights).sum()
    torch.testing.assert_close(sum(losses["loss_rpn_cls"]), cls_sum / 512)
    torch.testing.assert_close(sum(losses["loss_rpn_bbox"]), reg_sum / 512)


# Images and boxes


NUM_DRAWS = 120


def make_sample(path: str, number: int, boxes: list[list[int]], crowd: list[int]) -> dict:
    """What the data set hands to the pipeline: rectangles with one corner cut off."""
    instances = [
        dict(
            bbox=[x1, y1, x2, y2],
            bbox_label=i,
            mask=[[x1, y1, x2, y1, x2, y2, (x1 + x2) / 2, y2, x1, (y1 + y2) / 2]],
            ignore_flag=int(i in crowd),
        )
        for i, (x1, y1, x2, y2) in enumerate(boxes)
    ]
    return dict(img_path=path, img_id=number, height=150, width=200, instances=instances)


@pytest.fixture(scope="module")
def pipelines() -> dict:
    from mmengine.dataset import Compose

    config = load(BASE)
    with DefaultScope.overwrite_default_scope("mmdet"):
        return dict(
            train=Compose(config.train_dataloader.dataset.pipeline),
            test=Compose(config.val_dataloader.dataset.pipeline),
            preprocess=MODELS.build(config.model.data_preprocessor),
        )


@pytest.fixture(scope="module")
def image_path(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("images") / "0.png"
    pixels = np.random.default_rng(0).integers(1, 255, (150, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


@pytest.fixture(scope="module")
def draws(pipelines, image_path) -> list[dict]:
    """Many passes of one image through the training pipeline; its objects stand at the border."""
    np.random.seed(0)  # noqa: NPY002 (mmcv's transforms draw from the global state)
    boxes = [[2, 3, 12, 11], [150, 100, 198, 148], [90, 2, 130, 5]]
    with DefaultScope.overwrite_default_scope("mmdet"):
        return [
            pipelines["train"](make_sample(image_path, i, boxes, crowd=[2]))
            for i in range(NUM_DRAWS)
        ]


def test_no_crop_is_dropped_and_some_have_lost_all_objects(draws):
    assert None not in draws
    counts = [len(draw["data_samples"].gt_instances) for draw in draws]
    assert 0.05 < np.mean([count == 0 for count in counts]) < 0.6
    assert max(counts) == 2  # the crowd is no object


def test_crowds_are_set_apart(draws):
    ignored = [draw["data_samples"].ignored_instances for draw in draws]
    assert {label for part in ignored for label in part.labels.tolist()} == {2}
    kept = [draw["data_samples"].gt_instances for draw in draws]
    assert {label for part in kept for label in part.labels.tolist()} == {0, 1}


def test_boxes_are_the_bounds_of_what_the_crop_left_of_the_masks(draws):
    num_boxes = 0
    for draw in draws:
        instances = draw["data_samples"].gt_instances
        for box, mask in zip(instances.bboxes.tensor, instances.masks.masks, strict=True):
            rows, columns = np.where(mask)
            bounds = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == bounds
            num_boxes += 1
    assert num_boxes > 50


def test_half_of_the_images_are_flipped_before_anything_else(draws):
    flipped = np.mean([draw["data_samples"].flip for draw in draws])
    assert abs(flipped - 0.5) < 3 * 0.5 / math.sqrt(NUM_DRAWS)


def test_scale_is_uniform_between_a_tenth_and_twice_the_canvas(draws):
    """The largest distance between the empirical and the uniform distribution (Kolmogorov)."""
    longest = [max(draw["data_samples"].scale_factor) * 200 / 1024 for draw in draws]
    values = (np.sort(longest) - 0.1) / 1.9
    assert values[0] > -0.01 and values[-1] < 1.01
    distance = np.abs(values - (np.arange(NUM_DRAWS) + 0.5) / NUM_DRAWS).max()
    assert distance < 1.63 / math.sqrt(NUM_DRAWS)  # 1 % significance


def test_crops_cover_every_part_of_an_enlarged_image(draws):
    """Of an object in a corner, the crop of an image of twice its size keeps a quarter or so."""
    large = [d for d in draws if min(d["data_samples"].scale_factor) * 200 > 1800]
    kept = [(d["data_samples"].gt_instances.labels == 1).any().item() for d in large]
    assert len(large) >= 5 and any(kept) and not all(kept)


def test_canvas_is_always_1024_square_with_zeros_after_normalisation(draws, pipelines):
    config = load(BASE).model.data_preprocessor
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    shapes = set()
    for draw in draws[:40]:
        batch = dict(inputs=[draw["inputs"]], data_samples=[draw["data_samples"]])
        batch = pipelines["preprocess"](batch, training=True)
        canvas, sample = batch["inputs"][0], batch["data_samples"][0]
        assert canvas.shape == (3, 1024, 1024)
        height, width = sample.img_shape
        shapes.add((height, width))
        assert (canvas[:, height:] == 0).all() and (canvas[:, :, width:] == 0).all()
        expected = (draw["inputs"].flip(0).float() - mean) / std  # BGR to RGB
        torch.testing.assert_close(canvas[:, :height, :width], expected)
        assert sample.pad_shape == sample.batch_input_shape == (1024, 1024)
        assert sample.gt_instances.masks.masks.shape[1:] in ((1024, 1024), ())
    assert len(shapes) > 20
    assert max(max(shape) for shape in shapes) == 1024


def test_images_are_resized_as_by_pillow(pipelines, image_path):
    with DefaultScope.overwrite_default_scope("mmdet"):
        out = pipelines["test"](make_sample(image_path, 0, [[2, 3, 12, 11]], crowd=[]))
    expected = Image.open(image_path).resize((1024, 768), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(out["inputs"].flip(0).permute(1, 2, 0), np.asarray(expected))
    assert out["data_samples"].scale_factor == pytest.approx((5.12, 5.12))


def test_shrunk_images_are_smoothed(pipelines, tmp_path):
    """Every second column is white: at a twentieth of the size each pixel is grey."""
    stripes = np.zeros((2048, 2048, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    sample = dict(img_path=str(tmp_path / "stripes.png"), img_id=0, instances=[])
    resize = [t for t in pipelines["train"].transforms if type(t).__name__ == "RandomResize"]
    resize[0].resize.scale = (102, 102)
    out = resize[0].resize(pipelines["train"].transforms[0](sample))["img"]
    assert out.shape == (102, 102, 3)
    assert np.abs(out.astype(int) - 127).max() < 25


def test_real_images_keep_boxes_and_masks_together(repo_root: Path, monkeypatch):
    if not (repo_root / "data/coco").is_dir():
        pytest.skip("data/coco is not there")
    monkeypatch.chdir(repo_root)
    from mmdet.registry import DATASETS

    config = load(BASE)
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = DATASETS.build(config.train_dataloader.dataset)
        num_boxes = 0
        for i in range(0, len(dataset), 4):
            sample = dataset[i]["data_samples"]
            boxes = sample.gt_instances.masks.get_bboxes(HorizontalBoxes).tensor
            assert torch.equal(sample.gt_instances.bboxes.tensor, boxes)
            assert max(sample.img_shape) <= 1024
            num_boxes += len(boxes)
    assert len(dataset) > 8 and num_boxes > 20
