"""Writing an encoder in a format of another library; the format's own module says what goes in."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from milan_mm.encoder.export.checking import (
    FORMATS,
    Run,
    check_output,
    largest_difference,
    missing_library,
)
from milan_mm.encoder.export.graphs import (
    GRAPHS,
    HOLDERS,
    Graph,
    load_graph,
    serves_any_size,
    write_graph,
)
from milan_mm.encoder.export.hugging_face import (
    hugging_face_files,
    load_hugging_face,
    preprocessor,
)
from milan_mm.encoder.export.openmmlab import load_openmmlab, mmseg_files, openmmlab_files
from milan_mm.encoder.export.parts import Parts
from milan_mm.encoder.export.timm import load_timm, timm_files
from milan_mm.encoder.loading import build
from milan_mm.encoder.module import Encoder
from milan_mm.errors import UserError
from milan_mm.files import replacing, replacing_folder
from milan_mm.weights.encoder import Encoder as Weights
from milan_mm.weights.exporting import export_encoder
from milan_mm.weights.folders import CONFIG, FOLDER_FILES, PREPROCESSOR_CONFIG
from milan_mm.weights.reading import tensors_sha256
from milan_mm.weights.recognising import read_encoder
from milan_mm.weights.statistics import byte_stats
from milan_mm.weights.storing import save_tensors

TOLERANCE = 1e-5  # of the largest value of the features
_FILES = dict(
    timm=timm_files, huggingface=hugging_face_files, openmmlab=openmmlab_files, mmseg=mmseg_files
)


@dataclass(frozen=True)
class Written:
    """A format that was written.

    Attributes:
        holds: What loads it, in a line.
        load: Does so.
        notes: What is not equal, and what was left out.
    """

    holds: str
    load: Callable[[], Run]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Exported:
    """What was written, and how it was checked.

    Attributes:
        path: The file or folder.
        written: What is in it.
        difference: See `largest_difference`; None if it was not checked.
        unchecked: Why not.
    """

    path: Path
    written: Written
    difference: float | None
    unchecked: str = ""

    def __str__(self) -> str:
        checked = f"no: {self.unchecked}"
        if self.difference is not None:
            checked = (
                f"features after loading it there differ by {self.difference:.1e} of their largest "
                f"value (limit {TOLERANCE:g})"
            )
        lines = [str(self.path), f"  loads as    {self.written.holds}", f"  checked     {checked}"]
        return "\n".join(lines + [f"  note        {note}" for note in self.written.notes])


def export(weights: Weights, out: str | Path, to: str, force: bool = False) -> Exported:
    """Write an encoder for another library, load it there, and compare the features.

    Args:
        weights: What was read from a file.
        out: New file or folder.
        to: One of `FORMATS`.
        force: Replace what is there.

    Raises:
        ExistingFileError: When `out` is there, or is not to be replaced.
        UserError: When the format cannot hold the encoder, naming the part; when a package is
            missing; and when the features differ, in which case the file stays, for inspection.
    """
    out = Path(out)
    check_output(out, to, force, weights.source)
    encoder = build(weights)
    written = _write_graph(encoder, out, to) if to in GRAPHS else _write_parts(weights, out, to)
    if missing := missing_library(to):
        reason = f"{missing} is not installed here (pip install {missing})"
        return Exported(out, written, None, reason)
    sizes = [encoder.img_size]
    if to in GRAPHS and serves_any_size(encoder):
        sizes.append((2 * encoder.patch_size, sizes[0][1] + encoder.patch_size))
    return _checked(out, written, encoder, sizes)


def export_own(weights: Weights, out: str | Path, half: bool = False) -> Exported:
    """Write an encoder for this package, read it again, and compare the features.

    Args:
        weights, out, half: See `milan_mm.weights.exporting.export_encoder`.

    Raises:
        UserError: See `export_encoder`; and when the features differ, see `export`.
    """
    metadata = export_encoder(weights, out, half)
    notes = [f"{name} {metadata[name]}" for name in ("system", "stats", "pooling")]
    notes = [f"holds {', '.join(notes)}; all of it: milan-mm inspect_weights {out}"]
    written = Written(f"--weights {out}, milan_mm.load_encoder('{out}')", lambda: _own(out), notes)
    if half:
        notes.append("float16, half the size; compared with the weights rounded so")
        tensors = {name: tensor.half().float() for name, tensor in weights.state_dict.items()}
        weights = replace(weights, state_dict=tensors)
    try:
        encoder = build(weights)
    except UserError as error:  # heads that nobody has said yet, which a file may leave open
        return Exported(Path(out), written, None, str(error))
    return _checked(Path(out), written, encoder, [encoder.img_size])


def _own(out: str | Path) -> Run:
    return Graph(build(read_encoder(out)))


def _checked(
    out: Path, written: Written, encoder: Encoder, sizes: list[tuple[int, int]]
) -> Exported:
    run = written.load()
    differences = [largest_difference(encoder, run, size) for size in sizes]
    difference = max(differences)
    if not all(each <= TOLERANCE for each in differences):
        raise UserError(
            f"'{out}' was written, but its features differ from ours by {difference:.1e} of their "
            f"largest value, more than {TOLERANCE:g}: do not use it, and report this"
        )
    return Exported(out, written, difference)


def _write_graph(encoder: Encoder, out: Path, to: str) -> Written:
    with replacing(out) as new:
        write_graph(encoder, to, new)
    height, width = encoder.img_size
    sizes = f"{height}x{width} px only, because of its relative positions or windows"
    if serves_any_size(encoder):
        sizes = f"sides multiples of {encoder.patch_size}"
    notes = [f"images (B, 3, H, W), any batch, {sizes}, to {', '.join(Graph(encoder).names)}"]
    if encoder.vit.options.with_pool:
        notes.append("the attention pooling is not part of a graph")
    return Written(HOLDERS[to].format(out), partial(load_graph, to, out), notes)


def formats_for(weights: Weights) -> list[str]:
    """Those of `FORMATS` that have all parts of an encoder; none if heads or size are unknown."""
    found: list[str] = []
    with suppress(UserError):
        parts = Parts.of(weights)
        for to in FORMATS:
            with suppress(UserError):
                _files(weights, parts, to)
                found.append(to)
    return found


def _files(weights: Weights, parts: Parts, to: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What goes into the files of another library: config and tensors; nothing into graphs."""
    if to not in _FILES:
        return {}, {}
    dense = "the windows or the relative positions of a detector"
    parts.refuse(f"--to {to}", {dense: bool(weights.dense)})
    return _FILES[to](parts)


