"""`benchmark.py pretrain --profile`: every part of a step has its time."""

import argparse

import pytest

from benchmarks import sections
from benchmarks.sections import PARTS


def test_profile_accounts_for_the_whole_step(
    tiny_clip: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sections, "TEACHER", tiny_clip)
    monkeypatch.setattr(
        sections, "ARCHS", dict(base=dict(embed_dims=48, num_layers=2, num_heads=4))
    )
    # both would hold for the rest of the process
    monkeypatch.setattr(sections, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(sections, "default_threads", lambda: 1)
    sections.run(
        argparse.Namespace(
            batch_size=2, rounds=2, arch="base", compile=False, precision=["float32"]
        )
    )
    lines = capsys.readouterr().out.splitlines()
    rows = {line[:14].strip(): line[14:].replace("ms", "").split() for line in lines[2:]}
    assert list(rows) == [*PARTS, "optimizer", "rest", "whole step"]
    assert sum(float(row[-1].rstrip("%")) for row in list(rows.values())[:-1]) == pytest.approx(
        100, abs=1
    )
    learning = ("embedding", "encoder", "decoder", "loss")
    assert all(float(rows[part][1]) >= 0 for part in learning)
    assert float(rows["teacher"][1]) == 0
