#!/usr/bin/env python
"""Classify images by their nearest neighbours among frozen features: a number without training.

Every validation image takes the label that its k most similar training images vote for. Needs
DIR/train/CLASS/* and DIR/val/CLASS/*, and runs on a GPU if there is one.

Examples:
  python tools/knn.py --weights encoder.safetensors                  # ImageNet at data/imagenet
  python tools/knn.py --weights work_dirs/NAME/epoch_400.pth --amp --random
  python tools/knn.py --weights FILE --data DIR --feature cls_token avg --out results.jsonl
"""

import argparse
import sys
import time

from milan_mm.errors import UserError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights",
        required=True,
        metavar="FILE",
        help="pretrained encoder of any system in docs/weights.md",
    )
    parser.add_argument(
        "--data", default="data/imagenet", metavar="DIR", help="image folder (data/imagenet)"
    )
    parser.add_argument("--k", type=int, default=20, metavar="N", help="neighbours that vote (20)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.07,
        metavar="T",
        help="a neighbour votes with the weight exp(similarity / T) (0.07)",
    )
    parser.add_argument(
        "--feature",
        nargs="+",
        choices=["cls_token", "avg"],
        default=["cls_token"],
        help="class token (default), mean of the patch tokens, or both",
    )
    parser.add_argument(
        "--img-size", type=int, metavar="PX", help="side of the images (that of the pretraining)"
    )
    parser.add_argument(
        "--crop-pct",
        type=float,
        default=0.875,
        metavar="SHARE",
        help="share of the short side that the centre crop keeps (0.875, as 224 of 256)",
    )
    parser.add_argument(
        "--stats",
        choices=["imagenet", "clip", "half"],
        help="image statistics of the pretraining (those that the weights file tells)",
    )
    parser.add_argument(
        "--num-heads",
        type=int,
        metavar="N",
        help="attention heads, where nothing tells them",
    )
    parser.add_argument("--layout", help="names to expect, for files that hold several encoders")
    parser.add_argument("--system", help="origin, where the most probable one is not the right one")
    parser.add_argument(
        "--student", action="store_true", help="of a self-distillation, the student"
    )
    parser.add_argument(
        "--random", action="store_true", help="also judge an untrained encoder of the same shape"
    )
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images at once")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that read images (one per core, up to 8)",
    )
    parser.add_argument("--amp", action="store_true", help="compute features in bfloat16")
    parser.add_argument("--out", metavar="FILE", help="append the numbers to this results.jsonl")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Print the accuracies; exits with code 2 and one line after a mistake of the user."""
    args = parse_args(argv)
    # here, so that --help answers at once
    from milan_mm.evaluation.results import append_rows
    from milan_mm.run.building import silence
    from milan_mm.run.launch import user_errors

    with user_errors(), silence():
        check_arguments(args)
        rows = judge(args)
        if args.out:
            append_rows(args.out, rows)
    print(f"{'encoder':<10}{'feature':<10}{'top-1 %':>9}{'top-5 %':>9}")
    for top1, top5 in zip(rows[::2], rows[1::2], strict=True):
        name, feature = top1["init"], top1["feature"]
        print(f"{name:<10}{feature:<10}{top1['value']:9.2f}{top5['value']:9.2f}")


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse numbers that make no sense before anything is read."""
    for name in ("k", "img_size", "num_heads", "batch_size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: give 1 or more")
    if args.temperature <= 0:
        raise UserError(f"--temperature {args.temperature}: give a number above 0")
    if not 0 < args.crop_pct <= 1:
        raise UserError(f"--crop-pct {args.crop_pct} is outside (0, 1]: the default is 0.875")
    if args.workers is not None and args.workers < 0:
        raise UserError(f"--workers {args.workers}: give 0 or more")


