"""Command line: `python -m milan_mm TOOL ...` runs a tool of this package from any directory.

Nothing heavy is imported here, so that `--help` and a mistyped name are answered quickly.
"""

import ast
import difflib
import os
import runpy
import sys
from pathlib import Path

from milan_mm.configs import list_configs, list_tools
from milan_mm.errors import run_interruptible

_BUILT_IN = {
    "configs": "list the recipes that a CONFIG argument can name",
    "doctor": "check the installation and say how to fix it",
}


def main(argv: list[str]) -> int:
    """Run the tool that `argv` names and return its exit code."""
    if not argv or argv[0] in {"-h", "--help"}:
        print(_usage())
        return 0
    name, *rest = argv
    if name == "configs":
        print("\n".join(list_configs()))
        return 0
    if name == "doctor":
        from milan_mm.doctor import (
            main as doctor,  # imports torch, which --help should not wait for
        )

        return doctor()
    tools = list_tools()
    if name not in tools:
        closest = difflib.get_close_matches(name, [*_BUILT_IN, *tools], 3, cutoff=0)
        print(
            f"milan_mm: no tool '{name}'; closest: {', '.join(closest)}; "
            "`python -m milan_mm --help` lists all",
            file=sys.stderr,
        )
        return 2
    path = tools[name]
    if path.suffix == ".sh":
        os.environ.setdefault("PYTHON", sys.executable)  # a script starts Python by name
        os.execvp("bash", ["bash", str(path), *rest])
    sys.argv = [str(path), *rest]
    runpy.run_path(str(path), run_name="__main__")
    return 0


def _usage() -> str:
    rows = _BUILT_IN | {name: _first_line(path) for name, path in list_tools().items()}
    width = max(map(len, rows))
    lines = [f"  {name:<{width}}  {text}" for name, text in sorted(rows.items())]
    head = "usage: python -m milan_mm TOOL [arguments]   (see TOOL --help)\n"
    return "\n".join([head, *lines])


def _first_line(path: Path) -> str:
    """Return a tool's description: first line of its docstring, or a script's first comment."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
    comments = (line[1:].strip() for line in text.splitlines() if line.startswith("# "))
    return next(comments, "")


if __name__ == "__main__":
    run_interruptible(main)
