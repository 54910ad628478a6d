"""Classification recipes do what the published ones do; timm, torchvision and hand work tell."""

import copy
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmpretrain.models.utils.batch_augments import RandomBatchAugment
from mmpretrain.registry import MODELS as CLS_MODELS
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from scipy.stats import ks_2samp
from timm.data.auto_augment import _RAND_INCREASING_TRANSFORMS, AugmentOp
from timm.data.mixup import Mixup, mixup_target
from timm.data.random_erasing import RandomErasing
from timm.loss import SoftTargetCrossEntropy
from torchvision.transforms import v2

from milan_mm.configs import list_configs, load
from milan_mm.engine.optim import parameter_rules
from milan_mm.models.vit_options import ARCHS
from milan_mm.registry import MODELS
from milan_mm.run.building import build_optimizer, build_without_memory

FINETUNE = "cls/finetune_vit-{}-p16_8xb128-amp-coslr-100e_in1k"
LINEAR = "cls/linear_vit-{}-p16_8xb2048-amp-coslr-100e_in1k"
MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)


def transform(recipe: str, name: str):
    """A transform of a recipe's training pipeline, built."""
    pipeline = load(recipe).train_dataloader.dataset.pipeline
    (config,) = (t for t in pipeline if t.type in (name, f"mmpretrain.{name}"))
    return TRANSFORMS.build(config)


def smooth_image(height: int, width: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


# Augmentation of finetuning


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("number", range(15))
def test_each_operation_of_randaugment_is_that_of_timm(number, sign, monkeypatch):
    policy = transform(FINETUNE.format("base"), "RandAugment")
    assert len(policy.transforms) == len(_RAND_INCREASING_TRANSFORMS)
    assert (policy.num_policies, policy.magnitude_level, policy.magnitude_std) == (2, 9, 0.5)
    ours = copy.deepcopy(policy.transforms[number])
    assert ours.prob == 0.5
    assert ours.random_negative_prob in (0, 0.5)
    ours.prob, ours.magnitude_std = 1.0, 0.0
    # cv2 shears and turns the other way round; both signs are equally likely
    geometric = type(ours).__name__ in ("Shear", "Translate", "Rotate")
    if ours.random_negative_prob:
        ours.random_negative_prob = float((sign > 0) == geometric)
    theirs = AugmentOp(
        _RAND_INCREASING_TRANSFORMS[number],
        prob=1.0,
        magnitude=9,
        hparams=dict(img_mean=(124, 116, 104), interpolation=Image.Resampling.BICUBIC),
    )
    monkeypatch.setattr(random, "random", lambda: 0.0 if sign > 0 else 1.0)
    image = smooth_image(120, 160)
    if not geometric:  # details, in the middle of the range
        noise = np.random.default_rng(1).normal(0, 12, (120, 160, 3))
        image = Image.fromarray(
            np.clip(np.array(image) * 0.5 + 64 + noise, 0, 255).astype(np.uint8)
        )
    found = ours.transform(dict(img=np.array(image)[..., ::-1].copy()))["img"][..., ::-1]
    expected = np.array(theirs(image))
    difference = np.abs(found.astype(int) - expected).mean()
    assert difference < 4, (type(ours).__name__, _RAND_INCREASING_TRANSFORMS[number])
    assert np.abs(expected.astype(int) - np.array(image)).mean() > 4  # it does something


def test_magnitudes_of_randaugment_vary_as_in_timm():
    policy = transform(FINETUNE.format("base"), "RandAugment")
    (shear,) = (
        t
        for t in policy.transforms
        if getattr(t, "direction", "") == "vertical" and type(t).__name__ == "Shear"
    )
    ours = np.array([shear.random_magnitude() for _ in range(4000)]) * 10 / 0.3
    theirs = np.clip([random.gauss(9, 0.5) for _ in range(4000)], 0, 10)
    assert ks_2samp(ours, theirs).pvalue > 0.01


def test_erased_pixels_are_noise_of_normalised_images_as_in_timm():
    ours = transform(FINETUNE.format("base"), "RandomErasing")
    theirs = RandomErasing(0.25, mode="pixel", max_count=1, device="cpu")
    shares: dict[str, list[float]] = dict(ours=[], theirs=[])
    pixels: dict[str, list[torch.Tensor]] = dict(ours=[], theirs=[])
    untouched = np.full((64, 64, 3), 255, dtype=np.uint8)
    for _ in range(3000):
        image = ours.transform(dict(img=untouched.copy()))["img"]
        normalised = (torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1) - MEAN) / STD
        blank = (255 - MEAN.expand(3, 64, 64)) / STD
        for name, result in (("ours", normalised), ("theirs", theirs(blank.clone()))):
            changed = (result != blank).any(dim=0)
            shares[name].append(changed.float().mean().item())
            pixels[name].append(result[:, changed])
    erased = {name: np.array([s for s in values if s]) for name, values in shares.items()}
    for name, values in erased.items():
        assert len(values) / 3000 == pytest.approx(0.25, abs=0.03), name
    # ours cuts off a long side where timm draws again
    assert ks_2samp(erased["ours"], erased["theirs"]).pvalue > 0.01
    for values in pixels.values():
        noise = torch.cat(values, dim=1)
        # ours is rounded and clipped to 0..255, which is 2.1 to 2.6 standard deviations away
        torch.testing.assert_close(noise.mean(dim=1), torch.zeros(3), rtol=0, atol=0.03)
        torch.testing.assert_close(noise.std(dim=1), torch.ones(3), rtol=0, atol=0.05)


