"""Hooks of MkDocs: pages that are generated, pages from outside docs/, and links to either.

The generated pages are made from the code each time the site is built, so none is kept by hand.
"""

import posixpath
import re
from pathlib import Path

import api_pages
import command_pages
import notebook_pages
import recipe_pages
import system_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
# Files outside docs/ that the site shows: path in the checkout -> page.
GUESTS = {
    "CHANGELOG.md": "developers/changelog.md",
    "CONTRIBUTING.md": "developers/contributing.md",
    "benchmarks/LOG.md": "developers/benchmarks.md",
    "README.md": "index.md",
}
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\[]+)\]\((?P<target>[^)\s#]+)?(?P<anchor>#[^)\s]*)?\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not files of docs/."""
    pages = {
        "reference/recipes.md": recipe_pages.recipes(ROOT),
        "reference/systems.md": system_pages.systems(),
        "reference/commands.md": command_pages.commands(),
        **api_pages.pages(),
        **notebook_pages.pages(ROOT / "docs" / "notebooks"),
    }
    for path, page in GUESTS.items():
        if path != "README.md":
            pages[page] = (ROOT / path).read_text(encoding="utf-8")
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the checkout into links to pages; the others become plain text."""
    guests = {guest: path for path, guest in GUESTS.items() if path != "README.md"}
    source = guests.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    parts = _FENCE.split(markdown)
    parts[::2] = [
        _LINK.sub(lambda link: _rewritten(link, source, page.file.src_uri, files), part)
        for part in parts[::2]
    ]
    return "".join(parts)


def _rewritten(link: re.Match[str], source: str, page: str, files: Files) -> str:
    target = link["target"]
    if not target or "://" in target or target.startswith("mailto:"):
        return link[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    wanted = GUESTS.get(path, path.removeprefix("docs/")).replace(".ipynb", ".md")
    if files.get_file_from_path(wanted):
        relative = posixpath.relpath(wanted, posixpath.dirname(page) or ".")
        return f"[{link['text']}]({relative}{link['anchor'] or ''})"
    if (ROOT / path).exists():  # code, which the site does not hold
        text = link["text"]
        return text if text.startswith("`") else f"`{text}`"
    return link[0]  # MkDocs reports it
