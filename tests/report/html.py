"""A strict reader of pages: what a browser forgives is an error here."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}
SVG_EMPTY = {"line", "path", "rect", "circle"}


class Reader(HTMLParser):
    """Collects tags, text and addresses, and raises AssertionError for tags that do not match."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if anchor := dict(attrs).get("id"):
            assert anchor not in self.anchors, f"two parts are called {anchor}"
            self.anchors.add(anchor)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_EMPTY, f"<{tag}/> is open in HTML"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        """All text, of one line."""
        return " ".join(" ".join(self.text).split())

    @property
    def addresses(self) -> list[str]:
        """Whatever a browser would fetch or go to."""
        names = ("src", "href", "xlink:href", "srcset", "data", "action", "poster")
        return [value or "" for _, attrs in self.tags for n, value in attrs.items() if n in names]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every tag of a kind."""
        return [attrs for name, attrs in self.tags if name == tag]


def read(page: str) -> Reader:
    """Read a page, and check that it is whole and needs no other file."""
    reader = Reader(page)
    for address in reader.addresses:
        assert address.startswith(("data:image/", "#")), f"{address} is fetched from elsewhere"
        assert address[0] != "#" or address[1:] in reader.anchors, f"{address} leads nowhere"
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in reader.tags}
    style = page.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style
    return reader
