"""Where a run may start from: errors of one line, before any data are read."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import save_state
from tests.tools.test_train_and_test import folder, mistake  # noqa: F401 (fixtures)
from tests.weights.zoo import timm_vit

SCOPE = "model.backbone.init_cfg"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A ViT of timm, none of whose names are ours."""
    return save_state(timm_vit().state_dict(), tmp_path, "timm.pth")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["load_from=timm.pth"], r"load_from: timm\.pth is missing .* pass --weights FILE"),
        (
            [f"{SCOPE}.type=Pretrained", f"{SCOPE}.checkpoint=timm.pth"],
            rf"{SCOPE}: timm\.pth leaves \d+ of 30 tensors at random: .* --weights FILE",
        ),
        (["load_from=nowhere.pth"], r"weights file 'nowhere\.pth' does not exist"),
        (["load_from=s3://bucket/a.pth"], "'s3://bucket/a.pth' cannot be read safely"),
        (["load_from=torchvision://resnet5"], "name 'resnet5': did you mean resnet50"),
    ],
)
@pytest.mark.usefixtures("folder", "foreign")
def test_a_file_that_does_not_fill_the_model_is_refused(
    options: list[str],
    message: str,
    mistake: Callable[..., str],  # noqa: F811
):
    error = mistake("tiny.py", "--cfg-options", *options)
    assert re.search(message, error), error
    assert not os.path.exists("work_dirs")


@pytest.mark.usefixtures("folder", "foreign")
def test_weights_and_load_from_exclude_each_other(mistake: Callable[..., str]):  # noqa: F811
    options = ("--weights", "timm.pth", "--cfg-options", "load_from=timm.pth")
    assert "--weights has no effect with load_from='timm.pth'" in mistake("tiny.py", *options)
