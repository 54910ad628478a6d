"""tools/look.py as a user meets it: files that hold their command, and one-line errors."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from milan_mm.visualization.figure_files import read_facts
from tests.helpers import save_state, tiny_vit
from tests.look.conftest import write_classes
from tests.look.test_masks import checkpoint

ENCODERS = "--weights a.pth b.pth --method MAE MILAN --num-heads 4"
COMMANDS = {
    "masks": "masks epoch_1.pth data/red --max-images 1",
    "attention": f"attention {ENCODERS} -- data/red/0.png",
    "attention, images between options": (
        f"attention data/red/0.png --heads data/red/1.png {ENCODERS} --layer 1"
    ),
    "masks, images behind options": "masks epoch_1.pth --draws 1 data/red/0.png",
    "attention, images behind the weights": (
        "attention --method MAE MILAN --num-heads 4 --weights a.pth b.pth data/red/0.png"
    ),
    "attention of a shipped encoder": "attention --weights milan-mini-shapes data/red/0.png",
    "tsne": f"tsne {ENCODERS} --data data --perplexity 3 --k 2 --workers 0 --cache cache",
    "neighbours": f"neighbours data/red/0.png {ENCODERS} --data data --k 3 --workers 0 "
    "--cache cache",
    "pca": f"pca data/red data/*/1.png {ENCODERS}",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: two encoders, a pretraining, and images of three classes."""
    write_classes(tmp_path / "data", 2)
    for name in "ab":
        save_state(tiny_vit().state_dict(), tmp_path, f"{name}.pth")
    save_state(tiny_vit(with_cls_token=False).state_dict(), tmp_path, "headless.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_each_figure_is_written_twice_and_holds_its_command(
    command: str, folder: Path, call: Callable[..., None], capsys
):
    if command.startswith("masks"):
        checkpoint("milan", folder)
    figure, *words = command.split()
    call("look", figure, "--out", "figures/one", "--dpi", "50", *words)
    out = capsys.readouterr().out
    assert "written: figures/one.png, figures/one.svg" in out
    facts = read_facts(folder / "figures/one.png")
    assert facts == read_facts(folder / "figures/one.svg")
    assert facts["command"].startswith(f"milan-mm look {figure} --out figures/one --dpi 50 ")
    assert facts["caption"] in out
    call("look", "facts", "figures/one.svg")
    assert facts["command"] in capsys.readouterr().out


def test_the_command_in_a_file_makes_the_same_file(folder: Path, call: Callable[..., None]):
    call("look", *COMMANDS["pca"].split(), "--out", "one.png", "--dpi", "50")
    first = (folder / "one.png").read_bytes()
    words = read_facts(folder / "one.png")["command"].split()
    (folder / "one.png").unlink()
    call("look", *(word.strip("'") for word in words[2:]))
    assert (folder / "one.png").read_bytes() == first


def test_without_caption_the_figure_is_lower_and_says_the_same(folder: Path, call):
    command = [*COMMANDS["pca"].split(), "--dpi", "50", "--out"]
    call("look", *command, "with.png")
    call("look", *command, "without.png", "--no-caption")
    with Image.open(folder / "with.png") as first, Image.open(folder / "without.png") as second:
        assert first.width == second.width and first.height > second.height
    captions = [read_facts(folder / f"{name}.png")["caption"] for name in ("with", "without")]
    assert captions[0] == captions[1]


def test_unreadable_images_are_left_out_and_counted(folder: Path, call, capsys):
    (folder / "data/red/0.png").write_bytes(b"no image")
    call("look", "pca", "data/red", "--weights", "a.pth", "--num-heads", "4", "--out", "one.png")
    assert "left out 1 of 2 images that cannot be read, first 'data/red/0.png'" in (
        capsys.readouterr().err
    )
    assert read_facts(folder / "one.png")["images"] == ["data/red/1.png"]


MISTAKES = {
    "attention --weights a.pth --num-heads 4": "no images are given: name files or folders",
    "attention --weights data/red/0.png": "--weights names no weights file: give them before",
    "attention nothing.png --weights a.pth --num-heads 4": "'nothing.png' does not exist",
    "attention data/red --weights nothing.pth": "'nothing.pth' does not exist",
    "attention data/red --weights headless.pth --num-heads 4": "has no class token, so no class",
    "attention data/red --weights a.pth --method A B": "--method gives 2 names, --weights 1",
    "detections --checkpoints a.pth b.pth --method A A": "--method gives a name twice (A, A)",
    "attention data/red --weights a.pth --num-heads 4 --out one.pdf": "written as .png or .svg",
    "attention data/red --weights a.pth --threshold 1.5": "1.5: give a number from 0 to 1",
    "attention data/red --weights a.pth --layr 3": "did you mean --layer?",
    "pca broken.png --weights a.pth --num-heads 4": "none of 1 image can be read, first 'broken",
    "masks a.pth data/red": "a.pth is an encoder alone",
    "masks broken.png data/red": "broken.png",
    "tsne --weights a.pth --num-heads 4 --data data/red": "has no labels (no class folders, 2 im",
    "tsne --weights a.pth --num-heads 4 --data data": "--perplexity 30 needs more than 30 images",
    "neighbours data/red/0.png --weights a.pth --num-heads 4 --data data": "--k 7 needs more than",
    "detections --checkpoints a.pth": "a.pth is an encoder alone",
    "facts data/red/0.png": "does not say how it was made",
}


@pytest.mark.parametrize(("command", "message"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_writes_nothing(
    command: str, message: str, folder: Path, error_of: Callable[..., str]
):
    (folder / "broken.png").write_bytes(b"no image")
    before = sorted(folder.rglob("*"))
    assert message in error_of("look", *command.split())
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("figure", ["masks", "attention", "tsne", "neighbours", "pca", "facts"])
def test_the_help_of_each_figure_has_examples(figure: str, call, capsys):
    with pytest.raises(SystemExit) as stop:
        call("look", figure, "--help")
    assert stop.value.code == 0
    assert f"python tools/look.py {figure} " in capsys.readouterr().out
