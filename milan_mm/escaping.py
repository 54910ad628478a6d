"""Names of others as plain text, one function for each kind of file that people open.

Classes, files and methods are named by whoever made them, and tables of results travel. HTML is
escaped by markupsafe, see report/page.py.
"""

import html
import re

# Controls of terminals, ends of lines, turns of direction, letters without width, halves of
# letters; not the joiners of Persian, Hindi and emoji (200C, 200D).
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
# where a spreadsheet may begin a cell, and what makes it compute the cell
_FORMULA = re.compile(r"(^|[;\n])(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20])")
_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    # after the end of a row, or of a rule, these begin an option
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
}


def visible(text: str, keep: str = "") -> str:
    """Text in which nothing acts: a letter that would is shown by its number, ESC as \\x1b.

    Args:
        keep: Letters that stay, e.g. ends of lines.
    """
    return _HIDDEN.sub(lambda found: found[0] if found[0] in keep else _code(found[0]), text)


def one_line(text: str) -> str:
    """Text in which nothing acts, with spaces for ends of lines."""
    return visible(" ".join(text.split()))


def csv_cell(value: object) -> object:
    """A value of a CSV file, of which no spreadsheet makes a formula; numbers stay."""
    return _FORMULA.sub(r"\1'", visible(value, "\n")) if isinstance(value, str) else value


def markdown(text: str) -> str:
    """Text of a Markdown table, on one line, without tags, links, emphasis or other columns."""
    text = html.escape(one_line(text), quote=False)
    return "".join(f"\\{c}" if c in "\\`*[]|" else c for c in text)


def latex(text: str) -> str:
    """Text of a LaTeX table, on one line, without commands."""
    return "".join(_LATEX.get(c, c) for c in one_line(text))


def _code(letter: str) -> str:
    """As Python escapes it."""
    number = ord(letter)
    if number < 1 << 8:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 1 << 16 else f"\\U{number:08x}"
