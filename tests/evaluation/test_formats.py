"""Names in a results file are text in every format, whatever they look like."""

import csv
from io import StringIO
from pathlib import Path

import pytest

from milan_mm.errors import UserError
from milan_mm.evaluation.formats import FORMATS, render
from milan_mm.evaluation.results import read_rows
from milan_mm.evaluation.tables import make_tables
from tests.evaluation.rows import result

TAG, LINK, FORMULA = "<script>x</script>", "[a](b)", "=1+1"


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


@pytest.mark.parametrize("kind", FORMATS)
def test_usual_names_stay_as_they_are(kind: str):
    assert "mae.pth" in text_of("mae.pth", kind)


def test_a_line_that_nests_too_deeply_is_named(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"a": 1}\n' + "[" * 100_000 + "\n")
    with pytest.raises(UserError, match=r"results.jsonl:2 is not a JSON object"):
        read_rows(path)
