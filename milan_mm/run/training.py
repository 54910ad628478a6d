"""Running a prepared config: training, and testing a checkpoint."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from milan_mm.engine.checkpoints import safe_loading
from milan_mm.engine.hooks.buffers import BuffersHook
from milan_mm.engine.hooks.class_counts import ClassCountsHook
from milan_mm.engine.hooks.finite import FiniteHook
from milan_mm.engine.hooks.record import RecordHook
from milan_mm.engine.hooks.seeding import SeedHook
from milan_mm.engine.hooks.stopping import StoppingHook
from milan_mm.engine.logs import keep_logging
from milan_mm.engine.memory import keep_freed_memory
from milan_mm.errors import Stopped, UserError
from milan_mm.escaping import visible
from milan_mm.lifetime import bind_loaders
from milan_mm.run.checks.content import check_content
from milan_mm.run.checks.schedule import check_plan
from milan_mm.run.checks.space import check_space
from milan_mm.run.config_nodes import datasets_of, shows_views, views_of_test
from milan_mm.run.encoder_weights import LOAD_REPORT
from milan_mm.run.laid_out import LaidOutOnce
from milan_mm.run.options import SAVE_MINUTES
from milan_mm.run.processes import connect_processes, is_main_process
from milan_mm.run.records.record import KEY, ORIGIN, record_of
from milan_mm.run.records.run_file import write_run_file
from milan_mm.run.records.tested import write_tested_file
from milan_mm.run.schedule.plan import Plan
from milan_mm.run.start.checkpoint_files import (
    LAST,
    remove_leftovers_of_run,
    updates_of,
)
from milan_mm.run.start.fitting import check_fit
from milan_mm.run.start.lock import entered, locked, starting
from milan_mm.run.start.origin import Start
from milan_mm.run.start.pretrained import check_whole, read_tensors, watch
from milan_mm.run.start.resume import find_origin
from milan_mm.run.tracking import resume_trackers
from milan_mm.signals import StopSignals
from milan_mm.weights.reading import read_checkpoint


@safe_loading()
def train(
    cfg: Config, start: Start | None, notes: list[str], save_minutes: float = SAVE_MINUTES
) -> Runner:
    """Build everything, then train.

    Args:
        cfg: See `milan_mm.run.prepare`.
        start: Where to start; None at the beginning.
        notes: Lines for the log.
        save_minutes: Longest time between two checkpoints; 0 leaves it to the config.

    Returns:
        The runner; one that has not trained where a finished run was resumed.

    Raises:
        MissingFileError, UserError: For missing data or weights and contradictory settings,
            before training starts.
        Stopped: A signal has ended the training, see `StoppingHook`.
    """
    bind_loaders()
    start = start or Start()
    with StopSignals() as signals, locked(cfg.work_dir, _own_names(cfg)):
        stopping = StoppingHook(signals, save_minutes, start.how_to_go_on)
        return _train(cfg, start, notes, stopping)


def _train(cfg: Config, start: Start, notes: list[str], stopping: StoppingHook) -> Runner:
    if is_main_process():
        remove_leftovers_of_run(cfg)
    origin = find_origin(cfg, start)
    notes = notes + origin.notes + check_content(cfg, ("train_dataloader", "val_dataloader"))
    if cfg.get("resume"):
        notes += resume_trackers(cfg)
    source = None if origin.path else cfg.get("load_from")
    tensors = read_tensors(source) if source else {}
    keep_freed_memory()
    runner = _build(cfg, notes)
    if source:
        check_whole(source, tensors, runner.model)
    tensors.clear()  # not kept while the run lasts
    if not origin.path:  # else the checkpoint fills all parts
        watch(runner, cfg)
    plan = Plan.of(runner)
    check_plan(plan)
    for line in plan.lines():
        runner.logger.info(line)
    if is_main_process():
        for line in check_space(runner, plan):
            runner.logger.warning(line)
    record = record_of(runner.cfg, runner, plan.schedule)
    origin.enter(runner, plan, record)
    runner.register_hook(SeedHook())
    runner.register_hook(BuffersHook())
    runner.register_hook(ClassCountsHook())
    runner.register_hook(FiniteHook((runner.cfg.get(ORIGIN) or {}).get("command") or ""))
    runner.register_hook(stopping)
    # last, so that a checkpoint has the record of the run as it is
    runner.register_hook(RecordHook(KEY, record))
    if not origin.is_finished:
        if is_main_process():
            said = runner.cfg.get(ORIGIN) or {}
            done = 0 if start.init_from else max(updates_of(origin.meta), 0)
            write_run_file(
                runner.log_dir,
                command=said.get("command", ""),
                plan=plan.lines(),
                iterations=plan.updates.total * plan.updates.accumulation,
                start=done * plan.updates.accumulation,
                changes=said.get("changes", []),
                record=record,
            )
        with _saying_how_to_go_on(runner, start.how_to_go_on):
            runner.train()
    return runner


@contextmanager
def _saying_how_to_go_on(runner: Runner, how: str) -> Iterator[None]:
    """After a second Ctrl-C, if this run has a checkpoint."""
    started = time.time()
    try:
        yield
    except Stopped:  # says so itself
        raise
    except KeyboardInterrupt:
        last = Path(runner.work_dir, LAST)
        if is_main_process() and last.is_file() and last.stat().st_mtime >= started:
            print(f"{how} goes on from the last checkpoint", file=sys.stderr, flush=True)
        raise


@safe_loading()
def test(
    cfg: Config,
    checkpoint: str,
    notes: list[str],
    additions: Sequence[Callable[[Runner], None]] = (),
) -> dict[str, float]:
    """Evaluate a checkpoint, all of whose tensors must fit the model.

    With `TestTimeAug` in the pipeline each image has several views, which `cfg.tta_model` merges;
    see also `views_of_test`.

    Args:
        additions: Called with the runner before the test: add metrics and hooks.

    Returns:
        The metrics of the evaluator; none from mmdet's own `CocoMetric` if nothing was detected.

    Raises:
        MissingFileError, UserError: For missing data, and for a checkpoint of another model or of
            other classes.
    """
    bind_loaders()
    check_testable(cfg)
    with entered(cfg.work_dir, [LOAD_REPORT]):
        return _test(cfg, checkpoint, notes, additions)


def _test(
    cfg: Config,
    checkpoint: str,
    notes: list[str],
    additions: Sequence[Callable[[Runner], None]],
) -> dict[str, float]:
    notes = notes + check_content(cfg, ("test_dataloader",))
    content = read_checkpoint(checkpoint)
    state_dict = content.get("state_dict", content)
    _merge_views(cfg)
    runner = _build(cfg, notes, is_test=True)
    model = runner.model
    while hasattr(model, "module"):  # of DistributedDataParallel, and of the merged views
        model = model.module
    check_fit(checkpoint, state_dict, model.state_dict())
    metainfo = getattr(runner.test_loop.dataloader.dataset, "metainfo", {})
    meta = content.get("meta") or {}
    _check_classes(checkpoint, meta, metainfo)
    if is_main_process():
        by_epoch = "max_epochs" in (cfg.get("train_cfg") or {})
        write_tested_file(runner.log_dir, checkpoint, meta, by_epoch)
    del content, state_dict  # with the optimizer's part, three times the model
    runner.load_checkpoint(checkpoint)
    for add in additions:
        add(runner)
    return runner.test()


def check_testable(cfg: Config) -> None:
    """Raise UserError when a config does not say how a checkpoint is judged."""
    if not cfg.get("test_evaluator"):
        raise UserError(
            f"{cfg.filename} has no test_evaluator: pretraining is judged by a transfer, see "
            "tools/train.py --weights"
        )


def _merge_views(cfg: Config) -> None:
    """Wrap the model when the test shows it each image several times."""
    if views := views_of_test(cfg):
        for _, dataset in datasets_of(cfg, "test_dataloader"):
            dataset.pipeline = views
    if not any(shows_views(d.get("pipeline")) for _, d in datasets_of(cfg, "test_dataloader")):
        return
    if not cfg.get("tta_model"):
        raise UserError(
            f"{cfg.filename} tests with TestTimeAug and has no tta_model to merge the predictions: "
            "set it to dict(type='milan_mm.MultiScaleSegmentor') for a segmentor"
        )
    cfg.model = ConfigDict(cfg.tta_model, module=cfg.model)


class _TestRunner:
    """Leaves the config in the work directory alone, which may be that of the training."""

    cfg: Config
    log_dir: str

    def dump_config(self) -> None:
        """Dump the config beside the log."""
        if is_main_process():
            self.cfg.dump(Path(self.log_dir, Path(self.cfg.filename or "config.py").name))


def _build(cfg: Config, notes: list[str], is_test: bool = False) -> Runner:
    connect_processes(cfg)
    kind = RUNNERS.get(cfg.get("runner_type") or "Runner")
    if is_test:
        kind = type(kind.__name__, (_TestRunner, kind), {})
    with starting(cfg.work_dir):
        runner = kind.from_cfg(LaidOutOnce.of(cfg))
    keep_logging(runner.logger)
    runner.logger.addFilter(_show)
    for note in notes:
        runner.logger.info(note)
    return runner


def _own_names(cfg: Config) -> list[str]:
    """What a run writes into its work directory before it starts, besides its folder of logs."""
    return [Path(cfg.filename or "").name, LOAD_REPORT]


_NOISE = ('"FileClient" will be', '"HardDiskBackend" is the alias', "resumed key: train/")


def _show(record: logging.LogRecord) -> bool:
    """Let no terminal obey what names of classes and files hold: log it by numbers.

    Warnings of mmengine's about its own code are left out.
    """
    if str(record.msg).startswith(_NOISE):
        return False
    record.msg, record.args = visible(record.getMessage(), "\n\t"), ()
    return True


def _check_classes(path: str, meta: dict, tested: dict) -> None:
    """Compare the classes of training, which mmengine saves, with those of the test."""
    trained = list((meta.get("dataset_meta") or {}).get("classes") or [])
    wanted = list(tested.get("classes") or [])
    if trained and wanted and trained != wanted:
        pairs = enumerate(zip_longest(trained, wanted))
        first, (before, now) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        raise UserError(
            f"{path} was trained on {len(trained)} classes and the test data have {len(wanted)}, "
            f"which differ from label {first} on, '{before}' against '{now}': test on the data of "
            "the training (--data DIR)"
        )
