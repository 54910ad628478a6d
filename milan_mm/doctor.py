"""Check an installation: what was found, what was wanted, and how to fix it.

Each check is a function that returns what it found, or raises `Fault` with the command that fixes
it. Only the standard library is imported at the top, since a broken package is a finding.
"""

import contextlib
import functools
import importlib
import io
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

_PIP = f"{sys.executable} -m pip"
# Import name, and the distribution that was tested; pyproject.toml has the minimum versions.
_PACKAGES = {
    "numpy": "numpy",
    "torch": "torch",
    "torchvision": "torchvision",
    "open_clip": "open_clip_torch",
    "safetensors": "safetensors",
    "timm": "timm",
    "pycocotools": "pycocotools",
    "faster_coco_eval": "faster-coco-eval",
    "matplotlib": "matplotlib",
    "mmengine": "onedl-mmengine",
    "mmcv": "onedl-mmcv",
    "mmpretrain": "onedl-mmpretrain",
    "mmdet": "onedl-mmdetection",
    "mmseg": "onedl-mmsegmentation",
}
_MIN_FREE_GIB = 2


class Fault(Exception):
    """What is wrong, and the command or step that fixes it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def check_python() -> str:
    """Check that the pinned packages support this Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        raise Fault(
            f"Python {version}, wanted 3.11 or 3.12",
            "make distclean && make test PYTHON=python3.11",
        )
    return f"{version} (wanted 3.11 or 3.12)"


def check_package(module: str) -> str:
    """Check that `module` imports, and that pyproject.toml accepts its version."""
    from packaging.specifiers import SpecifierSet

    distribution = _PACKAGES[module]
    wanted = wanted_version(distribution)
    try:
        found = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        found = ""
    # pip skips what it considers installed, so a broken installation must be forced
    how = "--force-reinstall --no-deps " if found else ""
    with _blame(f"import {module} failed", _install(distribution, wanted, how)):
        imported = _import(module)
    if not found:
        version = getattr(imported, "__version__", "of unknown version")
        return f"{version}, not from {distribution} (tested: {distribution}{wanted})"
    if not SpecifierSet(wanted).contains(found, prereleases=True):
        raise Fault(f"{distribution} {found}, wanted {wanted}", _install(distribution, wanted))
    return f"{found} (wanted {wanted or 'any'})"


def check_one_opencv() -> str:
    """Check for exactly one OpenCV build: all write to the same cv2 folder and break each other."""
    found = {
        name: dist.version
        for dist in metadata.distributions()
        if (name := (dist.metadata["Name"] or "").lower().replace("_", "-")).startswith("opencv-")
    }
    keep = "opencv-python-headless"
    others = sorted(found.keys() - {keep})
    version = found.get(keep) or wanted_version(keep).removeprefix(">=")
    pinned = f"{keep}=={version}" if version else keep
    remedy = f"{_PIP} install --no-deps --force-reinstall {pinned}"
    if others:
        remedy = f"{_PIP} uninstall -y {' '.join(others)} && {remedy}"
    if len(found) > 1:
        builds = ", ".join(f"{name} {found[name]}" for name in sorted(found))
        raise Fault(f"{len(found)} OpenCV builds share one cv2 folder: {builds}", remedy)
    with _blame("import cv2 failed", remedy):
        version = _import("cv2").__version__  # the folder that an uninstall leaves has none
    return f"{version} ({next(iter(found), 'not installed by pip')}, the only build)"


def check_setuptools() -> str:
    """Report the version; only compiling mmcv needs an old one, so a new one is not a fault."""
    try:
        found = metadata.version("setuptools")
    except metadata.PackageNotFoundError:
        found = "none"
    if found != "none" and int(found.split(".")[0]) < 81:
        return f"{found} (wanted < 81)"
    return f"{found}; to compile mmcv again, first: {_PIP} install 'setuptools<81'"


