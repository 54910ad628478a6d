"""The results file survives several writers and names a broken line or key."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from benchmarks.reliability.damaged_results import count_outcomes
from milan_mm.errors import UserError
from milan_mm.evaluation import results
from milan_mm.evaluation.results import append_rows, read_results, read_rows, remarks_on

ROW = dict(
    task="coco",
    metric="box AP",
    value=50.3,
    method="MAE",
    weights="mae.pth",
    weights_sha256="0a" * 32,
    config="det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco",
    config_hash="c0ffee",
    protocol="paper",
    protocol_hash="abcdef",
    total_batch=64,
    precision="bfloat16",
    seed=0,
    packages=dict(torch="2.10.0"),
    data="COCO",
    data_counts=dict(train=117266, val=5000),
    commit="1234567",
    time="2026-01-31T12:00:00+00:00",
    seconds=60_000.0,
)


def _append_many(path: str, writer: int) -> None:
    for number in range(50):
        append_rows(path, [dict(writer=writer, number=number, padding="x" * 500)])


def _no_locks(*_: object) -> None:
    """`flock` of a network file system without locks."""
    raise OSError(errno.ENOLCK, "No locks available")


def _append_many_without_flock(path: str, writer: int) -> None:
    fcntl.flock = _no_locks
    _append_many(path, writer)


def test_rows_come_back_in_order(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    append_rows(path, [dict(metric="mIoU", value=0.5)])
    append_rows(path, [dict(metric="AP", value=None)])
    assert read_rows(path) == [dict(metric="mIoU", value=0.5), dict(metric="AP", value=None)]


def test_an_absent_file_has_no_rows(tmp_path):
    assert read_rows(tmp_path / "absent.jsonl") == []


@pytest.mark.parametrize("append", [_append_many, _append_many_without_flock])
def test_writers_in_several_processes_lose_no_row(tmp_path, append):
    path = tmp_path / "results.jsonl"
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(append, [str(path)] * 4, range(4)))
    rows = read_rows(path)
    assert {(row["writer"], row["number"]) for row in rows} == {
        (writer, number) for writer in range(4) for number in range(50)
    }
    assert len(rows) == 200
    assert [p.name for p in tmp_path.iterdir()] == ["results.jsonl"]


def test_a_writer_killed_within_a_line_costs_no_other_row(tmp_path):
    path = tmp_path / "results.jsonl"
    append_rows(path, [dict(number=0)])
    # it gets half of its row to the file, and no further
    code = f"""
