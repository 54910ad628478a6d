"""Ways of hiding code in a weights file: none runs, and the error names the file."""

import codecs
import io
import os
import pickle
import subprocess
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from milan_mm.weights.reading import read_checkpoint, read_metadata
from milan_mm.weights.recognising import read_encoder
from tests.hostile import kinds
from tests.hostile.kinds import Call, archive


class ByState:
    """Pickles as an object whose state is set by a function of the attacker's choice."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self):
        return dict, (), self.marker, None, None, lambda_free_mkdir


def lambda_free_mkdir(obj: object, state: str) -> None:
    os.mkdir(state)


def raw(module: str, name: str, argument: str) -> bytes:
    """Pickle of protocol 0 written by hand: GLOBAL, one argument, REDUCE."""
    return f"c{module}\n{name}\n(S{argument!r}\ntR.".encode()


def through_getattr(marker: Path) -> bytes:
    """Pickle of protocol 0: getattr(mkdir, '__call__')(marker)."""
    look_up = b"cbuiltins\ngetattr\n(cposix\nmkdir\nS'__call__'\ntR"
    return look_up + f"(S{str(marker)!r}\ntR.".encode()


def torch_file(payload: object, **options) -> bytes:
    return kinds.torch_file(dict(state_dict=dict(a=torch.ones(2)), extra=payload), **options)


def object_array(marker: Path) -> bytes:
    array = np.empty(1, dtype=object)
    array[0] = Call(os.mkdir, str(marker))
    file = io.BytesIO()
    np.savez(file, a=array)
    return file.getvalue()


PAYLOADS: dict[str, Callable[[Path], tuple[str, bytes]]] = {
    "os.mkdir in a torch file": lambda m: ("a.pth", torch_file(Call(os.mkdir, str(m)))),
    "os.mkdir in an old torch file": lambda m: (
        "a.pth",
        torch_file(Call(os.mkdir, str(m)), _use_new_zipfile_serialization=False),
    ),
    "eval": lambda m: ("a.pt", torch_file(Call(eval, f"__import__('os').mkdir({str(m)!r})"))),
    "exec": lambda m: ("a.bin", torch_file(Call(exec, f"import os; os.mkdir({str(m)!r})"))),
    "subprocess": lambda m: ("a.pth", torch_file(Call(subprocess.call, ["mkdir", str(m)]))),
    "getattr, then a call": lambda m: ("a.pth", archive(through_getattr(m))),
    "a state setter": lambda m: ("a.pth", torch_file(ByState(m))),
    "the command line of a training": lambda m: (
        "a.pth",
        torch_file(Namespace(path=Call(os.mkdir, str(m)))),
    ),
    "a pickle of protocol 2": lambda m: ("a.pth", pickle.dumps(Call(os.mkdir, str(m)), 2)),
    "a pickle of protocol 4": lambda m: ("a.pth", pickle.dumps(Call(os.mkdir, str(m)), 4)),
    "a bare pickle": lambda m: ("a.pth", raw("posix", "mkdir", str(m))),
    "a codec": lambda m: ("a.pth", torch_file(Call(codecs.decode, str(m), "rot13"))),
    "an array of objects": lambda m: ("a.npz", object_array(m)),
    "a TorchScript archive": lambda m: (
        "a.pt",
        archive(raw("posix", "mkdir", str(m)), **{"constants.pkl": b"\x80\x02)."}),
    ),
    "a torch archive": lambda m: ("a.pt", archive(raw("posix", "mkdir", str(m)))),
    "a pickle that calls itself safetensors": lambda m: (
        "a.safetensors",
        pickle.dumps(Call(os.mkdir, str(m))),
    ),
}


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("read", [read_checkpoint, read_encoder])
def test_hidden_code_is_refused_in_one_line_and_does_not_run(
    payload: str, read: Callable, tmp_path: Path
):
    marker = tmp_path / "marker"
    name, content = PAYLOADS[payload](marker)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"weights file '.*{name}'") as error:
        read(tmp_path / name)
    assert not marker.exists()
    assert "\n" not in str(error.value) and "weights_only" not in str(error.value)


@pytest.mark.parametrize(
    "payload",
    [
        "os.mkdir in a torch file",
        "os.mkdir in an old torch file",
        "the command line of a training",
    ],
)
def test_the_error_names_what_would_run_and_the_remedy(payload: str, tmp_path: Path):
    name, content = PAYLOADS[payload](tmp_path / "marker")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pth' holds Python objects .*mkdir.*; convert it"):
        read_checkpoint(tmp_path / name)


def test_the_payloads_do_run_where_a_file_is_trusted(tmp_path: Path):
    """Otherwise the test above would prove nothing."""
    marker = tmp_path / "marker"
    name, content = PAYLOADS["os.mkdir in a torch file"](marker)
    (tmp_path / name).write_bytes(content)
    read_checkpoint(tmp_path / name, trust_pickle=True)
    assert marker.exists()


def test_what_looks_like_an_encoder_file_has_no_say_in_what_is_imported(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "vit", "auto_map": {"x": "evil.py"}}')
    (tmp_path / "evil.py").write_text("import os; os.mkdir('marker')")
    np.savez(tmp_path / "a.npz", a=np.ones(2))
    with pytest.raises(ValueError, match="holds no plain-ViT encoder"):
        read_encoder(tmp_path / "a.npz")
    assert not (tmp_path / "marker").exists() and not Path("marker").exists()
    assert read_metadata(tmp_path / "a.npz") == {}
