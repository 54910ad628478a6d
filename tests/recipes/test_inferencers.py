"""OpenMMLab's inferencers take every recipe, and predict what a test of the same image gives.

The user's plain code: a config file, a checkpoint, an image; nothing of this package is called.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config
from mmengine.dataset import COLLATE_FUNCTIONS, Compose
from mmengine.registry import DefaultScope
from mmpretrain import FeatureExtractor, ImageClassificationInferencer
from mmseg.apis import MMSegInferencer, inference_model, init_model
from torch import Tensor, nn

from milan_mm.configs import list_configs, load
from milan_mm.errors import UserError
from milan_mm.registry import MODELS
from milan_mm.run.own_data.settings import set_num_classes
from tests.helpers import forget_runs, randomise
from tests.recipes.test_configs import STEPPED, shrink, write_sample

RECIPES = list_configs()
CLASSES = ("first", "second")
# theirs: no folder for a visualizer, random weights, defaults of their own losses
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning"),  # mmdet draws
]


class Files(NamedTuple):
    """What a user has."""

    config: str
    checkpoint: str
    image: str

    @property
    def array(self) -> np.ndarray:
        """The image as OpenCV reads it: (H, W, 3), BGR."""
        return cv2.imread(self.image)


def written(recipe: str, folder: Path) -> Files:
    """A shrunk recipe, random weights with the names of their classes, and an image."""
    cfg, side = shrink(load(recipe), folder)
    if recipe.startswith("det/"):
        set_num_classes(cfg.model, len(CLASSES))
        limits = cfg.model.test_cfg
        if "rpn" in limits:
            limits.rpn.update(nms_pre=50, max_per_img=20)
        # of one stage, of two, of queries
        name = "max_per_image" if "panoptic_head" in cfg.model else "max_per_img"
        limits.get("rcnn", limits).update({"score_thr": 0.0, name: 5})
    model = randomise(built(cfg))
    meta = dict(dataset_meta=dict(classes=CLASSES, palette=[(255, 0, 0), (0, 0, 255)]))
    files = Files(str(folder / "config.py"), str(folder / "weights.pth"), str(folder / "0.png"))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), files.checkpoint)
    cfg.dump(files.config)
    write_sample(folder, side + 13, recipe, number=0)
    forget_runs()
    return files


def built(cfg: Config) -> nn.Module:
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model)


def judged(files: Files, labels: dict) -> object:
    """What tools/test.py does with one image: the data of its loader, and the model's test step.

    Args:
        labels: What the data set knows besides the image.
    """
    cfg = Config.fromfile(files.config)
    model = built(cfg).eval()
    model.load_state_dict(torch.load(files.checkpoint, weights_only=True)["state_dict"])
    loader = cfg.test_dataloader
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.no_grad():
        sample = Compose(loader.dataset.pipeline)(dict(img_path=files.image, img_id=0) | labels)
        is_pretraining = cfg.model.type == "milan_mm.MILAN"
        kind = "default_collate" if is_pretraining else "pseudo_collate"
        collate = loader.get("collate_fn", dict(type=kind))["type"]
        data = COLLATE_FUNCTIONS.get(collate)([sample])
        if is_pretraining:
            return model.extract_feat(model.data_preprocessor(data, False)["inputs"])
        return model.test_step(data)[0]


def of_task(task: str) -> list[str]:
    return [recipe for recipe in RECIPES if recipe.startswith(f"{task}/")]


# Detection


def det_inferencer(files: Files, image: str | np.ndarray) -> tuple[Tensor, Tensor]:
    inferencer = DetInferencer(files.config, files.checkpoint, device="cpu", show_progress=False)
    assert inferencer.visualizer.dataset_meta["classes"] == CLASSES
    found = inferencer(image, return_datasamples=True)["predictions"][0].pred_instances
    return found.bboxes, found.scores


def detector(files: Files, image: str | np.ndarray) -> tuple[Tensor, Tensor]:
    model = init_detector(files.config, files.checkpoint, device="cpu")
    assert model.dataset_meta["classes"] == CLASSES
    found = inference_detector(model, image).pred_instances
    return found.bboxes, found.scores


@pytest.mark.long
@pytest.mark.parametrize("recipe", [r for r in of_task("det") if r in STEPPED])
def test_detectors(recipe: str, tmp_path: Path):
    files = written(recipe, tmp_path)
    expected = judged(files, dict(instances=[])).pred_instances
    assert len(expected) == 5
    for use, image in ((det_inferencer, files.image), (detector, files.array)):
        boxes, scores = use(files, image)
        assert torch.equal(boxes, expected.bboxes)
        assert torch.equal(scores, expected.scores)


@pytest.mark.parametrize("use", [det_inferencer, detector])
def test_detectors_take_files_and_arrays(use: Callable, tmp_path: Path):
    files = written("det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes", tmp_path)
    assert torch.equal(use(files, files.image)[0], use(files, files.array)[0])


def test_the_demo_of_mmdet_draws_and_writes_predictions(tmp_path: Path):
    files = written("det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes", tmp_path)
    inferencer = DetInferencer(
        model=files.config, weights=files.checkpoint, device="cpu", palette="none"
    )
    inferencer(
        inputs=files.image,
        out_dir=str(tmp_path / "outputs"),
        pred_score_thr=0.0,
        batch_size=1,
        show=False,
        no_save_vis=False,
        no_save_pred=False,
        print_result=False,
    )
    drawn = cv2.imread(str(tmp_path / "outputs/vis/0.png"))
    assert drawn.shape == files.array.shape and (drawn != files.array).any()
    assert (tmp_path / "outputs/preds/0.json").is_file()


# Segmentation


def seg_inferencer(files: Files, image: str | np.ndarray) -> np.ndarray:
    inferencer = MMSegInferencer(files.config, files.checkpoint, device="cpu", show_progress=False)
    assert inferencer.model.dataset_meta["classes"] == CLASSES
    return inferencer(image)["predictions"]


def segmentor(files: Files, image: str | np.ndarray) -> np.ndarray:
    model = init_model(files.config, files.checkpoint, device="cpu")
    assert model.dataset_meta["classes"] == CLASSES
    return inference_model(model, image).pred_sem_seg.data[0].numpy()


@pytest.mark.long
@pytest.mark.parametrize("recipe", [r for r in of_task("seg") if r in STEPPED])
def test_segmentors(recipe: str, tmp_path: Path):
    files = written(recipe, tmp_path)
    labels = dict(
        seg_map_path=files.image.replace(".png", "_labels.png"),
        reduce_zero_label=True,
        label_map=None,
        seg_fields=[],
    )
    expected = judged(files, labels).pred_sem_seg.data[0].numpy()
    assert len(np.unique(expected)) > 1 or "mask2former" in recipe  # untrained queries agree
    for use, image in ((seg_inferencer, files.image), (segmentor, files.array)):
        assert np.array_equal(use(files, image), expected)


@pytest.mark.parametrize("use", [seg_inferencer, segmentor])
def test_segmentors_take_files_and_arrays(use: Callable, tmp_path: Path):
    files = written("seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96", tmp_path)
    assert np.array_equal(use(files, files.image), use(files, files.array))


# Classification and pretraining


@pytest.mark.parametrize("recipe", of_task("cls"))
def test_classifiers_and_their_features(recipe: str, tmp_path: Path):
    files = written(recipe, tmp_path)
    expected = judged(files, dict(gt_label=0)).pred_score
    classify = ImageClassificationInferencer(files.config, files.checkpoint, device="cpu")
    assert classify.classes == CLASSES
    classify.classes = None  # the recipe has more
    for image in (files.image, files.array):
        assert np.array_equal(classify(image)[0]["pred_scores"], expected.numpy())
    extract = FeatureExtractor(files.config, files.checkpoint, device="cpu")
    ((found,),) = extract(files.image)
    (of_features,) = extract.model.head.predict((found[None],))
    torch.testing.assert_close(of_features.pred_score, expected)


@pytest.mark.parametrize("recipe", of_task("pretrain"))
def test_features_of_pretraining(recipe: str, tmp_path: Path):
    files = written(recipe, tmp_path)
    extract = FeatureExtractor(files.config, files.checkpoint, device="cpu")
    ((found,),) = extract(files.image)
    (expected,) = judged(files, {})
    assert torch.equal(found, expected[0])
    assert found.shape == (extract.model.backbone.embed_dims, *extract.model.backbone.grid_size)


# What goes wrong


def test_a_damaged_image_is_named_in_one_line(tmp_path: Path):
    files = written("det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes", tmp_path)
    Path(files.image).write_bytes(Path(files.image).read_bytes()[:200])
    inferencer = DetInferencer(files.config, files.checkpoint, device="cpu", show_progress=False)
    with pytest.raises(UserError, match=r"image '.*0\.png' cannot be read: "):
        inferencer(files.image)


def test_a_grey_image_is_read_as_by_the_test(tmp_path: Path):
    files = written("seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96", tmp_path)
    cv2.imwrite(files.image, mmcv.imread(files.image, "grayscale"))
    assert np.array_equal(seg_inferencer(files, files.image), seg_inferencer(files, files.array))
