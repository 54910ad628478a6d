"""The processes of a run: what their launcher says about them, and how they connect on CPUs."""

import gc
import os
import socket
import sys
import traceback
from datetime import timedelta

import torch
import torch.distributed as dist
from mmengine.config import Config

from milan_mm.errors import UserError

_WORLD_SIZE = {"pytorch": "WORLD_SIZE", "slurm": "SLURM_NTASKS", "mpi": "OMPI_COMM_WORLD_SIZE"}


def world_size(launcher: str) -> int:
    """Number of processes of the run, known from the launcher before they are connected.

    Raises:
        UserError: When the launcher did not start this process.
    """
    if launcher == "none":
        return 1
    variable = _WORLD_SIZE[launcher]
    if variable not in os.environ:
        raise UserError(
            f"--launcher {launcher} but {variable} is not set: start the run with "
            "tools/dist_train.sh or tools/slurm_train.sh"
        )
    return int(os.environ[variable])


def is_main_process() -> bool:
    """Whether this process speaks for the run, known before the processes are connected."""
    ranks = (os.environ.get(name) for name in ("RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"))
    return int(next(filter(None, ranks), 0)) == 0


def is_first_of_launcher() -> bool:
    """Whether this process is the first that its launcher watches; torchrun has one per machine."""
    if "RANK" in os.environ:
        return int(os.environ.get("LOCAL_RANK", 0)) == 0
    return is_main_process()


def connect_processes(cfg: Config) -> None:
    """Connect CPU processes; with GPUs this is left to mmengine, which needs a device for it."""
    if dist.is_initialized():  # by a program that calls this package
        return
    if cfg.launcher not in ("pytorch", "slurm") or torch.cuda.is_available():
        return
    timeout = timedelta(seconds=cfg.env_cfg.dist_cfg.timeout)
    if cfg.launcher == "pytorch":
        check_gloo()
        dist.init_process_group("gloo", timeout=timeout)
        return
    if missing := {"MASTER_ADDR", "MASTER_PORT"} - os.environ.keys():
        raise UserError(
            f"--launcher slurm without {' and '.join(sorted(missing))}: submit the run by sbatch "
            "tools/slurm_train.sh CONFIG, or set them"
        )
    rank, number = (int(os.environ[name]) for name in ("SLURM_PROCID", "SLURM_NTASKS"))
    dist.init_process_group("gloo", timeout=timeout, rank=rank, world_size=number)


def leave_processes() -> None:
    """Leave the other processes; what trained should be out of scope, or in an error's traceback.

    It waits for the threads of gloo, which end when their group is freed. One of them that still
    has a tensor of the last exchange would abort a process whose interpreter is ending. FSDP's
    cycles of references keep the group until they are collected. In torch 2.12 caches of DTensor
    keep it for ever: there threads stay, which hold no tensor.
    """
    if not dist.is_initialized():
        return
    dist.destroy_process_group()
    error = sys.exc_info()[1]
    while error:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
    gc.collect()


def check_gloo() -> None:
    """Check that processes on several machines will not look for each other on their own.

    Raises:
        UserError: When the name of this machine leads to itself, which is where gloo then listens.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if int(os.environ.get("WORLD_SIZE", 1)) == local or "GLOO_SOCKET_IFNAME" in os.environ:
        return
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        address = "no address"
    if address.startswith("127.") or address == "no address":
        raise UserError(
            f"this machine's name '{name}' leads to {address}, where other machines do not reach "
            "it: set GLOO_SOCKET_IFNAME to the network interface that they share, as `ip address` "
            "names it"
        )
