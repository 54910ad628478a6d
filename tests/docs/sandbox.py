"""A small folder in which the commands of a page run as a reader types them.

Recipes are exchanged for the demo's of the same task, and names in capitals for files of the
folder. The work directory keeps the name that the reader's would have. All else is taken literally,
and so is a command whose answer is an error, which must be the one that the page shows.
"""

import itertools
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from glob import glob
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.__main__ import main as package
from milan_mm.configs import find_config, list_tools, load
from milan_mm.shapes.files import write_shapes
from tests.docs.pages import OTHERS, ROOT, Block, assignments, split_commands, tool_call
from tests.helpers import forget_runs
from tests.run.own_data.folders import image_folder
from tests.small_data import ade20k_of, coco_of, imagenet_of
from tests.upkeep.convert import folders as exports

# The smallest recipe of each task; all take the encoders that the package ships.
SMALL = dict(
    pretrain="pretrain/milan_vit-mini-p8_1xb64-coslr-1e_shapes-continued",
    cls="cls/linear_vit-mini-p8_1xb256-coslr-3e_cifar10",
    det="det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes",
    seg="seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96",
)
# What stands for something of the reader's -> what it is in this folder.
NAMES = dict(ENCODER="encoder.safetensors", FILE="weights.safetensors")


def make(root: Path) -> Path:
    """Fill a folder: links to the checkout's parts, and data in the usual places."""
    for name in ("milan_mm", "configs", "tools", "tests", "docs"):
        (root / name).symlink_to(ROOT / name)
    scenes = root / "work_dirs/shapes"
    write_shapes(scenes, 48, 16, 8, 0, 96)  # enough for each class in both splits
    imagenet_of(scenes, root / "data")
    coco_of(scenes, root / "data")
    ade20k_of(scenes, root / "data")
    _camvid_of(scenes, root / "data/camvid")
    image_folder(root / "work_dirs/cifar10", classes=tuple("abcdefghij"), per_class=3)
    image_folder(root / "photos", per_class=24)
    shutil.copytree(root / "data/coco", root / "my_photos")
    _exports(root)
    shipped = str(ROOT / "milan_mm/assets/milan_mini_shapes.safetensors")
    _tool("convert_checkpoint")([shipped, str(root / "encoder.safetensors"), "--num-heads", "6"])
    shutil.copy(root / "encoder.safetensors", root / "weights.safetensors")
    return root


def _exports(root: Path) -> None:
    """Folders of other programs, of docs/own_data.md."""
    exports.yolo(root / "my_yolo")
    exports.voc(root / "my_voc", dict(train=["a", "b"], val=["c"]))
    exports.cvat(root / "my_cvat", '<box label="cat" xtl="8" ytl="6" xbr="32" ybr="24"/>')
    exports.roboflow_masks(root / "my_masks")
    for seed in range(10):
        exports.photo(root / f"my_classes/{'cat' if seed % 2 else 'dog'}/{seed}.jpg", seed)
    (root / "result.json").write_text(json.dumps(exports.coco(["images/0.png", "images/1.png"])))


def _tool(name: str) -> Callable[[list[str]], object]:
    return runpy.run_path(str(list_tools()[name]))["main"]


def _camvid_of(scenes: Path, root: Path) -> None:
    """Pairs of images and label maps, and the names of the classes."""
    ade = scenes / "ade/ADEChallengeData2016"
    for split, part in (("training", "train"), ("validation", "val")):
        for kind in ("images", "annotations"):
            shutil.copytree(ade / kind / split, root / kind / part)
        for path in (root / "annotations" / part).iterdir():
            Image.fromarray(np.minimum(np.asarray(Image.open(path)), 2)).save(path)
    (root / "classes.txt").write_text("other\nsand\ngrass\n")


