"""Checking a whole data set: the report, the list of faults, and the sheet of labelled images."""

import importlib
from pathlib import Path

from milan_mm.datasets.foreign import convert_hint
from milan_mm.files import write_whole
from milan_mm.upkeep.findings import Findings
from milan_mm.visualization.contact_sheet import LEGEND, contact_sheet
from milan_mm.visualization.pictures import png_bytes

# one of them at a time: each imports a library
CHECKS = {
    "imagenet": ("check_imagenet", "check_imagenet"),
    "coco": ("check_coco", "check_coco"),
    "lvis": ("check_coco", "check_lvis"),
    "ade20k": ("check_segmentation", "check_ade20k"),
    "cityscapes": ("check_segmentation", "check_cityscapes"),
    "pascal-context": ("check_segmentation", "check_pascal_context"),
    "coco-stuff": ("check_segmentation", "check_coco_stuff"),
    "nyu-depth": ("check_nyu", "check_nyu"),
    "pretrain": ("check_own", "check_images"),
    "cls": ("check_own", "check_class_folders"),
    "det": ("check_coco", "check_coco_folder"),
    "seg": ("check_own", "check_label_pairs"),
}
OWN = ("pretrain", "cls", "det", "seg")


def check_folder(
    task: str, root: Path, out: Path, num_workers: int, allow_subset: bool = False
) -> tuple[bool, str]:
    """Check a folder, then write the sheet and the list of faults.

    Args:
        task: A key of `CHECKS`.
        out: The sheet, a PNG file; faults go into a .txt of the same name.
        num_workers: Processes that decode; 0 decodes in this one.
        allow_subset: Having fewer files than the published data set is not a fault.

    Returns:
        Whether the data are faulty, and the report.
    """
    module, function = CHECKS[task]
    check = getattr(importlib.import_module(f"milan_mm.upkeep.{module}"), function)
    findings = Findings(allow_subset)
    cells = check(root, findings, num_workers)
    if findings.faults and task in OWN and (hint := convert_hint(root, task)):
        findings.notes.append(hint)
    out.parent.mkdir(parents=True, exist_ok=True)
    listing = out.with_suffix(".txt")
    listing.unlink(missing_ok=True)  # of an earlier check
    if findings.faults:
        write_whole(listing, findings.listing().encode())
    if cells:
        write_whole(out, png_bytes(contact_sheet(cells)))
        images = sum(cell.caption != LEGEND for cell in cells)
        findings.notes.append(f"{images} labelled images to look at are in {out}")
    else:
        out.unlink(missing_ok=True)
        findings.notes.append("no image could be drawn")
    return bool(findings.faults), findings.report(str(root), str(listing))
