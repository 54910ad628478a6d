"""The page of a results file says what the table says, and shows what may not be compared."""

from milan_mm.evaluation.formats import render
from milan_mm.evaluation.tables import make_tables
from milan_mm.report.results_page import results_page
from tests.evaluation.rows import result
from tests.report.html import read

EVIL = "<script>alert(1)</script>"
ROWS = [
    result("MAE", value=50.0, seed=0, command="python tools/evaluate.py --weights 'm<a>e.pth'"),
    result("MAE", value=50.4, seed=1),
    result(EVIL, value=51.0),
    result(EVIL, task="ade20k", value=None, protocol="short", protocol_hash="quick"),
    result("MAE", task="ade20k", value=48.0),
    result("MAE", task="ade20k", value=12.0, protocol="short", protocol_hash="quick"),
]


def test_a_page_has_the_numbers_their_range_and_the_papers():
    words = read(results_page(ROWS, "results.jsonl")).words
    assert "50.2 50.0 to 50.4, 2 runs published 50.3 (-0.1)" in words
    assert "not run published 44.9" in words
    assert "undefined" in words and "DINO 82.8 46.8 41.5 47.2" in words
    assert "python tools/evaluate.py --weights 'm<a>e.pth'" in words
    assert "5 rows of earlier versions: not recorded" in words


def test_its_notes_are_those_of_the_table():
    words = read(results_page(ROWS, "results.jsonl")).words
    (table,) = make_tables(ROWS)
    assert len(table.notes) > 3 and all(note in words for note in table.notes)
    assert "ADE20K (a)" in render([table], "markdown")


def test_protocols_have_pictures_of_their_own_and_short_ones_no_published_numbers():
    page = results_page(ROWS, "results.jsonl")
    figures = page.split("<figure>")[1:]
    titles = [figure.partition("</h3>")[0].removeprefix("<h3>") for figure in figures]
    # a short run of one method alone has nothing to be compared with
    assert titles == ["COCO box AP"]
    assert figures[0].count("hollow") == 9 and figures[0].count("<circle") == 3


def test_names_are_escaped():
    assert "<script" not in results_page(ROWS, EVIL)
