"""What all tests share: a fixed seed, one thread, recipes read once, and the checkout's place."""

import copy
import functools
import gc
import multiprocessing.util
import os
import random
from collections.abc import Iterator
from pathlib import Path

import cv2
import mmengine.fileio
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.utils.data._utils
from mmengine.config import Config
from mmengine.utils import get_git_hash
from mmengine.utils.dl_utils import collect_env

from milan_mm.configs import shipped_folder
from tests.helpers import forget_runs

# `make test` runs one process per core. Threads that wait for each other on shared cores make tiny
# tensors 50 times slower. The environment is for the processes that tests start.
torch.set_num_threads(1)
cv2.setNumThreads(1)
os.environ.update(OMP_NUM_THREADS="1", TORCHINDUCTOR_COMPILE_THREADS="1")


def pytest_collection_finish() -> None:
    """Leave what was imported out of garbage collection.

    mmengine collects garbage whenever it builds a data set, which takes most of a second where
    the libraries' half a million objects are looked at again.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Every test starts from the same state of every generator, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (mmcv's and mmdet's transforms draw from the global state)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_run_before() -> None:
    """No test sees the scope, the iteration or the log files of another one's run."""
    forget_runs()


@pytest.fixture(scope="session", autouse=True)
def killed_processes_leave_nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What no one removes any more, torchrun's folders say, is in a folder that pytest removes.

    Of this process they stay where they are: torch's compiled headers are kept beside them.
    """
    multiprocessing.util.get_temp_dir()
    with pytest.MonkeyPatch.context() as patch:
        # a short name: sockets have paths of 107 bytes
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        yield


@pytest.fixture(scope="session", autouse=True)
def recipes_are_read_once() -> Iterator[None]:
    """Every later `Config.fromfile` of a shipped recipe gives a copy of the first one.

    For each base of mmdet or mmseg, mmengine parses the index of their whole model zoo: 0.2 to 0.7
    seconds a recipe, and hundreds of tests read one.
    """
    from_file = Config.fromfile
    shipped = functools.cache(from_file)
    folder = shipped_folder("configs").resolve()

    def read(path: str | Path, *args, **kwargs) -> Config:
        if args or kwargs or folder not in Path(path).resolve().parents:
            return from_file(path, *args, **kwargs)
        return copy.deepcopy(shipped(str(path)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, "fromfile", read)
        yield


@pytest.fixture(scope="session", autouse=True)
def runs_start_quickly() -> Iterator[None]:
    """A run in this process neither lays out its config with yapf nor looks for compilers again.

    The first takes 0.4 seconds for a large config. mmengine asks git for its own version with every
    checkpoint, which forks this large process.
    """
    describe = functools.cache(collect_env)
    version = functools.cache(get_git_hash)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmengine.runner.runner.get_git_hash", version)
        patch.setattr("mmengine.hooks.runtime_info_hook.get_git_hash", version)
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, True))
        patch.setattr("mmengine.runner.runner.collect_env", lambda: describe().copy())
        yield


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The checkout that the tests belong to."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """This process is the only one of a distributed run."""
    store = dist.FileStore(str(tmp_path_factory.mktemp("store") / "file"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="session", autouse=True)
def bases_are_found_once() -> Iterator[None]:
    """Nor are the bases of other configs looked up again, see above, nor an index parsed again."""
    find, parse = Config._get_cfg_path, functools.cache(mmengine.fileio.load)
    found: dict[str, tuple[str, str | None]] = {}

    def once(path: str, filename: str) -> tuple[str, str | None]:
        if "::" not in path:
            return find(path, filename)
        if path not in found:
            found[path] = find(path, filename)
        return found[path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, "_get_cfg_path", staticmethod(once))
        patch.setattr("mmengine.config.utils.load", parse)
        yield


@pytest.fixture(scope="session", autouse=True)
def workers_of_a_run_that_is_over_are_not_waited_for() -> Iterator[None]:
    """Loaders that garbage collection finds end their workers now, rather than in 5 seconds each.

    A runner is part of a cycle, so its queues are closed before its loaders say goodbye through
    them: no worker hears it, and torch ends it when it has waited this long.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
        yield


@pytest.fixture(scope="session", autouse=True)
def disks_are_not_waited_for() -> Iterator[None]:
    """What this process writes may stay in memory: no test cuts the power.

    A checkpoint is synced four times, 10 milliseconds each, and tiny runs save thousands.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: os.fstat(file) and None)
        yield
