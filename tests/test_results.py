"""The results file survives several writers and names a broken line."""

import json
from concurrent.futures import ProcessPoolExecutor

import pytest

from milan_mm.results import append_rows, read_rows


def _append_many(path: str, writer: int) -> None:
    for number in range(50):
        append_rows(path, [dict(writer=writer, number=number, padding="x" * 500)])


def test_rows_come_back_in_order(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    append_rows(path, [dict(metric="mIoU", value=0.5)])
    append_rows(path, [dict(metric="AP", value=None)])
    assert read_rows(path) == [dict(metric="mIoU", value=0.5), dict(metric="AP", value=None)]


def test_an_absent_file_has_no_rows(tmp_path):
    assert read_rows(tmp_path / "absent.jsonl") == []


def test_writers_in_several_processes_lose_no_row(tmp_path):
    path = tmp_path / "results.jsonl"
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(_append_many, [str(path)] * 4, range(4)))
    rows = read_rows(path)
    assert {(row["writer"], row["number"]) for row in rows} == {
        (writer, number) for writer in range(4) for number in range(50)
    }
    assert len(rows) == 200


def test_a_broken_line_is_named_by_its_number(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(dict(value=1)) + '\n{"value": \n')
    with pytest.raises(ValueError, match=r"results\.jsonl:2 "):
        read_rows(path)
