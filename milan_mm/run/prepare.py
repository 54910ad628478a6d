"""From options to a config that can run: every change to a recipe, in the one order that works.

Training and testing take their steps from here, and so does the evaluation of encoders, whose
recipes stop before what belongs to a machine (`RECIPE`). A step whose option was not given leaves
the config as it is.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.hooks import CheckpointHook
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend

from milan_mm.errors import UserError
from milan_mm.escaping import visible
from milan_mm.run.checks.coco import use_coco_reader
from milan_mm.run.encoder_weights import identify_weights, set_encoder_weights, set_load_report
from milan_mm.run.fields.given import follow_names, set_written_out
from milan_mm.run.fields.guesses import limit_guesses
from milan_mm.run.fields.image_size import SIZE_NAMES, check_patches, is_pooled, set_image_size
from milan_mm.run.fields.names import changed_fields
from milan_mm.run.fsdp import spread_model
from milan_mm.run.image_types import read_every_type
from milan_mm.run.machine import check_precision, fit_to_machine
from milan_mm.run.own_data import set_own_data
from milan_mm.run.own_data.variants import use_variant
from milan_mm.run.processes import is_main_process, world_size
from milan_mm.run.records.canonical import config_hash
from milan_mm.run.records.differences import changes_of
from milan_mm.run.records.record import ORIGIN, keep_origin, recipe_name, record_of, settings_of
from milan_mm.run.records.recorded_model import (
    check_own_data,
    judged_otherwise,
    take_model,
    take_old_rule,
)
from milan_mm.run.run_options import RunOptions
from milan_mm.run.schedule.batch import apply_total_batch
from milan_mm.run.schedule.length import set_length, set_rate
from milan_mm.run.start.continuation import record_from_config
from milan_mm.run.tracking import add_trackers, check_trackers, leave_trackers

# What an option sets, among other things.
_SAID_TWICE = dict(
    epochs=("train_cfg.max_epochs", "max_epochs"),
    iters=("train_cfg.max_iters", "max_iters"),
    lr=("optim_wrapper.optimizer.lr", "lr", "base_lr"),
)
# Options whose values a checkpoint's record keeps.
REPEATED = ("data", "img_size", "epochs", "iters", "lr")
# Classes of mmengine that a full disk costs a run -> ours, by what a config calls them.
_FROM_MMENGINE = {
    name: f"milan_mm.{kind.__name__}"
    for kind in (CheckpointHook, LocalVisBackend, TensorboardVisBackend)
    for name in (kind.__name__, f"mmengine.{kind.__name__}", kind)
}
Step = Callable[[Config, RunOptions], list[str]]


def prepare(cfg: Config, options: RunOptions, steps: Sequence[Step]) -> list[str]:
    """Apply options to a recipe, in place.

    Args:
        steps: `TRAINING`, `TEST`, or `RECIPE`.

    Returns:
        Lines for the log about what was found, changed or derived.

    Raises:
        MissingFileError, UserError: When an option cannot be applied, or two exclude each other.
    """
    return [note for step in steps for note in step(cfg, options)]


def name_recipe(cfg: Config, _: RunOptions) -> list[str]:
    """Keep name and hash of the recipe as it was loaded, for the record of the run."""
    keep_origin(cfg, recipe=recipe_name(cfg), recipe_hash=config_hash(cfg))
    return []


def keep_recipe(cfg: Config, options: RunOptions) -> list[str]:
    """Keep the command, and the recipe as it was loaded, to be compared with what becomes of it."""
    keep_origin(cfg, command=options.command, changes=settings_of(cfg))
    return [f"command: {options.command}"] if options.command else []


def keep_changes(cfg: Config, _: RunOptions) -> list[str]:
    """Compare with the recipe as it was loaded."""
    keep_origin(cfg, changes=changes_of(cfg[ORIGIN]["changes"], settings_of(cfg)))
    return []


def keep_options(cfg: Config, options: RunOptions) -> list[str]:
    """Keep what a later command on the checkpoints may have to repeat, for the record."""
    given = {name: value for name in REPEATED if (value := getattr(options, name)) is not None}
    if given:
        keep_origin(cfg, options=dict((cfg.get(ORIGIN) or {}).get("options") or {}, **given))
    return []


def use_own_data(cfg: Config, options: RunOptions) -> list[str]:
    """Train and test on the folder of `--data`, or test on a variant of ImageNet there.

    What was found there is printed as well as logged, since it is the first thing that a user wants
    to see of a run.
    """
    if options.test_set and not options.data:
        raise UserError(f"--test-set {options.test_set}: name the folder of its images, --data DIR")
    if options.data is None:
        return []
    if options.test_set:
        return use_variant(cfg, options.test_set, options.data)
    found = set_own_data(cfg, options.data, options.recorded)
    if is_main_process():
        print(visible("\n".join(found), "\n"), flush=True)
    return found


def change_schedule(cfg: Config, options: RunOptions) -> list[str]:
    """Train for another time and at another rate, with all that depends on them.

    Raises:
        UserError: When a field of `--cfg-options` says the same, a trial has a length of its own,
            or the recipe has no such length or rate.
    """
    for name, fields in _SAID_TWICE.items():
        value = getattr(options, name)
        if value is None:
            continue
        if options.shorten and name != "lr":
            raise UserError(f"--{name} and --quick exclude each other: a trial has its own length")
        for option in options.cfg_options:
            if option.partition("=")[0] in fields:
                raise UserError(f"--{name} {value:g} and --cfg-options {option} exclude each other")
    return [*set_length(cfg, options.epochs, options.iters), *set_rate(cfg, options.lr)]


def resize_images(cfg: Config, options: RunOptions) -> list[str]:
    """Train and test on images of another size.

    Raises:
        UserError: When a field of `--cfg-options` says the same; see also `set_image_size`.
    """
    if options.img_size is None:
        return []
    for option in options.cfg_options:
        if option.partition("=")[0] in SIZE_NAMES:
            raise UserError(f"--img-size and --cfg-options {option} exclude each other")
    if options.weights is None or not is_pooled(cfg):
        check_img_size(cfg, options)
    return set_image_size(cfg, options.img_size)


def check_img_size(cfg: Config, options: RunOptions) -> list[str]:
    """Check that the patches divide `--img-size`.

    Raises:
        UserError: With the nearest sizes.
    """
    if options.img_size is not None:
        patch = (cfg.get("model", {}).get("backbone") or {}).get("patch_size", 16)
        check_patches(options.img_size, patch, f"--img-size {options.img_size}")
    return []


def set_recipe_names(cfg: Config, options: RunOptions) -> list[str]:
    """Set names of the recipe that `--cfg-options` gives, see `follow_names`."""
    before = cfg.to_dict()
    notes = follow_names(cfg, options.cfg_options)
    changed = changed_fields(before, cfg.to_dict())
    # positions are those of the weights, and resized to images of another size
    options.followed.extend(name for name in changed if name != "model.backbone.img_size")
    return notes


def set_fields(cfg: Config, options: RunOptions) -> list[str]:
    """Set the other fields of `--cfg-options`, and check every key of the config.

    Raises:
        UserError: For a key that nothing reads.
    """
    set_written_out(cfg, options.cfg_options)
    return []


def fit_metrics(cfg: Config, _: RunOptions) -> list[str]:
    """Measure what the classes allow."""
    return limit_guesses(cfg)


def cut_short(cfg: Config, options: RunOptions) -> list[str]:
    """Make the run a trial."""
    return options.shorten(cfg, world_size(options.launcher)) if options.shorten else []


def use_weights(cfg: Config, options: RunOptions) -> list[str]:
    """Start from a pretrained encoder.

    Raises:
        UserError: For options about a weights file without one, and with `load_from`, which would
            replace them; see also `set_encoder_weights`.
    """
    if options.weights is None:
        if options.reading:
            given = ", ".join(f"--{name.replace('_', '-')}" for name in options.reading)
            raise UserError(f"{given} applies to --weights FILE, which is missing")
        return []
    if cfg.get("load_from"):
        raise UserError(
            f"--weights has no effect with load_from='{cfg.load_from}', which fills the whole "
            "model: leave out one of them"
        )
    return set_encoder_weights(cfg, options.weights, options.fixed, **options.reading)


def use_record(cfg: Config, options: RunOptions) -> list[str]:
    """Test the model that the checkpoint's training has had.

    Raises:
        UserError: When config and checkpoint contradict each other, see `take_model`.
    """
    found = options.recorded
    if found is None:
        return []
    if found.record:
        check_own_data(cfg, found, options.fixed)
        notes = take_model(cfg, found.record, found.path, "test", options.fixed)
        return notes + judged_otherwise(cfg, found.record, found.path)
    notes = [
        f"{found.path} has no record of its training (it is of an earlier version): its config "
        "says what its model was"
    ]
    if record := record_from_config(found.meta):
        # nobody knows what the recipe was then; what it did not say may come from `--weights`
        record["recipe_hash"] = record_of(cfg)["recipe_hash"]
        notes += take_model(cfg, record, found.path, "test", options.fixed)
    else:
        notes += take_old_rule(cfg, options.fixed)
    return notes


def use_bfloat16(cfg: Config, options: RunOptions) -> list[str]:
    """Train in bfloat16 autocast, unless the config chose a mixed precision already.

    Raises:
        UserError: When the config has an optimizer wrapper of its own kind.
    """
    if not options.amp:
        return []
    wrapper = cfg.optim_wrapper.get("type", "OptimWrapper")
    if "Amp" in wrapper or "BFloat16" in wrapper:
        return []
    if wrapper != "OptimWrapper":
        raise UserError(
            f"--amp does not support optim_wrapper.type='{wrapper}': use 'OptimWrapper'"
        )
    cfg.optim_wrapper.type = "milan_mm.BFloat16OptimWrapper"
    if cfg.get("default_scope") == "mmdet":  # NMS and RoIAlign do not support bfloat16
        cfg.optim_wrapper.modules = [m for m in ("backbone", "neck") if m in cfg.model]
    return []


def compile_parts(cfg: Config, options: RunOptions) -> list[str]:
    """Let a hook compile the parts of a step before training."""
    if options.compile:
        hook = dict(type="milan_mm.CompileHook")
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), hook]
    return []


def limit_batch(cfg: Config, options: RunOptions) -> list[str]:
    """State how many images one process holds at a time; the total batch stays what it is.

    Raises:
        UserError: When the config has no total batch, or a trial has its own.
    """
    limit = options.batch_per_gpu
    if limit is None:
        return []
    if limit < 1:
        raise UserError(f"--batch-per-gpu {limit}: give 1 or more images")
    if options.shorten:
        raise UserError("--batch-per-gpu and --quick exclude each other: a trial has its own batch")
    if "total_batch" not in cfg:
        raise UserError(
            f"--batch-per-gpu: {cfg.filename} states no total_batch for its learning rate: set "
            "total_batch to gpus * batch of the original recipe"
        )
    cfg.train_dataloader.batch_size = limit
    return []


def choose_work_dir(cfg: Config, options: RunOptions) -> list[str]:
    """Take the folder of the command line, or that of the config, or work_dirs/NAME.

    A run on own data without a folder of its own adds their name, a trial adds `-quick`.
    """
    default = cfg.get("work_dir") or str(Path("work_dirs", Path(cfg.filename).stem))
    if options.data is not None:
        default += f"-{Path(options.data).resolve().name}"
    cfg.work_dir = options.work_dir or default + ("-quick" if options.shorten else "")
    return []


def save_load_report(cfg: Config, _: RunOptions) -> list[str]:
    """Write what was loaded from a weights file into the work directory."""
    identify_weights(cfg)
    set_load_report(cfg)
    return []


def split_batch(cfg: Config, options: RunOptions) -> list[str]:
    """Divide the total batch among processes, and accumulate the rest."""
    check_precision(cfg)
    if options.lr is not None and "total_batch" in cfg:  # the user's, for this total batch
        cfg.setdefault("auto_scale_lr", ConfigDict()).base_batch_size = cfg.total_batch
    note = apply_total_batch(cfg, world_size(options.launcher))
    return [note] if note else []


def look_for_trackers(_: Config, options: RunOptions) -> list[str]:
    """Look for the packages of trackers, before anything else is done."""
    check_trackers(options.tracking.backends)
    return []


def track(cfg: Config, options: RunOptions) -> list[str]:
    """Log to trackers, and look at a pretraining while it runs."""
    return add_trackers(cfg, options.tracking, trial=options.shorten is not None)


def track_nothing(cfg: Config, options: RunOptions) -> list[str]:
    """Leave the curves of the training alone."""
    leave_trackers(cfg, options.fixed)
    return []


def read_coco_once(cfg: Config, _: RunOptions) -> list[str]:
    """Let COCO data sets take what the checks before the start have read."""
    use_coco_reader(cfg)
    return []


def read_image_types(cfg: Config, _: RunOptions) -> list[str]:
    """Read image folders completely, see `read_every_type`."""
    read_every_type(cfg)
    return []


def save_safely(cfg: Config, _: RunOptions) -> list[str]:
    """Let mmengine's hook for checkpoints and its curves be ours, which outlive a full disk.

    A config that has another hook, another backend for files or no checkpoints keeps them.
    """
    hooks = cfg.setdefault("default_hooks", ConfigDict())
    if checkpoint := hooks.setdefault("checkpoint", ConfigDict(type="CheckpointHook", interval=1)):
        is_local = "://" not in str(checkpoint.get("out_dir"))
        if is_local and not checkpoint.get("file_client_args"):  # mmengine's older way to say it
            checkpoint.setdefault("backend_args", dict(backend="atomic_local"))
        _take_ours(checkpoint)
    for backend in (cfg.get("visualizer") or {}).get("vis_backends") or []:
        _take_ours(backend)
    hooks.setdefault("history", ConfigDict(type="milan_mm.HistoryHook"))
    return []


def _take_ours(node: ConfigDict) -> None:
    if ours := _FROM_MMENGINE.get(node.get("type")):
        node["type"] = ours


def use_fsdp(cfg: Config, options: RunOptions) -> list[str]:
    """Spread the model over the processes."""
    return spread_model(cfg, options.fsdp, options.launcher)


def use_machine(cfg: Config, options: RunOptions) -> list[str]:
    """Fit the config to the devices and the launcher."""
    return fit_to_machine(cfg, options.launcher)


# What is trained, on what data, for how long, and from which encoder.
RECIPE: tuple[Step, ...] = (
    name_recipe,  # first, before anything is changed
    keep_options,
    use_own_data,  # early, so that fields which the user writes out have the last word
    set_recipe_names,  # before options for what is derived from them
    resize_images,
    change_schedule,
    set_fields,
    fit_metrics,  # after both, which may set the number of classes
    cut_short,  # after the data, whose sets it wraps
    use_weights,  # after the fields, which it leaves alone
    check_img_size,  # after the weights, which may bring other patches
)
TRAINING: tuple[Step, ...] = (
    look_for_trackers,
    keep_recipe,  # before anything is changed
    *RECIPE,
    use_bfloat16,
    compile_parts,
    keep_changes,  # before what belongs to a machine
    limit_batch,  # a trial has no total batch any more
    choose_work_dir,
    track,  # into the work directory
    save_load_report,  # likewise
    split_batch,  # after the limit; makes the schedule longer
    save_safely,
    read_image_types,
    read_coco_once,
    use_fsdp,
    use_machine,  # last: replaces what this machine cannot do, whoever chose it
)
TEST: tuple[Step, ...] = (
    *RECIPE,
    use_record,
    choose_work_dir,
    track_nothing,
    read_image_types,
    read_coco_once,
    use_machine,
)
