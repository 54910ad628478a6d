"""Finding the encoder in a file: the entry that holds the tensors, the layout, the prefix."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.weights.diagnosis import why_none
from milan_mm.weights.layouts import LAYOUTS, reasons
from milan_mm.weights.layouts.table import Layout, matches
from milan_mm.weights.matching import belongs, fits

# Entries of a training checkpoint that hold tensors by name; the first that is there counts.
WRAPPERS = (
    "state_dict",
    "model",
    "module",
    "model_state",
    "model_state_dict",
    "net",
    "teacher",
    "target_encoder",  # of MSN and I-JEPA, beside its `encoder`
    "classy_state_dict",
    "encoder",
)
# Of two encoders that train each other, the one that is taken only on request.
STUDENT = "student"
_STUDENTS = (STUDENT, "encoder")
# Where VISSL keeps the encoder, in its entry of that name.
_VISSL = ("base_model", "model", "trunk")
# What frameworks and users' own classes put before all names of a model, in any order.
_OUTER = re.compile(
    r"(?:module|model|net|network|backbone|_model|wrapped_model|(?:\w+_)?embedding_model)\."
)
# What may stand beside a model that is wrapped so.
_BESIDE = reasons.TASK_PARTS | {
    "ema_model.*": reasons.OTHER_MODEL,
    "model_ema.*": reasons.OTHER_MODEL,
    "head.*": reasons.CLASSIFIER,
    "heads.*": reasons.CLASSIFIER,
    "classifier.*": reasons.CLASSIFIER,
    "fc.*": reasons.CLASSIFIER,
    "*criterion*": reasons.LOSS,
    "*loss*": reasons.LOSS,
    "*_head.*": reasons.PRETRAINING_HEAD,
    "simfp_#.*": reasons.TASK_NECK,  # ViTDet's
}
# DINOv2 numbers chunks of blocks, and the blocks in all of them.
_CHUNKED_BLOCK = re.compile(r"(.*\bblocks\.)\d+\.(\d+\..*)")
# Designs that `PlainViT` has no place for, recognised by their tensors.
UNSUPPORTED = {
    "*.mlp.w12.*": "a gated MLP (SwiGLU)",
    "*.mlp.w1.*": "a gated MLP (SwiGLU)",
    "*.mlp.weights_in.*": "a gated MLP (SwiGLU)",
    "*.mlp.gate_proj.*": "a gated MLP (SwiGLU)",
    "*.mlp.fc1_g.*": "a gated MLP (SwiGLU)",
    "*.attn.proj_l.*": "an attention whose heads are mixed (talking heads: CaiT)",
    "*.attn.temperature": "an attention between channels (XCiT)",
    "*.attn.q_norm.*": "normalised queries and keys",
    "*.attn.inner_attn_ln.*": "a norm inside of the attention",
    "neck.0.weight": "the neck of SAM, whose positions are those of images of 1024 px",
    "freqs": "rotary positions with learned frequencies (rope-vit)",
    "rope.freqs": "rotary positions with learned frequencies (rope-vit)",
}


@dataclass(frozen=True)
class Found:
    """Where the encoder is.

    Attributes:
        path: The file, for messages.
        layout: Key of `LAYOUTS`.
        prefix: What stands before all names of the encoder.
        wrapper: Entry of the file that holds the tensors; '' when the file is flat.
        state_dict: All that the entry holds, under its own names, but without torch.compile's
            `_orig_mod.` and the numbers of DINOv2's chunks.
        left_behind: Names of the other entries.
        others: (layout, prefix) of other encoders in the same file, which were not asked for.
        outer: The part of the prefix that is not the layout's, but of a wrapper around the model.
    """

    path: str
    layout: str
    prefix: str
    wrapper: str
    state_dict: Mapping[str, Any]
    left_behind: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = ()
    outer: str = ""

    @property
    def inner(self) -> str:
        """The layout's part of the prefix."""
        return self.prefix.removeprefix(self.outer)

    @property
    def table(self) -> Layout:
        """The layout itself."""
        return LAYOUTS[self.layout]

    @cached_property
    def tower(self) -> dict[str, Any]:
        """What stands under the prefix, without it."""
        start = len(self.prefix)
        return {n[start:]: t for n, t in self.state_dict.items() if n.startswith(self.prefix)}

    def names(self, spelling: Iterable[str], block: int | None) -> list[str]:
        """Whole names in the file, of spellings in the layout's table."""
        found = [name if block is None else name.replace("#", str(block)) for name in spelling]
        whole = [n.removeprefix("^") if n.startswith("^") else self.prefix + n for n in found]
        return list(dict.fromkeys(whole))


