"""Every recipe in configs/: builds at full size, runs one step, and is what its name says.

A new file in configs/ is covered without a change here, as long as it keeps to the naming scheme
`<method>_<arch>_<gpus>xb<batch>[-amp]-...-<length>_<data>`.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset, LVISV1Dataset
from mmdet.registry import MODELS as DET_MODELS
from mmdet.structures import DetDataSample
from mmengine import registry as root
from mmengine.config import Config, ConfigDict
from mmengine.dataset import COLLATE_FUNCTIONS, Compose
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from mmseg.datasets import (
    ADE20KDataset,
    CityscapesDataset,
    COCOStuffDataset,
    PascalContextDataset59,
)
from torch import Tensor, nn

from milan_mm.configs import find_config, list_configs, load
from milan_mm.models.vit_options import ARCHS
from milan_mm.registry import MODELS
from milan_mm.run.building import build_without_memory
from milan_mm.run.config_nodes import config_nodes
from milan_mm.run.machine import fit_to_machine
from milan_mm.run.quick import make_quick
from milan_mm.shapes.captions import COLOURS, SIZES
from milan_mm.shapes.scenes import DENSE_CLASSES
from tests.helpers import narrow_teacher

RECIPES = list_configs()
PRETRAINING = [recipe for recipe in RECIPES if recipe.startswith("pretrain/")]
NAME = re.compile(
    r"(?P<method>[a-z0-9-]+)_vit-(?P<arch>[a-z]+)-p(?P<patch>\d+)_(?P<gpus>\d+)xb(?P<batch>\d+)"
    r"(?P<amp>-amp)?(?P<options>(?:-[a-z]+)*)-(?P<length>\d+)(?P<unit>e|i|k)"
    r"_(?P<data>[a-z0-9]+|pascal-context-59|coco-stuff164k)(?:-(?P<size>\d+x\d+))?(?:-[a-z]+)?"
)
METHODS = {
    "milan": ("MILAN", "CLIPTargetHead"),
    "milan-clip-large": ("MILAN", "CLIPTargetHead"),
    "milan-siglip": ("MILAN", "CLIPTargetHead"),
    "mae": ("MILAN", "PixelTargetHead"),
    "distillation": ("MILAN", "CLIPTargetHead"),
    "row": ("MILAN", None),  # of the ablation, whose parts have a test of their own
    "mask-rcnn": ("MaskRCNN", None),
    "cascade-mask-rcnn": ("CascadeRCNN", None),
    "fcos": ("FCOS", None),
    "mask2former": ("Mask2Former", None),
    "upernet": ("EncoderDecoder", None),
    "linear-head": ("EncoderDecoder", None),
    "seg/mask2former": ("EncoderDecoder", None),
    "linear-depth": ("DepthEstimator", None),
    "finetune": ("ImageClassifier", "LinearClsHead"),
    "linear": ("ImageClassifier", "LinearClsHead"),
}
# Rows beyond the paper, by their teachers.
FURTHER = {10: "siglip", 11: "dinov3", 12: "evaclip", 13: "mae", 14: "milan"}
TABLE_4 = {  # of arXiv 2208.06049: target, decoder, sampling
    1: ("pixel", "mae", "uniform"),
    2: ("clip", "mae", "uniform"),
    3: ("pixel", "prompting", "uniform"),
    4: ("pixel", "mae", "semantic"),
    5: ("pixel", "prompting", "semantic"),
    6: ("clip", "mae", "semantic"),
    7: ("clip", "prompting", "uniform"),
    8: ("clip", "prompting", "semantic"),
    9: ("slip", "prompting", "semantic"),
}
DATA = {
    "in1k": "imagenet",
    "coco": "coco",
    "lvis": "lvis_v1",
    "ade20k": "ade",
    "cityscapes": "cityscapes",
    "pascal-context-59": "VOCdevkit/VOC2010",
    "coco-stuff164k": "coco_stuff164k",
    "nyu": "nyu",
    "shapes": "work_dirs/shapes",
    "cifar10": "work_dirs/cifar10",
    "photographs": "work_dirs/photographs",
}
SMALL_ARCHS = {
    "mini": dict(embed_dims=192, num_layers=6, num_heads=6),
    "micro": dict(embed_dims=128, num_layers=4, num_heads=4),
}
# where an iteration-based recipe counts epochs in its name
NUM_IMAGES = {"coco": 118_000, "lvis": 100_000}
DET_CLASSES = dict(
    shapes=SIZES,
    coco=CocoDataset.METAINFO["classes"],
    lvis=LVISV1Dataset.METAINFO["classes"],
)

SEG_CLASSES = {
    "shapes": DENSE_CLASSES,
    "ade20k": ADE20KDataset.METAINFO["classes"],
    "cityscapes": CityscapesDataset.METAINFO["classes"],
    "pascal-context-59": PascalContextDataset59.METAINFO["classes"],
    "coco-stuff164k": COCOStuffDataset.METAINFO["classes"],
}

each_recipe = pytest.mark.parametrize("recipe", RECIPES)


def parts_of(recipe: str) -> dict[str, str | None]:
    match = NAME.fullmatch(recipe.rsplit("/", 1)[-1])
    assert match, f"{recipe} does not follow the naming scheme"
    return match.groupdict()


def last_part(type_name: str) -> str:
    return type_name.rsplit(".", 1)[-1]


# What the name promises


@each_recipe
def test_method_and_arch_are_those_of_the_name(recipe):
    name, model = parts_of(recipe), load(recipe).model
    method = re.sub(r"-\d.*", "", name["method"])
    algorithm, head = METHODS.get(f"{recipe.partition('/')[0]}/{method}") or METHODS[method]
    assert last_part(model.type) == algorithm
    if head:
        assert last_part(model.head.type) == head
    arch = model.backbone.arch
    assert arch == SMALL_ARCHS.get(name["arch"], name["arch"])
    assert model.backbone.patch_size == int(name["patch"])


@pytest.mark.parametrize("recipe", [r for r in RECIPES if "/ablation/" in r])
def test_parts_of_an_ablation_row_are_those_of_its_name_and_of_the_paper(recipe):
    _, row, target, decoder, sampling = parts_of(recipe)["method"].split("-")
    expected = TABLE_4.get(int(row)) or (FURTHER[int(row)], "prompting", "semantic")
    assert expected == (target, decoder, sampling)
    model = load(recipe).model
    head = dict(pixel="PixelTargetHead").get(target, "CLIPTargetHead")
    assert last_part(model.head.type) == head
    assert model.head.get("norm_pix", True)
    if head == "CLIPTargetHead":
        teacher = dict(clip="CLIPTeacher", slip="TimmTeacher").get(target, "EncoderTeacher")
        assert last_part(model.head.teacher.type) == teacher
    assert (
        last_part(model.decoder.type)
        == dict(mae="MAEDecoder", prompting="PromptingDecoder")[decoder]
    )
    generator = dict(uniform="UniformMaskGenerator", semantic="SemanticMaskGenerator")[sampling]
    assert last_part(model.mask_generator.type) == generator


def test_every_row_of_the_ablation_is_there_once():
    rows = [parts_of(r)["method"].split("-")[1] for r in RECIPES if "/ablation/" in r]
    assert sorted(map(int, rows)) == [*TABLE_4, *FURTHER]


@each_recipe
def test_total_batch_is_that_of_the_name_and_of_the_learning_rate(recipe):
    name, config = parts_of(recipe), load(recipe)
    gpus, batch = int(name["gpus"]), int(name["batch"])
    assert (config.gpus, config.batch_per_gpu) == (gpus, batch)
    assert config.train_dataloader.batch_size == batch
    assert config.total_batch == config.auto_scale_lr.base_batch_size == gpus * batch


@each_recipe
def test_length_is_that_of_the_name(recipe):
    name, config = parts_of(recipe), load(recipe)
    length = int(name["length"]) * (1000 if name["unit"] == "k" else 1)
    if name["unit"] == "e" and config.train_cfg.type == "IterBasedTrainLoop":
        epochs = config.train_cfg.max_iters * config.total_batch / NUM_IMAGES[name["data"]]
        assert epochs == pytest.approx(length, rel=3e-3)
    else:
        assert config.train_cfg["max_epochs" if name["unit"] == "e" else "max_iters"] == length


@each_recipe
def test_amp_in_the_name_means_mixed_precision_and_its_absence_float32(recipe):
    wrapper = last_part(load(recipe).optim_wrapper.type)
    assert wrapper in ("BFloat16OptimWrapper", "AmpOptimWrapper", "OptimWrapper")
    assert ("-amp-" in recipe) == (wrapper != "OptimWrapper")


@each_recipe
def test_options_of_the_name_are_in_the_config(recipe):
    config = load(recipe)
    schedulers = [scheduler.type for scheduler in config.param_scheduler]
    pipeline = {last_part(t.type): t for t in config.train_dataloader.dataset.pipeline}
    present = {
        "coslr": "CosineAnnealingLR" in schedulers,
        "lsj": list(pipeline.get("RandomResize", {}).get("ratio_range", ())) == [0.1, 2.0],
    }
    for option in (parts_of(recipe)["options"] or "").split("-"):
        assert not option or present[option], option


@each_recipe
def test_data_is_that_of_the_name(recipe):
    name, config = parts_of(recipe), load(recipe)
    assert DATA[name["data"]] in config.train_dataloader.dataset.data_root
    if name["size"]:
        size = tuple(int(side) for side in name["size"].split("x"))
        assert (
            tuple(config.model.data_preprocessor.get("size", [config.get("img_size")] * 2)) == size
        )


# What holds for every recipe


@each_recipe
def test_docstring_gives_the_command(recipe):
    text = find_config(recipe).read_text()
    docstring = text.split('"""')[1]
    assert re.search(rf"Run: [^\n]*(\\\n *)?\S*{recipe}|tools/demo\.py", docstring)


