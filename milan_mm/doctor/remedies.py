"""The commands that mend an installation, in a checkout and without one."""

import sys
from importlib import metadata
from pathlib import Path

PIP = f"{sys.executable} -m pip"


def install(distribution: str, options: str = "") -> str:
    """The command that installs a distribution, in a checkout at the pinned version."""
    if distribution.startswith("onedl-"):
        options = f"--no-build-isolation {options}"  # their builds import torch
    checkout = find_checkout()
    pins = f"-c {checkout / 'constraints.txt'} " if checkout else ""
    return f"{PIP} install {pins}{options}'{distribution}{wanted_version(distribution)}'"


def force(distribution: str) -> str:
    """The same for one that pip considers installed, and would leave as it is."""
    return install(distribution, "--force-reinstall --no-deps ")


def recompile_mmcv() -> str:
    """The command that rebuilds mmcv; pip's cache may hold a build without ops."""
    build = install("onedl-mmcv", "--no-deps --force-reinstall --no-cache-dir ")
    return f"{PIP} install 'setuptools<81' wheel ninja psutil && {build}"


def reinstall() -> str:
    """The command that reinstalls milan_mm, in a checkout with all that it needs."""
    if checkout := find_checkout():
        return f"make -C {checkout} --always-make .venv/.installed"
    return f"{PIP} install --force-reinstall --no-deps milan_mm"


def restore_assets() -> str:
    """The command that brings back the files of the demo."""
    checkout = find_checkout()
    return f"git -C {checkout} checkout -- milan_mm/assets" if checkout else reinstall()


def wanted_version(distribution: str) -> str:
    """What milan_mm's own metadata asks of a distribution, such as ">=2.3.6,<2.4", or ""."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for line in metadata.requires("milan_mm") or []:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) == canonicalize_name(distribution):
            # a set of bounds has no order of its own
            return ",".join(sorted(map(str, requirement.specifier), reverse=True))
    return ""


def find_checkout() -> Path | None:
    """The checkout that this file lies in, or None in an installed wheel."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "pyproject.toml").is_file() else None
