"""All checks in their order, and the report: what was found, what was wanted, how to fix it.

Each check is a function that returns what it found. It raises `Fault` with the command that fixes
it, or `Concern` where only some runs will fail.
"""

import functools
from collections.abc import Callable

from milan_mm.doctor import compiled, folders, machine, packages, sets
from milan_mm.doctor.fault import Concern, Fault, count, one_line
from milan_mm.doctor.remedies import reinstall


def all_checks() -> dict[str, Callable[[], str]]:
    """Return every check by the name that its line starts with, in the order of the report."""
    checks: dict[str, Callable[[], str]] = {"python": packages.check_python}
    # before mmcv, which needs it: the first fault is then the cause
    checks["opencv"] = packages.check_one_opencv
    for module in packages.PACKAGES:
        checks[module] = functools.partial(packages.check_package, module)
    checks["versions"] = sets.check_versions
    checks["setuptools"] = packages.check_setuptools
    checks["compiled code"] = compiled.check_compiled
    checks["mmcv.ops"] = functools.partial(packages.check_mmcv_ops, "cpu")
    if packages.cuda_is_there():
        checks["mmcv.ops cuda"] = functools.partial(packages.check_mmcv_ops, "cuda")
    checks["transformers"] = packages.check_transformers  # before what imports mmpretrain's models
    checks["milan_mm"] = packages.check_registry
    checks["shapes CLIP"] = packages.check_shapes_clip
    checks["device"] = machine.check_device
    checks["shared memory"] = machine.check_shared_memory
    checks["open files"] = machine.check_open_files
    checks["ports"] = machine.check_ports
    checks["work_dirs"] = folders.check_work_dirs
    checks["data"] = folders.check_data
    return checks


def main() -> int:
    """Run every check, print one line each, and return 1 if any found a fault."""
    faults = concerns = 0
    for name, check in all_checks().items():
        try:
            print(f"ok     {name:<17}{check()}", flush=True)
        except Exception as error:
            mark = "note " if isinstance(error, Concern) else "FAULT"
            concerns += isinstance(error, Concern)
            faults += not isinstance(error, Concern)
            remedy = error.remedy if isinstance(error, Fault) else reinstall()
            print(
                f"{mark}  {name:<17}{one_line(error)}\n       {'fix with':<17}{remedy}", flush=True
            )
    if faults:
        print(f"{count(faults, 'fault')}: fix the first, then run this again")
    else:
        print("all well" + (f", {count(concerns, 'note')}" if concerns else ""))
    return 1 if faults else 0