@each_recipe
def test_schedule_ends_with_the_training(recipe):
    config = load(recipe)
    loop = config.train_cfg
    last = config.param_scheduler[-1]
    total = loop.get("max_iters") or loop.max_epochs
    if last.type == "MultiStepLR":
        assert max(last.milestones) < total
    else:
        assert last.get("end", last.get("T_max")) == total


@each_recipe
def test_gradual_warm_up_hands_over_without_a_gap(recipe):
    schedulers = load(recipe).param_scheduler
    for before, after in itertools.pairwise(schedulers):
        assert after.get("begin", 0) in (0, before.end)


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r.startswith(("pretrain/", "cls/"))])
def test_learning_rate_is_the_base_rate_times_the_batch(recipe):
    config = load(recipe)
    if "continued" in recipe:  # starts at the end of a schedule
        return
    assert config.optim_wrapper.optimizer.lr == config.base_lr * config.total_batch / 256


@pytest.mark.parametrize("recipe", [r for r in PRETRAINING if r.endswith("_in1k")])
def test_pretraining_at_paper_scale_has_the_published_optimizer(recipe):
    config = load(recipe)
    optimizer = config.optim_wrapper.optimizer
    assert (config.base_lr, config.total_batch) == (1.5e-4, 4096)
    assert (optimizer.type, optimizer.weight_decay, *optimizer.betas) == ("AdamW", 0.05, 0.9, 0.95)


