"""Command line: `milan-mm TOOL ...` runs a tool of this package from any directory.

`python -m milan_mm` is the same. Nothing heavy is imported here, so that `--help`, a mistyped name
and the shell's completion are answered quickly.
"""

import ast
import difflib
import os
import runpy
import sys
from pathlib import Path

from milan_mm import __version__, completion
from milan_mm.configs import list_configs, list_constraints, list_tools
from milan_mm.errors import run_interruptible

_BUILT_IN = {
    "completion": "Print what makes a shell complete tools, recipes and options.",
    "configs": "List the recipes that a CONFIG argument can name.",
    "constraints": "Print the versions that were tested together, for pip install -c.",
    "doctor": "Check the installation and say how to fix it.",
}


def main(argv: list[str]) -> int:
    """Run the tool that `argv` names and return its exit code."""
    if completion.wanted():
        return _complete()
    if not argv or argv[0] in {"-h", "--help"}:
        print(_usage())
        return 0
    name, *rest = argv
    if name == "--version":
        print(f"milan_mm {__version__}")
        return 0
    if name == "configs":
        print("\n".join(list_configs()))
        return 0
    if name == "constraints":
        return _print_constraints(rest)
    if name == "completion":
        return completion.main(rest)
    if name == "doctor":
        from milan_mm.doctor.checks import main as doctor

        return doctor()
    tools = list_tools()
    if name not in tools:
        closest = difflib.get_close_matches(name, [*_BUILT_IN, *tools], 3, cutoff=0)
        print(
            f"milan-mm: no tool '{name}'; closest: {', '.join(closest)}; "
            "`milan-mm --help` lists all",
            file=sys.stderr,
        )
        return 2
    path = tools[name]
    if path.suffix == ".sh":
        os.environ.setdefault("PYTHON", sys.executable)  # a script starts Python by name
        os.execvp("bash", ["bash", str(path), *rest])
    _run(path, rest)
    return 0


def _print_constraints(names: list[str]) -> int:
    """Print a set of versions: the usual one, or that of `constraints-NAME.txt`."""
    sets = list_constraints()
    name = names[0] if names else ""
    if name not in sets:
        known = ", ".join(filter(None, sets)) or "there is only one"
        print(f"milan-mm: no set of versions '{name}': {known}", file=sys.stderr)
        return 2
    print(sets[name].read_text(encoding="utf-8"), end="")
    return 0


def console() -> None:
    """Entry point of the `milan-mm` command."""
    run_interruptible(main)


def _run(path: Path, arguments: list[str]) -> None:
    sys.argv = [str(path), *arguments]
    runpy.run_path(str(path), run_name="__main__")


def _complete() -> int:
    """Answer the shell: the name of a tool here, its options by its own parser."""
    tools = list_tools()
    path = tools.get(completion.tool_of([*_BUILT_IN, *tools]))
    if path and path.suffix == ".py":
        _run(path, [])
    elif path:
        completion.complete_recipe()
    return 0


def _usage() -> str:
    rows = _BUILT_IN | {name: _first_line(path) for name, path in list_tools().items()}
    width = max(map(len, rows))
    lines = [f"  {name:<{width}}  {text}" for name, text in sorted(rows.items())]
    head = "usage: milan-mm TOOL [arguments]   (see TOOL --help; --version)\n"
    return "\n".join([head, *lines])


def _first_line(path: Path) -> str:
    """Return a tool's description: first line of its docstring, or a script's first comment."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
    comments = (line[1:].strip() for line in text.splitlines() if line.startswith("# "))
    return next(comments, "")


if __name__ == "__main__":
    console()
