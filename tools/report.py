#!/usr/bin/env python
"""What runs gave: the page of a work directory, or the table of a results file.

A results file gives methods and tasks, next to the paper's Tables 1 and 3. Numbers of different
protocols or data are never ranked together, repeats give mean and range, and what was not run stays
visible. --html writes one page that needs no other file: for a work directory with its plan,
curves, metrics, pictures, weights and command, also while the run goes on.

Examples:
  python tools/report.py work_dirs/NAME --html                # work_dirs/NAME/report.html
  python tools/report.py work_dirs/evaluate/results.jsonl
  python tools/report.py results.jsonl --html page.html
  python tools/report.py results.jsonl --format latex --out table.tex
  python tools/report.py a/results.jsonl b/results.jsonl --merge all.jsonl
"""

import argparse
import sys
from pathlib import Path

from milan_mm.errors import MissingFileError, UserError, run_interruptible
from milan_mm.escaping import visible
from milan_mm.files import write_whole
from milan_mm.run import options

FORMATS = ("markdown", "csv", "latex")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    parser.add_argument(
        "results",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="results.jsonl of tools/evaluate.py, several of which are taken together, or a work "
        "directory of tools/train.py",
    )
    parser.add_argument("--format", choices=FORMATS, help=f"of a table ({FORMATS[0]})")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")
    parser.add_argument(
        "--html",
        nargs="?",
        const="",
        metavar="FILE",
        help="write a page (report.html in the work directory, or beside the results file)",
    )
    parser.add_argument(
        "--merge", type=Path, metavar="FILE", help="append the rows that this results file lacks"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Print or write; exits with code 2 and one line after a mistake of the user."""
    args = parse_args(argv)
    # here, so that --help is quick
    from milan_mm.run.errors import user_errors

    with user_errors():
        check_paths(args.results)
        if args.merge:
            print(merge_files(args))
            return
        if args.html is not None:
            print(f"open {write_html(args)}")
            return
        text = table(args)
        if args.out:
            write_whole(args.out, text.encode())
    if not args.out:
        print(text, end="")


def check_paths(paths: list[Path]) -> None:
    """Refuse a path that does not exist (file or folder, nobody knows), and several folders."""
    for path in paths:
        if not path.exists():
            raise MissingFileError(
                f"'{path}' does not exist: give a work directory of tools/train.py or a "
                "results.jsonl of tools/evaluate.py"
            )
        if path.is_dir() and len(paths) > 1:
            raise UserError(f"'{path}' is a folder: give work directories one at a time")


def merge_files(args: argparse.Namespace) -> str:
    """Append the rows that a results file does not have, and say how many."""
    from milan_mm.evaluation.results import append_new, read_results

    for option in ("format", "out", "html"):
        if getattr(args, option) is not None:
            raise UserError(f"--merge and --{option} exclude each other: report on {args.merge}")
    new = append_new(args.merge, read_results(*args.results))
    return f"{new} new rows in {args.merge}"


def table(args: argparse.Namespace) -> str:
    """The tables of a results file as text."""
    from milan_mm.evaluation.formats import render
    from milan_mm.evaluation.results import read_results, remarks_on
    from milan_mm.evaluation.tables import make_tables

    if args.results[0].is_dir():
        folder = args.results[0]
        raise UserError(f"'{folder}' is a folder: --html writes the page of a work directory")
    tables = make_tables(read_results(*args.results))
    for remark in (remark for path in args.results for remark in remarks_on(path)):
        print(f"note: {visible(remark)}", file=sys.stderr)
    return render(tables, args.format or FORMATS[0])


def write_html(args: argparse.Namespace) -> Path:
    """Write the page, and return where it is."""
    for option in ("format", "out"):
        if getattr(args, option):
            raise UserError(
                f"--html and --{option} exclude each other: --html FILE says where the page goes"
            )
    from milan_mm.report.page import write_page

    first = args.results[0]
    is_folder = first.is_dir()
    default = first / "report.html" if is_folder else first.with_suffix(".html")
    path = Path(args.html) if args.html else default
    if path.is_dir():
        raise UserError(f"--html '{path}' is a folder: give the name of a file in it")
    if path.resolve() in [results.resolve() for results in args.results]:
        raise UserError(f"--html '{path}' would replace the results: give another name")
    if is_folder:
        from milan_mm.report.run_page import run_page

        write_page(path, run_page(first))
    else:
        write_page(path, page_of_results(args.results))
    return path


def page_of_results(paths: list[Path]) -> str:
    """The page of files of rows, those of other tools included."""
    from milan_mm.evaluation.results import merge, read_results, remarks_on
    from milan_mm.evaluation.row_schema import is_of_evaluate
    from milan_mm.report.results_page import results_page
    from milan_mm.report.rows_page import rows_page

    rows, remarks = merge(paths), [remark for path in paths for remark in remarks_on(path)]
    name = ", ".join(path.name for path in paths)
    if rows and not any(map(is_of_evaluate, rows)):
        return rows_page(rows, name, remarks)
    return results_page(read_results(*paths), name, remarks)


if __name__ == "__main__":
    run_interruptible(main)