def test_pretraining_at_paper_scale_has_the_published_rate_in_every_iteration():
    config, iterations = load("pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k"), 3
    lr, warm_up = 2.4e-3, 40
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    defaults = dict(optimizer=optimizer, epoch_length=iterations)
    schedulers = [
        root.PARAM_SCHEDULERS.build(s, default_args=defaults) for s in config.param_scheduler
    ]
    for iteration in range(400 * iterations):
        epoch = iteration / iterations
        expected = lr * 0.5 * (1 + np.cos(np.pi * (epoch - warm_up) / (400 - warm_up)))
        if epoch < warm_up:
            expected = lr * epoch / warm_up
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, abs=1e-8 * lr)
        for scheduler in schedulers:
            scheduler.step()


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r.startswith("cls/")])
def test_classifier_has_as_many_classes_as_the_data(recipe):
    classes = dict(shapes=len(COLOURS), in1k=1000, cifar10=10, photographs=40)[
        parts_of(recipe)["data"]
    ]
    assert load(recipe).model.head.num_classes == classes


@each_recipe
def test_unused_parameters_are_not_searched_for(recipe):
    assert not load(recipe).get("find_unused_parameters", False)


@each_recipe
def test_hooks_and_data_sets_are_registered(recipe):
    config = load(recipe)
    hooks = [
        hook.type for hook in (*config.default_hooks.values(), *config.get("custom_hooks", ()))
    ]
    with root.HOOKS.switch_scope_and_registry(config.default_scope) as registry:
        assert [name for name in hooks if registry.get(name) is None] == []
    with root.DATASETS.switch_scope_and_registry(config.default_scope) as registry:
        assert registry.get(config.train_dataloader.dataset.type)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
            if config.get(loader):
                Compose(config[loader].dataset.pipeline)


