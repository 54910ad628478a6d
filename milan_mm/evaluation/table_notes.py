"""What a reader must know beside a table of results."""

import re
from collections.abc import Mapping, Sequence

from milan_mm.evaluation.published import source
from milan_mm.evaluation.table_parts import Group, group_of
from milan_mm.evaluation.tasks import PATCH_SIZE, TASKS


def notes_on(
    arch: str,
    rows: Sequence[Mapping],
    marks: Mapping[Group, str],
    with_ties: bool,
    with_published: bool,
) -> list[str]:
    """Lines below the table of an architecture.

    Args:
        marks: Letters of the groups. with_ties: Whether several numbers are marked as the best.
        with_published: Whether the table has numbers of the paper.
    """
    notes = []
    for group, mark in marks.items():
        own = [row for row in rows if group_of(row) == group]
        counts = ", ".join(f"{n:,} {split}" for split, n in group.data_counts)
        if sum(other.with_any_data == group.with_any_data for other in marks) > 1:
            counts += f" (data {' '.join(str(h)[:8] for _, h in group.data_hash) or 'unknown'})"
        batch = f", total batch {own[0]['total_batch']}" if own[0]["total_batch"] else ""
        precision = " and ".join(sorted({row["precision"] for row in own}))
        notes.append(
            f"{group.trial.title}{f' ({mark})' if mark else ''}: protocol "
            f"{group.protocol} {group.protocol_hash}{batch}, {precision}, {counts} images"
        )
    if any(marks.values()):
        notes.append(
            "Numbers with different letters come from different protocols or data and are not "
            "ranked together: the best (bold) is that of its letter."
        )
    if with_ties:
        notes.append(
            "Several bold numbers of one column and letter are not ranked among each other: their "
            "intervals or ranges overlap."
        )
    if any("interval" in row for row in rows):
        notes.append(
            "[low, high] is the 95 % interval of the number if other test images had been drawn "
            "(bootstrap), of several runs from the lowest end to the highest; other training "
            "seeds are not part of it."
        )
    if any(group.protocol == "own" for group in marks):
        notes.append(
            "The protocol 'own' is a recipe with another length or learning rate: its numbers are "
            "not compared with published ones."
        )
    if any(group.protocol == "short" for group in marks):
        notes.append(
            "The protocol 'short' shows that a recipe runs on these weights; its numbers are no "
            "measure of them: they are not ranked, nor compared with published ones."
        )
    dense = {group.trial.data for group in marks if TASKS[group.trial.task].data.kind != "classes"}
    if dense and (found := re.search(r"/(\d+)$", arch)) and int(found[1]) != PATCH_SIZE:
        notes.append(
            f"{' and '.join(sorted(dense))}: on patches of {PATCH_SIZE} pixels, to which the "
            f"encoder's of {found[1]} were resampled."
        )
    if with_published:
        notes.append(
            f"Published numbers are those of {source()}, not measured here; that paper does not "
            "state its settings for COCO and ADE20K. Differences are given where the protocol is "
            "'paper' and the data are whole."
        )
    commits = sorted({str(row["commit"]) for row in rows})
    if len(commits) > 1 or any(commit.endswith("-dirty") for commit in commits):
        notes.append(f"The rows were written by {len(commits)} version(s): {', '.join(commits)}")
    return notes
