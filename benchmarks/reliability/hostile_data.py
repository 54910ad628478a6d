"""Hostile data x every entry that takes data: no crash, no code run, no file from elsewhere.

Each payload is put into a sound data set, and each entry is run on it in a process of its own, with
limits on memory and time. It must end with an exit code of its own, with one line for the user, and
without a marker file. Each entry must also accept the sound data, or its refusals would mean
nothing. Prints "n of n".

Examples:
  python benchmarks/reliability/hostile_data.py            # all of them, 8 minutes of a free core
  python benchmarks/reliability/hostile_data.py --only coco --verbose
"""

import argparse
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.reliability import payloads
from benchmarks.reliability.forked import Outcome, load_modules, main_of, run
from benchmarks.reliability.payloads import MARKER, Payload

DET = "det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes"
SEG = "seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96"
CLS = "cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes"
PRE = "pretrain/milan_vit-micro-p8_1xb32-coslr-2e_shapes"
WEIGHTS = "milan-mini-shapes"
# these take what is sound; training skips an image of a hundred, and these have few
_SALVAGE = ("convert_data",)
_NO_WORKERS = "train_dataloader.num_workers=0"


@dataclass(frozen=True)
class Entry:
    """A way that data take into a tool.

    Attributes:
        tool, option: Of the tool; positional arguments by their destination.
        kinds: Of payloads that can come this way.
        words: The arguments; {data} is the folder, {image} an image of it, {det} and {seg} are
            checkpoints, and {classes} is another folder, of sound images.
        name: Where an option has several.
        code: Of its exit with sound data.
    """

    tool: str
    option: str
    kinds: tuple[str, ...]
    words: str
    name: str = ""
    code: int = 0

    def __str__(self) -> str:
        return " ".join(filter(None, (self.tool, self.option, self.name)))


# the trainings are those of tools/train.py; what they refuse must be refused before them
_PLAN = "--print-commands torchrun"
_QUICK = f"--quick --work-dir work --cfg-options {_NO_WORKERS}"
_OWN_DET = (
    "train_dataloader.dataset.data_root={data} val_dataloader.dataset.data_root={data} "
    "test_dataloader.dataset.data_root={data} "
    "val_evaluator.ann_file={data}/annotations/instances_val2017.json "
    "test_evaluator.ann_file={data}/annotations/instances_val2017.json"
)
ENTRIES = (
    Entry("train", "--data", ("coco", "image"), f"{DET} --data {{data}} {_QUICK}", "det"),
    Entry("train", "--cfg-options", ("coco",), f"{DET} {_QUICK} {_OWN_DET}", "data_root"),
    Entry("train", "--data", ("pairs", "image"), f"{SEG} --data {{data}} {_QUICK}", "seg"),
    Entry("train", "--data", ("classes", "image"), f"{CLS} --data {{data}} {_QUICK}", "cls"),
    Entry("train", "--data", ("image",), f"{PRE} --data {{data}} {_QUICK}", "pretrain"),
    Entry(
        "train", "--knn-data", ("image",), f"{PRE} --data {{classes}} {_QUICK} --knn-data {{data}}"
    ),
    Entry("test", "--data", ("coco", "image"), f"{DET} {{det}} --data {{data}} --work-dir work"),
    Entry(
        "evaluate",
        "--det-data",
        ("coco",),
        f"--weights {WEIGHTS} --tasks coco --protocol short --det-data {{data}} --out work {_PLAN}",
    ),
    Entry(
        "evaluate",
        "--seg-data",
        ("pairs",),
        f"--weights {WEIGHTS} --tasks ade20k --protocol short --seg-data {{data}} --out work "
        + _PLAN,
    ),
    Entry(
        "evaluate",
        "--images",
        ("classes", "image"),
        f"--weights {WEIGHTS} --tasks knn --protocol short --images {{data}} --out work",
    ),
    Entry("check_data", "--data", ("coco", "image"), "det --data {data} --workers 0", "det"),
    # whose categories these are not
    Entry("check_data", "--data", ("coco",), "coco --data {data} --workers 0", "coco", code=1),
    Entry("check_data", "--data", ("pairs", "image"), "seg --data {data} --workers 0", "seg"),
    Entry("check_data", "--data", ("classes", "image"), "cls --data {data} --workers 0", "cls"),
    Entry("check_data", "--data", ("image",), "pretrain --data {data} --workers 0", "pretrain"),
    Entry(
        "convert_data",
        "source",
        ("coco", "foreign", "image"),
        "{source} out --max-dropped 1 --workers 0",
    ),
    Entry("look", "--data", ("coco",), "detections --checkpoints {det} --data {data} --out f"),
    Entry("look", "--data", ("pairs",), "segmentation --checkpoints {seg} --data {data} --out f"),
    Entry("look", "images", ("image",), f"attention --weights {WEIGHTS} {{image}} --out f"),
    Entry(
        "look", "--data", ("image",), f"neighbours --weights {WEIGHTS} --data {{data}} {{image}}"
    ),
    Entry(
        "convert_data",
        "--images",
        ("coco",),
        "{data}/annotations/instances_train2017.json out --images {images} --workers 0",
    ),
    Entry("predict", "pictures", ("image",), "{det} {images} --out out --device cpu"),
    Entry(
        "knn",
        "--data",
        ("classes", "image"),
        f"--weights {WEIGHTS} --data {{data}} --workers 0 --k 5",
    ),
    Entry(
        "extract",
        "--data",
        ("classes", "image"),
        f"--weights {WEIGHTS} --data {{data}} --workers 0 --out features",
    ),
    Entry("shrink_images", "source", ("image",), "{images} out --workers 0"),
)