@each_recipe
def test_recipe_builds_at_full_size(recipe):
    name, config = parts_of(recipe), load(recipe)
    model = build_without_memory(config)
    settings = (ARCHS | SMALL_ARCHS)[name["arch"]]
    assert model.backbone.embed_dims == settings["embed_dims"]
    assert len(model.backbone.layers) == settings["num_layers"]
    assert build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups


@each_recipe
def test_dense_backbone_serves_all_levels_that_the_neck_asks_for(recipe):
    model = load(recipe).model
    if recipe.startswith("det/"):
        assert model.neck.in_channels == _width(model.backbone)
    if "decode_head" in model:
        width = _width(model.backbone)
        levels = len(model.backbone.out_indices)
        if "rescales" not in model.neck and "num_extra_outs" in model.neck:
            assert (levels, model.neck.in_channels) == (1, width)
            assert model.decode_head.in_channels == [model.neck.out_channels] * 4
        elif "rescales" in model.neck:
            assert levels == len(model.neck.rescales) == len(model.decode_head.in_channels)
            assert model.neck.embed_dim == width
        else:
            assert (levels, model.neck.embed_dims, model.decode_head.in_channels) == (
                1,
                width,
                width,
            )


def _width(backbone: ConfigDict) -> int:
    arch = backbone.arch
    return (ARCHS[arch] if isinstance(arch, str) else arch)["embed_dims"]


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r.startswith(("det/", "seg/"))])
def test_classes_agree_between_data_and_heads(recipe):
    name, config = parts_of(recipe), load(recipe)
    if recipe.startswith("det/"):
        expected = DET_CLASSES[name["data"]]
        kinds = ("num_classes", "num_things_classes")
        parts = [node for _, node in config_nodes(config.model) if {*kinds} & {*node}]
        found = {node[kind] for node in parts for kind in kinds if kind in node}
        assert found == {len(expected)}
        heads = []
    else:
        expected = SEG_CLASSES[name["data"]]
        heads = [config.model.decode_head, config.model.get("auxiliary_head"), config.load_labels]
    assert {head.num_classes for head in heads if head} <= {len(expected)}
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        classes = loader.dataset.get("metainfo", dict(classes=expected))["classes"]
        assert list(classes) == list(expected)


# One step of training


