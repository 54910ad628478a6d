"""Every command that the documentation shows is one that its tool takes."""

import contextlib
import importlib.util
import io
import re
import runpy
from functools import cache
from pathlib import Path

import pytest

from milan_mm.configs import find_config, list_tools
from tests.docs.pages import (
    OTHERS,
    PAGES,
    ROOT,
    assignments,
    blocks,
    docstring_commands,
    inline_commands,
    split_commands,
    tool_call,
)

# Words of the documentation that stand for something of the reader's.
NUMBERS = {"N": "8", "LR": "1e-4", "PIXELS": "224", "[FILE ...]": "", "GPUS": "8"}
OWN_CONFIG = re.compile(r"CONFIG|RECIPE|.*\b(NAME|ROW)\b.*|my\w*\.py")
BUILT_IN = {"completion", "configs", "constraints", "doctor"}  # of milan-mm

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@cache
def parser_of(tool: str):
    tools = list_tools()
    assert tool in tools, f"no tool '{tool}'"
    return runpy.run_path(str(tools[tool]))["parse_args"]


def problem_of(words: list[str], complete: bool = True) -> str:
    """Why a command would be refused before it does anything; '' where it would not.

    Args:
        complete: Whether all that the tool asks for must be there.
    """
    _, words = assignments(words)
    match words:
        case []:
            return ""
        case [program, *_] if program in OTHERS:
            return ""
        case ["make", *targets]:
            return "".join(f"no target {t}; " for t in targets if not _is_target(t))
        case ["python", "-m", module, *_] if module != "milan_mm":
            return "" if importlib.util.find_spec(module) else f"no module {module}"
        case ["python", script, *_] if script.startswith(".ci/"):
            return "" if (ROOT / script).is_file() else f"no script {script}"
        case ["python", "-c" | "--version", *_] | ["bash", "-c", *_]:
            return ""
    call = tool_call(words)
    if call is None:
        return f"the tests know no program {' '.join(words[:2])}"
    if call.tool in BUILT_IN:
        return ""
    if call.tool not in list_tools():
        return f"no tool '{call.tool}'"
    return _refusal(call.tool, [NUMBERS.get(word, word) for word in call.arguments], complete)


def _refusal(tool: str, arguments: list[str], complete: bool) -> str:
    said = io.StringIO()
    if list_tools()[tool].suffix == ".sh":
        return ""
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            args = parser_of(tool)([word for word in arguments if word])
    except SystemExit as stop:
        needs_more = "arguments are required" in said.getvalue() and not complete
        return "" if needs_more or not stop.code else said.getvalue().splitlines()[-1]
    config = str(getattr(args, "config", "CONFIG"))
    if OWN_CONFIG.fullmatch(config) or "$" in config:
        return ""
    try:
        find_config(config)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return ""


def _is_target(word: str) -> bool:
    makefile = (ROOT / "Makefile").read_text()
    return "=" in word or re.search(rf"^{word}:", makefile, re.MULTILINE) is not None


@by_page
def test_every_command_in_a_block_is_taken_by_its_tool(page: Path):
    wrong = {
        f"{block.place} {' '.join(words)}": problem
        for block in blocks(page)
        if block.is_shell
        for words in split_commands(block.text)
        if (problem := problem_of(words))
    }
    assert not wrong


@by_page
def test_every_command_in_a_sentence_has_options_that_exist(page: Path):
    wrong = {
        " ".join(words): problem
        for words in inline_commands(page)
        if (problem := problem_of(words, complete=False))
    }
    assert not wrong


def test_every_command_in_a_docstring_is_taken_by_its_tool():
    commands = docstring_commands()
    assert len(commands) > 60
    wrong = {
        f"{place} {' '.join(words)}": problem
        for place, words in commands
        if (problem := problem_of(words))
    }
    assert not wrong


@by_page
def test_a_block_of_commands_is_seen_as_one(page: Path):
    others = [block for block in blocks(page) if not block.is_shell]
    assert not [block.place for block in others if block.language == "bash"]
    assert not [b.place for b in others if re.search(r"^\w+ (tools/|-m )", b.text, re.MULTILINE)]


@pytest.mark.parametrize(
    "command",
    [
        "python tools/train.py det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes --weigths FILE",
        "python tools/train.py det/mask-rcnn_vit-mini",
        "python tools/tran.py CONFIG",
        "python -m milan_mm tran CONFIG",
        "bash tools/dist_train.sh CONFIG 8 --batch 7",
        "make tset",
        "pyhton tools/train.py CONFIG",
    ],
)
def test_a_mistyped_command_is_noticed(command: str):
    assert problem_of(command.split())
