"""Checks of the packages: found, importable, of a version that was run, and mmcv's ops."""

import sys
from importlib import metadata
from pathlib import Path

from milan_mm.doctor.fault import Fault, blame, import_quietly, quiet
from milan_mm.doctor.remedies import (
    PIP,
    force,
    install,
    recompile_mmcv,
    reinstall,
    restore_assets,
    wanted_version,
)

# Import name, and the distribution that was tested; pyproject.toml has the minimum versions.
PACKAGES = {
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

    distribution = PACKAGES[module]
    wanted = wanted_version(distribution)
    try:
        found = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        found = ""
    remedy = force(distribution) if found else install(distribution)
    with blame(f"import {module} failed", remedy):
        imported = import_quietly(module)
    if not found:
        version = getattr(imported, "__version__", "of unknown version")
        return f"{version}, not from {distribution} (tested: {distribution}{wanted})"
    if not SpecifierSet(wanted).contains(found, prereleases=True):
        raise Fault(f"{distribution} {found}, wanted {wanted}", install(distribution))
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
    pinned = f"{keep}=={found[keep]}" if keep in found else f"'{keep}{wanted_version(keep)}'"
    remedy = f"{PIP} install --no-deps --force-reinstall {pinned}"
    if others:
        remedy = f"{PIP} uninstall -y {' '.join(others)} && {remedy}"
    if len(found) > 1:
        builds = ", ".join(f"{name} {found[name]}" for name in sorted(found))
        raise Fault(f"{len(found)} OpenCV builds share one cv2 folder: {builds}", remedy)
    with blame("import cv2 failed", remedy):
        version = import_quietly("cv2").__version__  # the folder that an uninstall leaves has none
    return f"{version} ({next(iter(found), 'not installed by pip')}, the only build)"


def check_setuptools() -> str:
    """Report the version; only compiling mmcv needs an old one, so a new one is not a fault."""
    try:
        found = metadata.version("setuptools")
    except metadata.PackageNotFoundError:
        found = "none"
    if found != "none" and int(found.split(".")[0]) < 81:
        return f"{found} (wanted < 81)"
    return f"{found}; to compile mmcv again, first: {PIP} install 'setuptools<81'"


def check_mmcv_ops(device: str) -> str:
    """Check that `nms` and `roi_align` of mmcv, compiled for `device`, give the known answers."""
    import torch

    remedy = recompile_mmcv()
    with blame("mmcv.ops failed", remedy):
        ops = import_quietly("mmcv.ops")
    # Boxes 0 and 1 overlap with IoU 81/119, above the threshold; box 2 is far away.
    corners = [[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]]
    boxes = torch.tensor(corners, dtype=torch.float32, device=device)
    scores = torch.tensor([0.9, 0.8, 0.7], device=device)
    # On a ramp, bilinear sampling is exact: each of the 2x2 bins gives the value at its centre.
    ramp = torch.arange(64, dtype=torch.float32, device=device).reshape(1, 1, 8, 8)
    roi = torch.tensor([[0, 1, 1, 5, 5]], dtype=torch.float32, device=device)
    if device == "cuda":
        remedy += "  (with nvcc of torch's CUDA on PATH, or take the makers' prebuilt CUDA wheel)"
    with blame(f"mmcv has no working ops for {device}", remedy):
        kept = ops.nms(boxes, scores, iou_threshold=0.5)[1].tolist()
        pooled = ops.roi_align(ramp, roi, (2, 2), 1.0, 2, "avg", True).flatten().tolist()
    if kept != [0, 2]:
        raise Fault(f"mmcv.ops.nms on {device} kept {kept}, wanted [0, 2]", remedy)
    wanted = [13.5, 15.5, 29.5, 31.5]
    if any(abs(a - b) > 1e-4 for a, b in zip(pooled, wanted, strict=True)):
        raise Fault(f"mmcv.ops.roi_align on {device} gave {pooled}, wanted {wanted}", remedy)
    return f"nms and roi_align give the known answers on {device}"


def check_transformers() -> str:
    """Check that mmpretrain imports beside an installed transformers."""
    try:
        found = metadata.version("transformers")
    except metadata.PackageNotFoundError:
        return "not installed, and not needed"
    what = f"import mmpretrain.models fails with transformers {found} installed"
    with blame(what, f"{PIP} uninstall -y transformers"):
        import_quietly("milan_mm.language_models")  # leaves out what version 5 breaks
        import_quietly("mmpretrain.models")
    left_out = ", without its models of language and images" if int(found.split(".")[0]) > 4 else ""
    return f"{found}; mmpretrain imports with it{left_out}"


def check_registry() -> str:
    """Check that mmengine finds `milan_mm.MILAN`, as it does for a config."""
    with blame("milan_mm's classes do not import", reinstall()), quiet():
        found = import_quietly("mmengine.registry").MODELS.get("milan_mm.MILAN")
    return f"milan_mm.MILAN is {found.__module__}.{found.__name__}"


def check_shapes_clip() -> str:
    """Check that the demo's teacher is in the package and loads."""
    weights = Path(__file__).parents[1] / "assets/shapes_clip.safetensors"
    if not weights.is_file():
        raise Fault(f"{weights.name} is missing from {weights.parent}", restore_assets())
    stats = dict(mean=[0.0] * 3, std=[1.0] * 3)
    teacher = dict(type="milan_mm.CLIPTeacher", model_name="shapes-clip", pretrained="shipped")
    with blame(f"{weights.name} does not load", restore_assets()), quiet():
        models = import_quietly("mmengine.registry").MODELS
        models.build(dict(teacher, input_stats=stats, stats=stats))
    return f"{weights.name}, {weights.stat().st_size / 2**20:.1f} MiB, loads as a teacher"


def cuda_is_there() -> bool:
    """Whether torch sees a GPU; a torch that does not import has a line of its own."""
    try:
        return import_quietly("torch").cuda.is_available()
    except Exception:
        return False