def shrink(config: Config, folder: Path) -> tuple[Config, int]:
    """Fewer blocks, a narrow teacher and, where it saves time, smaller images and fewer regions.

    Returns:
        The config, and the side of the images in pixels.
    """
    backbone = config.model.backbone
    arch = backbone.arch
    arch = dict(ARCHS[arch] if isinstance(arch, str) else arch)
    levels = len(backbone.get("out_indices", (-1,)))
    arch["num_layers"] = max(2, levels)
    backbone.arch = arch
    if levels > 1:
        backbone.out_indices = tuple(range(levels))
    if backbone.get("window_size"):
        backbone.global_layers = (1,)
    if "num_layers" in config.model.get("decoder", {}):
        config.model.decoder.num_layers = 2
    if "teacher" in (config.model.get("head") or {}):
        teacher = config.model.head.teacher
        narrow = "vit_tiny_patch16_224"
        if last_part(teacher.type) == "EncoderTeacher":
            config.model.decoder.target_dims = 192
            teacher.pop("projection", None)
        if last_part(teacher.type) == "CLIPTeacher":
            narrow = narrow_teacher(teacher.model_name, folder)
        teacher.update(model_name=narrow, pretrained="random")
    if "roi_head" in config.model:
        stages, heads = config.model.train_cfg.rcnn, config.model.roi_head.bbox_head
        (stages[0] if isinstance(stages, list) else stages).sampler.num = 32
        for head in heads if isinstance(heads, list) else [heads]:
            head.fc_out_channels = 64
    if "panoptic_head" in config.model:
        config.model.panoptic_head.transformer_decoder.num_layers = 2
        config.model.panoptic_head.pixel_decoder.encoder.num_layers = 1
    if levels > 1:  # UperNet
        config.model.decode_head.channels = config.model.auxiliary_head.channels = 64
    preprocessor = config.model.data_preprocessor
    if preprocessor.get("pad_size_divisor", 1) > 256:  # pads every image to one size
        preprocessor.pad_size_divisor = 256
    if "num_queries" in (config.model.get("decode_head") or {}):  # Mask2Former
        head = config.model.decode_head
        head.num_queries, head.train_cfg.num_points = 10, 128
        head.transformer_decoder.num_layers = head.pixel_decoder.encoder.num_layers = 3
        config.train_dataloader.dataset.pipeline[2].scales = [64]
    small: dict = {(1024, 1024): (256, 256), (2048, 512): (256, 64), (2048, 1024): (128, 64)}
    small |= dict.fromkeys([(480, 480), (512, 512), (520, 520), (768, 768)], (64, 64))
    small |= {(416, 544): (64, 80), (480, 640): (64, 80), (2000, 480): (200, 64)}  # NYU
    if "head" in config.model and "decoder" not in config.model:  # bound to no grid
        small |= {config.img_size: 64 // backbone.patch_size * backbone.patch_size}
    config = _replace(config, small.get)
    side = config.get("img_size") or config.crop_size
    return config, side if isinstance(side, int) else side[0]


def _replace(config: Config, change: Callable) -> Config:
    """Replace numbers and pairs of numbers wherever they stand."""

    def walk(node: object) -> object:
        if isinstance(node, dict):
            return ConfigDict({key: walk(value) for key, value in node.items()})
        if isinstance(node, (list, tuple)):
            if len(node) == 2 and all(isinstance(value, int) for value in node):
                return change(tuple(node)) or node
            return type(node)(walk(value) for value in node)
        return change(node) or node if isinstance(node, int) else node

    return Config(walk(config.to_dict()))


def write_sample(folder: Path, side: int, recipe: str, number: int) -> dict:
    """A picture of a rectangle with its annotations, as the data sets hand it to the pipeline."""
    generator = np.random.default_rng(number)
    image = generator.integers(0, 255, (side, side, 3), dtype=np.uint8)
    low, high = side // 8, side - side // 4
    labels = np.ones((side, side), dtype=np.uint8)
    labels[low:high, low:high] = 2
    image[low:high, low:high, number % 3] = 255
    cv2.imwrite(str(folder / f"{number}.png"), image)
    cv2.imwrite(str(folder / f"{number}_labels.png"), labels)
    sample = dict(img_path=str(folder / f"{number}.png"), img_id=number, sample_idx=number)
    if recipe.startswith("det/"):
        polygon = [low, low, high, low, high, high, low, high]
        instance = dict(bbox=[low, low, high, high], bbox_label=1, mask=[polygon], ignore_flag=0)
        sample |= dict(instances=[instance], height=side, width=side)
    if recipe.startswith("cls/"):
        sample |= dict(gt_label=number)
    if recipe.startswith("seg/"):
        labels_path = str(folder / f"{number}_labels.png")
        sample |= dict(
            seg_map_path=labels_path, reduce_zero_label=True, label_map=None, seg_fields=[]
        )
    if recipe.startswith("depth/"):
        depths = labels.astype(np.uint16) * 1500  # millimetres
        cv2.imwrite(str(folder / f"{number}_depth.png"), depths)
        sample |= dict(depth_map_path=str(folder / f"{number}_depth.png"), seg_fields=[])
    return sample


def run_step(
    recipe: str, folder: Path, config: Config | None = None
) -> tuple[nn.Module, OptimWrapper, Tensor]:
    """A shrunk recipe on two images of its own pipeline, up to the backward pass.

    Args:
        config: One that inherits from it.

    Returns:
        The model with its gradients, its optimizer before the step, and the loss.
    """
    config, side = shrink(config or load(recipe), folder)
    fit_to_machine(config, "none")  # many CPUs do not multiply in bfloat16
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)
        model.init_weights()
        optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
        loader = config.train_dataloader
        pipeline = Compose(loader.dataset.pipeline)
        samples = [pipeline(write_sample(folder, side, recipe, i)) for i in range(2)]
        collate = loader.get("collate_fn", dict(type="pseudo_collate"))
        batch = COLLATE_FUNCTIONS.get(collate["type"])(samples)
        model.train()
        data = model.data_preprocessor(batch, True)
        with optim_wrapper.optim_context(model):
            losses = model(**data, mode="loss")
        loss, _ = model.parse_losses(losses)
    optim_wrapper.backward(loss)
    return model, optim_wrapper, loss


