"""Configs of a user that inherit from recipes: those of docs/inherit.md, and bases everywhere."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine import hub
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.infer import BaseInferencer
from mmpretrain.apis.model import ModelHub
from modelindex.load_model_index import load as load_index

from milan_mm.configs import find_config, list_configs, load, shipped_file
from milan_mm.run.prepare import RECIPE, prepare
from milan_mm.run.records.canonical import config_hash
from milan_mm.run.run_options import RunOptions
from tests.recipes.test_configs import run_step

ROOT = Path(__file__).resolve().parents[2]
RECIPES = list_configs()
PAGE = (ROOT / "docs/inherit.md").read_text()
EXAMPLES = {
    match[1]: match[0] for match in re.finditer(r"# (\w+\.py)\n_base_ = .*?(?=```)", PAGE, re.S)
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_config_of_the_page_passes_the_checks_and_trains_a_step(name: str, tmp_path: Path):
    path = tmp_path / name
    path.write_text(EXAMPLES[name])
    prepare(load(path), RunOptions(), RECIPE)
    (base,) = re.findall(r"(?:det|seg|cls|pretrain)/[\w-]+", EXAMPLES[name])
    cfg = load(path)
    if "frozen_stages" in cfg.model.backbone:
        cfg.model.backbone.frozen_stages = 1  # of the two blocks that are left
    model, optim_wrapper, loss = run_step(base, tmp_path, cfg)
    assert loss.isfinite()
    optim_wrapper.step()
    assert any(p.grad is not None for p in model.parameters())


def test_the_page_changes_what_it_says(tmp_path: Path):
    found = {}
    for name, text in EXAMPLES.items():
        (tmp_path / name).write_text(text)
        found[name] = load(tmp_path / name)
    frozen = found["my_frozen.py"]
    assert frozen.model.backbone.frozen_stages == 6
    assert config_hash(found["my_frozen_anywhere.py"]) == config_hash(frozen)
    assert found["my_head.py"].model.decode_head.type == "mmseg.PSPHead"
    sized = found["my_size.py"]
    assert sized.model.backbone.img_size == sized.test_dataloader.dataset.pipeline[2].crop_size
    assert found["my_data.py"].model.roi_head.mask_head.num_classes == 3
    assert found["my_pretraining.py"].total_batch == 1024
    assert len(found) == 6


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_config_that_changes_nothing_is_the_recipe(recipe: str, tmp_path: Path):
    mine = tmp_path / "mine.py"
    mine.write_text(f"_base_ = 'milan_mm::{recipe}.py'")
    assert config_hash(load(mine)) == config_hash(load(recipe))


def test_other_programs_read_a_recipe_and_a_config_that_imports_it(tmp_path: Path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        '_base_ = __import__("milan_mm").recipe("seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96")'
    )
    recipe = find_config("seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96")
    code = (
        "import sys\n"
        "from mmengine.config import Config\n"
        "for path in sys.argv[1:]:\n"
        "    print(Config.fromfile(path, import_custom_modules=False).model.type)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(mine)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["EncoderDecoder"], done.stderr
    done = subprocess.run(
        [sys.executable, "-c", code, str(recipe)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["EncoderDecoder"], done.stderr


def test_an_image_size_follows_through_a_base_of_the_package(tmp_path: Path):
    mine = tmp_path / "mine.py"
    recipe = "det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco"
    for base in (f'"milan_mm::{recipe}.py"', f'__import__("milan_mm").recipe("{recipe}")'):
        mine.write_text(f"_base_ = {base}\nmodel = dict(backbone=dict(frozen_stages=3))")
        cfg, expected = load(mine), load(recipe)
        for config in (cfg, expected):
            prepare(config, RunOptions(img_size=640), RECIPE)
        expected.model.backbone.frozen_stages = 3
        assert config_hash(cfg) == config_hash(expected)


# The model index


def test_the_files_of_the_model_index_are_those_of_the_recipes():
    files = runpy.run_path(str(ROOT / ".ci/model_index.py"))["files"]()
    for path, text in files.items():
        assert path.read_text() == text, f"run python .ci/model_index.py: {path} is old"


def test_the_model_index_keeps_to_the_schema_and_names_every_recipe():
    index = load_index(str(shipped_file("model-index.yml")))
    index.build_models_with_collections()
    assert index.check(silent=True) == [] and not index.check_errors
    models = list(index.models)
    for model in models:
        assert not model.check_errors
        assert model.weights is None  # none are published
        assert (ROOT / model.config).is_file()
    assert {model.config for model in models} == {f"configs/{name}.py" for name in RECIPES}
    published = {m.name: m.metadata.data for m in models}[
        "finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k"
    ]
    assert "85.4 for MILAN (arXiv 2208.06049)" in published["Expect"]


def test_mmengine_and_mmpretrain_find_recipes_by_name(monkeypatch: pytest.MonkeyPatch):
    assert MODULE2PACKAGE["milan_mm"] == "milan_mm"  # since our registry was imported
    names = BaseInferencer.list_models("milan_mm")
    assert sorted(names) == sorted(name.rsplit("/", 1)[-1] for name in RECIPES)
    name = "det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes"
    cfg = hub.get_config(f"milan_mm::{name}.py", pretrained=True)
    assert cfg.model.type == "MaskRCNN" and cfg.model_path is None
    monkeypatch.setattr(ModelHub, "_models_dict", {})
    index = shipped_file("model-index.yml")
    ModelHub.register_model_index(index, config_prefix=index.parent)
    found = ModelHub.get("finetune_vit-micro-p8_1xb32-coslr-5e_shapes")
    assert isinstance(found.config, Config)
    assert found.config.model.type == "ImageClassifier"
