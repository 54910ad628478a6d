"""The variants of ImageNet as a data set, in the layouts in which they are published."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset

from milan_mm.datasets.folders import is_image, subfolders
from milan_mm.datasets.variants import (
    ALEXNET_ERRORS,
    SEVERITIES,
    VARIANTS,
    class_ids,
)
from milan_mm.errors import MissingFileError, UserError
from milan_mm.registry import DATASETS


@DATASETS.register_module()
class ImageNetVariant(BaseDataset):
    """The images of a variant, with labels 0 to 999.

    Layouts below `data_root`: ID/* with WordNet ids for -A, -R and -Sketch; 0/* to 999/* for -V2;
    CORRUPTION/SEVERITY/ID/*, with or without the archive's name before it, for -C; the
    validation images of ImageNet, in class folders or not, for ReaL, whose labels come with timm.

    Args:
        variant: A key of `VARIANTS`.
        data_root: Its folder.
        **kwargs: Of mmengine's BaseDataset.

    Raises:
        MissingFileError, UserError: For a folder of another layout.
    """

    def __init__(self, variant: str, data_root: str, **kwargs: Any) -> None:
        self.variant = variant
        judged, by_corruption = _judged(Path(data_root), variant), variant == "imagenet-c"
        metainfo = dict(classes=class_ids(), judged=judged, by_corruption=by_corruption)
        kwargs = kwargs | dict(metainfo=metainfo, ann_file="", test_mode=True)
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Path and label of each image, sorted; ReaL gives several labels."""
        return list(_READERS.get(self.variant, _read_ids)(Path(self.data_root), self.variant))

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels of an image."""
        labels = self.get_data_info(idx)["gt_label"]
        return list(labels) if isinstance(labels, Sequence) else [labels]


def _judged(root: Path, variant: str) -> list[int]:
    """Labels of the classes that compete: all, or those of a smaller variant's folders.

    Raises:
        UserError: When it has another number of folders, or one that is not a class.
    """
    title, number = VARIANTS[variant].title, VARIANTS[variant].num_classes
    place = {name: label for label, name in enumerate(class_ids())}
    if number == len(place):
        return list(range(number))
    names = subfolders(root)
    _refuse_others(root, names, class_ids(), title)
    if len(names) != number:
        raise UserError(
            f"'{root}' has {len(names)} class folders, {title} has {number}: give the folder as it "
            "was unpacked"
        )
    return sorted(place[name] for name in names)


def _read_ids(root: Path, variant: str) -> Iterator[dict]:
    """ID/*: folders that are WordNet ids, of all classes of the variant."""
    judged = _judged(root, variant)
    ids = class_ids()
    _check_folders(root, [ids[label] for label in judged], variant)
    for label in judged:
        yield from _images(root / ids[label], label, variant)


def _read_numbers(root: Path, variant: str) -> Iterator[dict]:
    """0/* to 999/*: sorted as text, 10 would come before 2."""
    _check_folders(root, [str(label) for label in range(1000)], variant)
    for label in range(1000):
        yield from _images(root / str(label), label, variant)


def _read_corrupted(root: Path, variant: str) -> Iterator[dict]:
    """CORRUPTION/SEVERITY/ID/*, all 75 of them."""
    for corruption in ALEXNET_ERRORS:
        inside = [root, *(root / name for name in subfolders(root))]
        found = [folder / corruption for folder in inside if (folder / corruption).is_dir()]
        if not found:
            raise MissingFileError(
                f"'{root}' has no folder {corruption}, nor one inside another folder: unpack all "
                "archives of ImageNet-C there (blur, digital, noise, weather)"
            )
        for severity in SEVERITIES:
            if not (found[0] / severity).is_dir():
                raise MissingFileError(f"'{found[0]}' has no folder {severity}: unpack it again")
            yield from _read_ids(found[0] / severity, variant)


def _read_real(root: Path, variant: str) -> Iterator[dict]:
    """The validation images that ReaL found a label for."""
    from timm.data import RealLabelsImagenet

    names = [f"ILSVRC2012_val_{i + 1:08d}.JPEG" for i in range(50_000)]
    real = RealLabelsImagenet(names).real_labels
    paths = {path.name: path for path in sorted(root.rglob("ILSVRC2012_val_*")) if path.is_file()}
    if missing := [name for name in names if name not in paths]:
        raise MissingFileError(
            f"'{root}' lacks {len(missing):,} of the 50,000 validation images, first "
            f"{missing[0]}: ReaL's labels belong to files of ImageNet's own names"
        )
    for name in names:
        if real[name]:
            yield dict(img_path=str(paths[name]), gt_label=sorted(real[name]))


def _check_folders(root: Path, wanted: Sequence[str], variant: str) -> None:
    title, here = VARIANTS[variant].title, set(subfolders(root))
    missing = [name for name in wanted if name not in here]
    if missing:
        raise MissingFileError(
            f"'{root}' has {len(wanted) - len(missing)} of the {len(wanted)} class folders of "
            f"{title}; missing is '{missing[0]}': give the folder as it was unpacked"
        )
    _refuse_others(root, here, wanted, title)


def _refuse_others(root: Path, here: Iterable[str], known: Iterable[str], title: str) -> None:
    if other := sorted(set(here) - set(known)):
        raise UserError(
            f"'{root}' has a folder '{other[0]}', which is not a class of {title}: is it another "
            "data set?"
        )


def _images(folder: Path, label: int, variant: str) -> Iterator[dict]:
    names = sorted(path.name for path in folder.iterdir() if is_image(path.name))
    if not names:
        raise UserError(f"'{folder}' of {VARIANTS[variant].title} has no images: unpack it again")
    for name in names:
        yield dict(img_path=str(folder / name), gt_label=label)


_READERS = {
    "imagenet-v2": _read_numbers,
    "imagenet-c": _read_corrupted,
    "imagenet-real": _read_real,
}
