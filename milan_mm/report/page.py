"""The HTML writer: one file with its style and pictures inside, and every text escaped.

`Markup` is text that is HTML already; `Markup.format` escapes whatever else is put into it. So a
class that is called `<script>` stays text, and parts can be nested without thinking about it.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import metadata
from pathlib import Path

from markupsafe import Markup

from milan_mm.escaping import visible
from milan_mm.files import replacing

_PAGE = Markup("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="milan_mm {version}">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
{head}
{contents}
</header>
<main>
{sections}
</main>
<footer>{footer}</footer>
</body>
</html>
""")
EMPTY = Markup("")


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        anchor: Its name in links, of letters and hyphens.
        title: Its heading, and its name in the list of contents.
        body: Left out with its heading where it is empty.
    """

    anchor: str
    title: str
    body: Markup


def page(title: str, head: Markup, sections: Sequence[Section], footer: str | None = None) -> str:
    """A whole page.

    Args:
        title: Of the page and of the browser's tab.
        head: What stands below the title.
        sections: In their order.
        footer: None says who wrote the page and when.
    """
    shown = [section for section in sections if section.body]
    links = [
        Markup('<a href="#{}">{}</a>').format(section.anchor, section.title) for section in shown
    ]
    version = metadata.version("milan_mm")
    now = datetime.now().strftime("%Y-%m-%d %H:%M")
    text = _PAGE.format(
        version=version,
        title=title,
        style=_style(),
        head=head,
        contents=join(["<nav>", *links, "</nav>"]) if len(links) > 2 else "",
        sections=join(
            Markup('<section id="{}">\n<h2>{}</h2>\n{}\n</section>').format(
                section.anchor, section.title, section.body
            )
            for section in shown
        ),
        footer=footer or f"Written by milan_mm {version} on {now}; this file needs no other.",
    )
    return visible(str(text), "\n\t")  # a name that turns the direction of what follows


def write_page(path: str | Path, text: str) -> None:
    """Write a page whole, or leave the old one.

    Raises:
        OSError: When the file cannot be written.
    """
    with replacing(path, durable=False) as partial:
        # a name that is not UTF-8, as old disks have them, is shown with a question mark
        partial.write_text(text, encoding="utf-8", errors="replace")


@cache
def _style() -> Markup:
    return Markup(Path(__file__).with_name("page.css").read_text("utf-8"))


def join(parts: Iterable[Markup | str]) -> Markup:
    """Parts below each other; plain strings are taken for HTML and must be constants."""
    return Markup("\n").join(Markup(part) for part in parts if part)


def beside(parts: Iterable[Markup]) -> Markup:
    """Parts beside each other, as far as there is room."""
    shown = [Markup("<div>{}</div>").format(part) for part in parts if part]
    return join(['<div class="beside">', *shown, "</div>"]) if shown else EMPTY


def paragraph(text: str | Markup, note: bool = False) -> Markup:
    """A paragraph; `note` sets it smaller."""
    kind = Markup(' class="note"') if note else EMPTY
    return Markup("<p{}>{}</p>").format(kind, text)


def bullets(items: Iterable[str | Markup]) -> Markup:
    """A list; nothing without items."""
    lines = [Markup("<li>{}</li>").format(item) for item in items]
    return join(["<ul>", *lines, "</ul>"]) if lines else EMPTY


def command(text: str) -> Markup:
    """What is typed in a shell."""
    return Markup("<pre>{}</pre>").format(text)


def details(summary: str, body: Markup) -> Markup:
    """What opens on a click."""
    return Markup("<details><summary>{}</summary>\n{}\n</details>").format(summary, body)


def badge(text: str, kind: str) -> Markup:
    """A word in a frame; `kind` is 'good', 'warn' or 'live'."""
    return Markup('<span class="badge {}">{}</span>').format(kind, text)


def tiles(facts: Sequence[tuple[str, str, str]]) -> Markup:
    """The few numbers that matter: name, value and a smaller line below it."""
    cells = [
        Markup("<div><dt>{}</dt><dd>{}{}</dd></div>").format(
            name, value, Markup("<small>{}</small>").format(small) if small else ""
        )
        for name, value, small in facts
    ]
    return join(['<dl class="tiles">', *cells, "</dl>"]) if cells else EMPTY


def facts(rows: Mapping[str, object]) -> Markup:
    """Names and values below each other; nothing for values that are None or empty."""
    lines = [
        Markup("<tr><th>{}</th><td>{}</td></tr>").format(name, value)
        for name, value in rows.items()
        if value not in (None, "")
    ]
    if not lines:
        return EMPTY
    return join(['<table class="facts"><tbody>', *lines, "</tbody></table>"])


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its content and its class, e.g. 'best'."""

    content: str | Markup
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """A line of a table; with a single cell it is a heading across the table.

    Attributes:
        cells: Text, HTML, or with a class of their own.
        kind: Class of the line, e.g. 'own'.
    """

    cells: Sequence[str | Cell]
    kind: str = ""


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str | Cell] | Row],
    numbers: bool = True,
    caption: str = "",
) -> Markup:
    """A table that scrolls by itself where it is wider than the screen.

    Args:
        head: Titles of the columns. rows: As many cells each.
        numbers: Whether all columns but the first are numbers, set to the right.
    """
    kinds = ["", *["number" if numbers else ""] * (len(head) - 1)]
    titles = [_cell("th", Cell(t, k)) for t, k in zip(head, kinds, strict=True)]
    lines = []
    for row in rows:
        row = row if isinstance(row, Row) else Row(row)
        if len(row.cells) == 1 < len(head):
            text = Markup('<tr class="group"><th colspan="{}">{}</th></tr>')
            lines.append(text.format(len(head), row.cells[0]))
            continue
        cells = []
        for i, (cell, kind) in enumerate(zip(row.cells, kinds, strict=True)):
            cell = cell if isinstance(cell, Cell) else Cell(cell)
            cells.append(
                _cell("td" if i else "th", Cell(cell.content, f"{kind} {cell.kind}".strip()))
            )
        kind = Markup(' class="{}"').format(row.kind) if row.kind else EMPTY
        lines.append(Markup("<tr{}>{}</tr>").format(kind, Markup("").join(cells)))
    return join(
        [
            '<div class="scroll"><table>',
            Markup("<caption>{}</caption>").format(caption) if caption else "",
            Markup("<thead><tr>{}</tr></thead>").format(Markup("").join(titles)),
            "<tbody>",
            *lines,
            "</tbody></table></div>",
        ]
    )


def _cell(tag: str, cell: Cell) -> Markup:
    kind = Markup(' class="{}"').format(cell.kind) if cell.kind else EMPTY
    return Markup("<{tag}{kind}>{content}</{tag}>").format(
        tag=Markup(tag), kind=kind, content=cell.content
    )


def picture(
    data: bytes,
    title: str,
    caption: str | Markup,
    pixels: bool = False,
) -> Markup:
    """A picture with its caption.

    Args:
        data: A PNG or JPEG file.
        title: What a screen reader says.
        pixels: Whether it is enlarged without smoothing.
    """
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return Markup(
        '<figure><img{pixels} src="data:image/{kind};base64,{data}" alt="{title}">'
        "<figcaption>{caption}</figcaption></figure>"
    ).format(
        pixels=Markup(' class="pixels"') if pixels else EMPTY,
        kind=kind,
        data=base64.b64encode(data).decode(),
        title=title,
        caption=caption,
    )