def cases(only: str = "") -> Iterator[tuple[Payload, Entry]]:
    """Every payload with every entry that it can come by.

    Args:
        only: Kind of payloads; '' takes all.
    """
    for payload in payloads.PAYLOADS:
        for entry in ENTRIES:
            if payload.kind in entry.kinds and only in ("", payload.kind):
                yield payload, entry


class Attack:
    """Sound data and checkpoints in a folder, and the running of cases on copies of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, str] = {}
        programs = folder / "programs"
        programs.mkdir()
        for name in ("gs", "gswin64c", "convert", "inkscape"):
            (programs / name).write_text(f"#!/bin/sh\ntouch {MARKER}\n")
            (programs / name).chmod(0o755)
        os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"

    def prepare(self) -> None:
        """Train each checkpoint for four iterations, on sound data."""
        self.files["classes"] = str(self.folder / "sound-classes/data")
        payloads.sound("classes", Path(self.files["classes"]))
        for task, recipe, kind in (("det", DET, "coco"), ("seg", SEG, "pairs")):
            place = self.folder / f"sound-{task}"
            payloads.sound(kind, place / "data")
            words = [recipe, "--data", place / "data", "--quick", "--work-dir", place / "work"]
            outcome = run("train", words, place)
            assert outcome.code == 0, outcome.text[-2000:]
            load_modules(place)
            self.files[task] = str(max(place.glob("work/*.pth"), key=lambda p: p.stat().st_mtime))

    def accepts_sound_data(self, entry: Entry) -> tuple[Outcome, str]:
        """Run an entry on what is sound; returns also what is wrong with its outcome."""
        place, data = self._sound(entry.kinds[0])
        outcome = self._run(entry, place, data, payloads.first_image(data))
        load_modules(place)
        return outcome, outcome.fault or (
            f"exit code {outcome.code}" if outcome.code != entry.code else ""
        )

    def run(self, payload: Payload, entry: Entry) -> tuple[Outcome, str]:
        """Run a case; returns also what is wrong with its outcome, '' for nothing."""
        is_image = payload.kind == "image"
        place, data = self._sound(entry.kinds[0] if is_image else payload.kind)
        image = payloads.first_image(data)
        source = payload.spoil(image if is_image else data) or data
        if is_image:
            payload.spoil(payloads.first_image(data, "val"))
        outcome = self._run(entry, place, source, image)
        fault = outcome.fault
        if payload.refused and entry.tool not in _SALVAGE and not fault and not outcome.code:
            fault = "accepted"
        if MARKER.exists():
            fault = "code was run"
        if payloads.SECRET in outcome.text or _holds_secret(place):
            fault = "a file from elsewhere was read"
        return outcome, fault

    def _sound(self, kind: str) -> tuple[Path, Path]:
        """A fresh folder for a case, and the sound data in it."""
        place = self.folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        payloads.sound(kind, place / "data")
        return place, place / "data"

    def _run(self, entry: Entry, place: Path, source: Path, image: Path) -> Outcome:
        MARKER.unlink(missing_ok=True)
        words = entry.words.format(
            data=place / "data", source=source, image=image, images=image.parent, **self.files
        )
        return run(entry.tool, words.split(), place)


def _holds_secret(place: Path) -> bool:
    """Whether a file that a tool wrote holds what the file beside the data holds."""
    made = [path for path in place.rglob("*") if path.is_file() and path.name != payloads.OUTSIDE]
    return any(payloads.SECRET.encode() in path.read_bytes() for path in made)


def main() -> None:
    """Run all cases and print the count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = sorted({payload.kind for payload in payloads.PAYLOADS})
    parser.add_argument("--only", choices=kinds, default="")
    parser.add_argument("--tool", default="", help="of the entries")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="run each Nth case only")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    load_libraries()
    bad = total = 0
    with tempfile.TemporaryDirectory() as folder:
        attack = Attack(Path(folder))
        attack.prepare()
        entries = [entry for entry in ENTRIES if args.tool in ("", entry.tool)]
        runs = [
            ("sound data", entry, partial(attack.accepts_sound_data, entry)) for entry in entries
        ]
        chosen = [case for case in cases(args.only) if case[1] in entries]
        runs += [(p.name, e, partial(attack.run, p, e)) for p, e in chosen[:: args.every]]
        for name, entry, run_case in runs:
            outcome, fault = run_case()
            total += 1
            bad += bool(fault)
            if fault or args.verbose:
                print(
                    f"{name} | {entry} | {fault or outcome.code} | {outcome.last[:200]}", flush=True
                )
    print(f"{total - bad} of {total} cases end with a line, without a crash or a foreign file")


def load_libraries() -> None:
    """Import what the tools need, before they are forked."""
    import mmseg.models  # noqa: F401

    import milan_mm.register  # noqa: F401

    for tool in {entry.tool for entry in ENTRIES}:
        main_of(tool)


if __name__ == "__main__":
    main()