import os, time
file = os.open({str(path)!r}, os.O_WRONLY | os.O_APPEND)
os.write(file, b'{{"number": 1, "padd')
print("written", flush=True)
time.sleep(60)
"""
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert writer.stdout and writer.stdout.readline() == "written\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert read_rows(path) == [dict(number=0)]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_append_many, [str(path)] * 2, range(2)))
    rows = read_rows(path)
    assert rows[0] == dict(number=0) and len(rows) == 101


def test_a_last_line_that_an_editor_left_without_its_end_stays_a_row(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"number": 0}')
    append_rows(path, [dict(number=1)])
    assert read_rows(path) == [dict(number=0), dict(number=1)]


def test_the_lock_file_of_a_killed_writer_is_taken_over(tmp_path, monkeypatch):
    lock = tmp_path / ".results.jsonl.lock"
    lock.touch()
    os.utime(lock, (time.time() - 2 * results.STALE_SECONDS,) * 2)
    monkeypatch.setattr(fcntl, "flock", _no_locks)
    append_rows(tmp_path / "results.jsonl", [dict(number=0)])
    assert read_rows(tmp_path / "results.jsonl") == [dict(number=0)]
    assert not lock.exists()


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    append_rows(path, [dict(number=0)])
    before = path.read_text()
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, text: write(file, text[: len(text) // 2]))
    with pytest.raises(OSError, match="bytes could be written"):
        append_rows(path, [dict(number=1)])
    assert path.read_text() == before


def test_a_broken_line_is_named_by_its_number(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(dict(value=1)) + '\n{"value": \n')
    with pytest.raises(ValueError, match=r"results\.jsonl:2 "):
        read_rows(path)


def test_a_row_of_the_schema_passes_with_undefined_values(tmp_path):
    rows = [ROW, ROW | dict(value=None, total_batch=None, commit=None)]
    append_rows(tmp_path / "results.jsonl", rows)
    assert read_results(tmp_path / "results.jsonl") == rows


@pytest.mark.parametrize("key", list(ROW))
def test_a_missing_key_is_named_with_its_line(tmp_path: Path, key):
    path = tmp_path / "results.jsonl"
    append_rows(path, [ROW, {k: v for k, v in ROW.items() if k != key}])
    with pytest.raises(ValueError, match=rf"results\.jsonl:2 has no key '{key}'"):
        read_results(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(value="50.3"), "has value '50.3', expected int or float or null"),
        (dict(value=True), "has value True, expected int or float or null"),
        (dict(value=503.0), "has value 503.0, which is outside 0..100 %"),
        (dict(task="voc"), "has task 'voc', expected one of knn, "),
        (dict(interval=[60, 40]), r"has interval \[60, 40\], expected \[low, high\]"),
        (dict(interval=[40, 130]), "interval: has value 130, which is outside 0..100 %"),
        (dict(draws=["a"]), r"has draws \['a'\], expected numbers"),
        (dict(chosen=1), "has chosen 1, expected dict"),
        (dict(metric="mIoU"), "has metric 'mIoU', expected one of box AP, mask AP"),
        (dict(protocol="quick"), "has protocol 'quick', expected one of paper, own, short"),
        (dict(weights_sha256="0a"), "has weights_sha256 '0a', expected 64 hexadecimal digits"),
        (dict(packages=["torch"]), r"has packages \['torch'\], expected dict"),
        (dict(seed=None), "has seed None, expected int"),
        (dict(time="today"), "has time 'today', expected ISO 8601"),
        (dict(task="det"), "has task 'det', a row of tools/demo.py, which makes its own table"),
        (dict(task="knn", init="weights"), "is a row of tools/knn.py --out"),
    ],
)
def test_a_value_outside_the_schema_is_named_with_its_line_and_key(tmp_path, change, message):
    path = tmp_path / "results.jsonl"
    append_rows(path, [ROW | change])
    with pytest.raises(ValueError, match=rf"results\.jsonl:1,? {message}"):
        read_results(path)


def test_a_results_file_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.jsonl' does not exist"):
        read_results(tmp_path / "gone.jsonl")


def test_a_damaged_file_is_noticed_or_says_the_same(tmp_path):
    found = count_outcomes(flips=150, cuts=30, seed=0, folder=tmp_path)
    assert found.total() == 180 and not found["SILENT"]
    assert found["error"] > 100


def test_a_changed_number_is_named_with_its_line_and_what_to_do(tmp_path):
    path = tmp_path / "results.jsonl"
    append_rows(path, [ROW, ROW | dict(value=40.3)])
    path.write_text(path.read_text().replace("40.3", "60.3"))
    with pytest.raises(
        UserError, match=r"results\.jsonl:2 was changed .*backup, or remove"
    ) as error:
        read_rows(path)
    assert 'remove its "checksum"' in str(error.value)


def test_lines_may_be_sorted_removed_and_joined_and_keys_reordered(tmp_path):
    path = tmp_path / "results.jsonl"
    append_rows(path, [dict(b=n, a=[1.5, None], c={"é": float("inf")}) for n in range(3)])
    first, _, last = path.read_text().splitlines()
    turned = json.dumps(dict(reversed(json.loads(first).items())), ensure_ascii=False)
    path.write_text(f"{last}\n {turned} \r\n{first}\n", encoding="utf-8")
    assert [row["b"] for row in read_rows(path)] == [2, 0, 0]
    assert not remarks_on(path)


def test_rows_without_a_checksum_and_a_cut_line_are_read_and_said(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    append_rows(path, [ROW])
    assert read_results(path) == [ROW, ROW]
    (remark,) = remarks_on(path)
    assert "1 row of 2 without a checksum" in remark
    path.write_bytes(path.read_bytes()[:-9])
    assert read_results(path) == [ROW]
    assert "its last line has no end and was left out" in remarks_on(path)[0]