def test_mixing_ratios_and_the_choice_between_mixup_and_cutmix_are_those_of_timm():
    augment = RandomBatchAugment(load(FINETUNE.format("base")).model.train_cfg.augments)
    theirs = Mixup(0.8, 1.0, prob=1.0, switch_prob=0.5, label_smoothing=0.1, num_classes=4)
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 56, 56)
    ratios: dict[tuple[str, bool], list[float]] = {}
    for _ in range(1500):
        lam, is_cutmix = theirs._params_per_batch()
        if is_cutmix:
            _, lam = _timm_cutmix_lam(lam)
        ratios.setdefault(("theirs", bool(is_cutmix)), []).append(float(lam))
        mixed, labels = augment(images.clone(), torch.eye(4))
        # of an image that was mixed with another one
        moved = [i for i in range(4) if labels[i, i] < 1]
        if moved:
            i = moved[0]
            is_cutmix = bool(torch.isin(mixed[i], torch.arange(4.0)).all())
            ratios.setdefault(("ours", is_cutmix), []).append(labels[i, i].item())
            # labels say how much of the image is left
            if is_cutmix:
                left = (mixed[i] == i).float().mean()
                assert left == pytest.approx(labels[i, i].item(), abs=1e-6)
    for is_cutmix in (False, True):
        ours, expected = ratios["ours", is_cutmix], ratios["theirs", is_cutmix]
        assert len(expected) / 1500 == pytest.approx(0.5, abs=0.05)
        assert len(ours) / len(expected) == pytest.approx(1, abs=0.15)
        expected = [lam for lam in expected if lam < 1]
        assert ks_2samp(ours, expected).pvalue > 0.01


def _timm_cutmix_lam(lam: float) -> tuple:
    from timm.data.mixup import cutmix_bbox_and_lam

    return cutmix_bbox_and_lam((4, 1, 56, 56), lam, correct_lam=True)


def test_loss_of_mixed_and_smoothed_labels_is_that_of_timm():
    scores, lam = torch.randn(6, 10), 0.3
    labels = torch.randint(10, (6,))
    one_hot = F.one_hot(labels, 10).float()
    loss = CLS_MODELS.build(load(FINETUNE.format("base")).model.head.loss)
    ours = loss(scores, lam * one_hot + (1 - lam) * one_hot.flip(0))
    targets = mixup_target(labels, num_classes=10, lam=lam, smoothing=0.1)
    torch.testing.assert_close(ours, SoftTargetCrossEntropy()(scores, targets))


@pytest.mark.parametrize("recipe", [FINETUNE.format("base"), LINEAR.format("base")])
@pytest.mark.parametrize(("height", "width"), [(300, 401), (333, 250), (256, 256)])
def test_validation_images_are_those_of_torchvision(recipe, height, width, tmp_path):
    check_validation(recipe, tmp_path, smooth_image(height, width), short_side=256, crop=224)


@pytest.mark.parametrize("arch", ["base", "large"])
def test_validation_at_384_px_has_no_margin(arch, tmp_path):
    recipe = FINETUNE.format(arch) + "-384x384"
    check_validation(recipe, tmp_path, smooth_image(400, 501), short_side=384, crop=384)


