"""All ways into the package for a weights file or a checkpoint: options of tools, and functions."""

import argparse
import os
import runpy
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from mmengine.runner import CheckpointLoader
from PIL import Image

from milan_mm.encoder.loading import load_encoder
from milan_mm.engine.checkpoints import safe_loading
from milan_mm.errors import UserError
from milan_mm.inference.restoring import restore
from milan_mm.run.options import ToolParser
from milan_mm.weights.reading import read_checkpoint
from tests.helpers import forget_runs
from tests.photographs.folders import write as write_photographs

ROOT = Path(__file__).parents[2]
_SCENES, _PHOTOS = "images", "photos"
_BACKBONE = "model.backbone.init_cfg"

# tool and option (of look: the figure too) -> its command line, for a file
TOOLS: dict[tuple[str, str], Callable[[str], list[str]]] = {
    ("train", "--weights"): lambda f: ["cls.py", "--weights", f],
    ("train", "--init-from"): lambda f: ["cls.py", "--init-from", f],
    ("train", "--resume"): lambda f: ["cls.py", "--resume", f],
    ("train", "--replay"): lambda f: ["cls.py", "--replay", f],
    ("train", "--cfg-options load_from"): lambda f: ["cls.py", "--cfg-options", f"load_from={f}"],
    ("train", "--cfg-options resume"): lambda f: [
        "cls.py",
        "--cfg-options",
        f"load_from={f}",
        "resume=True",
    ],
    ("train", "--cfg-options init_cfg"): lambda f: [
        "cls.py",
        "--cfg-options",
        f"{_BACKBONE}.type=Pretrained",
        f"{_BACKBONE}.checkpoint={f}",
    ],
    ("train", "--cfg-options encoder"): lambda f: [
        "cls.py",
        "--cfg-options",
        f"{_BACKBONE}.type=milan_mm.EncoderWeights",
        f"{_BACKBONE}.checkpoint={f}",
    ],
    ("train", "--cfg-options teacher"): lambda f: [
        "pretrain.py",
        "--cfg-options",
        f"model.head.teacher.pretrained={f}",
    ],
    ("test", "checkpoint"): lambda f: ["cls.py", f],
    ("test", "--cfg-options load_from"): lambda f: [
        "cls.py",
        f,
        "--cfg-options",
        f"load_from={f}",
    ],
    ("predict", "checkpoint"): lambda f: [f, _SCENES, "--out", "predicted"],
    ("look masks", "checkpoint"): lambda f: [f, _SCENES],
    ("look attention", "--weights"): lambda f: ["--weights", f, _SCENES],
    ("look tsne", "--weights"): lambda f: ["--weights", f, "--data", _SCENES, "--perplexity", "1"],
    ("look neighbours", "--weights"): lambda f: [
        "--weights",
        f,
        "--data",
        _SCENES,
        "--k",
        "2",
        _SCENES,
    ],
    ("look pca", "--weights"): lambda f: ["--weights", f, _SCENES],
    ("look detections", "--checkpoints"): lambda f: ["--checkpoints", f],
    ("look segmentation", "--checkpoints"): lambda f: ["--checkpoints", f],
    ("convert_checkpoint", "src"): lambda f: [f, "out.safetensors"],
    ("convert_checkpoint", "src --to"): lambda f: [f, "out.pth", "--to", "official"],
    ("inspect_weights", "files"): lambda f: [f],
    ("export_encoder", "checkpoint"): lambda f: [f, "out.safetensors"],
    ("knn", "--weights"): lambda f: ["--weights", f, "--data", _SCENES],
    ("extract", "--weights"): lambda f: ["--weights", f, "--data", _SCENES],
    ("evaluate", "--weights"): lambda f: ["--weights", f, "--tasks", "knn", "--images", _SCENES],
    ("ablation", "--teacher"): lambda f: ["--teacher", f, "--data", _SCENES],
    ("ablation", "--slip-teacher"): lambda f: ["--slip-teacher", f, "--data", _SCENES],
    ("photographs", "--teacher"): lambda f: [_PHOTOS, "--arms", "milan", "--teacher", f],
    ("photographs", "--control"): lambda f: [_PHOTOS, "--arms", "control", "--control", f],
    ("photographs", "--image-teacher"): lambda f: [
        *(_PHOTOS, "--arms", "images", "--image-teacher", f)
    ],
}
# Options that name files or folders of other kinds, and so do not lead to a reader of weights.
OTHERS = {
    *("--data", "--images", "--det-data", "--seg-data", "--depth-data", "--knn-data", "--dir"),
    *("--root", "root", "data", "--features", "--subsets", "--merge"),
    *("images", "pictures", "source", "target", "config", "--cache", "file", "results"),
    *("--out", "out", "dst", "--html", "--work-dir", "--show-dir", "--wandb", "--mlflow"),
    *("--layout", "--system", "--classes", "--device"),
}


