"""What is known of each pretraining system, from milan_mm/weights/systems.py."""

from milan_mm.weights.statistics import STATS
from milan_mm.weights.systems import PARTS, SYSTEMS, System

_INTRO = """# Systems, in detail

Made from `milan_mm/weights/systems.py`. [Any plain ViT](../weights.md#systems) has the short table,
and says how a file is recognised. What a file says of itself comes before what stands here.

| statistics | mean of R, G, B in 0-1 | standard deviation |
|---|---|---|
"""


def systems() -> str:
    """The page."""
    statistics = [
        f"| {name} | {_numbers(mean)} | {_numbers(std)} |" for name, (mean, std) in STATS.items()
    ]
    return "\n".join([_INTRO + "\n".join(statistics), "", *map(_section, SYSTEMS.values())])


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _section(row: System) -> str:
    heads = (f"width {w}, {n} blocks: {_either(h)}" for (w, n), h in row.heads.items())
    parts = [PARTS[name] for name in row.parts or ()]
    rules = dict.fromkeys((row.resize_rule(0), row.resize_rule(4)))
    facts = {
        "Layouts": ", ".join(f"`{layout}`" for layout in row.layouts),
        "Stored as": row.stored,
        "Statistics": row.stats,
        "Pooling": "class token" if row.pooling == "cls" else "mean of the patches, then a norm",
        "Activation": row.act or "",
        "Has": ", ".join(parts),
        "May have": ", ".join(PARTS[name] for name in row.may_have),
        "Differs from MAE's encoder": row.differs,
        "Attention heads": "; ".join(heads),
        "Positions are resized by": ", with registers ".join(f"`{rule}`" for rule in rules),
        "Images, px": ", ".join(map(str, row.sizes)),
        "`model_type` of Hugging Face": ", ".join(f"`{name}`" for name in row.hf_types),
        "In timm's names": f"`{row.timm_name}`" if row.timm_name else "",
        "Uncertain": "; ".join(filter(None, (row.note, row.act_note))),
        "Written alike by": row.twin,
    }
    lines = [f"- {what}: {value}" for what, value in facts.items() if value]
    return "\n".join([f"## {row.name}\n", *lines, ""])


def _either(heads: int | tuple[int, ...]) -> str:
    return " or ".join(map(str, heads)) if isinstance(heads, tuple) else str(heads)
