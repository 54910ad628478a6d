#!/usr/bin/env python
"""The table of a results file: methods and tasks, next to the paper's Tables 1 and 3.

Numbers of different protocols or data are never ranked together, repeats give mean and range, and
what was not run stays visible.

Examples:
  python tools/report.py work_dirs/evaluate/results.jsonl
  python tools/report.py results.jsonl --format latex --out table.tex
"""

import argparse
from pathlib import Path

from milan_mm.errors import run_interruptible
from milan_mm.run import options


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    parser.add_argument("results", type=Path, metavar="FILE", help="of tools/evaluate.py")
    parser.add_argument(
        "--format", choices=["markdown", "csv", "latex"], default="markdown", help="(markdown)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Print or write the table; exits with code 2 and one line after a mistake of the user."""
    args = parse_args(argv)
    # here, so that --help is quick
    from milan_mm.evaluation.formats import render
    from milan_mm.evaluation.results import read_results
    from milan_mm.evaluation.tables import make_tables
    from milan_mm.run.errors import user_errors

    with user_errors():
        text = render(make_tables(read_results(args.results)), args.format)
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(text, encoding="utf-8")
    if not args.out:
        print(text, end="")


if __name__ == "__main__":
    run_interruptible(main)
