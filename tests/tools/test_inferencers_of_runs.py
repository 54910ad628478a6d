"""OpenMMLab's inferencers take the config that a run saved, with the checkpoint beside it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmdet.apis import DetInferencer
from mmengine.config import Config
from mmpretrain import FeatureExtractor, ImageClassificationInferencer
from mmseg.apis import MMSegInferencer, inference_model, init_model

from tests.helpers import forget_runs
from tests.run.own_data.folders import COLOURS, coco_folder, image_folder, label_pairs, write_image

ENCODER = Path(__file__).resolve().parents[2] / "milan_mm/assets/milan_mini_shapes.safetensors"
QUIET = dict(device="cpu", show_progress=False)
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture
def run(call: Callable[..., None], tmp_path: Path) -> Callable[..., tuple[str, str, str]]:
    """Train for four iterations on own data of another size; gives config, checkpoint, image."""

    def train(recipe: str, folder: Path, *options: object) -> tuple[str, str, str]:
        work_dir = tmp_path / "run"
        call("train", recipe, "--quick", "--data", folder, "--work-dir", work_dir, *options)
        (config,) = work_dir.glob("*.py")
        (checkpoint,) = work_dir.glob("*.pth")
        image = write_image(tmp_path / "photo.png", size=(50, 70))
        shutil.rmtree(folder)  # a prediction needs none of it
        forget_runs()
        return str(config), str(checkpoint), str(image)

    return train


def test_detector(run: Callable, tmp_path: Path):
    weights = ("--weights", ENCODER, "--img-size", 64)
    recipe = "det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes"
    config, checkpoint, image = run(recipe, coco_folder(tmp_path / "coco"), *weights)
    found = []
    for model in (config, None):  # the checkpoint has the config, too
        inferencer = DetInferencer(model=model, weights=checkpoint, **QUIET)
        assert tuple(inferencer.model.dataset_meta["classes"]) == COLOURS
        assert len(set(inferencer.model.dataset_meta["palette"])) == len(COLOURS)
        found.append(inferencer(image)["predictions"][0])
    assert found[0]["scores"] == found[1]["scores"] != []
    assert max(found[0]["labels"]) < len(COLOURS)


def test_segmentor(run: Callable, tmp_path: Path):
    weights = ("--weights", ENCODER, "--img-size", 64)
    recipe = "seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96"
    config, checkpoint, image = run(recipe, label_pairs(tmp_path / "pairs"), *weights)
    inferencer = MMSegInferencer(config, checkpoint, **QUIET)
    assert tuple(inferencer.model.dataset_meta["classes"]) == COLOURS
    found = inferencer(image)["predictions"]
    assert found.shape == (50, 70) and found.max() < len(COLOURS)
    model = init_model(config, checkpoint, device="cpu")
    assert (inference_model(model, image).pred_sem_seg.data[0].numpy() == found).all()


def test_classifier(run: Callable, tmp_path: Path):
    options = ("--weights", ENCODER, "--img-size", 64)
    recipe = "cls/linear_vit-mini-p8_1xb256-coslr-3e_cifar10"
    config, checkpoint, image = run(recipe, image_folder(tmp_path / "folders"), *options)
    classify = ImageClassificationInferencer(config, checkpoint, device="cpu")
    (found,) = classify(image)
    assert found["pred_class"] in COLOURS and found["pred_scores"].shape == (len(COLOURS),)


def test_pretraining(run: Callable, tmp_path: Path):
    recipe = "pretrain/milan_vit-mini-p8_1xb64-amp-coslr-12e_shapes"
    config, checkpoint, image = run(recipe, image_folder(tmp_path / "folders"), "--img-size", 64)
    extract = FeatureExtractor(config, checkpoint, device="cpu")
    ((found,),) = extract(image)
    assert found.shape == (192, 8, 8)
    saved = torch.load(checkpoint, weights_only=False)["state_dict"]
    assert torch.equal(extract.model.backbone.cls_token, saved["backbone.cls_token"])
    assert Config.fromfile(config).test_dataloader.dataset.pipeline[2].crop_size == 64
