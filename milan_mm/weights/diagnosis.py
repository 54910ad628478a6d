"""Why a file holds no encoder that is read here, in one line."""

import re
from collections.abc import Collection
from pathlib import Path

from milan_mm.weights.layouts import LAYOUTS
from milan_mm.weights.layouts.table import spellings
from milan_mm.weights.matching import belongs, fits, forbidden, missing

# Other networks, recognised by names anywhere in a file.
_OTHER_NETWORKS = {
    r"patch_generator\.(pos_embed|embedder|cls_token)": "C-RADIO in NVIDIA's form, whose positions "
    "are cut out of one table for 128x128 patches (timm's form is read, in its folder)",
    r"layer1\.0\.conv1\.weight": "a ResNet",
    r"res2\.0\.conv1\.weight": "a ResNet of detectron2",
    r"layers\.\d+\.blocks\.\d+\.": "a Swin Transformer or another hierarchical one",
    r"stages\.\d+\.(blocks\.)?\d+\.": "a hierarchical network (Swin, ConvNeXt, ResNet ...)",
    r"modality_encoders\.IMAGE\.": "data2vec 2, which normalises after each branch",
    r"encoder\.blocks\.\d+\.residual1\.": "CAPI, with RMS norms and registers that have places",
    r"patch_embed\.(stem|conv|backbone)\.": "a ViT whose patches a stem of convolutions makes",
    r"blocks\.\d+\.\d+\.": "a network of stages (EfficientNet, MobileNet ...)",
}


def why_none(names: Collection[str], path: str | Path, layout: str | None) -> str:
    """Another network, an encoder under a strange prefix, or what is missing for a layout."""
    for pattern, network in _OTHER_NETWORKS.items():
        if example := next((name for name in names if re.search(rf"\b{pattern}", name)), None):
            return f"{path} holds '{example}': {network}, not a plain ViT"
    first = ", ".join(sorted(names)[:3]) or "none"
    if nearest := _nearest(names, layout):
        reason = f"{nearest}; its first names are: {first}"
        return f"{path} holds no complete plain-ViT encoder: {reason}"
    for key, table in LAYOUTS.items():
        for ending in spellings(table.markers[0]):
            for name in names:
                prefix = name.removesuffix(ending)
                if name.endswith(f".{ending}") and fits(table, prefix, names):
                    return (
                        f"{path} holds an encoder in layout {key} under '{prefix}*', which is not "
                        "a prefix that is known here: cut it off the names"
                    )
    known = f"layout {layout}" if layout else f"a layout that is known here ({', '.join(LAYOUTS)})"
    return f"{path} holds no plain-ViT encoder in {known}; its first names are: {first}"


def _nearest(names: Collection[str], layout: str | None) -> str:
    """What is missing for the layouts that fit best; '' where none has anything in common."""
    gaps: dict[str, tuple[int, str]] = {}
    for key, table in LAYOUTS.items():
        if layout not in (None, key):
            continue
        for prefix in table.prefixes:
            absent = missing(table, prefix, names)
            hindering = forbidden(table, prefix, names)
            there = sum(belongs(key, prefix, name) for name in names)
            if len(absent) == len(table.markers) and there < 4:
                continue
            parts = [f"is missing {' and '.join(absent)}"] if absent else []
            parts += [f"has '{hindering[0]}'"] if hindering else []
            gap = (-there, f"for layout {key} it {' and '.join(parts)}")
            gaps[key] = min(gap, gaps.get(key, gap))
    return "; ".join(text for _, text in sorted(gaps.values())[:2])
