"""Cascade, LVIS, FCOS and Mask2Former: mmdet's own configs but for what is stated here.

Numbers of Cascade and of LVIS are those of detectron2's ViTDet project.
"""

from collections.abc import Iterator

import pytest
from mmengine.config import Config
from mmengine.hub import get_config

from milan_mm.configs import load
from tests.recipes.test_det_recipes import plain

COCO, LVIS = "8xb8-amp-lsj-100e_coco", "8xb8-amp-lsj-100e_lvis"
MASK_RCNN, CASCADE = "det/mask-rcnn_vit-{}-p16_" + COCO, "det/cascade-mask-rcnn_vit-{}-p16_" + COCO
FCOS = "det/fcos_vit-{}-p16_" + COCO
MASK2FORMER = "det/mask2former_vit-{}-p16_8xb2-amp-lsj-50e_coco"
LVIS_RECIPES = [recipe.replace("coco", "lvis") for recipe in (MASK_RCNN, CASCADE)]
LAYER_NORM = dict(type="mmpretrain.LN2d", eps=1e-6)
GONE = None  # a field that one of two configs does not have


def fields(node: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Every value of a config with its dotted name."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from fields(value, f"{name}.{key}".lstrip("."))
    elif isinstance(node, (list, tuple)) and any(isinstance(part, dict) for part in node):
        for number, value in enumerate(node):
            yield from fields(value, f"{name}.{number}")
    else:
        yield name, plain(node)


def differing(ours: object, theirs: object) -> dict[str, object]:
    """Our values where they are not mmdet's, by field."""
    own, other = dict(fields(ours)), dict(fields(theirs))
    return {k: own.get(k, GONE) for k in own | other if own.get(k, GONE) != other.get(k, GONE)}


def of_parts(cfg: Config, *names: str) -> dict:
    return {name: cfg.model[name] for name in names if name in cfg.model}


def test_heads_of_the_cascade_are_mmdets_but_for_the_published_ones():
    parts = ("rpn_head", "roi_head", "train_cfg", "test_cfg")
    theirs = get_config("mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py")
    found = differing(of_parts(load(CASCADE.format("base")), *parts), of_parts(theirs, *parts))
    expected = {
        "rpn_head.num_convs": 2,
        "rpn_head.loss_bbox.type": "L1Loss",
        "rpn_head.loss_bbox.beta": GONE,
        "roi_head.type": "milan_mm.CascadeRoIHead",
        "roi_head.stage_loss_weights": [1.0, 1.0, 1.0],
        "roi_head.mask_head.norm_cfg.type": LAYER_NORM["type"],
        "roi_head.mask_head.norm_cfg.eps": LAYER_NORM["eps"],
        "train_cfg.rpn.assigner.min_pos_iou": 0.0,
        "train_cfg.rpn.allowed_border": -1,
        "train_cfg.rpn_proposal.max_per_img": 1000,
        "roi_head.bbox_head.2.bbox_coder.target_stds": [1 / 30, 1 / 30, 1 / 15, 1 / 15],
    }
    for stage in range(3):
        head, rcnn = f"roi_head.bbox_head.{stage}", f"train_cfg.rcnn.{stage}"
        expected |= {
            f"{head}.type": "Shared4Conv1FCBBoxHead",
            f"{head}.norm_cfg.type": LAYER_NORM["type"],
            f"{head}.norm_cfg.eps": LAYER_NORM["eps"],
            f"{head}.loss_bbox.type": "L1Loss",
            f"{head}.loss_bbox.beta": GONE,
        }
        if stage:
            drawn = ("num", "pos_fraction", "neg_pos_ub", "add_gt_as_proposals")
            expected |= {f"{rcnn}.sampler.{name}": GONE for name in drawn}
            expected[f"{rcnn}.sampler.type"] = "PseudoSampler"
    assert found == expected


def test_everything_else_of_the_cascade_is_that_of_mask_rcnn():
    for arch in ("base", "large"):
        ours, theirs = (load(r.format(arch)).to_dict() for r in (CASCADE, MASK_RCNN))
        own = {"stages", "model.type"}
        heads = ("model.roi_head.", "model.train_cfg.rcnn.")
        changed = {k for k in differing(ours, theirs) if not k.startswith(heads)}
        assert changed == own


@pytest.mark.parametrize("arch", ["base", "large"])
@pytest.mark.parametrize("recipe", LVIS_RECIPES)
def test_lvis_differs_from_coco_as_published(recipe, arch):
    ours = load(recipe.format(arch)).to_dict()
    theirs = load(recipe.format(arch).replace("lvis", "coco")).to_dict()
    found = differing(ours, theirs)
    heads = ours["model"]["roi_head"]["bbox_head"]
    numbers = [f".{number}" for number in range(3)] if isinstance(heads, list) else [""]
    for name in (f"model.roi_head.bbox_head{number}" for number in numbers):
        assert found.pop(f"{name}.num_classes") == found.pop(f"{name}.loss_cls.num_classes") == 1203
        assert found.pop(f"{name}.loss_cls.type") == "milan_mm.FederatedLoss"
        for gone in ("use_sigmoid", "loss_weight"):
            assert found.pop(f"{name}.loss_cls.{gone}") is GONE
    places = ("data_root", "ann_file", "data_prefix", "dataset.type", "_scope_")
    data = {k for k in found if any(place in k for place in places) or "evaluator" in k}
    assert {ours["val_evaluator"]["type"], ours["test_evaluator"]["type"]} == {
        "milan_mm.LVISMetric"
    }
    assert {k: v for k, v in found.items() if k not in data} == {
        "num_classes": 1203,
        "model.roi_head.mask_head.num_classes": 1203,
        "model.test_cfg.rcnn.score_thr": 0.02,
        "model.test_cfg.rcnn.max_per_img": 300,
        "train_dataloader.sampler.type": "milan_mm.RepeatFactorSampler",
        "train_dataloader.sampler.shuffle": GONE,
        "train_dataloader.sampler.threshold": 0.001,
        "optim_wrapper.optimizer.lr": 2e-4,
        "max_iters": 156_250,
        "train_cfg.max_iters": 156_250,
        "train_cfg.val_interval": 30_000,
        "param_scheduler.1.milestones": [138_889, 150_463],
    }


def test_fcos_is_mmdets_best_one_without_deformable_convolutions():
    parts = ("bbox_head", "train_cfg", "test_cfg")
    name = "fcos_r50-dcn-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco"
    theirs = get_config(f"mmdet::fcos/{name}.py")
    found = differing(of_parts(load(FCOS.format("base")), *parts), of_parts(theirs, *parts))
    assert found == {
        "bbox_head.dcn_on_last_conv": GONE,
        # the default of mmdet's head, written out
        "bbox_head.norm_cfg.type": "GN",
        "bbox_head.norm_cfg.num_groups": 32,
        "bbox_head.norm_cfg.requires_grad": True,
    }


def test_mask2former_is_mmdets_but_for_what_stands_before_its_head():
    theirs = get_config("mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py")
    ours = load(MASK2FORMER.format("base"))
    parts = ("panoptic_head", "panoptic_fusion_head", "train_cfg", "test_cfg")
    attention = "panoptic_head.transformer_decoder.layer_cfg"
    assert differing(of_parts(ours, *parts), of_parts(theirs, *parts)) == {
        "panoptic_head.in_channels": [256] * 4,
        f"{attention}.self_attn_cfg.dropout": GONE,  # 0.0, as without it
        f"{attention}.cross_attn_cfg.dropout": GONE,
    }
    wrapper = ("optimizer", "clip_grad")
    found = differing(*({k: c.optim_wrapper[k] for k in wrapper} for c in (ours, theirs)))
    assert found == {"optimizer.fused": True}
    schedule = theirs.param_scheduler
    assert ours.param_scheduler[0].milestones == schedule.milestones == [327_778, 355_092]
    assert ours.train_cfg.max_iters == theirs.train_cfg.max_iters == 368_750


@pytest.mark.parametrize("recipe", [CASCADE, FCOS, MASK2FORMER, *LVIS_RECIPES])
def test_encoder_is_that_of_mask_rcnn_at_both_sizes(recipe):
    for arch, rate in (("base", 0.7), ("large", 0.8)):
        ours, theirs = load(recipe.format(arch)), load(MASK_RCNN.format(arch))
        assert ours.model.backbone == theirs.model.backbone
        assert ours.optim_wrapper.modules == ["backbone", "neck"]  # heads in float32
        assert ours.optim_wrapper.paramwise_cfg.layer_decay_rate == rate
        changes = differing(ours.model.neck, theirs.model.neck)
        assert changes.keys() <= {"num_extra_outs", "scale_factors"}