def find_encoder(
    checkpoint: Mapping[str, Any],
    path: str | Path,
    layout: str | None = None,
    student: bool = False,
) -> Found:
    """Find the one encoder of a file.

    Args:
        checkpoint: See `read_checkpoint`.
        path: Of the file, for messages.
        layout: Key of `LAYOUTS`, for files that hold encoders in more than one.
        student: Of a self-distillation (DINO, iBOT), take the student instead of the teacher.

    Raises:
        UserError: When no layout fits, or more than one does, or `PlainViT` has no such parts.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UserError(f"layout '{layout}' is unknown: choose from {', '.join(LAYOUTS)}")
    wrapper = _wrapper(checkpoint, student)
    content = _content(checkpoint, wrapper)
    state_dict = _plain_names(content, path)
    # (layout, prefix) -> its outer part; where two splits give one prefix, the layout's is longer
    candidates: dict[tuple[str, str], str] = {}
    for outer in _outer_prefixes(state_dict):
        for key, table in LAYOUTS.items():
            for inner in table.prefixes:
                if fits(table, outer + inner, state_dict):
                    candidates.setdefault((key, outer + inner), outer)
    wanted = [pair for pair in candidates if layout in (None, pair[0])]
    students = [pair for pair in wanted if STUDENT in pair[1]]
    if student and wrapper not in _STUDENTS:
        if not students:
            raise UserError(
                f"{path} holds no entry '{STUDENT}': leave out the choice of the student"
            )
        wanted = students
    elif len(wanted) > len(students):
        wanted = [pair for pair in wanted if pair not in students]
    if len(wanted) > 1:
        listed = " and ".join(f"{key} ('{prefix}*')" for key, prefix in wanted)
        remedy = "keep one of them" if layout else "choose one (--layout)"
        raise UserError(f"{path} fits more than one layout, {listed}: {remedy}")
    if not wanted:
        raise UserError(why_none(state_dict, path, layout))
    found = Found(
        path=str(path),
        layout=wanted[0][0],
        prefix=wanted[0][1],
        wrapper=wrapper,
        state_dict=state_dict,
        left_behind=tuple(str(name) for name in checkpoint if wrapper and name != wrapper),
        others=tuple(pair for pair in candidates if pair != wanted[0]),
        outer=candidates[wanted[0]],
    )
    _refuse_unsupported(found)
    return found


def reasons_for_rest(found: Found, used: Collection[str]) -> dict[str, str]:
    """Name in the file -> why it is not part of the encoder, for all names but the used ones.

    Raises:
        UserError: Naming what has no reason.
    """
    dropped = dict.fromkeys(found.left_behind, "entry of the training, not of the model")
    unknown, beside = [], _beside(found)
    for name, value in found.state_dict.items():
        if name in used:
            continue
        inside = name.startswith(found.prefix)
        patterns = found.table.extras if inside else beside
        rest = name.removeprefix(found.prefix) if inside else name
        reason = next((r for pattern, r in patterns.items() if matches(pattern, rest)), None)
        if reason is None and any(belongs(key, prefix, name) for key, prefix in found.others):
            reason = "another encoder, which was not asked for"
        if reason is None and not isinstance(value, Tensor):
            reason = "not a tensor"
        if reason is None:
            unknown.append(name)
        else:
            dropped[name] = reason
    if unknown:
        raise UserError(f"{found.path} has unknown tensors: {some(unknown)}")
    return dropped


def some(names: list[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _plain_names(content: Mapping[Any, Any], path: str | Path) -> dict[str, Any]:
    """Without what torch.compile and DINOv2's chunks add inside of names.

    Raises:
        UserError: When two names become one.
    """
    plain: dict[str, Any] = {}
    for name, value in content.items():
        new = str(name).replace("_orig_mod.", "")
        if new in plain:
            raise UserError(f"{path} holds '{new}' twice, once as '{name}': keep one of them")
        plain[new] = value
    joined = {_CHUNKED_BLOCK.sub(r"\1\2", name): value for name, value in plain.items()}
    # other networks number the blocks of each of their stages
    return joined if len(joined) == len(plain) else plain


def _outer_prefixes(names: Iterable[str]) -> list[str]:
    """What stands before names and is only a wrapper's, shortest first; '' is always one."""
    found = {""}
    for name in names:
        end = 0
        while match := _OUTER.match(name, end):
            end = match.end()
            found.add(name[:end])
    return sorted(found, key=lambda outer: (len(outer), outer))


def _beside(found: Found) -> dict[str, str]:
    """Patterns of whole names outside of the prefix -> why they are dropped."""
    named = found.table.prefixes[found.inner]
    patterns = {found.outer + pattern: reason for pattern, reason in named.items()}
    for before in ancestors(found.outer)[:-1]:
        patterns |= {before + pattern: reason for pattern, reason in _BESIDE.items()}
    return patterns


def ancestors(prefix: str) -> list[str]:
    """What a prefix begins with, step by step: '', 'a.' and 'a.b.' of 'a.b.'."""
    steps = prefix.split(".")[:-1]
    return ["".join(f"{step}." for step in steps[:i]) for i in range(len(steps) + 1)]


def _wrapper(checkpoint: Mapping[str, Any], student: bool) -> str:
    for wrapper in (*(_STUDENTS if student else ()), *WRAPPERS):
        if isinstance(checkpoint.get(wrapper), Mapping):
            return wrapper
    return ""


def _content(checkpoint: Mapping[str, Any], wrapper: str) -> Mapping[Any, Any]:
    """What an entry holds; a part of it where a framework has a tree of entries."""
    if not wrapper:
        return checkpoint
    content = checkpoint[wrapper]
    for name in _VISSL if wrapper == "classy_state_dict" else ():
        inner = content.get(name)
        content = inner if isinstance(inner, Mapping) else content
    return content


def _refuse_unsupported(found: Found) -> None:
    known = found.table.patterns
    for name in found.tower:
        for pattern, design in UNSUPPORTED.items():
            if matches(pattern, name) and not any(matches(own, name) for own in known):
                raise UserError(
                    f"{found.path} holds '{name}': {design}, which the plain ViT here does not "
                    "have; take a ViT of this system with the standard MLP, attention and "
                    "positions, e.g. its ViT-B"
                )
