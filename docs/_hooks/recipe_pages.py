"""The table of recipes, from the names and docstrings of configs/.

tests/recipes compares names with contents; each docstring has the number to expect, and its owner.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(
    r"(?P<method>.+)_vit-(?P<arch>[a-z]+)-p(?P<patch>\d+)_(?P<gpus>\d+)xb(?P<batch>\d+)"
    r".*-(?P<length>\d+)(?P<unit>[eik])_(?P<data>[a-z0-9]+).*"
)
_UNITS = dict(e="epochs", i="iterations", k=",000 iterations")
_TASKS = {
    "pretrain": "Pretraining",
    "cls": "ImageNet-1K and other image folders",
    "det": "COCO and LVIS: boxes and masks",
    "seg": "ADE20K, Cityscapes, Pascal Context and COCO-Stuff: segmentation",
    "depth": "NYU Depth v2: depth",
    "pretrain/ablation": "The paper's Table 4",
}
_INTRO = """# Recipes

Made from `configs/`, one file per recipe. `milan-mm configs` lists the names; every tool takes a
name or a path. `--quick` tries any of them in minutes on a CPU. Numbers to expect are published
ones, with their owners; only small recipes (`-mini-`, `-micro-`) were trained to the end by us.
"""


@dataclass(frozen=True)
class Recipe:
    """What the page says of a recipe."""

    name: str
    what: str
    arch: str
    pixels: str
    length: str
    batch: int
    expect: str
    cost: str
    command: str


def recipes(root: Path) -> str:
    """The page."""
    groups: dict[str, list[Recipe]] = {task: [] for task in _TASKS}
    small = ("mini", "micro")  # the demo's come last
    paths = (root / "configs").rglob("*.py")
    for path in sorted(paths, key=lambda p: (any(f"-{s}-" in p.name for s in small), p)):
        task = path.parent.relative_to(root / "configs").as_posix()
        if task in groups:
            groups[task].append(_read(path, root / "configs"))
    sections = [_section(title, groups[task]) for task, title in _TASKS.items()]
    return "\n".join([_INTRO, *sections])


def _section(title: str, found: list[Recipe]) -> str:
    lines = [
        f"## {title}\n",
        "| recipe | model | image, px | length | total batch |",
        "|" + "---|" * 5,
    ]
    for r in found:
        link = f"[{_short(r.name)}](#{_anchor(r)})"
        lines.append(f"| {link} | {r.arch} | {r.pixels} | {r.length} | {r.batch} |")
    lines.append("")
    for r in found:
        lines += [f"### {_short(r.name)} {{ #{_anchor(r)} }}\n", f"{r.what}\n"]
        lines += [f"- {part}" for part in dict.fromkeys((r.expect, r.cost)) if part]
        lines += ["", f"```bash\n{r.command}\n```\n"]
    return "\n".join(lines)


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _anchor(recipe: Recipe) -> str:
    return recipe.name.replace("/", "-")


def _read(path: Path, folder: Path) -> Recipe:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    name = _NAME.fullmatch(path.stem)
    assert name, f"{path} does not follow the naming scheme"
    expect, cost, command = (_part(docstring, head) for head in ("Expect", "Cost", "Run"))
    unit = _UNITS[name["unit"]]
    length = name["length"] + (unit if unit.startswith(",") else f" {unit}")
    number = 1 if name["length"] == "1" and name["unit"] == "e" else 2
    return Recipe(
        name=path.relative_to(folder).with_suffix("").as_posix(),
        what=docstring.split("\n")[0],
        arch=f"ViT-{name['arch']}/{name['patch']}",
        pixels=next(_pixels(path), ""),
        length=length.removesuffix("s") if number == 1 else length,
        batch=int(name["gpus"]) * int(name["batch"]),
        expect=expect,
        cost=cost,
        command=re.sub(r"((?:\.sh|\.py)(?= \S+/)|\S(?= --weights)) ", r"\1 \\\n    ", command),
    )


def _part(docstring: str, head: str) -> str:
    """The part of a docstring that a word opens, up to the next of these words."""
    start = rf"(?:^|(?<=\s)){head}(?P<whose> \([^)]*\))?: ?"
    end = r"(?=\s(?:Expect|Cost|Data|Run)\b[^:\n]*:|\Z)"
    found = re.search(rf"{start}(?P<text>.*?){end}", docstring, re.DOTALL)
    if not found:
        return "" if head == "Run" else _see(docstring)
    text = " ".join(found["text"].replace("\\\n", " ").split())
    return text if head == "Run" else f"**{head}**{found['whose'] or ''}: {text}"


def _see(docstring: str) -> str:
    """Where a recipe of the demo has its numbers."""
    page = re.search(r"Expect and cost: docs/(\S+\.md)", docstring)
    return f"**Expect and cost:** [{page[1]}](../{page[1]})" if page else ""


def _pixels(path: Path) -> Iterator[str]:
    """The side of the images, from the nearest file that sets it."""
    bases: list[str] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.Assign):
            continue
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=True))
        else:
            pairs = [(target, value)]
        for key, item in pairs:
            if ast.unparse(key) == "img_size":
                size = ast.literal_eval(item)
                yield str(size[0] if isinstance(size, tuple) else size)
            if ast.unparse(key) == "_base_":
                given = ast.literal_eval(item)
                bases = [given] if isinstance(given, str) else given
    for base in bases:
        if "::" not in base:
            yield from _pixels((path.parent / base).resolve())
