"""Reading XML of unknown origin: no document types, so no entities that grow or read files."""

import xml.etree.ElementTree as ET
from pathlib import Path
from xml.parsers import expat

from milan_mm.errors import UserError

MAX_BYTES = 2_000_000_000


class XmlError(UserError):
    """A file that is not XML, or declares a document type."""


def read_xml(path: Path) -> ET.Element:
    """The outermost element of a file.

    Raises:
        XmlError: Names the file and what is wrong.
    """
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ValueError(f"has {size:,} bytes, the limit is {MAX_BYTES:,}")
        with path.open("rb") as file:
            parser.ParseFile(file)
        return builder.close()
    except (expat.ExpatError, OSError, ValueError, AssertionError) as error:
        raise XmlError(f"'{path}' is not XML that can be read: {error}") from None


def text_of(element: ET.Element, path: str) -> str:
    """The text of an inner element, '' where there is none."""
    return (element.findtext(path) or "").strip()


def number_of(element: ET.Element, path: str) -> float:
    """The number in an inner element; NaN where there is none."""
    try:
        return float(text_of(element, path))
    except ValueError:
        return float("nan")


def _refuse(name: str, *_: object) -> None:
    raise ValueError(f"it declares the document type '{name}', which annotations do not need")