def check_mmcv_ops(device: str) -> str:
    """Check that `nms` and `roi_align` of mmcv, compiled for `device`, give the known answers."""
    import torch

    remedy = _recompile_mmcv()
    with _blame("mmcv.ops failed", remedy):
        ops = _import("mmcv.ops")
    # Boxes 0 and 1 overlap with IoU 81/119, above the threshold; box 2 is far away.
    corners = [[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]]
    boxes = torch.tensor(corners, dtype=torch.float32, device=device)
    scores = torch.tensor([0.9, 0.8, 0.7], device=device)
    # On a ramp, bilinear sampling is exact: each of the 2x2 bins gives the value at its centre.
    ramp = torch.arange(64, dtype=torch.float32, device=device).reshape(1, 1, 8, 8)
    roi = torch.tensor([[0, 1, 1, 5, 5]], dtype=torch.float32, device=device)
    if device == "cuda":
        remedy += "  (with nvcc of torch's CUDA on PATH, or take the makers' prebuilt CUDA wheel)"
    with _blame(f"mmcv has no working ops for {device}", remedy):
        kept = ops.nms(boxes, scores, iou_threshold=0.5)[1].tolist()
        pooled = ops.roi_align(ramp, roi, (2, 2), 1.0, 2, "avg", True).flatten().tolist()
    if kept != [0, 2]:
        raise Fault(f"mmcv.ops.nms on {device} kept {kept}, wanted [0, 2]", remedy)
    wanted = [13.5, 15.5, 29.5, 31.5]
    if any(abs(a - b) > 1e-4 for a, b in zip(pooled, wanted, strict=True)):
        raise Fault(f"mmcv.ops.roi_align on {device} gave {pooled}, wanted {wanted}", remedy)
    return f"nms and roi_align give the known answers on {device}"


def check_registry() -> str:
    """Check that mmengine finds `milan_mm.MILAN`, as it does for a config."""
    with _blame("milan_mm's classes do not import", _reinstall()), _quiet():
        found = _import("mmengine.registry").MODELS.get("milan_mm.MILAN")
    return f"milan_mm.MILAN is {found.__module__}.{found.__name__}"


def check_shapes_clip() -> str:
    """Check that the demo's teacher is in the package and loads."""
    weights = Path(__file__).parent / "assets/shapes_clip.safetensors"
    if not weights.is_file():
        raise Fault(f"{weights.name} is missing from {weights.parent}", _restore_assets())
    stats = dict(mean=[0.0] * 3, std=[1.0] * 3)
    teacher = dict(type="milan_mm.CLIPTeacher", model_name="shapes-clip", pretrained="shipped")
    with _blame(f"{weights.name} does not load", _restore_assets()), _quiet():
        _import("mmengine.registry").MODELS.build(dict(teacher, input_stats=stats, stats=stats))
    return f"{weights.name}, {weights.stat().st_size / 2**20:.1f} MiB, loads as a teacher"


def check_transformers() -> str:
    """Check that mmpretrain imports if transformers is installed; it does not support version 5."""
    try:
        found = metadata.version("transformers")
    except metadata.PackageNotFoundError:
        return "not installed, and not needed"
    what = f"import mmpretrain.models fails with transformers {found} installed"
    with _blame(what, f"{_PIP} uninstall -y transformers"):
        _import("mmpretrain.models")
    return f"{found}; mmpretrain imports with it"


def check_device() -> str:
    """Report what training would run on; the demo needs no GPU."""
    import torch

    if not torch.cuda.is_available():
        return f"no CUDA device: CPU with {_count(torch.get_num_threads(), 'thread')}"
    name, count = torch.cuda.get_device_name(), torch.cuda.device_count()
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: use fp16"
    return f"{count} x {name}, {memory:.0f} GiB, CUDA {torch.version.cuda}, {bf16}"


def check_disk() -> str:
    """Check the free space here, where work_dirs/ gets the checkpoints by default."""
    free = shutil.disk_usage(".").free / 2**30
    if free < _MIN_FREE_GIB:
        raise Fault(
            f"{free:.1f} GiB free in {os.getcwd()}, wanted {_MIN_FREE_GIB} GiB",
            "free some space, or write elsewhere: --work-dir DIR",
        )
    return f"{free:.0f} GiB free here (wanted {_MIN_FREE_GIB})"


