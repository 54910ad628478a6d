"""The pages of the documentation, as the tests read them: blocks of code, commands, links.

A block of commands is fenced, without a language or as `bash`. One that cannot run on the tests'
machine says what it needs in a comment above: `<!-- needs: 8 GPUs, ImageNet -->`.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_hooks" not in path.parts),
]
# What a line of commands starts with.
OTHERS = {
    "cd",
    "docker",
    "eval",
    "ln",
    "mim",
    "mkdir",
    "pip",
    "pre-commit",
    "sbatch",
    "source",
    "tar",
    "tensorboard",
    "torchrun",
}
PROGRAMS = {"bash", "make", "milan-mm", "python"} | OTHERS
_FENCE = re.compile(
    r"(?:^<!-- needs: (?P<needs>[^\n]+?) -->\n+)?^(?P<indent> *)```(?P<language>\w*)[^\n]*\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: File that it stands in. line: Of its first line of text, from 1.
        language: After the fence; '' where there is none.
        needs: What it cannot run without; '' where it runs everywhere.
        text: Its content.
        answer: The block that follows without a word between; '' where none does.
    """

    page: Path
    line: int
    language: str
    needs: str
    text: str
    answer: str = ""

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_shell(self) -> bool:
        """Whether it holds commands, rather than what they print."""
        words = next(iter(split_commands(self.text)), [])
        return self.language in {"", "bash"} and bool(words) and _program(words) in PROGRAMS

    @property
    def is_python(self) -> bool:
        return self.language in {"python", "py"}


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = list(_FENCE.finditer(text))
    return [
        Block(
            page,
            text.count("\n", 0, this.start("text")) + 1,
            this["language"],
            this["needs"] or "",
            this["text"],
            next["text"] if next and not text[this.end() : next.start()].strip() else "",
        )
        for this, next in zip(found, [*found[1:], None], strict=False)
    ]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def split_commands(text: str) -> list[list[str]]:
    """The words of each command, without comments; `\\` continues a line, `&&` ends a command."""
    commands: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # an apostrophe: what a command prints
            words = [line]
        for part in _divided(words):
            commands += [part] if part else []
    return commands


def _divided(words: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in words:
        if word in {"&&", ";", "|"}:
            yield part
            part = []
        else:
            part.append(word)
    yield part


def _program(words: list[str]) -> str:
    """The program of a command; that of `NAME=VALUE` alone is bash."""
    rest = [word for word in words if not _ASSIGNMENT.fullmatch(word)]
    return rest[0] if rest else "bash"


def assignments(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """`NAME=VALUE` before a command, and the command."""
    number = 0
    while number < len(words) and _ASSIGNMENT.fullmatch(words[number]):
        number += 1
    return dict(word.split("=", 1) for word in words[:number]), words[number:]


@dataclass(frozen=True)
class ToolCall:
    """A call of one of our tools: its name, and what its parser is given."""

    tool: str
    arguments: list[str]


def tool_call(words: list[str]) -> ToolCall | None:
    """The tool that a command runs, through whichever launcher; None for other programs."""
    match words:
        case ["python", script, *rest] if found := re.fullmatch(r"tools/(\w+)\.py", script):
            return ToolCall(found[1], rest)
        case ["python", "-m", "milan_mm", tool, *rest] | ["milan-mm", tool, *rest]:
            words = ["bash", f"tools/{tool}.sh", *rest]
            return _launched(words) or ToolCall(tool, rest)
        case ["bash", *_]:
            return _launched(words)
        case ["sbatch", *options] if "tools/slurm_train.sh" in options:
            script = options.index("tools/slurm_train.sh")
            return ToolCall("train", [*options[script + 1 :], "--launcher", "slurm"])
    return None


def _launched(words: list[str]) -> ToolCall | None:
    match words:
        case ["bash", "tools/dist_train.sh", config, processes, *rest]:
            return ToolCall("train", [config, *rest, *_several(processes, "pytorch")])
        case ["bash", "tools/dist_test.sh", config, checkpoint, processes, *rest]:
            return ToolCall("test", [config, checkpoint, *rest, *_several(processes, "pytorch")])
        case ["bash", "tools/slurm_train.sh", _, _, config, processes, *rest]:
            return ToolCall("train", [config, *rest, *_several(processes, "slurm")])
    return None


def _several(processes: str, launcher: str) -> list[str]:
    assert re.fullmatch(r"[1-9]\d*|GPUS", processes), f"number of processes: {processes}"
    return ["--launcher", launcher]


def inline_commands(page: Path) -> list[list[str]]:
    """Commands within sentences, in backticks."""
    spans = re.findall(r"`([^`]+)`", prose(page).replace("\n", " "))
    return [split_commands(span)[0] for span in spans if span.split()[:1] in (["python"], ["bash"])]


def docstring_commands() -> list[tuple[str, list[str]]]:
    """Place and words of the commands in the docstrings of tools and recipes."""
    found = []
    for path in [*ROOT.glob("tools/[!_]*.py"), *ROOT.glob("configs/*/**/*.py")]:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        for line in docstring.replace("\\\n", " ").splitlines():
            line = re.sub(r"^(Run|Example|.*Data): ", "", line.strip())
            if line.startswith(("python tools/", "bash tools/")):
                found.append((path.relative_to(ROOT).as_posix(), *split_commands(line)))
    return found
