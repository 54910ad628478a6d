"""Links of the documentation lead somewhere."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from markdown.extensions.toc import slugify

from tests.docs.pages import PAGES, ROOT, prose

LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
LINKED = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "benchmarks/LOG.md"]

by_page = pytest.mark.parametrize("page", LINKED, ids=lambda page: page.stem)


def targets(page: Path) -> list[str]:
    return [found["target"] for found in LINK.finditer(prose(page))]


@cache
def anchors(page: Path) -> set[str]:
    """Of its headings, as MkDocs and the forges make them."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE)
    return {slugify(re.sub(r"[`*]", "", heading), "-") for heading in headings}


def problem_of(page: Path, target: str) -> str:
    """What is wrong with a link; '' where nothing is."""
    address = urlsplit(target)
    if address.scheme:
        is_sound = address.scheme in {"https", "http"} and "." in address.netloc
        return "" if is_sound else "not an address"
    path = (page.parent / address.path).resolve() if address.path else page
    if not path.is_relative_to(ROOT) or not path.exists():
        return "no such file"
    if address.fragment and address.fragment not in anchors(path):
        return f"no such heading; there are {', '.join(sorted(anchors(path)))}"
    return ""


@by_page
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path):
    assert not {target: found for target in targets(page) if (found := problem_of(page, target))}


@pytest.mark.parametrize("target", ["nowhere.md", "start.md#nowhere", "#nowhere", "https:example"])
def test_a_link_that_leads_nowhere_is_noticed(target: str):
    assert problem_of(ROOT / "docs/weights.md", target)


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = re.findall(r"[\w/]+\.md", navigation)
    assert len(pages) == len(set(pages)), "twice"
    named = {ROOT / "docs" / page for page in pages}
    at_the_top = {page for page in PAGES if page.parent == ROOT}
    assert not {page.relative_to(ROOT) for page in set(PAGES) - named - at_the_top}
