"""Pages come out as they were written: the site's own renderer leaves no Markdown in the text."""

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown import Markdown
from mkdocs.config import load_config

from tests.docs.pages import ROOT
from tests.docs.test_links import by_page

LONGEST_HEADING = 90  # characters; a longer one has swallowed a paragraph
BLOCKS = {"p", "li", "td", "th", "pre", "h1", "h2", "h3", "h4", "h5", "h6"}
LEFT = {
    "a table": r"\|\s*\||\|\s*:?-|\s\|\s",
    "a list": r"\n\s*(?:[-*+]|\d+\.)\s",
    "a heading": r"(?:^|\n)#{1,6} ",
    "a fence": r"```|~~~",
    "a code span": r"`",
    "emphasis": r"\*\*|(?:^|\s)\*\w",
    "a link": r"\]\(",
    "HTML": r"<!--|-->|</?[a-z]+>",
    "a default of an option": r"%\(\w+\)",
    "columns": r"\S {3,}\S",
    "a conflict of two versions": r"<{7}|={7}|>{7}",
}


class _Rendered(HTMLParser):
    """The text of each block, without code."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.blocks: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in BLOCKS:
            self.blocks.append((tag, ""))
        if tag in BLOCKS | {"code"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            del self.open[len(self.open) - 1 - self.open[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        if not self.open:
            self.blocks += [("", data)] if data.strip() else []
        elif "pre" not in self.open:
            tag, text = self.blocks[-1]
            self.blocks[-1] = tag, text + ("x" if "code" in self.open else data)


@cache
def renderer() -> Markdown:
    config = load_config(str(ROOT / "mkdocs.yml"))
    return Markdown(
        extensions=config["markdown_extensions"], extension_configs=config["mdx_configs"]
    )


def faults(text: str) -> list[str]:
    """What is wrong with a page once it is rendered; its rows are counted, too."""
    html = renderer().reset().convert(text)
    return left_over(html) + repeated_headings(html) + uneven_rows(text)


def left_over(html: str) -> list[str]:
    """Where Markdown is left in the text that a reader sees."""
    blocks = _Rendered(html).blocks
    found = [
        f"{what} within a block: {block[max(0, sign.start() - 60) : sign.end() + 60]!r}"
        for _, block in blocks
        for what, pattern in LEFT.items()
        if (sign := re.search(pattern, block))
    ]
    return found + [
        f"a heading of {len(block)} characters: {block!r}"
        for tag, block in blocks
        if tag.startswith("h") and len(block) > LONGEST_HEADING
    ]


def repeated_headings(html: str) -> list[str]:
    """Headings that stand twice below the same one, as after a merge of two versions of a page."""
    found, seen, path = [], set(), {0: ""}
    for tag, text in _Rendered(html).blocks:
        if tag.startswith("h"):
            level = int(tag[1])
            path = {above: name for above, name in path.items() if above < level} | {level: text}
            found += [f"{tag} '{text.rstrip('¶')}' twice"] if tuple(path.values()) in seen else []
            seen.add(tuple(path.values()))
    return found


def uneven_rows(text: str) -> list[str]:
    """Rows of tables with other numbers of cells than the head; renderers fill and cut them."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    found, width = [], 0
    for row in map(str.strip, prose.split("\n")):
        cells = len(re.findall(r"(?<!\\)\|", row)) - 1 if row.startswith("|") else 0
        if width and cells not in {0, width}:
            found.append(f"{cells} cells under a head of {width}: {row}")
        width = (width or cells) if cells else 0
    return found


@by_page
def test_a_page_renders_without_markdown_left_in_its_text(page: Path):
    assert not faults(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        "## Head | | | |---|---| | a | b |",
        "## A heading that runs on " + "and on " * 12,
        "Text\n| a | b |\n|---|---|\n| 1 | 2 |",
        "A list:\n- one\n- two",
        "Steps:\n1. one\n2. two",
        "- one\n    - below\n\n  text\n- two",
        "```\npython tools/train.py",
        "**bold",
        "an `open span",
        "| a | b |\n|---|---|\n| 1 | 2 | 3 |",
        "| a | b |\n|---|---|\n| 1 |",
        "[a link](nowhere.md",
        "<<<<<<< HEAD\none\n=======\ntwo\n>>>>>>> main",
        "## One\n### Added\n- a\n### Added\n- b",
    ],
)
def test_markdown_that_does_not_render_is_noticed(text: str):
    assert faults(text)
