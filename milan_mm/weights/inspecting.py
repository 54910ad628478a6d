"""Telling a user what a weights file is, and what each task would do with it."""

from collections import Counter

from milan_mm.weights.encoder import DEFAULTS, Encoder
from milan_mm.weights.position_rows import sincos_order
from milan_mm.weights.statistics import STATS, stats_values

RECIPE_PATCHES = 16  # pixels along the patches of the recipes for dense tasks and pretraining
_TABLES = {
    "columns": "sine-cosine, columns (x) in the first half of the channels",
    "rows": "sine-cosine, rows (y) in the first half of the channels",
    None: "learned",
}


# Tasks whose recipes have no decomposed relative positions.
_WITHOUT_TABLES = ("linear", "finetuning", "segmentation", "pretraining")


def inspection(encoder: Encoder) -> str:
    """Layout, system, architecture, what loads and what does not, and what the tasks do with it."""
    lines = [
        f"{encoder.source}",
        f"  layout      {encoder.layout}",
        f"  system      {encoder.system}{_doubt(encoder)}",
        *([f"  finetuned   {encoder.finetuned}"] if encoder.finetuned else []),
        f"  encoder     {_architecture(encoder)}",
        f"  positions   {_positions(encoder)}",
        f"  options     {_options(encoder)}",
        f"  loads       {len(encoder.state_dict)} tensors, "
        f"{sum(t.numel() for t in encoder.state_dict.values()):,} values",
    ]
    lines += _listed("dropped", encoder.dropped)
    lines += _listed("made up", encoder.added)
    mean, std = stats_values(encoder.stats)
    name = f"{encoder.stats}: " if encoder.stats in STATS else ""
    lines.append(f"  statistics  {name}mean {mean}, std {std} of R, G, B in 0-1")
    lines.append(f"  pooling     {encoder.pooling}, in its system's own classification")
    lines += [f"  assumed     {name}: {why}" for name, why in encoder.assumed.items()]
    lines += [f"  {task:<14}{what}" for task, what in tasks(encoder).items()]
    return "\n".join(lines)


def tasks(encoder: Encoder) -> dict[str, str]:
    """What each task of this package does with an encoder, in a sentence."""
    settings = encoder.settings
    norm = "its final norm" if settings["final_norm"] else "no final norm, since the file has none"
    fresh = "the norm after the pooling is that of the file"
    if "ln2.weight" not in encoder.state_dict:
        fresh = "a fresh norm follows the pooling"
    spare = [n for n, there in (("class token", settings["with_cls_token"]),
                                ("registers", settings["num_registers"])) if there]  # fmt: skip
    dense = f"without {' and '.join(spare)}" if spare else "as it is"
    if settings["with_pos_embed"]:
        positions = "its position table resized to the image"
        if settings["rope_base"]:
            positions += ", its rotary positions"
    elif settings["rel_pos_bias_grid"]:
        positions = "its relative positions resized to the windows"
    else:
        positions = "its rotary positions"
    relative = "decomposed relative positions start at zero"
    if not settings["with_pos_embed"] or settings["rel_pos_bias_grid"] or settings["rope_base"]:
        relative = "no decomposed relative positions are added"
    has_tables = "layers.0.attn.rel_pos_h" in encoder.state_dict
    if has_tables:
        relative = "its decomposed relative positions resized to those of the recipe"
    patches = ""
    if settings["patch_size"] != RECIPE_PATCHES:
        patches = f"its patch embedding resampled to {RECIPE_PATCHES} px, "
    by_grid = settings["rel_pos_bias_grid"] or settings["rope_base"]
    probe = "class token" if settings["with_cls_token"] else "mean of the patches"
    linear = f"class token after {norm}"
    if not settings["with_cls_token"]:
        own = "attn_pool" if settings["pool_heads"] else "avg_featmap"
        linear = f"no class token: with --cfg-options model.backbone.out_type={own}"
    lost = "not possible: the shipped recipe has no place for its decomposed relative positions"
    pooled = "class token" if encoder.pooling == "cls" else "mean of the patches"
    pools = {}
    if settings["pool_heads"]:
        pools["own pooling"] = (
            f"attention pooling with {settings['pool_heads']} heads, for features"
        )
    pretraining = f"the encoder goes on, {patches}the decoder starts afresh"
    if not settings["with_cls_token"]:
        pretraining = "not possible: it has no class token"
    elif by_grid:
        pretraining = "not possible: its positions need all patches of an image"
    known = {
        **pools,
        "figures": f"t-SNE and neighbours: {pooled} after {norm}",
        "k-NN": f"{probe} after {norm}",
        "linear": linear,
        "finetuning": f"mean of the patches; {fresh}",
        "detection": f"{dense}, {patches}{positions}; {relative}",
        "segmentation": f"all of it, {patches}{positions}; no final norm",
        "pretraining": pretraining,
    }
    return known | (dict.fromkeys(_WITHOUT_TABLES, lost) if has_tables else {})


