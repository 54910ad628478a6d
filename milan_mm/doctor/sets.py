"""Which of the sets of versions that were run is installed here."""

import re
from importlib import metadata

from milan_mm.configs import list_constraints
from milan_mm.doctor.packages import PACKAGES

_RUN = re.compile(r"^# Run: (.+)$", re.MULTILINE)


def check_versions() -> str:
    """Compare the installed versions with each set; another one is not a fault."""
    texts = {path.name: path.read_text() for path in list_constraints().values()}
    differing = {name: _differing(text) for name, text in texts.items()}
    name = min(differing, key=lambda name: len(differing[name]))
    if not differing[name]:
        run = _RUN.search(texts[name])
        return f"as in {name}" + (f", run {run[1]}" if run else "")
    others = ", ".join(differing[name])
    return f"not a set that was run; nearest is {name}, which differs in {others}"


def _differing(text: str) -> list[str]:
    """Those of our packages that are installed in another version, as 'name here (there)'."""
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
    found = []
    for distribution in PACKAGES.values():
        try:
            here = metadata.version(distribution).partition("+")[0]
        except metadata.PackageNotFoundError:
            here = "missing"
        if (there := pinned.get(distribution)) not in (here, None):
            found.append(f"{distribution} {here} ({there})")
    return found
