"""The encoders that an evaluation judges, read and identified."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from milan_mm.errors import UserError
from milan_mm.evaluation.recipes import Shape
from milan_mm.evaluation.untrained import METHOD, write_untrained
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.reading import file_sha256
from milan_mm.weights.recognising import read_encoder


@dataclass(frozen=True)
class Candidate:
    """An encoder to be judged.

    Attributes:
        method: Name of the system in tables. name, sha256: Of the file. shape: See `Shape`.
        read: What was read from the file, without its tensors.
    """

    method: str
    name: str
    sha256: str
    shape: Shape
    read: Encoder


def read_candidates(
    weights: Iterable[str], methods: Iterable[str] | None, **options: Any
) -> list[Candidate]:
    """Read every weights file, and keep what is known about it.

    Args:
        methods: A name for each; None takes the systems that the files are taken for.
        options: Of `read_encoder`, for all of them; of several files `num_heads` is for those that
            do not state their heads.

    Raises:
        MissingFileError, UserError: For a file that cannot be used, and for numbers of names and
            files that differ.
    """
    paths = list(weights)
    names = list(methods) if methods is not None else [None] * len(paths)
    if len(names) != len(paths):
        raise UserError(f"--method names {len(names)} systems, --weights {len(paths)} files")
    candidates = []
    for name, path in zip(names, paths, strict=True):
        read = _read(path, options, several=len(paths) > 1)
        sha256, shape = file_sha256(read.source), Shape.of(read)
        read = replace(read, state_dict={})  # hundreds of MB
        candidates.append(Candidate(name or read.system, Path(path).name, sha256, shape, read))
    if len({candidate.sha256 for candidate in candidates}) < len(candidates):
        raise UserError("--weights holds a file twice: give each once")
    return candidates


def untrained_candidates(candidates: Iterable[Candidate], out: Path) -> list[Candidate]:
    """An untrained encoder for each shape of some candidates, as files below a folder."""
    found = {}
    for candidate in candidates:
        read = candidate.read
        file = write_untrained(read_encoder(read.source, **read.options), out / "untrained")
        (drawn,) = read_candidates([str(file)], [METHOD])
        found[drawn.sha256] = drawn
    return list(found.values())


def _read(path: str, options: dict[str, Any], several: bool) -> Encoder:
    """A file with the heads that it states; else, and for a single file, as the user says."""
    if several and options.get("num_heads"):
        with suppress(UserError):  # which the reading below meets again, if the heads do not help
            read = read_encoder(path, **(options | dict(num_heads=None)))
            if "num_heads" in read.settings["arch"] and "num_heads" not in read.assumed:
                return read
    return read_encoder(path, **options)