def _doubt(encoder: Encoder) -> str:
    """A remark, unless the file states what depends on its system."""
    return " (most probable)" if encoder.assumed.keys() & {"stats", "pooling"} else ""


def _architecture(encoder: Encoder) -> str:
    settings, arch = encoder.settings, encoder.settings["arch"]
    size = f"{settings['img_size']} px" if "img_size" in settings else "no square image"
    return (
        f"{arch['num_layers']} blocks of width {arch['embed_dims']}, "
        f"{arch.get('num_heads', 'unknown (--num-heads)')} heads, patches of "
        f"{settings['patch_size']} px, pretrained at {size}"
    )


def _positions(encoder: Encoder) -> str:
    settings = encoder.settings
    kinds = []
    if settings["with_pos_embed"]:
        table = encoder.state_dict["pos_embed"]
        kinds.append(f"table of {table.shape[1]} rows, {_TABLES[sincos_order(table)]}")
    if settings["rel_pos_bias_grid"]:
        h, w = settings["rel_pos_bias_grid"]
        kinds.append(f"relative position bias for {h}x{w} patches in every block")
    if settings["rope_base"]:
        grid = settings["rope_grid"]
        scaled = f", patches numbered as in a grid of {grid[0]}x{grid[1]}" if grid else ""
        kind = (
            "" if settings["rope_kind"] == "dinov3" else f" of the kind '{settings['rope_kind']}'"
        )
        kinds.append(f"rotary{kind}, base {settings['rope_base']:g}{scaled}")
    if grid := encoder.dense.get("rel_pos_grid"):
        windows = encoder.dense.get("window_size")
        inside = f", in windows of {windows}x{windows}" if windows else ""
        kinds.append(f"decomposed relative positions for {grid[0]}x{grid[1]} patches{inside}")
    return "; ".join(kinds)


def _options(encoder: Encoder) -> str:
    """What differs from an encoder of MAE, apart from its positions."""
    hidden = ("with_pos_embed", "rel_pos_bias_grid", "rope_base", "rope_kind", "rope_grid")
    settings = {n: encoder.settings[n] for n in DEFAULTS if n not in hidden}
    settings |= {n: encoder.settings[n] for n in ("with_cls_token", "final_norm")}
    usual = DEFAULTS | dict(with_cls_token=True, final_norm=True)
    changed = [f"{name}={value!r}" for name, value in settings.items() if value != usual[name]]
    return ", ".join(changed) or "none: as MAE's encoder"


def _listed(kind: str, names: dict[str, str]) -> list[str]:
    """One line per reason."""
    lines = []
    for reason, count in Counter(names.values()).items():
        first = next(name for name, why in names.items() if why == reason)
        more = f" and {count - 1} more" if count > 1 else ""
        lines.append(f"  {kind:<12}{first}{more}: {reason}")
    return lines
