"""What a run writes down about its config is mmengine's own text, for which yapf runs once."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from yapf.yapflib.yapf_api import FormatCode  # before tests/conftest.py replaces it

from milan_mm.run.laid_out import LaidOutOnce
from tests.run.tiny_runs import run_tiny, tiny_config

FIELDS = dict(
    model=dict(type="A", sizes=[1, (2, 3)], kind=dict, text="it's", ratio=1e-9, none=None),
    hooks=[dict(type="B"), {"a.b": 1, 3: [dict(c=4)]}],
    names="b" * 150,
)
NEW_STYLE = """
from mmengine.hooks import IterTimerHook
from torch.optim import SGD
optimizer = dict(type=SGD, lr=0.1)
hook = dict(type=IterTimerHook)
"""
CHANGES: list[Callable[[Config], object]] = [
    lambda cfg: cfg.model.update(type="C"),
    lambda cfg: cfg.model.sizes.append(5),
    lambda cfg: cfg.hooks[1].pop(3),
    lambda cfg: cfg.merge_from_dict({"model.text": '"'}),
    lambda cfg: setattr(cfg, "names", "d"),
    lambda cfg: cfg.model.update(ratio="1e-09"),
]


@pytest.fixture
def layouts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What yapf itself has laid out."""
    done: list[str] = []

    def lay_out(text: str, **settings: object) -> tuple[str, bool]:
        done.append(text)
        return FormatCode(text, **settings)

    monkeypatch.setattr("yapf.yapflib.yapf_api.FormatCode", lay_out)
    return done


@pytest.mark.parametrize("style", ["", "new style", "not laid out"])
def test_the_text_is_mmengines_own_after_every_change(style: str, tmp_path: Path, layouts: list):
    if style == "new style":
        (tmp_path / "new.py").write_text(NEW_STYLE)
        plain = Config.fromfile(tmp_path / "new.py")
        plain.merge_from_dict(FIELDS)
    else:
        plain = Config(copy.deepcopy(FIELDS), format_python_code=not style)
    cfg = LaidOutOnce.of(copy.deepcopy(plain))
    for change in [repr, *CHANGES]:
        change(plain)
        change(cfg)
        expected = plain.pretty_text
        layouts.clear()
        assert [cfg.pretty_text, cfg.dump(), copy.deepcopy(cfg).pretty_text] == [expected] * 3
        assert len(layouts) == (style != "not laid out")
        assert Config.fromstring(expected, ".py").to_dict() == Config(plain.to_dict()).to_dict()


def test_a_copy_goes_its_own_way(layouts: list):
    cfg = LaidOutOnce.of(Config(dict(a=1, b=dict(c=2))))
    assert cfg.pretty_text == "a = 1\nb = dict(c=2)\n"
    for other in (copy.deepcopy(cfg), pickle.loads(pickle.dumps(cfg))):
        other.b.c = 3
        assert other.pretty_text == "a = 1\nb = dict(c=3)\n"
    assert cfg.pretty_text == "a = 1\nb = dict(c=2)\n" and len(layouts) == 3


def test_a_run_lays_its_config_out_once_and_writes_mmengines_text(tmp_path: Path, layouts: list):
    made = tiny_config("iterations", tmp_path, visualizer=dict(type="Visualizer", vis_backends=[]))
    made.visualizer.vis_backends = [dict(type="LocalVisBackend")]
    runner = run_tiny(Config(made.to_dict(), filename=__file__))
    assert len(layouts) == 1
    expected = Config(runner.cfg.to_dict()).pretty_text
    (curves,) = tmp_path.glob("*/vis_data/config.py")
    (log,) = tmp_path.glob("*/*.log")
    assert (tmp_path / Path(__file__).name).read_text() == expected == curves.read_text()
    assert f"Config:\n{expected}" in log.read_text()
    saved = torch.load(tmp_path / "iter_16.pth", weights_only=False)
    assert saved["meta"]["cfg"] == expected == saved["message_hub"]["runtime_info"]["cfg"]
