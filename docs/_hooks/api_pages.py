"""API pages, from the docstrings of the rooms whose classes users name or call."""

# page -> title, introduction, modules
_PAGES = {
    "api/pretrain.md": (
        "API: the method",
        "MILAN, and the parts that a config can swap. Start with `milan`.",
        ["pretrain.milan", "pretrain.masking", "pretrain.decoder", "pretrain.targets",
         "pretrain.teacher", "pretrain.teacher_clip", "pretrain.teacher_timm"],
    ),
    "api/encoder.md": (
        "API: the encoder",
        "`milan_mm.load_encoder`, and the torch module that it gives.",
        ["encoder.loading", "encoder.module", "encoder.images", "weights.names"],
    ),
    "api/models.md": (
        "API: the model",
        "`PlainViT` serves every task; the necks make pyramids of its maps.",
        ["models.plain_vit", "models.vit_options", "models.pyramid", "models.multi_scale"],
    ),
    "api/weights.md": (
        "API: weights",
        "From another system's file to an encoder, and back.",
        ["weights.recognising", "weights.encoder", "weights.loading", "weights.inspecting",
         "weights.exporting", "weights.converting", "weights.reading"],
    ),
    "api/evaluation.md": (
        "API: evaluation",
        "From weights and a task to a row, and from rows to tables.",
        ["evaluation.row_schema", "evaluation.results", "evaluation.cells",
         "evaluation.features", "evaluation.knn",
         "evaluation.frozen.protocol", "evaluation.frozen.feature_set", "evaluation.frozen.store",
         "evaluation.tables", "evaluation.coco_metric"],
    ),
}  # fmt: skip


def pages() -> dict[str, str]:
    """Page -> Markdown, which mkdocstrings fills."""
    return {page: _page(*content) for page, content in _PAGES.items()}


def _page(title: str, intro: str, modules: list[str]) -> str:
    note = 'Import paths are not public yet: names in configs are (`type="milan_mm.X"`).'
    blocks = [f"::: milan_mm.{module}" for module in modules]
    return "\n\n".join([f"# {title}", f"{intro} {note}", *blocks]) + "\n"
