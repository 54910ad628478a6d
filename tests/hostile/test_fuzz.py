"""Whatever a file calls, with whatever arguments: it is refused in one line, or plain values."""

from collections import Counter
from pathlib import Path

import pytest

from milan_mm.weights.reading import read_checkpoint
from tests.hostile import fuzz
from tests.hostile.kinds import archive


# A method, which `builtins.getattr` stands for, is not a value.
@pytest.mark.parametrize("name", sorted(fuzz.FITTING.keys() - {"builtins.getattr"}))
def test_a_call_that_fits_is_read(name: str, tmp_path: Path):
    description = b"\x80\2" + fuzz.encoded(dict(a=fuzz.call(name, *fuzz.FITTING[name]))) + b"."
    (tmp_path / "a.pth").write_bytes(archive(description, **{"data/0": bytes(40)}))
    assert read_checkpoint(tmp_path / "a.pth").keys() == {"a"}


def test_random_calls_end_in_one_line_or_in_plain_values(tmp_path: Path):
    seen: Counter[str] = Counter()
    assert fuzz.faults(1200, tmp_path, see=lambda what: seen.update([what])) == []
    assert seen["read"] > 100 and seen["refused"] > 100
