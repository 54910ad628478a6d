"""Names in a results file are text in every format, whatever they look like."""

import csv
import re
from io import StringIO
from pathlib import Path

import pytest

from milan_mm.errors import UserError
from milan_mm.evaluation.formats import FORMATS, render
from milan_mm.evaluation.results import read_rows
from milan_mm.evaluation.tables import make_tables
from tests.evaluation.rows import result

TAG, LINK, FORMULA = "<script>x</script>", "[a](b)", "=1+1"
HIDDEN = "\x1b]0;\x07\u202egnp.\x00\x01"
COMMANDS = (
    r"\input{/etc/passwd}",
    r"\write18{id}",
    "$x$",
    "^^5cinput",
    "[9pt]",
    "*",
    'a"b',
    "a\n\nb",
)
FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =cmd|'/C x'!A1", "a;=1", "\uff1d1", "a\n=1")


@pytest.fixture(params=[TAG, LINK, FORMULA, "a|b", "two\nlines", "*bold*", "50%_{x}"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def text_of(name: str, kind: str) -> str:
    return render(make_tables([result(method=name, weights=name)]), kind)


def test_markdown_has_neither_tags_nor_links_nor_other_columns(name: str):
    text = text_of(name, "markdown")
    assert "<script" not in text and LINK not in text and "*bold*" not in text.replace(r"\*", "")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace(r"\|", "").count("|") for line in rows}) == 1


def test_csv_gives_the_name_back_and_no_formula(name: str):
    methods = {row["method"] for row in csv.DictReader(StringIO(text_of(name, "csv")))}
    assert (f"'{name}" if name == FORMULA else name) in methods
    assert not any(method.startswith("=") for method in methods)


def test_latex_escapes_what_it_would_compute(name: str):
    assert "50%_" not in text_of(name, "latex")


@pytest.mark.parametrize("command", COMMANDS)
def test_latex_holds_no_command_of_a_name(command: str):
    """By LaTeX's list of special characters; ends of rows and rules take [options] and a star."""
    lines = text_of(command, "latex").splitlines()
    line = lines[lines.index(r"\midrule") + 1]
    for text in line.split(" & ")[:2]:
        plain = re.sub(r"\\text[a-z]+\{\}|\\[&%$#_{}]|\{[][*]\}", "", text)
        assert not {*plain} & {*'\\&%$#_{}~^[]*"<>|'}


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_cell_that_a_spreadsheet_sees_begins_a_formula(formula: str):
    row = result(method=formula, weights=formula, data_counts={formula: 1}, protocol_hash=formula)
    for cells in csv.reader(StringIO(render(make_tables([row]), "csv"))):
        parts = [part for cell in cells for part in re.split("[;\n\t]", cell)]
        texts = [
            part for part in parts if not part or not part.lstrip("-").replace(".", "").isdigit()
        ]
        assert not any(text.lstrip().startswith((*"=+-@", "\uff1d")) for text in texts)


@pytest.mark.parametrize("kind", FORMATS)
def test_no_format_carries_controls_on(kind: str):
    text = text_of(HIDDEN, kind)
    assert not {*text} & {*HIDDEN} - {*"]0;gnp."}
    assert "u202e" in text


@pytest.mark.parametrize("kind", FORMATS)
def test_usual_names_stay_as_they_are(kind: str):
    assert "mae.pth" in text_of("mae.pth", kind)


def test_a_line_that_nests_too_deeply_is_named(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"a": 1}\n' + "[" * 100_000 + "\n")
    with pytest.raises(UserError, match=r"results.jsonl:2 is not a JSON object"):
        read_rows(path)
