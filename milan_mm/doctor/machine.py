"""Checks of the machine: processors, memory that processes share, open files, ports."""

import resource
import shutil
import socket
from pathlib import Path

from milan_mm.doctor.fault import Concern, Fault, count

SHARED_MEMORY = Path("/dev/shm")
MIN_SHARED_GIB = 2  # 8 workers with 2 batches of 16 crops at 1024 px each, ahead of a detector
MIN_OPEN_FILES = 4096  # torch holds one for each tensor that a worker hands over
PORT = 29500  # of tools/dist_train.sh


def check_device() -> str:
    """Report what training would run on; the demo needs no GPU."""
    import torch

    if not torch.cuda.is_available():
        return f"no CUDA device: CPU with {count(torch.get_num_threads(), 'thread')}"
    name, number = torch.cuda.get_device_name(), torch.cuda.device_count()
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: use fp16"
    return f"{number} x {name}, {memory:.0f} GiB, CUDA {torch.version.cuda}, {bf16}"


def check_shared_memory() -> str:
    """Look at the memory in which data-loading workers hand over images."""
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free / 2**30
    except OSError as error:
        raise Fault(
            f"{SHARED_MEMORY}: {error.strerror}: workers cannot hand over images",
            "mount -t tmpfs tmpfs /dev/shm, or pass --cfg-options train_dataloader.num_workers=0",
        ) from None
    if free < MIN_SHARED_GIB:
        raise Concern(
            f"{SHARED_MEMORY} has {free:.2f} GiB free, wanted {MIN_SHARED_GIB} GiB",
            "docker run --shm-size=8g (or --ipc=host), or fewer workers: "
            "--cfg-options train_dataloader.num_workers=N",
        )
    return f"{SHARED_MEMORY} has {free:.1f} GiB free (wanted {MIN_SHARED_GIB})"


def check_open_files() -> str:
    """Look at how many files a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MIN_OPEN_FILES:
        most = MIN_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MIN_OPEN_FILES)
        remedy = f"ulimit -n {most}" if most > soft else "ask for a higher limit (limits.conf)"
        raise Concern(f"{soft} open files per process, wanted {MIN_OPEN_FILES}", remedy)
    return f"{'any number' if soft == resource.RLIM_INFINITY else soft} per process"


def check_ports() -> str:
    """Check that processes on this machine can meet, and that others could find it."""
    with socket.socket() as listener, socket.socket() as caller:
        try:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            caller.settimeout(5)
            caller.connect(listener.getsockname())
        except OSError as error:
            raise Fault(
                f"no connection from this machine to itself: {error.strerror or error}",
                "bring its loopback interface up: ip link set lo up",
            ) from None
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", PORT))
            state = "free"
        except OSError:
            state = "taken"
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        address = "no address"
    alone = address == "no address" or address.startswith("127.")
    beyond = f"; {name} leads to {address}" + (
        ": on several machines without GPUs set GLOO_SOCKET_IFNAME" if alone else ""
    )
    if state == "taken":
        raise Concern(
            f"port {PORT} is taken{beyond}", "PORT=29501 bash tools/dist_train.sh ..., or any other"
        )
    return f"{PORT} is free{beyond}"