def _write_parts(weights: Weights, out: Path, to: str) -> Written:
    parts = Parts.of(weights)
    try:
        config, tensors = _files(weights, parts, to)
    except UserError as error:
        others = ", ".join(["milan_mm", *formats_for(weights)])
        raise UserError(f"{error}; --to {others} can hold it") from None
    size = f"equal at {parts.img_size}x{parts.img_size} px"
    notes = [f"{size}; other sizes resize positions by the rules of that library"]
    if parts.settings["rope_base"]:
        notes = ["equal at every size"]
    if parts.settings["pool_heads"] and not any(n.startswith("attn_pool.") for n in tensors):
        notes.append("the attention pooling is left out, which that class does not have as it is")
    if to == "timm":
        _write_folder(out, tensors, {CONFIG: config})
        holds = f"timm.create_model('local-dir:{out}', pretrained=True)"
        return Written(holds, partial(load_timm, str(out)), notes)
    if to == "huggingface":
        _write_folder(out, tensors, {CONFIG: config, PREPROCESSOR_CONFIG: preprocessor(parts)})
        holds = f"transformers.{config['architectures'][0]}.from_pretrained('{out}')"
        if config["model_type"] == "vit":
            notes.append("take last_hidden_state: pooler_output is of an untrained layer")
        if config["model_type"] == "clip_vision_model":
            notes.append("last_hidden_state comes before the final norm, model.post_layernorm")
        if parts.has_pooled_norm and parts.has_final_norm:
            notes.append("the norm after pooling is left out, which that class does not have")
        return Written(holds, partial(load_hugging_face, str(out)), notes)
    mean, std = byte_stats(weights.stats)
    model = dict(data_preprocessor=dict(mean=mean, std=std, to_rgb=True), backbone=config)
    with replacing(out) as new:
        torch.save(dict(state_dict=tensors, meta=dict(cfg=f"model = {model!r}\n")), new)
    options = ", ".join(f"{name}={value!r}" for name, value in config.items())
    holds = f"backbone=dict({options}, init_cfg=dict(type='Pretrained', checkpoint='{out}'))"
    notes.append(f"images in RGB, mean={mean}, std={std}, for data_preprocessor")
    return Written(holds, partial(load_openmmlab, config, str(out)), notes)


def _write_folder(out: Path, tensors: dict[str, Tensor], configs: dict[str, dict]) -> None:
    """Write a model's folder whole: the files of the new one, or the old one stays."""
    with replacing_folder(out) as new:
        metadata = dict(format="pt", sha256=tensors_sha256(tensors))
        save_tensors(new / FOLDER_FILES[0], tensors, metadata)
        for name, config in configs.items():
            (new / name).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
