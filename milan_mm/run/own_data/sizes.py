"""Photos of any size for recipes whose own images all have one size, like the demo's."""

from mmengine.config import Config, ConfigDict

from milan_mm.run.own_data.settings import transforms_of

_SIZING = ("Resize", "Crop")  # in the names of transforms that choose a size
_LABELS = ("LoadAnnotations", "LoadLabels")
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def fit_sizes(cfg: Config) -> list[str]:
    """Resize to the size of the recipe where training keeps that of the file, in place.

    Detection trains at the size at which it tests: the longer side is that of the recipe.
    Segmentation gives the shorter side that size, and trains on a crop; tests take the whole image.
    A recipe that chooses sizes in training is left as it is.

    Returns:
        Lines for the user.
    """
    size = cfg.model.backbone.get("img_size")
    height, width = (size, size) if isinstance(size, int) else size or (0, 0)
    if not height or _sizing_steps(cfg, "train_dataloader"):
        return []
    is_detection = cfg.get("default_scope") == "mmdet"
    scale = (width, height) if is_detection else (4 * height, height)
    resize = dict(type="Resize", scale=scale, keep_ratio=True, backend="pillow")  # it smooths
    crop = dict(type="RandomCrop", crop_size=(height, width), cat_max_ratio=0.75)
    _insert(cfg, "train_dataloader", [resize] if is_detection else [resize, crop], _LABELS)
    for loader in _LOADERS[1:]:
        for step in _sizing_steps(cfg, loader):
            if step.type == "Resize":
                step.setdefault("backend", "pillow")
        if not _sizing_steps(cfg, loader):
            # before the labels of a segmentation, which keep their size
            _insert(cfg, loader, [resize], _LABELS if is_detection else ("LoadImage",))
    side = "longer" if is_detection else "shorter"
    return [
        f"images are resized, so that the {side} side has the {height} pixels of the recipe"
        + ("" if is_detection else f"; training sees crops of {width}x{height}")
    ]


def _sizing_steps(cfg: Config, loader: str) -> list[ConfigDict]:
    steps = (step for step in transforms_of(cfg, loader) if "type" in step)
    return [step for step in steps if any(part in str(step.type) for part in _SIZING)]


def _insert(cfg: Config, loader: str, steps: list[dict], after: tuple[str, ...]) -> None:
    """Put steps behind those that read the files."""
    dataset = (cfg.get(loader) or {}).get("dataset")
    while dataset and "pipeline" not in dataset:
        dataset = dataset.get("dataset")
    if not dataset:
        return
    pipeline = list(dataset.pipeline)
    read = [i for i, step in enumerate(pipeline) if step.type.rpartition(".")[2] in after]
    if read:
        position = read[-1] + 1
        dataset.pipeline = [*pipeline[:position], *map(ConfigDict, steps), *pipeline[position:]]