def python_entries() -> dict[str, Callable[[str], object]]:
    """Functions of the package that are called with a file."""

    def load_from(file: str) -> object:
        with safe_loading():
            return CheckpointLoader.load_checkpoint(file)

    return {
        "read_checkpoint": read_checkpoint,
        "load_encoder": load_encoder,
        "restore": restore,
        "mmengine's loader": load_from,
    }


def prepare(folder: Path) -> None:
    """Write the configs and images that the commands name, into the working directory."""
    files = ROOT / "tests/compatibility/files"
    shutil.copy(files / "classifier.py", folder / "cls.py")
    shutil.copy(files / "pretraining.py", folder / "pretrain.py")
    write_photographs(folder / _PHOTOS)
    for split in ("train", "val"):
        for name in ("bright", "dark"):
            (folder / _SCENES / split / name).mkdir(parents=True)
            for i in range(17):  # more than a batch of the ablation
                pixels = np.full((24, 24, 3), 200 if name == "bright" else 20, np.uint8)
                Image.fromarray(pixels).save(folder / _SCENES / split / name / f"{i}.png")


def call(entry: tuple[str, str], file: str) -> None:
    """Run the command of an entry in this process."""
    tool, _, figure = entry[0].partition(" ")
    forget_runs()  # mmengine names them by config and second
    arguments = ([figure] if figure else []) + TOOLS[entry](file)
    defined_by(tool)["main"](arguments)


@cache
def defined_by(tool: str) -> dict:
    """What tools/NAME.py defines."""
    return runpy.run_path(str(ROOT / f"tools/{tool}.py"))


def options_of_tools(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """(tool, option) of every option and argument that is followed by a text, in any tool."""
    parsers: list[argparse.ArgumentParser] = []

    def capture(self: argparse.ArgumentParser, *_: object) -> None:
        parsers.append(self)
        raise SystemExit

    monkeypatch.setattr(ToolParser, "parse_args", capture)
    found: set[tuple[str, str]] = set()
    for path in sorted((ROOT / "tools").glob("[a-z]*.py")):
        if parse := runpy.run_path(str(path)).get("parse_args"):
            with suppress(SystemExit):
                parse([])
            found |= set(_named(parsers[-1], path.stem))
    return found


def _named(parser: argparse.ArgumentParser, tool: str) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from _named(inner, f"{tool} {name}")
        elif (action.nargs == 0 or action.choices) or action.type not in (None, Path):
            continue
        elif action.metavar is None or action.metavar not in ("N", "LR", "NAME", "KEY=VALUE"):
            yield tool, (action.option_strings or [action.dest])[-1]


def is_refused(
    run: Callable[[], object], file: Path, marker: Path, error: Callable[[], str]
) -> str:
    """Run an entry; '' if it refused the file in one line that names it, else what went wrong.

    Args:
        error: What the run has printed on stderr, all of it.
    """
    try:
        run()
    except UserError as refusal:
        text = str(refusal)
    except SystemExit as stop:
        text = (error().splitlines() or [""])[-1]
        if stop.code != 2:
            return f"exit code {stop.code}: {text}"
    except BaseException as defect:
        return f"{type(defect).__name__}: {defect}"
    else:
        return "the file was taken"
    if marker.exists():
        os.rmdir(marker)
        return "code has run"
    if "\n" in text or file.name not in text:
        return f"the error does not name the file: {text}"
    return ""
