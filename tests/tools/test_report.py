"""tools/report.py as a user meets it: three formats, pages, and one-line errors."""

import csv
import io
from pathlib import Path

import pytest

from milan_mm.evaluation.results import append_rows, read_results
from tests.evaluation.rows import result
from tests.report.folders import write_run
from tests.report.html import read

ROWS = [
    result("MAE", value=50.0, seed=0),
    result("MAE", value=50.4, seed=1),
    result("My_ViT", value=51.0),
    result("My_ViT", task="ade20k", value=None, protocol="short", protocol_hash="quick"),
]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    append_rows(tmp_path / "results.jsonl", ROWS)
    return tmp_path / "results.jsonl"


def test_markdown_has_a_line_for_each_encoder_and_each_published_method(results, call, capsys):
    call("report", results)
    lines = capsys.readouterr().out.splitlines()
    head = [cell.strip() for cell in lines[2].strip("|").split("|")]
    rows = {}
    for line in lines[4:]:
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows[cells[0]] = dict(zip(head, cells, strict=True))
    assert rows["MAE"]["COCO box AP"] == "50.2 (50.0 to 50.4, 2 runs) [published 50.3, -0.1]"
    assert rows["MAE"]["COCO mask AP"] == "not run [published 44.9]"
    assert rows["My_ViT"]["COCO box AP"] == "**51.0**"
    assert rows["My_ViT"]["ADE20K mIoU"] == "undefined"
    assert rows["My_ViT"]["COCO mask AP"] == "not run"
    assert rows["DINO"]["weights"] == "(published)" and rows["DINO"]["COCO box AP"] == "46.8"
    assert rows["SWAG"]["COCO box AP"] == "none"


def test_csv_has_a_line_for_each_number_and_each_gap(results, call, capsys):
    call("report", results, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    found = {(row["method"], row["task"], row["metric"]): row for row in rows}
    mae = found["MAE", "coco", "box AP"]
    assert (mae["origin"], mae["mean"], mae["runs"]) == ("measured", "50.2", "2")
    assert (mae["published"], mae["difference"], mae["best"]) == ("50.3", "-0.1", "0")
    assert mae["data_counts"] == "train=117266 val=5000"
    assert found["MAE", "coco", "mask AP"]["origin"] == "not run"
    dino = found["DINO", "coco", "box AP"]
    assert (dino["origin"], dino["mean"], dino["published"]) == ("published", "", "46.8")
    swag = found["SWAG", "coco", "box AP"]
    assert (swag["origin"], swag["published"]) == ("none", "")


def test_latex_escapes_names_and_sets_the_best_bold(results, call, capsys):
    call("report", results, "--format", "latex")
    text = capsys.readouterr().out
    assert r"My\_ViT & myvit.pth & not run" in text and r"\textbf{51.0}" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({line.count(" & ") for line in rows}) == 1


def test_the_table_goes_to_a_file(results, call, capsys, tmp_path):
    call("report", results, "--out", tmp_path / "new/table.md")
    assert (tmp_path / "new/table.md").read_text().startswith("## ViT-B/16\n")
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (dict(task="seg", init="milan", metric="mIoU", value=0.7, seconds=9.0), "tools/demo.py"),
        ({k: v for k, v in ROWS[0].items() if k != "protocol_hash"}, "no key 'protocol_hash'"),
    ],
)
def test_rows_of_other_tools_and_incomplete_ones_are_one_line(results, call, capfd, row, message):
    append_rows(results, [row])
    with pytest.raises(SystemExit) as stop:
        call("report", results)
    assert stop.value.code == 2
    error = capfd.readouterr().err
    assert error.startswith(f"error: {results}:5 ") and message in error
    assert error.count("\n") == 1


def test_a_missing_file_is_one_line(tmp_path, call, capfd):
    with pytest.raises(SystemExit) as stop:
        call("report", tmp_path / "gone.jsonl")
    assert stop.value.code == 2
    assert "gone.jsonl' does not exist" in capfd.readouterr().err


def test_the_page_of_a_work_directory_lies_in_it(call, capsys, tmp_path):
    work_dir = write_run(tmp_path / "run")
    call("report", work_dir, "--html")
    assert capsys.readouterr().out == f"open {work_dir / 'report.html'}\n"
    assert "Curves" in read((work_dir / "report.html").read_text()).words


def test_the_page_of_a_results_file_lies_beside_it_or_where_it_is_told(results, call, tmp_path):
    call("report", results, "--html")
    call("report", results, "--html", tmp_path / "new/page.html")
    pages = [tmp_path / "results.html", tmp_path / "new/page.html"]
    assert all("COCO box AP" in read(page.read_text()).words for page in pages)


def test_rows_of_other_tools_have_a_page_of_their_own(call, tmp_path):
    rows = [
        dict(task="knn", metric="top-1", value=20.5, init=init, feature="<cls>", data="photos")
        for init in ("weights", "random")
    ]
    append_rows(tmp_path / "knn.jsonl", rows)
    call("report", tmp_path / "knn.jsonl", "--html")
    words = read((tmp_path / "knn.html").read_text()).words
    assert "feature <cls> data photos" in words  # once, since all have it
    assert "init metric value weights top-1 20.5 random top-1 20.5" in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "'run' is a folder: --html writes the page of a work directory"),
        (["run", "--html", "."], "--html '.' is a folder: give the name of a file in it"),
        (["empty", "--html"], "'empty' holds no log, scalars or checkpoint of a run"),
        (["results.jsonl", "--html", "--format", "csv"], "--html and --format exclude each other"),
        (["results.jsonl", "--html", "--out", "x"], "--html and --out exclude each other"),
        (["results.jsonl", "--html", "results.jsonl"], "would replace the results"),
        (["gone", "--html"], "'gone' does not exist: give a work directory of tools/train.py or"),
        (["README.md", "--html"], "README.md is not a results file: line 1 is not a JSON object"),
        (["README.md"], "char 0)); give a results.jsonl"),
    ],
)
def test_what_has_no_page_is_one_line(results, error_of, tmp_path, monkeypatch, arguments, message):
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "README.md").write_text("# Runs\n")
    monkeypatch.chdir(tmp_path)
    before = results.read_bytes()
    assert message in error_of("report", *arguments)
    assert results.read_bytes() == before and not list(tmp_path.glob("**/*.html"))


def test_files_are_taken_together_and_merged_without_repeats(results, call, capsys, tmp_path):
    other = tmp_path / "other.jsonl"
    new = result("DINO", value=47.0)
    append_rows(other, [*ROWS, new])  # a copy that went on
    call("report", results, other, "--format", "csv")
    together = capsys.readouterr().out
    call("report", other, "--format", "csv")
    assert capsys.readouterr().out == together
    merged = tmp_path / "all.jsonl"
    for count in (len(ROWS) + 1, 0):
        call("report", results, other, "--merge", merged)
        assert capsys.readouterr().out == f"{count} new rows in {merged}\n"
    assert read_results(merged) == [*ROWS, new]


def test_several_folders_and_a_merge_with_a_page_are_refused(results, error_of, tmp_path):
    assert "give work directories one at a time" in error_of("report", results, tmp_path, "--html")
    merge = ["--merge", tmp_path / "all.jsonl", "--html"]
    assert "--merge and --html exclude each other" in error_of("report", results, *merge)