def check_validation(recipe: str, folder: Path, image: Image.Image, short_side: int, crop: int):
    image.save(folder / "image.png")
    pipeline = load(recipe).val_dataloader.dataset.pipeline
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        found = Compose(pipeline)(dict(img_path=str(folder / "image.png"), gt_label=0))["inputs"]
    resize = v2.Resize(short_side, interpolation=v2.InterpolationMode.BICUBIC)
    expected = v2.functional.pil_to_tensor(v2.CenterCrop(crop)(resize(image)))
    assert torch.equal(found.flip(0), expected)


def test_recipes_at_384_px_differ_in_sizes_only():
    for arch in ("base", "large"):
        small, large = load(FINETUNE.format(arch)), load(FINETUNE.format(arch) + "-384x384")
        assert large.model.backbone.img_size == 384
        large.model.backbone.img_size = 224
        assert large.model == small.model
        for key in ("optim_wrapper", "param_scheduler", "train_cfg", "total_batch"):
            assert large[key] == small[key]
        (crop,) = (
            t for t in large.train_dataloader.dataset.pipeline if "RandomResizedCrop" in t.type
        )
        assert crop.scale == 384
        crop.scale = 224
        assert large.train_dataloader == small.train_dataloader


# Optimisation of finetuning


@pytest.mark.parametrize(
    ("arch", "depth", "decay", "drop_path"), [("base", 12, 0.65, 0.1), ("large", 24, 0.75, 0.2)]
)
def test_finetuning_rates_fall_towards_the_image(arch, depth, decay, drop_path):
    config = load(FINETUNE.format(arch))
    model = build_without_memory(config)
    assert config.model.backbone.drop_path_rate == drop_path
    rules = parameter_rules(model, **config.optim_wrapper.paramwise_cfg)
    assert len(rules) == len(list(model.parameters()))
    for name, factor, decays in rules:
        if name.startswith("backbone.layers."):
            exponent = depth - int(name.split(".")[2])
        elif name.startswith(("backbone.ln2.", "head.")):
            exponent = 0
        else:  # class token, positions, patch embedding
            exponent = depth + 1
        assert factor == pytest.approx(decay**exponent), name
        shape = model.get_parameter(name).shape
        tokens = name in ("backbone.cls_token", "backbone.pos_embed")
        assert decays == (len(shape) > 1 and not tokens), name


@pytest.mark.parametrize(
    ("recipe", "lr", "min_lr", "warmup"),
    [
        (FINETUNE.format("base"), 4e-4, 1e-6, 5),
        (FINETUNE.format("large"), 4e-4, 1e-6, 5),
        (LINEAR.format("base"), 3.2, 0.0, 10),
        (LINEAR.format("large"), 1.28, 0.0, 10),
    ],
)
def test_learning_rate_follows_the_published_formula_in_every_group(recipe, lr, min_lr, warmup):
    config = load(recipe)
    model = build_without_memory(config)
    optimizer = build_optimizer(config, model)
    scales = [group["lr"] / lr for group in optimizer.param_groups]
    assert max(scales) == pytest.approx(1.0)
    iterations = 20  # of an epoch
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        schedulers = [
            PARAM_SCHEDULERS.build(
                scheduler, default_args=dict(optimizer=optimizer, epoch_length=iterations)
            )
            for scheduler in config.param_scheduler
        ]
    for i in range(100 * iterations):
        epoch = i / iterations
        if epoch < warmup:
            expected = lr * epoch / warmup
        else:
            cosine = math.cos(math.pi * (epoch - warmup) / (100 - warmup))
            expected = min_lr + (lr - min_lr) * 0.5 * (1 + cosine)
        for group, scale in zip(optimizer.param_groups, scales, strict=True):
            assert group["lr"] == pytest.approx(expected * scale, abs=1e-6 * lr * scale)
        for scheduler in schedulers:
            scheduler.step()


def test_heads_start_as_published():
    for recipe, std in ((FINETUNE.format("base"), 0.02), (LINEAR.format("base"), 0.01)):
        with DefaultScope.overwrite_default_scope("mmpretrain"):
            head = CLS_MODELS.build(load(recipe).model.head)
        head.init_weights()
        assert head.fc.weight.std().item() == pytest.approx(std, rel=0.02)
        # a normal distribution cut off at 2, as timm's trunc_normal_, and not at 2 deviations
        assert 4 * std < head.fc.weight.abs().max() < 2
        assert not head.fc.bias.any()


# Linear probe


def tiny_probe() -> torch.nn.Module:
    config = load(LINEAR.format("base")).model
    config.backbone.update(arch=ARCHS["tiny"] | dict(num_layers=1), img_size=32)
    config.neck.input_features = config.head.in_channels = 192
    config.head.num_classes = config.data_preprocessor.num_classes = 5
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return MODELS.build(config)


