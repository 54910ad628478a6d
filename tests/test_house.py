"""Imports go one way, between rooms and within them; docs/architecture.md gives the reasons.

Imports inside functions count, and so do those for type checking: two modules that must know each
other's types can only be understood together.
"""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "milan_mm"
EVERYBODY = {
    "registry",
    "configs",
    "early",
    "errors",
    "escaping",
    "files",
    "language_models",
    "lifetime",
    "palette",
    "signals",
    "text",
    "torch_private",
}
# What else a room may import: rooms, or single files of one. Rooms that are not listed: nothing.
RULES = {
    "weights": {"models"},
    "encoder": {"models", "weights"},
    "pretrain": {"models", "weights"},
    "engine": {"datasets", "visualization", "weights.reading"},
    "upkeep": {"datasets", "visualization"},
    "run": {"engine", "datasets", "weights", "completion"},
    "evaluation": {"run", "engine", "datasets", "weights", "models"},
    "report": {"run", "evaluation", "weights"},
    "look": {"evaluation", "run", "datasets", "weights", "models", "inference", "visualization"},
    "benchmark": {"run", "engine", "datasets", "weights", "models", "upkeep"},
    "__main__": {"doctor", "completion"},
    "inference": {"run", "engine", "datasets", "weights", "visualization"},
}
# What a room within a room may import of the outer one; its own files aside.
INNER = {
    "evaluation.frozen": {"encoders", "features", "knn", "recipes", "tasks", "voting"},
}
WORLDS = {"photographs", "shapes"}  # may import every room but each other; no room imports them


@cache
def imports() -> dict[str, set[str]]:
    """For each module of the package, as `room.file`, those that it imports."""
    found: dict[str, set[str]] = {}
    paths = {
        ".".join(p.relative_to(PACKAGE).with_suffix("").parts): p for p in PACKAGE.rglob("*.py")
    }
    modules = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    for module, path in modules.items():
        found[module] = set()
        for name in _imported_names(ast.parse(path.read_text())):
            package, _, name = name.partition(".")
            assert package not in {"tools", "tests", "benchmarks"}, f"{module} imports {package}"
            while name and name not in modules:
                name = name.rpartition(".")[0]  # a class or a function: the module that has it
            if package == "milan_mm" and name:
                found[module].add(name)
    return found


def _imported_names(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_a_room_imports_only_what_its_rule_allows():
    broken = set()
    assert "pretrain.milan" in imports()
    for importer, modules in imports().items():
        room = importer.partition(".")[0]
        allowed = {room} | EVERYBODY | RULES.get(room, set())
        for module in modules:
            target = module.partition(".")[0]
            is_free = room == "register" or (room in WORLDS and target not in WORLDS)
            if not is_free and not {module, target} & allowed:
                broken.add(f"{importer} -> {module}")
    assert not broken


def test_an_inner_room_imports_only_what_its_rule_allows():
    broken, found = set(), imports()
    for inner, allowed in INNER.items():
        importers = [name for name in found if name.startswith(f"{inner}.")]
        assert importers
        for importer in importers:
            for module in found[importer]:
                outer, _, rest = module.partition(".")
                is_outside = not module.startswith(inner) and outer == inner.partition(".")[0]
                if is_outside and rest.partition(".")[0] not in allowed:
                    broken.add(f"{importer} -> {module}")
    assert not broken


def test_no_module_imports_itself_by_way_of_others():
    tuple(TopologicalSorter(imports()).static_order())  # raises CycleError, which names the circle