def choices(node: object, name: str = "") -> Iterator[tuple[str, object]]:
    """What a config chooses by names and switches, not by numbers or sizes."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key not in ("arch", "model_name"):
                yield from choices(value, f"{name}.{key}")
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from choices(value, f"{name}.{number}")
    elif node is None or isinstance(node, (str, bool)):
        yield name, node


def of_different_parts(recipes: list[str]) -> list[str]:
    """The first of each group whose models, optimizers and pipelines differ in numbers alone."""
    first: dict[tuple, str] = {}
    for recipe in recipes:
        config = load(recipe)
        parts = (config.model, config.optim_wrapper, config.train_dataloader.dataset.pipeline)
        first.setdefault((recipe.split("/")[0], *choices(parts)), recipe)
    return list(first.values())


# a step takes up to seconds, and all recipes are built at full size above
STEPPED = of_different_parts(RECIPES)


@pytest.mark.parametrize("recipe", STEPPED)
def test_recipe_runs_one_step_that_reaches_every_parameter(recipe, tmp_path):
    model, optim_wrapper, loss = run_step(recipe, tmp_path)
    assert loss.isfinite()
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in trainable.items() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in trainable.values())
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    moved = {name for name, p in trainable.items() if p.grad.any()}
    optim_wrapper.step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved <= changed <= set(trainable)
    if recipe.startswith("pretrain/"):  # dense heads may find nothing in two random images
        assert sorted(set(trainable) - moved) == []
    frozen = model.backbone.options.frozen
    assert frozen != any(name.startswith("backbone.layers.0.") for name in moved)
    if "teacher" in (load(recipe).model.get("head") or {}):
        assert_teacher_is_frozen(model, optim_wrapper)


def assert_teacher_is_frozen(model: nn.Module, optim_wrapper: OptimWrapper) -> None:
    teacher = dict(model.head.teacher.module.named_parameters())
    assert len(teacher) > 20
    assert [name for name, p in teacher.items() if p.requires_grad or p.grad is not None] == []
    optimised = {id(p) for group in optim_wrapper.param_groups for p in group["params"]}
    assert not optimised & {id(p) for p in teacher.values()}


@each_recipe
def test_quick_trial_keeps_the_model_and_the_images(recipe):
    config, quick = load(recipe), load(recipe)
    make_quick(quick, world_size=1)
    kept = [json.loads(json.dumps(c.model.backbone.to_dict())) for c in (config, quick)]
    assert kept[0] == kept[1]
    assert quick.train_dataloader.batch_size <= 2


def test_detector_sees_the_training_canvas_in_tests_too():
    config = load("det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco")
    preprocessor = DET_MODELS.build(config.model.data_preprocessor)
    image = torch.full((3, 683, 1024), 200, dtype=torch.uint8)
    sample = DetDataSample(metainfo=dict(img_shape=(683, 1024)))
    out = preprocessor(dict(inputs=[image], data_samples=[sample]), training=False)["inputs"]
    assert out.shape == (1, 3, 1024, 1024)
    assert (out[:, :, 683:] == 0).all() and (out[:, :, :683] != 0).all()
