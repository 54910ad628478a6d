"""Image files that start programs or unfold: every reader of the package refuses them."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.reliability import payloads
from benchmarks.reliability.payloads.sound import endless, pipe
from milan_mm.datasets.coco.reading import read_coco
from milan_mm.datasets.decoding import decode, read_content
from milan_mm.datasets.image_size import read_header
from milan_mm.datasets.inspecting import read_image
from milan_mm.datasets.labels import read_labels
from milan_mm.encoder.images import Preprocess
from milan_mm.errors import UserError
from milan_mm.report.pictures import pictures_body
from milan_mm.upkeep.convert.masks import read_mask
from milan_mm.upkeep.reading import rgb_pixels

UNFOLDING = [
    payload for payload in payloads.PAYLOADS if payload.kind == "image" and payload.refused
]
READERS: dict[str, Callable[[Path], object]] = dict(
    decode=lambda path: decode(path.read_bytes()),
    labels=lambda path: read_labels(str(path)),
    mask=read_mask,
    encoder=Preprocess((0.5,) * 3, (0.5,) * 3, (32, 32), 16),
)


@pytest.mark.parametrize("payload", UNFOLDING, ids=lambda payload: payload.name)
def test_training_and_checks_refuse_it_without_the_memory_it_asks_for(tmp_path, payload):
    path = tmp_path / "a.png"
    payload.spoil(path)
    reading = read_image(path)
    assert reading.error and len(reading.error) < 300
    read_header(path)


@pytest.mark.parametrize("suffix", [".eps", ".png", ".jpg"])
@pytest.mark.parametrize("reader", list(READERS))
def test_no_reader_starts_a_program(tmp_path, monkeypatch, reader, suffix):
    marker = tmp_path / "marker"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {marker}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / f"a{suffix}"
    path.write_bytes(payloads.EPS.encode())
    with pytest.raises(Exception, match="cannot"):
        READERS[reader](path)
    assert read_header(path) is None and not pictures_body(tmp_path)
    assert not marker.exists()


def test_the_judge_does_start_it(tmp_path, monkeypatch):
    """Pillow with all of its readers, or the test above would show nothing."""
    from PIL import EpsImagePlugin

    marker = tmp_path / "marker"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {marker}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path = tmp_path / "a.eps"
    path.write_bytes(payloads.EPS.encode())
    with pytest.raises(OSError), Image.open(path) as image:
        image.load()
    assert marker.exists()


@pytest.mark.parametrize("value", [2**31 - 1, 70_000])
@pytest.mark.parametrize("reader", [lambda path: read_labels(str(path)), read_mask])
def test_label_values_that_would_fill_the_memory_are_refused(tmp_path, reader, value):
    path = tmp_path / "a.tif"
    Image.fromarray(np.full((4, 4), value, np.int32)).save(path)
    with pytest.raises(UserError, match="65535"):
        reader(path)


def test_no_reader_waits_for_a_pipe_or_reads_a_device(tmp_path):
    for number, put in enumerate((pipe, endless)):
        path = tmp_path / f"{number}.png"
        put(path)
        readers = dict(READERS, decode=lambda path: read_content(str(path)), pixels=rgb_pixels)
        for name, reader in readers.items():
            with pytest.raises(UserError, match="pipe or a device"):
                reader(path)
                pytest.fail(name)
        assert read_header(path) is None and "a pipe" in read_image(path).error
        with pytest.raises(UserError, match=r"annotation file .* a pipe or a device: put"):
            read_coco(path)
