"""Running a prepared config: training, and testing a checkpoint."""

from itertools import zip_longest

from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from milan_mm.engine.memory import keep_freed_memory
from milan_mm.errors import UserError
from milan_mm.run.checks.coco import check_coco
from milan_mm.run.checks.files import check_data
from milan_mm.run.checks.labels import check_labels
from milan_mm.run.checks.schedule import check_plan
from milan_mm.run.config_nodes import datasets_of
from milan_mm.run.plan import Plan
from milan_mm.run.processes import connect_processes, is_main_process
from milan_mm.weights.reading import read_checkpoint


def train(cfg: Config, resume: str | None, notes: list[str]) -> Runner:
    """Build everything, then train.

    Args:
        cfg: See `milan_mm.run.prepare`.
        resume: None, 'auto' for the last checkpoint of the work directory, or a file.
        notes: Lines for the log.

    Raises:
        MissingFileError, UserError: For missing data or weights and contradictory settings,
            before training starts.
    """
    notes = notes + _check_data(cfg, ("train_dataloader", "val_dataloader"))
    if resume is not None:
        cfg.resume = True
        if resume != "auto":
            read_checkpoint(resume)  # a wrong file is noticed before anything is built
            cfg.load_from = resume
    keep_freed_memory()
    runner = _build(cfg, notes)
    plan = Plan.of(runner)
    check_plan(plan)
    for line in plan.lines():
        runner.logger.info(line)
    runner.train()
    return runner


def test(cfg: Config, checkpoint: str, notes: list[str]) -> dict[str, float]:
    """Evaluate a checkpoint, all of whose tensors must fit the model.

    With `TestTimeAug` in the pipeline each image has several views, which `cfg.tta_model` merges.

    Returns:
        The metrics of the evaluator; none from mmdet's own `CocoMetric` if nothing was detected.

    Raises:
        MissingFileError, UserError: For missing data, and for a checkpoint of another model or of
            other classes.
    """
    if not cfg.get("test_evaluator"):
        raise UserError(
            f"{cfg.filename} has no test_evaluator: pretraining is judged by a transfer, see "
            "tools/train.py --weights"
        )
    notes = notes + _check_data(cfg, ("test_dataloader",))
    content = read_checkpoint(checkpoint)
    state_dict = content.get("state_dict", content)
    _merge_views(cfg)
    runner = _build(cfg, notes)
    model = runner.model
    while hasattr(model, "module"):  # of DistributedDataParallel, and of the merged views
        model = model.module
    _check_fit(checkpoint, state_dict, model.state_dict())
    metainfo = getattr(runner.test_loop.dataloader.dataset, "metainfo", {})
    _check_classes(checkpoint, content.get("meta", {}), metainfo)
    runner.load_checkpoint(checkpoint)
    return runner.test()


def _check_data(cfg: Config, loaders: tuple[str, ...]) -> list[str]:
    """Look for the data; the main process also checks their content, and the others wait for it."""
    check_data(cfg, loaders)
    if not is_main_process():
        return []
    check_labels(cfg, loaders)
    return check_coco(cfg, loaders)


def _merge_views(cfg: Config) -> None:
    """Wrap the model when the test shows it each image several times."""
    transforms = [t for _, d in datasets_of(cfg, "test_dataloader") for t in d.get("pipeline", ())]
    if not any(transform.type == "TestTimeAug" for transform in transforms):
        return
    if not cfg.get("tta_model"):
        raise UserError(
            f"{cfg.filename} tests with TestTimeAug and has no tta_model to merge the predictions: "
            "set it to dict(type='milan_mm.MultiScaleSegmentor') for a segmentor"
        )
    cfg.model = ConfigDict(cfg.tta_model, module=cfg.model)


def _build(cfg: Config, notes: list[str]) -> Runner:
    connect_processes(cfg)
    runner = Runner.from_cfg(cfg)
    for note in notes:
        runner.logger.info(note)
    return runner


def _check_fit(path: str, found: dict, wanted: dict) -> None:
    """Compare names and shapes; mmengine would load what fits and go on with the rest random."""
    missing = [name for name in wanted if name not in found]
    unknown = [name for name in found if name not in wanted]
    other_shape = [n for n in wanted if n in found and wanted[n].shape != found[n].shape]
    for verb, names in (
        ("is missing", missing),
        ("holds unknown", unknown),
        ("has other shapes of", other_shape),
    ):
        if names:
            raise UserError(
                f"{path} {verb} {len(names)} of the model's {len(wanted)} tensors, first "
                f"'{names[0]}': it belongs to another config"
            )


def _check_classes(path: str, meta: dict, tested: dict) -> None:
    """Compare the classes of training, which mmengine saves, with those of the test."""
    trained = list((meta.get("dataset_meta") or {}).get("classes") or [])
    wanted = list(tested.get("classes") or [])
    if trained and wanted and trained != wanted:
        pairs = enumerate(zip_longest(trained, wanted))
        first, (before, now) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        raise UserError(
            f"{path} was trained on {len(trained)} classes and the test data have {len(wanted)}, "
            f"which differ from number {first} on, '{before}' against '{now}': test on the data of "
            "the training (--data DIR)"
        )
