"""From an encoder and images to features on the disk; what is there already is not computed."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from mmpretrain.datasets import CustomDataset
from torch import Tensor
from torch.utils.data import Subset
from tqdm import tqdm

from milan_mm.datasets.identity import data_hash
from milan_mm.errors import UserError
from milan_mm.evaluation.encoders import load_frozen_encoder
from milan_mm.evaluation.features import (
    FEATURES,
    find_device,
    normalised_batches,
    pool,
    read_image_folder,
)
from milan_mm.evaluation.frozen.spec import DTYPES, FeatureSpec, Needs, usual_pooling
from milan_mm.evaluation.frozen.store import Images, Store, find_store
from milan_mm.evaluation.frozen.store_writer import Writer, writing
from milan_mm.evaluation.recipes import Shape
from milan_mm.models.plain_vit import PlainViT
from milan_mm.run.fields.image_size import check_patches
from milan_mm.run.records.canonical import CHOICES, settings_hash
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.reading import file_sha256

TITLES = dict(train="training images", val="validation images")


@dataclass(frozen=True)
class Preparation:
    """How images become features, apart from the encoder.

    Attributes:
        img_size: Side of the images in pixels. crop_pct: Share that the centre crop keeps.
        stats: Image statistics; None takes those of the pretraining.
        amp: Compute in bfloat16. dtype: Of the file, 'float32' or 'float16'.
        batch_size: Images at a time. num_workers: Processes that read images; None takes one per
            core, at most 8.
    """

    img_size: int
    crop_pct: float = 0.875
    stats: str | None = None
    amp: bool = False
    dtype: str = "float32"
    batch_size: int = 64
    num_workers: int | None = None


def spec_of(
    encoder: Encoder,
    sha256: str,
    images: tuple[int, str | None],
    split: str,
    preparation: Preparation,
    needs: Needs,
) -> FeatureSpec:
    """What the features of a split depend on.

    Args:
        encoder: With or without its tensors. sha256: Of its file.
        images: How many the split has, and their `data_hash`.

    Raises:
        UserError: When the encoder does not have what is needed.
    """
    shape, name = Shape.of(encoder), Path(encoder.source).name
    needs.check(shape, name)
    chosen = {key: encoder.options.get(key) for key in CHOICES}
    return FeatureSpec(
        weights=name,
        weights_sha256=sha256,
        encoder_hash=settings_hash([encoder.settings, encoder.dense, chosen]),
        data_hash=images[1],
        num_images=images[0],
        split=split,
        img_size=preparation.img_size,
        crop_pct=preparation.crop_pct,
        stats=preparation.stats or encoder.stats,
        needs=needs,
        width=shape.embed_dims,
        precision="bfloat16" if preparation.amp else "float32",
        dtype=preparation.dtype,
    )


def stored_features(
    root: Path,
    spec: FeatureSpec,
    read_images: Callable[[], CustomDataset],
    load: Callable[[], PlainViT],
    preparation: Preparation,
    quiet: bool = False,
) -> Store:
    """The features of a spec: those that are there, or else computed and kept.

    Args:
        root: Folder of all stores.
        read_images, load: Give the data set and the frozen encoder; called if anything is missing.
        quiet: Without a progress bar.

    Raises:
        UserError: For an image that cannot be read, features that are not finite, or a disk that is
            too small.
    """
    if store := find_store(root, spec):
        if not (damages := store.check()):
            return store
        print(f"{'; '.join(damages)}: computed again", file=sys.stderr)
        spec = store.spec  # with all that it had
    dataset = read_images()
    with writing(root, spec, images_of(dataset)) as writer:
        if writer.store.missing:
            _fill(writer, dataset, load(), preparation, quiet)
        return writer.store


def extract_folder(
    encoder: Encoder,
    root: str | Path,
    splits: Sequence[str],
    blocks: Sequence[int],
    poolings: Sequence[str] | None,
    preparation: Preparation,
    out: str | Path,
) -> Iterator[Store]:
    """The features of an image folder, one store after another; see `stored_features`.

    Args:
        encoder: With its tensors.
        root: Of train/CLASS/* and val/CLASS/*.
        blocks: Numbers from 0, or from -1 for the last.
        poolings: None takes `usual_pooling`.
        preparation: With an `img_size` of 0 for that of the pretraining.

    Raises:
        MissingFileError, UserError: For images or settings that cannot be used; before anything is
            computed, except for images that cannot be read.
    """
    shape = Shape.of(encoder)
    name = f"--img-size {preparation.img_size}"
    check_patches(preparation.img_size or shape.img_size, shape.patch_size, name)
    preparation = replace(preparation, img_size=preparation.img_size or shape.img_size)
    needs = Needs(
        tuple(sorted({n if n >= 0 else shape.num_layers + n for n in blocks})),
        tuple(name for name in FEATURES if name in (poolings or [usual_pooling(shape)])),
    )
    needs.check(shape, Path(encoder.source).name)
    size = preparation.img_size, preparation.crop_pct
    sets = {split: read_image_folder(root, split, *size) for split in splits}
    sha256, load = file_sha256(encoder.source), frozen_loader(lambda: encoder)
    for split, dataset in sets.items():
        images = len(dataset), data_hash(dict(data_root=dataset.img_prefix))
        spec = spec_of(encoder, sha256, images, split, preparation, needs)
        yield stored_features(Path(out), spec, partial(_same, dataset), load, preparation)


def _same(dataset: CustomDataset) -> CustomDataset:
    return dataset


def images_of(dataset: CustomDataset) -> Images:
    """Names, labels and classes of a data set, see `read_image_folder`."""
    prefix = Path(dataset.img_prefix)
    paths = (dataset.get_data_info(i)["img_path"] for i in range(len(dataset)))
    return Images(
        names=[str(Path(path).relative_to(prefix)) for path in paths],
        labels=dataset.get_gt_labels().tolist(),
        classes=list(dataset.CLASSES),
    )


def pooled(vit: PlainViT, imgs: Tensor, needs: Needs, amp: bool = False) -> dict[str, Tensor]:
    """The features of a batch, each block after the final norm.

    Args:
        imgs: (B, 3, H, W) float, normalised.
        amp: Compute in bfloat16.

    Returns:
        (B, blocks, D) float32 by pooling.
    """
    with torch.autocast(imgs.device.type, torch.bfloat16, enabled=amp):
        tokens = vit.tokens_after(imgs, needs.blocks)
        normed = [vit.ln1(tokens[block]).float() for block in needs.blocks]  # (B, P+L, D) each
    return {
        name: torch.stack([pool(vit, each, name) for each in normed], dim=1)
        for name in needs.poolings
    }


def frozen_loader(encoder: Callable[[], Encoder]) -> Callable[[], PlainViT]:
    """What loads an encoder once, on the GPU if there is one, and only when it is asked for."""
    loaded: list[PlainViT] = []

    def load() -> PlainViT:
        if not loaded:
            vit, _ = load_frozen_encoder(encoder())
            loaded.append(vit.to(find_device()))
        return loaded[0]

    return load


@torch.inference_mode()
def _fill(
    writer: Writer, dataset: CustomDataset, vit: PlainViT, preparation: Preparation, quiet: bool
) -> None:
    """Compute the missing parts of a store."""
    spec = writer.store.spec
    todo = [i for part in writer.store.missing for i in part]
    chosen = dataset if len(todo) == len(dataset) else Subset(dataset, todo)
    bar = tqdm(
        total=len(dataset),
        initial=len(dataset) - len(todo),
        desc=f"{spec.weights}, {TITLES[spec.split]}",
        unit=" images",
        smoothing=0.05,
        disable=quiet,
    )
    with bar as progress:
        for imgs in normalised_batches(
            chosen, spec.stats, preparation.batch_size, preparation.num_workers
        ):
            found = pooled(vit, imgs, spec.needs, preparation.amp)
            rows = {name: values.cpu().to(DTYPES[spec.dtype]) for name, values in found.items()}
            for values in rows.values():
                _check_finite(values, dataset, todo, spec)
            writer.add(rows)
            todo = todo[len(imgs) :]
            progress.update(len(imgs))


def _check_finite(
    values: Tensor, dataset: CustomDataset, numbers: list[int], spec: FeatureSpec
) -> None:
    if values.isfinite().all():
        return
    row = int((~values.isfinite()).flatten(1).any(dim=1).nonzero()[0])
    path = dataset.get_data_info(numbers[row])["img_path"]
    if spec.dtype == "float16":
        raise UserError(
            f"the features of '{path}' exceed 65504, the largest number of float16: pass --dtype "
            "float32"
        )
    raise UserError(
        f"the features of '{path}' by {spec.weights} are not finite: the weights are damaged, or "
        "the image statistics are not those of the pretraining"
    )