def all_checks() -> dict[str, Callable[[], str]]:
    """Return every check by the name that its line starts with, in the order of the report."""
    checks: dict[str, Callable[[], str]] = {"python": check_python}
    checks["opencv"] = (
        check_one_opencv  # before mmcv, which needs it: the first fault is then the cause
    )
    for module in _PACKAGES:
        checks[module] = functools.partial(check_package, module)
    checks["setuptools"] = check_setuptools
    checks["mmcv.ops"] = functools.partial(check_mmcv_ops, "cpu")
    if _cuda_is_there():
        checks["mmcv.ops cuda"] = functools.partial(check_mmcv_ops, "cuda")
    checks["transformers"] = check_transformers  # before what imports mmpretrain's models
    checks["milan_mm"] = check_registry
    checks["shapes CLIP"] = check_shapes_clip
    checks["device"] = check_device
    checks["disk"] = check_disk
    return checks


def main() -> int:
    """Run every check, print one line each, and return 1 if any found a fault."""
    faults = 0
    for name, check in all_checks().items():
        try:
            print(f"ok     {name:<17}{check()}", flush=True)
        except Exception as error:
            faults += 1
            remedy = error.remedy if isinstance(error, Fault) else _reinstall()
            print(
                f"FAULT  {name:<17}{_one_line(error)}\n       {'fix with':<17}{remedy}", flush=True
            )
    print(
        "all well"
        if not faults
        else f"{_count(faults, 'fault')}: fix the first, then run this again"
    )
    return 1 if faults else 0


def wanted_version(distribution: str) -> str:
    """Return what milan_mm's own metadata asks of `distribution`, such as ">=2.3.6", or ""."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for line in metadata.requires("milan_mm") or []:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) == canonicalize_name(distribution):
            # A set of bounds has no order of its own; the lower one is named first.
            return ",".join(sorted(map(str, requirement.specifier), reverse=True))
    return ""


@contextlib.contextmanager
def _blame(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever a broken package raises into a `Fault`."""
    try:
        yield
    except Exception as error:
        raise Fault(f"{what}: {_one_line(error)}", remedy) from error


def _import(module: str) -> Any:
    with _quiet():
        return importlib.import_module(module)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # mmdet's import warns about optional packages, which would look like a finding here
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _cuda_is_there() -> bool:
    try:
        return _import("torch").cuda.is_available()
    except Exception:  # the torch line reports it
        return False


def _install(distribution: str, wanted: str, options: str = "") -> str:
    """Return the command that installs `distribution`, in a checkout at the pinned version."""
    if distribution.startswith("onedl-"):
        options = f"--no-build-isolation {options}"  # their builds import torch
    checkout = _checkout()
    pins = f"-c {checkout / 'constraints.txt'} " if checkout else ""
    return f"{_PIP} install {pins}{options}'{distribution}{wanted}'"


def _recompile_mmcv() -> str:
    """Return the command that rebuilds mmcv; pip's cache may hold a build without ops."""
    options = "--no-deps --force-reinstall --no-cache-dir "
    build = _install("onedl-mmcv", wanted_version("onedl-mmcv"), options)
    return f"{_PIP} install 'setuptools<81' wheel ninja psutil && {build}"


def _reinstall() -> str:
    """Return the command that reinstalls milan_mm, in a checkout with all that it needs."""
    checkout = _checkout()
    if checkout:
        return f"make -C {checkout} --always-make .venv/.installed"
    return f"{_PIP} install --force-reinstall --no-deps milan_mm"


def _restore_assets() -> str:
    checkout = _checkout()
    return f"git -C {checkout} checkout -- milan_mm/assets" if checkout else _reinstall()


def _checkout() -> Path | None:
    """Return the checkout that this file lies in, or None in an installed wheel."""
    folder = Path(__file__).resolve().parents[1]
    return folder if (folder / "pyproject.toml").is_file() else None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
