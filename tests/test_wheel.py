"""The wheel holds what a user without a checkout needs, and declares what it imports."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

NEVER_RUN = {"wandb", "mlflow"}  # extras that a test replaces by a stand-in
# Used only where it is there: mmpretrain of the forks cannot be imported beside version 5.
NEVER_ASKED_FOR = {"transformers"}


@pytest.fixture(scope="module")
def installed(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, unpacked as pip would, away from the checkout."""
    out = tmp_path_factory.mktemp("wheel")
    options = ["-q", "--no-index", "--no-deps", "--no-build-isolation", f"--wheel-dir={out}"]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(repo_root)]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = out.glob("milan_mm-*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(out / "site")
    return out / "site"


def _run(installed: Path, empty: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in an empty folder, with the unpacked wheel before the editable install."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=empty,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_wheel_holds_every_config_tool_and_asset_but_those_that_only_makers_need(
    repo_root: Path, installed: Path
):
    build = tomllib.loads((repo_root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    left_out = build["targets"]["wheel"]["exclude"]
    tracked = subprocess.run(
        ["git", "ls-files", "configs", "tools", "milan_mm", "model-index.yml", "constraints*.txt"],
        cwd=repo_root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert tracked
    for name in tracked:
        inside = name if name.startswith("milan_mm/") else f"milan_mm/.mim/{name}"
        if (repo_root / name).is_dir():  # a link to a folder, whose files are listed themselves
            continue
        if any(fnmatch(inside, pattern) for pattern in left_out):
            assert not (installed / inside).exists(), name
        else:
            assert (installed / inside).read_bytes() == (repo_root / name).read_bytes(), name


def test_readme_on_an_index_page_links_only_to_the_web(installed: Path):
    (description,) = installed.glob("milan_mm-*.dist-info/METADATA")
    text = description.read_text()
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert "# milan_mm" in text and targets
    assert all(target.startswith("https://") for target in targets), targets


def test_installed_wheel_lists_and_finds_its_configs_from_an_empty_folder(
    repo_root: Path, installed: Path, tmp_path: Path
):
    code = (
        "import milan_mm.configs as c\n"
        "for name in c.list_configs(): print(c.find_config(name).resolve())"
    )
    found = _run(installed, tmp_path, "-c", code).stdout.split()
    inside = installed.resolve() / "milan_mm/.mim/configs"
    recipes = [p for p in (repo_root / "configs").rglob("*.py") if "_base_" not in p.parts]
    assert sorted(found) == sorted(
        str(inside / path.relative_to(repo_root / "configs")) for path in recipes
    )


def test_configs_of_the_installed_wheel_find_their_bases(installed: Path, tmp_path: Path):
    code = (
        "import milan_mm.configs as c\n"
        "from mmengine.config import Config\n"
        "for name in c.list_configs():\n"
        "    if '-base-' in name:\n"
        "        Config.fromfile(c.find_config(name), import_custom_modules=False)\n"
        "        open('mine.py', 'w').write(f'_base_ = \"milan_mm::{name}.py\"')\n"
        "        c.find_bases()\n"
        "        Config.fromfile('mine.py', import_custom_modules=False)\n"
        "        print(name)"
    )
    found = _run(installed, tmp_path, "-c", code)
    assert {"det", "seg", "cls", "pretrain"} <= {n.split("/")[0] for n in found.stdout.split()}, (
        found.stderr
    )


def test_installed_wheel_runs_a_tool_from_an_empty_folder(installed: Path, tmp_path: Path):
    listing = _run(installed, tmp_path, "-m", "milan_mm", "--help")
    assert listing.returncode == 0, listing.stderr
    done = _run(installed, tmp_path, "-m", "milan_mm", "train", "--help")
    assert done.returncode == 0, done.stderr
    assert "CONFIG" in done.stdout or "config" in done.stdout
    assert not list(tmp_path.iterdir()), "--help left files behind"


def test_every_import_is_declared(repo_root: Path):
    project = tomllib.loads((repo_root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + [line for extra in extras.values() for line in extra]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    providers = metadata.packages_distributions()
    known = {"milan_mm"} | NEVER_ASKED_FOR
    undeclared = set()
    for path in [*repo_root.glob("milan_mm/**/*.py"), *repo_root.glob("tools/*.py")]:
        for module in _imported_packages(path) - set(sys.stdlib_module_names) - known:
            names = {canonicalize_name(name) for name in providers.get(module, [module])}
            if not names & declared:
                undeclared.add(f"{module} ({path.relative_to(repo_root)})")
    assert not undeclared


def test_every_set_of_versions_pins_what_is_declared(repo_root: Path):
    project = tomllib.loads((repo_root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    run = [lines for name, lines in extras.items() if name not in NEVER_RUN]
    lines = project["dependencies"] + [line for extra in run for line in extra]
    for path in repo_root.glob("constraints*.txt"):
        text = path.read_text()
        pins = [Requirement(row) for row in text.splitlines() if row and not row.startswith("#")]
        pinned = {canonicalize_name(pin.name): str(pin.specifier) for pin in pins}
        for line in lines:
            wanted = Requirement(line)
            if wanted.name == "milan_mm":  # other extras of this package
                continue
            pin = pinned[canonicalize_name(wanted.name)]
            assert pin.startswith("==") and wanted.specifier.contains(pin[2:]), (path.name, line)


def test_every_pinned_version_takes_every_python_that_the_package_takes(repo_root: Path):
    project = tomllib.loads((repo_root / "pyproject.toml").read_text())["project"]
    oldest = [v for v in ("3.11.0", "3.12.0") if v in SpecifierSet(project["requires-python"])]
    refused = [
        f"{found.name} {found.version}: {wanted}"
        for found in metadata.distributions()
        if (wanted := found.metadata["Requires-Python"])
        and not all(version in SpecifierSet(wanted) for version in oldest)
    ]
    assert not refused


def _imported_packages(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}
