#!/usr/bin/env python
"""Convert pretrained weights: an encoder to this package's file, or a pretraining bit for bit.

Without --to, SRC may be of any system in docs/weights.md. Its encoder is written to a .safetensors
file together with what is known about it (system, statistics, options), and --weights of all tools
takes that file.

With --to, SRC is a complete MILAN or MAE pretraining, and DST is one too:
  milan_mm    checkpoints of this package: state_dict with backbone.* and decoder.*
  official    the authors' repositories of MILAN and MAE: model with blocks.* and decoder_blocks.*
  mmpretrain  mmpretrain's MILAN and MAE: state_dict with backbone.* and neck.*
Position tables travel with the file. Optimizer states do not: a training that starts from the new
file starts with a fresh optimizer.

Examples:
  python tools/convert_checkpoint.py beit_base_patch16_224_pt22k.pth beit.safetensors
  python tools/convert_checkpoint.py ViT-B-16.pt clip.safetensors --half
  python tools/convert_checkpoint.py checkpoint-399.pth milan.pth --to milan_mm
  python tools/convert_checkpoint.py work_dirs/NAME/epoch_400.pth authors.pth --to official
"""

import argparse

from milan_mm import early
from milan_mm.errors import run_interruptible
from milan_mm.run import options


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    parser.add_argument(
        "src", metavar="SRC", help="weights file, or folder of Hugging Face or timm"
    )
    parser.add_argument(
        "dst",
        metavar="DST",
        help="new file, replaced if it exists: .safetensors; with --to .pth or .pt too",
    )
    parser.add_argument(
        "--to", choices=["milan_mm", "official", "mmpretrain"], help="layout of DST, with decoder"
    )
    parser.add_argument(
        "--half", action="store_true", help="of an encoder: store float16, half the size"
    )
    options.add_reading(parser, trust=True)
    args = parser.parse_args(argv)
    of_encoders = ("layout", "system", "num_heads", "student", "half", "trust_pickle")
    if args.to and (given := options.given(args, of_encoders)):
        parser.error(f"--to converts a whole pretraining: leave out {', '.join(given)}")
    return args


def main(argv: list[str] | None = None) -> None:
    """Convert and print a report; exits with code 2 and one line after a mistake."""
    args = parse_args(argv)
    with early.early_errors():
        early.check_weights(args.src)
    # here, so that --help is quick
    from milan_mm.run.errors import user_errors
    from milan_mm.weights.converting import convert_checkpoint
    from milan_mm.weights.exporting import export_encoder
    from milan_mm.weights.inspecting import inspection
    from milan_mm.weights.recognising import given_options, read_encoder

    with user_errors():
        if args.to:
            print(convert_checkpoint(args.src, args.dst, args.to))
        else:
            reading = given_options(args) | dict(trust_pickle=args.trust_pickle)
            encoder = read_encoder(args.src, **reading)
            metadata = export_encoder(encoder, args.dst, half=args.half)
            print(inspection(encoder))
            print(f"  sha256      {metadata['sha256']} of the tensors")
    print(args.dst)


if __name__ == "__main__":
    run_interruptible(main)