class Shell:
    """Runs the commands of a page in this process, one after another, in the current folder.

    Args:
        capture: pytest's `capfd`, which has what the commands printed.
    """

    def __init__(self, capture: pytest.CaptureFixture) -> None:
        self.capture = capture
        self.variables: dict[str, str] = {}
        self.names: dict[str, object] = {}  # of the page's Python code

    def run(self, block: Block) -> list[str]:
        """Run a block; returns what went wrong, one line for each command.

        Python code runs, too; what opens with a comment `# FILE.py` is a config of that name.
        """
        if block.is_python:
            self._python(block)
            return []
        error = block.answer.splitlines()[-1] if block.answer.startswith("error: ") else ""
        found = []
        for words in split_commands(block.text):
            if problem := self._outcome(words, error):
                found.append(f"{block.place} {' '.join(words)}: {problem}")
        return found

    def _python(self, block: Block) -> None:
        if file := re.match(r"# (\S+\.py)\n", block.text):
            assert Path(file[1]).resolve().is_relative_to(Path.cwd()), f"{block.place}: elsewhere"
            Path(file[1]).parent.mkdir(parents=True, exist_ok=True)
            Path(file[1]).write_text(block.text)
            load(file[1])  # a config
        else:
            exec(compile(block.text, block.place, "exec"), self.names)

    def _outcome(self, words: list[str], error: str) -> str:
        given, words = assignments(words)
        self.variables |= given
        if not words or words[0] in {"make", *OTHERS}:
            return ""  # an installation's
        self.capture.readouterr()
        try:
            self._call([part for word in words for part in self._expanded(word)], bool(error))
        except SystemExit as stop:
            said = self.capture.readouterr().err.splitlines()[-1:]
            if error:
                return "" if _numberless(*said) == _numberless(error) else f"says {said}"
            return f"exit code {stop.code}: {said}" if stop.code else ""
        return "no error, as the page has it" if error else ""

    def _expanded(self, word: str) -> list[str]:
        for name, value in self.variables.items():
            word = word.replace(f"${name}", value)
        trained = re.sub(r"\b(iter|epoch)_\d+(?=\.pth$)", r"\1_*", word)  # a quick run's is earlier
        return sorted(glob(word)) or sorted(glob(trained))[-1:] or [NAMES.get(word, word)]

    def _call(self, words: list[str], is_literal: bool) -> None:
        call = tool_call(words)
        if call is None:
            module = words.index("-m") + 1
            _run_module(words[module], words[module + 1 :])
        elif call.tool not in list_tools():
            package([call.tool, *call.arguments])
        else:
            forget_runs()
            arguments = call.arguments if is_literal else _small(call.tool, call.arguments)
            _tool(call.tool)(arguments)


def _numberless(text: str) -> str:
    return re.sub(r"[\d.,e-]+", "N", text)


def _run_module(name: str, arguments: list[str]) -> None:
    """In a process of its own: what a module sets in others must not outlive it."""
    subprocess.run(
        [sys.executable, "-m", name, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        timeout=300,
    )


def _small(tool: str, arguments: list[str]) -> list[str]:
    """The arguments of a tool that trains or tests, for a recipe of the demo's."""
    if "--launcher" in arguments:
        at = arguments.index("--launcher")
        arguments = arguments[:at] + arguments[at + 2 :]
    if tool == "check_data":
        return [*arguments, "--allow-subset"]
    if tool not in {"train", "test"}:
        return arguments
    path = find_config(arguments[0])
    if not path.resolve().is_relative_to(ROOT / "configs"):
        return arguments  # a config of the page's own
    task = path.resolve().relative_to(ROOT / "configs").parts[0]
    small = [SMALL[task], *arguments[1:]]
    if tool == "train" and "--work-dir" not in small:
        small += ["--work-dir", _work_dir(path.stem, small)]
    for length in ("--epochs", "--iters", "--batch-per-gpu"):  # a trial has its own
        if length in small:
            at = small.index(length)
            small = small[:at] + small[at + 2 :]
    return small if "--quick" in small else [*small, "--quick"]


def _work_dir(stem: str, arguments: list[str]) -> str:
    options = dict(itertools.pairwise(arguments))
    data = f"-{Path(options['--data']).name}" if "--data" in options else ""
    return os.path.join("work_dirs", stem + data + "-quick" * ("--quick" in arguments))
