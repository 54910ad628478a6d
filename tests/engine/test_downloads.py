"""Downloads are kept by their whole address and checked by the digest in their name."""

import hashlib
import io
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from milan_mm.engine import downloads
from milan_mm.engine.downloads import digest_in, download
from milan_mm.errors import UserError

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]
Serve = Callable[..., list[str]]


class _Answer(io.BytesIO):
    """What a server sends without saying how much it will be."""

    headers, url = Message(), "https://example.com"


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Answer requests from a dict of addresses; returns the list of those asked for."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def start(**contents: bytes) -> list[str]:
        asked: list[str] = []

        def answer(request: urllib.request.Request, *_: object, **__: object) -> _Answer:
            asked.append(request.full_url)
            return _Answer(contents[request.full_url.split("/")[3]])

        monkeypatch.setattr(downloads, "urlopen", answer)
        return asked

    return start


def test_files_of_one_name_at_two_addresses_are_two_files(serve: Serve):
    serve(one=b"1", two=b"2")
    files = [download(f"https://example.com/{place}/vit.pth") for place in ("one", "two")]
    assert [file.read_bytes() for file in files] == [b"1", b"2"]
    assert {file.name for file in files} == {"vit.pth"}


def test_a_file_is_downloaded_once(serve: Serve):
    asked = serve(one=CONTENT)
    for _ in range(2):
        assert download("https://example.com/one/vit.pth?raw=true").read_bytes() == CONTENT
    assert len(asked) == 1


def test_processes_that_are_connected_download_too(serve: Serve, tmp_path: Path):
    serve(one=CONTENT)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        assert download("https://example.com/one/vit.pth").read_bytes() == CONTENT
    finally:
        dist.destroy_process_group()


def test_of_several_processes_one_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    asked = []

    def answer(request: urllib.request.Request, **_: object) -> _Answer:
        asked.append(request.full_url)
        time.sleep(0.2)  # others have come by now
        return _Answer(CONTENT)

    monkeypatch.setattr(downloads, "urlopen", answer)
    with ThreadPoolExecutor(4) as pool:  # each opens the folder anew, as processes do
        files = list(pool.map(download, ["https://example.com/one/vit.pth"] * 4))
    assert [file.read_bytes() for file in files] == [CONTENT] * 4 and len(asked) == 1


def test_a_file_that_is_not_what_its_name_says_is_refused(serve: Serve, tmp_path: Path):
    serve(one=b"other")
    with pytest.raises(UserError, match=f"does not start with '{DIGEST}', as its name says: it"):
        download(f"https://example.com/one/vit-{DIGEST}.pth")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_damaged_file_in_the_cache_is_downloaded_again(serve: Serve):
    asked = serve(one=CONTENT)
    url = f"https://example.com/one/vit-{DIGEST}.pth"
    download(url).write_bytes(b"damaged")
    assert download(url).read_bytes() == CONTENT
    assert len(asked) == 2


@pytest.mark.parametrize(("content", "requests"), [(CONTENT, 0), (b"another", 1)])
def test_what_torch_has_downloaded_already_is_taken_if_its_digest_fits(
    serve: Serve, tmp_path: Path, content: bytes, requests: int
):
    asked = serve(one=CONTENT)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / f"checkpoints/vit-{DIGEST}.pth").write_bytes(content)
    assert download(f"https://example.com/one/vit-{DIGEST}.pth").read_bytes() == CONTENT
    assert len(asked) == requests


def test_an_address_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch, serve: Serve):
    serve()

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(downloads, "urlopen", refuse)
    with pytest.raises(UserError, match="could not be downloaded: no route to host; download it"):
        download("https://example.com/one/vit.pth")


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("resnet50-0676ba61.pth", "0676ba61"),
        ("retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth", "c2398f9e"),
        ("vit-base-p16-20210402.pth", ""),
        ("vit-base-p16-02042021.pth", ""),
        ("vit-base-p16-0000050000.pth", ""),
        ("resnet50-1234567a.pth", "1234567a"),
        ("vit-base.pth", ""),
        ("model.pth", ""),
    ],
)
def test_a_digest_is_read_from_a_name_and_a_date_is_none(name: str, digest: str):
    assert digest_in(name) == digest


class _Server(BaseHTTPRequestHandler):
    """Sends half of a file, leads to another place, or sends without an end."""

    def do_GET(self) -> None:
        kind = self.path.strip("/").removesuffix(".pth")
        elsewhere = dict(local="file:///etc/hostname", ftp="ftp://127.0.0.1:1/a", round=self.path)
        self.send_response(302 if kind in elsewhere else 200)
        if kind in elsewhere:
            self.send_header("Location", elsewhere[kind])
        if kind in ("half", "large"):
            self.send_header("Content-Length", "100" if kind == "half" else str(10**15))
        self.end_headers()
        if kind in ("half", "large", "whole"):
            self.wfile.write(bytes(50))
        if kind == "endless":
            with suppress(OSError):
                while True:
                    self.wfile.write(bytes(2**16))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("half", "broke off after 50 of 100 bytes"),
        ("large", "it has 1000000000000000 bytes, and there is room for"),
        ("endless", "it has more than 1000000 bytes"),
        ("local", "redirection .*'file:///etc/hostname' is not allowed|HTTP Error 302"),
        ("ftp", "could not be downloaded"),
        ("round", "redirect"),
    ],
)
def test_what_a_server_does_not_send_whole_or_from_the_web_is_never_kept(
    name: str, message: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(downloads, "_LARGEST", 10**6 if name == "endless" else downloads._LARGEST)
    with pytest.raises(UserError, match=message) as error:
        download(f"{address}/{name}.pth")
    assert "\n" not in str(error.value) and address in str(error.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_of_unknown_length_is_taken(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert download(f"{address}/whole.pth").read_bytes() == bytes(50)