def test_lars_takes_the_steps_that_are_worked_out_by_hand():
    config = load(LINEAR.format("base"))
    model = tiny_probe()
    model.init_weights()
    with torch.no_grad():
        model.head.fc.bias.normal_()
    weight, bias = model.head.fc.weight, model.head.fc.bias
    wrapper = dict(config.optim_wrapper, type="OptimWrapper")
    optimizer = build_optim_wrapper(model, wrapper).optimizer
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert {id(weight), id(bias)} <= trained
    expected = {id(p): p.detach().double().clone() for p in (weight, bias)}
    momenta = {key: torch.zeros_like(value) for key, value in expected.items()}
    for lr in (0.1, 3.2, 1.0):  # the rate of a warm-up and of the way down
        for group in optimizer.param_groups:
            group["lr"] = lr
        for p in (weight, bias):
            p.grad = torch.randn_like(p)
            step = p.grad.double()
            if p.ndim > 1:
                step = step * 1e-3 * expected[id(p)].norm() / step.norm()
            momenta[id(p)] = 0.9 * momenta[id(p)] + step
            expected[id(p)] = expected[id(p)] - lr * momenta[id(p)]
        optimizer.step()
        for p in (weight, bias):
            torch.testing.assert_close(p.double(), expected[id(p)], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("arch", ["base", "large"])
def test_probe_trains_the_linear_layer_only(arch):
    model = build_without_memory(load(LINEAR.format(arch)))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained == ["head.fc.weight", "head.fc.bias"]
    optimizer = build_optimizer(load(LINEAR.format(arch)), model)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0}


def test_probe_normalises_the_class_token_over_the_batch():
    model = tiny_probe().train()
    assert not any(module.training for module in model.backbone.modules())
    images = torch.randn(16, 3, 32, 32)
    (tokens,) = model.backbone(images)
    (found,) = model.extract_feat(images)
    expected = (tokens - tokens.mean(dim=0)) / (tokens.var(dim=0, unbiased=False) + 1e-6).sqrt()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not list(model.neck.parameters())


def test_crops_of_the_probe_are_drawn_once_and_clipped():
    crop = transform(LINEAR.format("base"), "MAERandomResizedCrop")
    image = Image.new("RGB", (400, 100))  # so wide that most crops do not fit
    sizes = [crop.get_params(image, crop.scale, crop.ratio)[2:] for _ in range(4000)]
    rng = np.random.default_rng(0)
    area = 400 * 100 * rng.uniform(0.08, 1, 4000)
    ratio = np.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3), 4000))
    widths = np.minimum(np.round(np.sqrt(area * ratio)), 400)
    heights = np.minimum(np.round(np.sqrt(area / ratio)), 100)
    found_heights, found_widths = np.array(sizes).T
    assert ks_2samp(found_heights, heights).pvalue > 0.01
    assert ks_2samp(found_widths, widths).pvalue > 0.01
    assert (found_heights == 100).mean() > 0.5  # torchvision would have drawn again


def test_crops_of_the_probe_are_bicubic_and_keep_the_colours(tmp_path):
    image = smooth_image(120, 160)
    image.save(tmp_path / "image.png")
    pipeline = copy.deepcopy(load(LINEAR.format("base")).train_dataloader.dataset.pipeline)
    pipeline = [t for t in pipeline if t.type != "mmpretrain.RandomFlip"]
    (crop,) = (t for t in pipeline if t.type == "mmpretrain.MAERandomResizedCrop")
    crop.update(scale=(1.0, 1.0), ratio=(4 / 3, 4 / 3))  # the whole image
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        out = Compose(pipeline)(dict(img_path=str(tmp_path / "image.png"), gt_label=0))["inputs"]
    expected = image.resize((224, 224), Image.Resampling.BICUBIC)
    assert torch.equal(out.flip(0), v2.functional.pil_to_tensor(expected))


def test_every_classification_recipe_at_paper_scale_is_listed():
    recipes = [r for r in list_configs() if r.startswith("cls/") and r.endswith(("in1k", "384"))]
    expected = [
        pattern.format(arch) for pattern in (FINETUNE, LINEAR) for arch in ("base", "large")
    ]
    expected += [FINETUNE.format(arch) + "-384x384" for arch in ("base", "large")]
    expected.append("cls/finetune_vit-huge-p14_8xb128-amp-coslr-50e_in1k")
    assert sorted(recipes) == sorted(expected)
