#!/usr/bin/env python
"""Write an encoder on its own, for this package or for another library.

SRC is a checkpoint of this package, or any weights file that --weights takes. DST depends on --to:
  milan_mm      .safetensors with all that is known of the encoder, for --weights; the default
  timm          folder for timm.create_model("local-dir:DST", pretrained=True)
  huggingface   folder for transformers.AutoModel.from_pretrained("DST")
  openmmlab     .pth for mmpretrain's VisionTransformer or BEiTViT, in mmpretrain, mmdet and mmseg
  mmseg         .pth for mmseg's own VisionTransformer
  torch-export  .pt2 for torch.export.load("DST").module()
  torchscript   .pt for torch.jit.load("DST")
  onnx          .onnx for onnxruntime
What was written is loaded there, if that library is installed, and its features are compared with
ours. A format that does not have a part of the encoder is refused. Whole pretrainings, with their
decoder, are converted by tools/convert_checkpoint.py.

Examples:
  python tools/export_encoder.py work_dirs/NAME/epoch_400.pth encoder.safetensors
  python tools/export_encoder.py work_dirs/NAME/epoch_400.pth vit_timm --to timm
  python tools/export_encoder.py mae_pretrain_vit_base.pth vit_hf --to huggingface
  python tools/export_encoder.py encoder.safetensors vit.onnx --to onnx
"""

import argparse
import sys

from milan_mm import early
from milan_mm.errors import run_interruptible
from milan_mm.run import options

TARGETS = (
    "milan_mm",
    "timm",
    "huggingface",
    "openmmlab",
    "mmseg",
    "torch-export",
    "torchscript",
    "onnx",
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    parser.add_argument(
        "checkpoint", metavar="SRC", help="checkpoint, weights file, or folder with one"
    )
    parser.add_argument("out", metavar="DST", help="new file or folder")
    parser.add_argument("--to", choices=TARGETS, default="milan_mm", help="(milan_mm)")
    parser.add_argument(
        "--half", action="store_true", help="of milan_mm: store float16, half the size"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace DST; a .safetensors is always replaced"
    )
    options.add_reading(parser, trust=True)
    args = parser.parse_args(argv)
    if args.half and args.to != "milan_mm":
        parser.error(f"--half is for --to milan_mm: leave it out for {args.to}")
    return args


def main(argv: list[str] | None = None) -> None:
    """Export and print what was written; exits with code 2 and one line after a mistake."""
    args = parse_args(argv)
    with early.early_errors():
        if args.to != "milan_mm" and not args.force:
            early.check_new(args.out, args.checkpoint)
        early.check_weights(args.checkpoint)
    # here, so that --help is quick
    from milan_mm.encoder.export.writing import check_output, export, export_own
    from milan_mm.run.errors import user_errors
    from milan_mm.weights.recognising import given_options, read_encoder

    reading = given_options(args) | dict(trust_pickle=args.trust_pickle)
    with user_errors():
        if args.to == "milan_mm":
            encoder = read_encoder(args.checkpoint, **reading)
            print(export_own(encoder, args.out, half=args.half))
            return
        check_output(args.out, args.to, args.force, args.checkpoint)
        encoder = read_encoder(args.checkpoint, **reading)
        print(f"writing {args.out} and loading it again, up to a minute", file=sys.stderr)
        print(export(encoder, args.out, args.to, force=args.force))


if __name__ == "__main__":
    run_interruptible(main)