def judge(args: argparse.Namespace) -> list[dict]:
    """Features of all images, then the vote.

    Returns:
        Rows for the results file, top-1 and top-5 for each encoder and feature.

    Raises:
        MissingFileError, UserError: For weights or images that cannot be used.
    """
    import torch

    from milan_mm.evaluation.encoders import heads_of, load_frozen_encoder, random_encoder_like
    from milan_mm.evaluation.features import extract_features, read_image_folder
    from milan_mm.evaluation.knn import knn_predict, top_k_accuracy
    from milan_mm.weights.reading import file_sha256
    from milan_mm.weights.recognising import given_options, read_encoder

    started = time.monotonic()
    encoder = read_encoder(args.weights, **given_options(args))
    stats = args.stats or encoder.stats
    vit, report = load_frozen_encoder(encoder)
    encoders = dict(weights=vit)
    if args.random:
        torch.manual_seed(0)
        encoders["random"] = random_encoder_like(vit)
    if "cls_token" in args.feature and not vit.with_cls_token:
        raise UserError(f"{args.weights} has no class token: pass --feature avg")
    img_size = args.img_size or vit.grid_size[0] * vit.patch_size
    if img_size % vit.patch_size:
        raise UserError(
            f"--img-size {img_size} is not a multiple of the patch size {vit.patch_size}: use "
            f"{max(1, round(img_size / vit.patch_size)) * vit.patch_size}"
        )
    train, val = (
        read_image_folder(args.data, part, img_size, args.crop_pct) for part in ("train", "val")
    )
    if unknown := [name for name in val.CLASSES if name not in train.CLASSES]:
        raise UserError(
            f"{len(unknown)} classes of {args.data}/val are not in train/, e.g. '{unknown[0]}': no "
            "neighbour could vote for them"
        )
    if args.k > len(train):
        raise UserError(f"--k {args.k} exceeds the {len(train)} images in {args.data}/train")
    norm = "final norm" if isinstance(vit.ln1, torch.nn.LayerNorm) else "no final norm"
    print(
        f"{report}\n{args.weights}: {vit.num_layers} blocks of width {vit.embed_dims}, "
        f"{heads_of(vit)} heads, patches of {vit.patch_size} px, {norm}; taken for "
        f"{encoder.system}, image statistics '{stats}'\n"
        f"{args.data}: {len(train)} training and {len(val)} validation images of "
        f"{len(train.CLASSES)} classes, at {img_size} pixels",
        file=sys.stderr,
    )
    train_features, features = (
        extract_features(
            encoders,
            dataset,
            args.feature,
            stats=stats,
            batch_size=args.batch_size,
            num_workers=args.workers,
            amp=args.amp,
            title=title,
        )
        for dataset, title in ((train, "training images"), (val, "validation images"))
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_labels = torch.as_tensor(train.get_gt_labels()).to(device)
    # by name: val/ may have fewer classes
    ids = torch.tensor([train.CLASSES.index(name) for name in val.CLASSES])
    labels = ids[torch.as_tensor(val.get_gt_labels())]
    sha256 = file_sha256(encoder.source)
    rows = []
    for init, feature in features:
        predictions = knn_predict(
            train_features[init, feature].to(device),
            train_labels,
            features[init, feature].to(device),
            len(train.CLASSES),
            k=args.k,
            temperature=args.temperature,
        ).cpu()
        common = dict(
            task="knn",
            init=init,
            weights=args.weights if init == "weights" else None,
            sha256=sha256 if init == "weights" else None,
            data=str(args.data),
            num_train=len(train),
            num_val=len(val),
            k=args.k,
            temperature=args.temperature,
            feature=feature,
            img_size=img_size,
            crop_pct=args.crop_pct,
            stats=stats,
            precision="bfloat16" if args.amp else "float32",
            seconds=round(time.monotonic() - started, 1),
        )
        rows += [
            common | dict(metric=f"top-{top}", value=top_k_accuracy(predictions, labels, top))
            for top in (1, 5)
        ]
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
