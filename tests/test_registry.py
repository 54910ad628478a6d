"""The scope `milan_mm` finds its own classes from anywhere."""

import ast
import subprocess
import sys
from pathlib import Path


def _registered_classes(package: Path) -> dict[str, str]:
    """Read from the source which class is decorated with which registry, importing nothing."""
    found = {}
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            for decorator in getattr(node, "decorator_list", []):
                registry, _, method = ast.unparse(decorator).partition(".")
                if method.startswith("register_module"):
                    found[node.name] = registry
    return found


def test_every_registered_class_is_found_in_a_process_that_imports_mmengine_alone(
    repo_root: Path, tmp_path: Path
):
    classes = _registered_classes(repo_root / "milan_mm")
    assert classes["MILAN"] == "MODELS"
    code = (
        "import mmengine.registry as root\n"
        f"for name, registry in {classes!r}.items():\n"
        "    getattr(root, registry).get('milan_mm.' + name)  # raises where there is none\n"
        "    print(name)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert set(classes) <= set(done.stdout.split())


def test_our_milan_and_that_of_mmpretrain_stay_apart():
    import mmpretrain.models  # noqa: F401 (registers mmpretrain's own MILAN)
    from mmpretrain.registry import MODELS

    ours, theirs = MODELS.get("milan_mm.MILAN"), MODELS.get("MILAN")
    assert ours is not None and ours.__module__.startswith("milan_mm.")
    assert theirs is not None and theirs.__module__.startswith("mmpretrain.")
