"""The documentation builds as a site, without a warning, and the site stands on its own."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from milan_mm.configs import list_configs, list_tools
from milan_mm.weights.systems import SYSTEMS
from tests.docs.pages import ROOT
from tests.docs.test_rendering import left_over

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning, such as a broken link, ends its building."""
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


class _Fetched(HTMLParser):
    """Addresses that a browser fetches to show a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        loads = tag == "link" and given.get("rel") in {"stylesheet", "preconnect", "icon"}
        address = given.get("href") if loads else given.get("src")
        self.addresses += [address] if address else []


def test_a_page_fetches_nothing_from_elsewhere(site: Path):
    addresses = {
        address
        for page in site.rglob("*.html")
        for address in _Fetched(page.read_text(encoding="utf-8")).addresses
    }
    assert len(addresses) > 5
    assert not {address for address in addresses if urlsplit(address).netloc}


def test_no_page_of_the_site_has_markdown_left_in_its_text(site: Path):
    """The generated ones above all."""
    texts = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    articles = {
        page.relative_to(site).as_posix(): text.partition("<article")[2]
        .partition(">")[2]
        .partition("</article>")[0]
        for page, text in texts.items()
    }
    assert sum(map(len, articles.values())) > 100_000
    assert not {page: found for page, html in articles.items() if (found := left_over(html))}


@pytest.mark.parametrize(
    "page, names",
    [
        ("recipes", [config.rpartition("/")[2] for config in list_configs()]),
        ("systems", list(SYSTEMS)),
        ("commands", list(list_tools())),
    ],
    ids=["recipes", "systems", "commands"],
)
def test_a_generated_page_has_a_heading_for_each(site: Path, page: str, names: list[str]):
    text = (site / f"reference/{page}.html").read_text(encoding="utf-8")
    headings = re.findall(r"<h[23][^>]*>(.*?)<a ", text)
    assert not set(names) - {re.sub(r"<.*?>", "", heading) for heading in headings}


def test_the_table_of_recipes_leaves_no_promise_of_a_docstring_out(site: Path):
    text = re.sub(r"<.*?>", "", (site / "reference/recipes.html").read_text(encoding="utf-8"))
    assert text.count("Expect") == len(list_configs())
