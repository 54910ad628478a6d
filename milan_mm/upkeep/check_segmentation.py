"""ADE20K, Cityscapes, Pascal Context and COCO-Stuff in the folders that mmseg reads."""

from functools import partial
from pathlib import Path

from mmseg.datasets import (
    ADE20KDataset,
    CityscapesDataset,
    COCOStuffDataset,
    PascalContextDataset59,
)

from milan_mm.datasets.conversion import command
from milan_mm.upkeep.findings import Findings
from milan_mm.upkeep.label_maps import Layout, Split, check_label_maps
from milan_mm.visualization.contact_sheet import Cell

_ADE20K_AGAIN = "unpack ADEChallengeData2016.zip again"
ADE20K = Layout(
    **{key: ADE20KDataset.METAINFO[key] for key in ("classes", "palette")},
    splits=dict(
        training=Split("images/training", "annotations/training", 20_210),
        validation=Split("images/validation", "annotations/validation", 2_000),
    ),
    image_suffix=".jpg",
    label_suffix=".png",
    reduces=True,
    again=_ADE20K_AGAIN,
    other_values=f"{_ADE20K_AGAIN}: the full ADE20K with its 3,000 names is another data set",
)
CITYSCAPES = Layout(
    **{key: CityscapesDataset.METAINFO[key] for key in ("classes", "palette")},
    splits=dict(
        train=Split("leftImg8bit/train", "gtFine/train", 2_975),
        val=Split("leftImg8bit/val", "gtFine/val", 500),
    ),
    image_suffix="_leftImg8bit.png",
    label_suffix="_gtFine_labelTrainIds.png",
    reduces=False,
    again="unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip again",
    other_values="these are labelIds, of which the 19 classes of the benchmark are a choice; make "
    "the labels anew: {remake}",
    remake=partial(command, "cityscapes"),
)
PASCAL_CONTEXT = Layout(
    **{key: PascalContextDataset59.METAINFO[key] for key in ("classes", "palette")},
    splits=dict(
        train=Split(
            "JPEGImages",
            "SegmentationClassContext",
            4_998,
            "ImageSets/SegmentationContext/train.txt",
        ),
        val=Split(
            "JPEGImages",
            "SegmentationClassContext",
            5_105,
            "ImageSets/SegmentationContext/val.txt",
        ),
    ),
    image_suffix=".jpg",
    label_suffix=".png",
    reduces=True,
    again="unpack VOCtrainval_03-May-2010.tar again",
    other_values="these are the 459 names of the annotations, of which 59 are a choice; make the "
    "labels anew: {remake}",
    remake=lambda root: command("pascal_context", root.parent),
)
COCO_STUFF = Layout(
    **{key: COCOStuffDataset.METAINFO[key] for key in ("classes", "palette")},
    splits=dict(
        train=Split("images/train2017", "annotations/train2017", 118_287),
        val=Split("images/val2017", "annotations/val2017", 5_000),
    ),
    image_suffix=".jpg",
    label_suffix="_labelTrainIds.png",
    reduces=False,
    again="unpack train2017.zip, val2017.zip and stuffthingmaps_trainval2017.zip again",
    other_values="these are the ids of the annotations, up to 181 with gaps; make the labels anew: "
    "{remake}",
    remake=partial(command, "coco_stuff"),
)


def check_ade20k(root: Path, findings: Findings, num_workers: int) -> list[Cell]:
    """Check ROOT/{images,annotations}/{training,validation}, see `check_label_maps`.

    Files hold class c as c+1, up to 150, and 0 for "none of the classes".
    """
    return check_label_maps(ADE20K, root, findings, num_workers)


def check_cityscapes(root: Path, findings: Findings, num_workers: int) -> list[Cell]:
    """Check ROOT/{leftImg8bit,gtFine}/{train,val}/CITY, see `check_label_maps`.

    Files `*_gtFine_labelTrainIds.png` hold the 19 classes from 0 on, and 255 for none.
    """
    return check_label_maps(CITYSCAPES, root, findings, num_workers)


def check_pascal_context(root: Path, findings: Findings, num_workers: int) -> list[Cell]:
    """Check ROOT/{JPEGImages,SegmentationClassContext} by their lists, see `check_label_maps`.

    Files hold class c as c+1, up to 59, and 0 for the background.
    """
    return check_label_maps(PASCAL_CONTEXT, root, findings, num_workers)


def check_coco_stuff(root: Path, findings: Findings, num_workers: int) -> list[Cell]:
    """Check ROOT/{images,annotations}/{train,val}2017, see `check_label_maps`.

    Files `*_labelTrainIds.png` hold the 171 classes from 0 on, and 255 for none.
    """
    return check_label_maps(COCO_STUFF, root, findings, num_workers)
