"""What a check of a data set found (counts, faults by kind, notes), and the report."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from milan_mm.escaping import visible
from milan_mm.text import count

SHOWN = 5  # names of each kind of fault in the report; `Findings.listing` has all


@dataclass
class Fault:
    """One kind of fault.

    Attributes:
        kind: What is wrong, in the plural: 'images cannot be read'.
        remedy: What to do about it; may have several lines.
        names: The files or entries that have it, each with a detail where there is one.
    """

    kind: str
    remedy: str
    names: list[str] = field(default_factory=list)


@dataclass
class Findings:
    """Collects findings for the final report.

    Attributes:
        allow_subset: Having fewer files than the published data set is not a fault.
        counts: One line for each number that is known in advance.
        notes: Not a fault, but worth knowing.
    """

    allow_subset: bool = False
    counts: list[str] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, remedy: str, names: Iterable[str], first: bool = False) -> None:
        """Add a fault of every name; without names there is none.

        Args:
            first: The fault is the cause of others, so it is reported before them.
        """
        names = [visible(name) for name in names]
        if not names:
            return
        self.faults.setdefault(kind, Fault(kind, remedy)).names += names
        if first:
            self.faults = {kind: self.faults[kind]} | self.faults

    def compare_count(self, what: str, found: int, wanted: int) -> None:
        """Compare a count with that of the published data set."""
        line = f"{what}: {found:,} of {wanted:,}"
        if found < wanted:
            line += f", {wanted - found:,} fewer"
        if found > wanted:
            line += f", {found - wanted:,} too many"
        self.counts.append(line)
        if found > wanted:
            self.add("counts are too high", "remove what does not belong there", [line])
        elif not found:
            self.add("counts are zero", "unpack the files there", [line])
        elif found < wanted and not self.allow_subset:
            self.add(
                "counts are too low",
                "unpack the archives again, or pass --allow-subset if this is meant",
                [line],
            )

    def report(self, root: str, list_file: str = "") -> str:
        """Everything in a few lines, with the first names of each kind of fault.

        Args:
            root: The folder that was checked. list_file: Where all names are, for the reader.
        """
        lines = [f"  {line}" for line in self.counts]
        for fault in self.faults.values():
            first, *rest = fault.remedy.splitlines()
            lines.append(f"  fault: {fault.kind} ({len(fault.names):,}): {first}")
            lines += rest  # at the margin: an indented script could not be pasted
            lines += [f"    - {name}" for name in fault.names[:SHOWN]]
            if (more := len(fault.names) - SHOWN) > 0:
                where = f", all are in {list_file}" if list_file else ""
                lines.append(f"    - and {more:,} more{where}")
        lines += [f"  note: {visible(note)}" for note in self.notes]
        kinds = len(self.faults)
        verdict = f"{count(kinds, 'kind')} of faults" if kinds else "no faults"
        return "\n".join([f"{root}: {verdict}", *lines])

    def listing(self) -> str:
        """Every name of every fault, one per line below its kind."""
        lines = []
        for fault in self.faults.values():
            lines += [f"# {fault.kind} ({len(fault.names)})", *fault.names]
        return "".join(f"{line}\n" for line in lines)
