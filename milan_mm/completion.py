"""The shell's completion of `milan-mm TOOL ...`, by argcomplete.

On Tab the shell runs `milan-mm` with the line so far in the environment. The name of the tool is
completed here. Each tool then completes its own options: `ToolParser` hands its parser over.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence

from milan_mm.configs import list_configs

_SHELLS = ("bash", "zsh", "fish")
_WANTED = "_ARGCOMPLETE"  # set by the shell: the word, from 1, at which the command starts
_MISSING = "milan-mm: completion needs argcomplete: pip install 'milan_mm[completion]'"


def wanted() -> bool:
    """Whether the shell asks for completions rather than for a run."""
    return _WANTED in os.environ


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell from a parser and end the process, if the shell has asked."""
    if wanted():
        import argcomplete

        argcomplete.autocomplete(parser, always_complete_options=False)


def tool_of(names: Sequence[str]) -> str:
    """The tool on the line; before its name is whole, answer with `names` and end the process."""
    line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", 0))]
    words = line.split()
    if len(words) < 2 or (len(words) == 2 and not line[-1].isspace()):
        parser = argparse.ArgumentParser()
        parser.add_argument("tool", choices=names)
        complete(parser)
    os.environ[_WANTED] = str(int(os.environ[_WANTED]) + 1)  # the line of the tool starts there
    return words[1]


def recipes(prefix: str, **_: object) -> list[str]:
    """What a CONFIG argument may be: recipes, and Python files."""
    from argcomplete.completers import FilesCompleter

    return [*list_configs(), *FilesCompleter(("py",))(prefix)]


def complete_recipe() -> None:
    """Answer for a script that takes a recipe."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config").completer = recipes  # type: ignore[attr-defined]
    complete(parser)


def main(argv: Sequence[str]) -> int:
    """Print the lines that a shell evaluates; returns the exit code."""
    if len(argv) != 1 or argv[0] not in _SHELLS:
        wrong = "" if list(argv) in ([], ["-h"], ["--help"]) else f"'{' '.join(argv)}': "
        print(
            f"milan-mm: {wrong}name your shell ({', '.join(_SHELLS)}) and add this line to its "
            'start-up file: eval "$(milan-mm completion bash)"',
            file=sys.stderr,
        )
        return 2
    if importlib.util.find_spec("argcomplete") is None:
        print(_MISSING, file=sys.stderr)
        return 2
    import argcomplete

    print(argcomplete.shellcode(["milan-mm"], shell=argv[0]))
    return 0
