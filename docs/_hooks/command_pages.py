"""Every tool with its options, from the parser that its command line goes through."""

import argparse
import io
import re
import runpy
import textwrap
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

from milan_mm.__main__ import main
from milan_mm.configs import list_tools
from milan_mm.run.options import ToolParser

_INTRO = """# Command line

Made from the tools' own parsers. In a checkout a tool runs as `python tools/NAME.py`, from an
installed package as `milan-mm NAME`, from any directory. `--help` prints the same.

A mistake is one line with the remedy, and exit code 2. Nothing is half-written.

| command | what it does |
|---|---|
"""


class _StopError(Exception):
    """Carries a parser out of the tool that has built it."""


def commands() -> str:
    """The page."""
    tools = list_tools()
    table = [
        f"| {f'[{name}](#{name})' if name in tools else name} | {text} |"
        for name, text in _listed()
    ]
    sections = [_section(name, path) for name, path in sorted(tools.items())]
    return _INTRO + "\n".join(table) + "\n\n" + "\n".join(sections)


def _listed() -> list[tuple[str, str]]:
    """Name and first line of everything that `python -m milan_mm` runs."""
    with redirect_stdout(io.StringIO()) as out:
        main(["--help"])
    return re.findall(r"^  (\S+)  +(.+)$", out.getvalue(), re.MULTILINE)


def parser_of(tool: Path) -> ToolParser:
    """The parser that a tool builds, before it parses anything."""

    def stop(parser: ToolParser, *_: object) -> None:
        raise _StopError(parser)

    with mock.patch.object(ToolParser, "parse_args", stop):
        try:
            runpy.run_path(str(tool))["parse_args"]([])
        except _StopError as stopped:
            return stopped.args[0]
    raise AssertionError(f"{tool} parses nothing")


def _section(name: str, path: Path) -> str:
    head = f"## {name} {{ #{name} }}\n"
    if path.suffix == ".sh":
        return f"{head}\n```text\n{_comment(path)}\n```\n"
    parser = parser_of(path)
    parts = [head, _description(parser.description or "")]
    for bench in _subparsers(parser):
        word = bench.prog.split()[-1]
        parts += [f"### {word} {{ #{name}-{word} }}\n", _options(bench) or "No options.\n"]
    if not _subparsers(parser):
        parts.append(_options(parser))
    return "\n".join(parts)


def _comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").split("\nset ")[0].split("\n")[1:]
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines).strip()


def _description(text: str) -> str:
    """The docstring of a tool; its examples, and what it aligns in columns, as code."""
    prose, *rest = re.split(r"^Examples?:\n", text, maxsplit=1, flags=re.MULTILINE)
    prose = re.sub(
        r"(?:^ {2,}\S.*\n?)+",
        lambda found: f"\n```text\n{found[0].rstrip()}\n```\n\n",
        prose,
        flags=re.MULTILINE,
    )
    examples = textwrap.dedent("".join(rest)).rstrip()
    return prose.strip() + (f"\n\n```bash\n{examples}\n```\n" if examples else "\n")


def _subparsers(parser: ToolParser) -> list[ToolParser]:
    return list((parser.commands.choices or {}).values()) if parser.commands else []


def _options(parser: ToolParser) -> str:
    """A table of them; '' where there are none."""
    rows = [
        f"| {_spelling(action)} | {_cell(_expanded(action))} |"
        for action in parser._actions
        if action.help != argparse.SUPPRESS  # hidden
        and not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    ]
    return "\n".join(["| option | what it does |", "|---|---|", *rows, ""]) if rows else ""


def _expanded(action: argparse.Action) -> str:
    """Help with the default in its place, as argparse prints it."""
    assert action.help, f"{action.dest} has no help"
    return action.help % vars(action)


def _spelling(action: argparse.Action) -> str:
    """Names and values of an option, e.g. `--cfg-options KEY=VALUE ...`."""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    value = str(action.metavar or choices or action.dest.upper())
    value = {0: "", "?": f"[{value}]", "+": f"{value} ...", "*": f"[{value} ...]"}.get(
        action.nargs, value
    )
    return f"`{' '.join(filter(None, (', '.join(action.option_strings), value)))}`"


def _cell(text: str) -> str:
    """Help as Markdown, whose own signs are escaped."""
    return re.sub(r"([\[\]|*_<\\])", r"\\\1", " ".join(text.split()))
