"""Trackers by one option each: what they get, that resumed runs are one curve, what is refused.

TensorBoard's own reader judges its files. W&B and MLflow are stand-ins, see stand_ins.py.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.run import tracking
from milan_mm.run.prepare import TEST, TRAINING, prepare
from milan_mm.run.records.canonical import config_hash
from milan_mm.run.records.record import record_of
from milan_mm.run.run_options import RunOptions
from milan_mm.run.start.origin import AUTO, Start
from milan_mm.run.tracking import Tracking, add_trackers
from tests.run.own_data.folders import image_folder
from tests.run.pretraining_runs import labelled_images, logged, pretrain, pretraining_config
from tests.run.stand_ins import Mlflow, Wandb

RECIPES = dict(
    pretrain="pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k",
    det="det/mask-rcnn_vit-base-p16_8xb2-amp-lsj-12e_coco",
    seg="seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512",
    cls="cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k",
)
ALL = dict(tensorboard=True, wandb="project", mlflow="experiment")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return labelled_images(tmp_path_factory.mktemp("tracked") / "images")


@pytest.fixture
def trackers(monkeypatch) -> SimpleNamespace:
    """Both stand-ins, and an environment that names no run."""
    found = SimpleNamespace(wandb=Wandb(), mlflow=Mlflow())
    monkeypatch.setitem(sys.modules, "wandb", found.wandb)
    monkeypatch.setitem(sys.modules, "mlflow", found.mlflow)
    names = ("WANDB_RUN_ID", "WANDB_RESUME", "MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI")
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if k not in names})
    return found


def interrupt(work_dir: Path) -> None:
    """Leave what a run has that was killed in its second epoch."""
    (work_dir / "epoch_2.pth").unlink()
    (work_dir / "last_checkpoint").write_text(str(work_dir / "epoch_1.pth"))


def board(work_dir: Path) -> EventAccumulator:
    """What TensorBoard shows of a work directory."""
    reader = EventAccumulator(
        str(work_dir / "tensorboard"), size_guidance=dict(images=0, scalars=0)
    )
    return reader.Reload()


def test_tensorboard_shows_the_numbers_of_the_log_and_the_pictures(images, tmp_path):
    pretrain(pretraining_config(images, tmp_path), tensorboard=True, knn_data=str(images))
    shown, lines = board(tmp_path), logged(tmp_path)
    for name in ("loss", "lr", "grad_norm", "images_per_second", "waiting", "time", "knn/top1"):
        expected = [
            (line["step"], pytest.approx(line[name], rel=1e-5)) for line in lines if name in line
        ]
        assert expected, name
        assert [(event.step, event.value) for event in shown.Scalars(name)] == expected
    assert [event.step for event in shown.Images("masks")] == [1, 2, 3, 4, 5, 6]


def test_tensorboard_shows_a_resumed_run_as_one_curve(images, tmp_path):
    pretrain(pretraining_config(images, tmp_path), tensorboard=True)
    interrupt(tmp_path)
    cfg = pretraining_config(images, tmp_path)
    pretrain(cfg, Start(resume=AUTO), tensorboard=True, pictures_interval=1)
    events = board(tmp_path).Scalars("loss")
    assert [event.step for event in events] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in events[3:]] == pytest.approx(
        [line["loss"] for line in logged(tmp_path) if "loss" in line], rel=1e-5
    )


def test_wandb_gets_the_curves_over_iterations_and_goes_on_with_its_run(images, tmp_path, trackers):
    pretrain(pretraining_config(images, tmp_path), wandb="project")
    (first,) = trackers.wandb.runs
    assert first.settings["project"] == "project" and first.settings["name"] == tmp_path.name
    assert first.metrics == [("iter", None), ("*", "iter")]
    assert [line["iter"] for line in first.lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert any("masks" in line for line in first.lines)
    assert first.config["total_batch"] == 4 and trackers.wandb.run is None  # ended
    interrupt(tmp_path)
    pretrain(pretraining_config(images, tmp_path), Start(resume=AUTO), wandb="project")
    assert [run.id for run in trackers.wandb.runs] == [first.id] * 2
    assert [line["iter"] for line in trackers.wandb.runs[1].lines if "loss" in line] == [4, 5, 6]


def test_mlflow_gets_curves_pictures_and_parameters_and_goes_on(images, tmp_path, trackers):
    pretrain(pretraining_config(images, tmp_path), mlflow="experiment", knn_data=str(images))
    ((name, run),) = trackers.mlflow.runs.items()
    assert run.experiment == "experiment" and run.tags["mlflow.runName"] == tmp_path.name
    assert trackers.mlflow.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert [step for metric, _, step in run.metrics if metric == "loss"] == [1, 2, 3, 4, 5, 6]
    assert "knn/top1" in {metric for metric, _, _ in run.metrics}
    assert {"masks/00000001.png", "masks/00000006.png", "config.py"} <= {*run.files}
    assert run.params["total_batch"] == 4 and run.params["optim_wrapper.optimizer.lr"] == 1e-3
    interrupt(tmp_path)
    pretrain(pretraining_config(images, tmp_path), Start(resume=AUTO), mlflow="experiment")
    assert list(trackers.mlflow.runs) == [name]
    steps = [step for metric, _, step in run.metrics if metric == "loss"]
    assert steps == [1, 2, 3, 4, 5, 6, 4, 5, 6]


def test_a_new_run_in_another_folder_is_another_run(images, tmp_path, trackers):
    for name in ("one", "two"):
        cfg = pretraining_config(images, tmp_path / name, epochs=2)
        pretrain(cfg, wandb="project", pictures_interval=100)
    ids = [run.id for run in trackers.wandb.runs]
    assert len({*ids}) == 2


def test_a_run_that_the_environment_names_is_taken(trackers):
    os.environ["WANDB_RUN_ID"] = "sweep"
    tracking.go_on_with(dict(WandbVisBackend="own", MLflowVisBackend="own"))
    assert os.environ["WANDB_RUN_ID"] == "sweep" and "WANDB_RESUME" not in os.environ
    assert os.environ["MLFLOW_RUN_ID"] == "own"


def test_a_resumed_run_says_which_trackers_it_leaves(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "trackers.json").write_text('{"WandbVisBackend": "run1"}')
    cfg = Config(dict(work_dir=str(tmp_path)))
    expected = "the run was tracked so far: --wandb --tensorboard would go on with its curves"
    assert tracking.resume_trackers(cfg) == [expected]
    cfg.visualizer.vis_backends = [dict(type="TensorboardVisBackend"), dict(type="WandbVisBackend")]
    assert tracking.resume_trackers(cfg) == []


def test_no_record_sees_a_tracker(images, tmp_path, trackers):
    def record(folder: str, **options) -> tuple[str, dict]:
        cfg = pretraining_config(images, tmp_path / folder)
        prepare(cfg, RunOptions(tracking=Tracking(**options)), TRAINING)
        return config_hash(cfg), record_of(cfg)

    plain = record("plain")
    assert record("tracked", **ALL, knn_data=str(images), pictures_interval=7) == plain


@pytest.mark.parametrize("task", RECIPES)
def test_every_task_keeps_its_visualizer_and_its_file(task, tmp_path, trackers):
    cfg = load(RECIPES[task])
    cfg.work_dir, kind = str(tmp_path), cfg.visualizer.type
    notes = add_trackers(cfg, Tracking(**ALL))
    assert cfg.visualizer.type == kind
    assert [backend.type.rpartition(".")[2] for backend in cfg.visualizer.vis_backends] == [
        "LocalVisBackend",
        "TensorboardVisBackend",
        "WandbVisBackend",
        "MLflowVisBackend",
    ]
    hooks = {hook.type for hook in cfg.custom_hooks}
    assert {"milan_mm.SpeedHook", "milan_mm.GradientNormHook", "milan_mm.TrackerHook"} <= hooks
    assert ("milan_mm.PicturesHook" in hooks) == (task == "pretrain")
    assert not cfg.default_hooks.logger.log_metric_by_epoch  # one x-axis: iterations
    assert notes[0] == f"TensorBoard: tensorboard --logdir {tmp_path}" and len(notes) == 3
    before = Config(cfg.to_dict())
    add_trackers(cfg, Tracking(**ALL))  # of a config that an earlier run has dumped
    assert cfg.to_dict() == before.to_dict()


def test_a_config_that_a_run_saved_has_its_curves_where_the_new_run_is(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path / "old"), model=dict(type="Any")))
    add_trackers(cfg, Tracking(tensorboard=True))
    cfg.work_dir = str(tmp_path / "new")
    add_trackers(cfg, Tracking())
    assert cfg.visualizer.vis_backends[-1].save_dir == str(tmp_path / "new/tensorboard")


@pytest.mark.parametrize(
    ("asked", "uri", "experiment", "location"),
    [
        ("experiment", "sqlite:///{}/mlflow.db", "experiment", "file://{}/mlflow"),
        ("http://host:5000", "http://host:5000", "milan_mm", None),
        ("databricks://profile", "databricks://profile", "milan_mm", None),
    ],
)
def test_mlflow_takes_a_server_or_a_name(tmp_path, trackers, asked, uri, experiment, location):
    cfg = Config(dict(work_dir=str(tmp_path), model=dict(type="Any")))
    add_trackers(cfg, Tracking(mlflow=asked))
    settings = cfg.visualizer.vis_backends[-1]
    assert settings.tracking_uri == uri.format(tmp_path) and settings.exp_name == experiment
    assert settings.artifact_location == (location and location.format(tmp_path))


def test_mlflow_takes_the_server_of_the_environment(tmp_path, trackers):
    os.environ["MLFLOW_TRACKING_URI"] = "http://host"
    cfg = Config(dict(work_dir=str(tmp_path), model=dict(type="Any")))
    add_trackers(cfg, Tracking(mlflow="name"))
    assert cfg.visualizer.vis_backends[-1].tracking_uri == "http://host"


@pytest.mark.parametrize("package", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_told_before_anything_else(package, tmp_path, monkeypatch):
    (tmp_path / package).mkdir()  # a folder that W&B, for one, makes is not the package
    monkeypatch.syspath_prepend(tmp_path)
    is_there = tracking.find_spec

    def find(name: str) -> object:
        return SimpleNamespace(origin=None) if name == package else is_there(name)

    monkeypatch.setattr(tracking, "find_spec", find)
    cfg = pretraining_config(tmp_path / "gone", tmp_path / "run")
    options = RunOptions(tracking=Tracking(**{package: ALL[package]}), data="gone")
    with pytest.raises(UserError, match=rf"pip install 'milan_mm\[{package}\]'"):
        prepare(cfg, options, TRAINING)


def test_a_backend_of_the_config_is_looked_for_too(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    backends = [dict(type="LocalVisBackend"), dict(type="WandbVisBackend")]
    cfg = Config(
        dict(work_dir="x", model={}, visualizer=dict(type="Visualizer", vis_backends=backends))
    )
    with pytest.raises(UserError, match=r"WandbVisBackend.*not installed"):
        add_trackers(cfg, Tracking())


def test_a_backend_that_became_text_names_the_options(tmp_path):
    """mmengine reads `vis_backends=[dict(type='X')]` on a command line as a list of text."""
    given = dict(type="Visualizer", vis_backends=["dict(type='TensorboardVisBackend')"])
    cfg = Config(dict(work_dir=str(tmp_path), model={}, visualizer=given))
    with pytest.raises(UserError, match=r"must hold dicts.*use --tensorboard, --wandb or --mlflow"):
        add_trackers(cfg, Tracking())


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("det", dict(pictures_interval=5), "--pictures-interval 5: the masks of a pretraining are"),
        ("cls", dict(knn_data="x"), "--knn-data x: .* trains ImageClassifier: leave it out"),
        ("pretrain", dict(knn_interval=5), "--knn-interval 5 applies to --knn-data DIR, which is"),
        ("pretrain", dict(knn_data="gone"), "data folder 'gone' does not exist: give --knn-data"),
        ("pretrain", dict(knn_data="flat"), "'flat' has no folder train or training"),
        ("pretrain", dict(knn_data="other"), "1 classes of other/val are not in other/train: 'pi"),
    ],
)
def test_what_does_not_fit_is_refused(task, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("flat").mkdir()
    image_folder(Path("other"))
    Path("other/val/red").rename("other/val/pink")
    cfg = load(RECIPES[task])
    cfg.work_dir = "run"
    with pytest.raises(UserError, match=message):
        add_trackers(cfg, Tracking(**options))
    assert not Path("run").exists()


def test_epochs_are_needed_for_knn(images):
    cfg = Config(dict(model=dict(type="M", mask_generator={}), train_cfg=dict(max_iters=5)))
    with pytest.raises(UserError, match="measures after epochs, and this run counts iterations"):
        add_trackers(cfg, Tracking(knn_data=str(images)))


def test_a_test_leaves_the_curves_of_the_training_alone(tmp_path, trackers):
    def backends(**options) -> list[str]:
        cfg = load(RECIPES["cls"])
        cfg.work_dir = str(tmp_path)
        add_trackers(cfg, Tracking(**ALL))
        step = next(step for step in TEST if step.__name__ == "track_nothing")
        step(cfg, RunOptions(**options))
        return [backend.type for backend in cfg.visualizer.vis_backends]

    assert backends() == ["LocalVisBackend"]
    chosen = ["visualizer.vis_backends.0.type=LocalVisBackend"]
    assert len(backends(cfg_options=chosen)) == 4
