"""Two launchers as one job: their ends, and their meetings on two machines.

    python -m benchmarks.reliability.launchers ends [--launches 20] [--backend static]
    python -m benchmarks.reliability.launchers machines      # as root: network namespaces

`ends`: launches of two launchers on this host that exit with 0 and print nothing.
`machines`: two namespaces joined by a virtual cable, as two machines: they train as one job with
GLOO_SOCKET_IFNAME; without it, at a wrong address, behind a firewall and with other numbers of
machines they say so in one line.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.reliability.trials import TOOLS, Trial, training

NOTHING = "import time; time.sleep(0.2)"
HOSTS = ("milan-a", "milan-b")
ADDRESSES = ("10.213.0.1", "10.213.0.2")
SECONDS = 8  # RDZV_TIMEOUT of those that cannot meet


def ends(launches: int, backend: str) -> None:
    """Count launches whose agents both end cleanly."""
    clean = 0
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "nothing.py")
        script.write_text(NOTHING)
        for number in range(launches):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            trials = []
            for rank in range(2):
                where = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", backend]
                if backend == "static":
                    where += ["--node-rank", str(rank), "--master-addr", "127.0.0.1"]
                    where += ["--master-port", str(port)]
                else:
                    where += ["--rdzv-id", "x", "--rdzv-endpoint", f"127.0.0.1:{port}"]
                command = [sys.executable, str(TOOLS / "_torchrun.py"), *where, str(script)]
                trials.append(Trial(Path(folder), command))
            codes = [process.wait(120) for process in [trial.start() for trial in trials]]
            said = "".join(trial.output for trial in trials)
            clean += codes == [0, 0] and not said
            if codes != [0, 0] or said:
                print(f"launch {number}: exit codes {codes}, {said[:200]}", flush=True)
    print(f"{clean} of {launches} launches of two agents ({backend}) ended cleanly")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def machines() -> Iterator[None]:
    """Two network namespaces with names and addresses, joined by a cable."""
    for host in HOSTS:
        subprocess.run(["ip", "netns", "del", host], stderr=subprocess.DEVNULL)
    try:
        for host in HOSTS:
            _ip("netns", "add", host)
        _ip("link", "add", "milan0", "netns", HOSTS[0], "type", "veth")
        _ip("-n", HOSTS[0], "link", "set", "veth0", "netns", HOSTS[1], "name", "milan0")
        for host, address in zip(HOSTS, ADDRESSES, strict=True):
            _ip("-n", host, "address", "add", f"{address}/24", "dev", "milan0")
            _ip("-n", host, "link", "set", "lo", "up")
            _ip("-n", host, "link", "set", "milan0", "up")
        yield
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", host], stderr=subprocess.DEVNULL)


def _pair(folder: Path, options: Sequence[str] = (), **environment: str) -> list[Trial]:
    """A launcher on each machine; `NODES` is what the second one is told."""
    found = []
    told = ("2", environment.pop("NODES", "2"))
    for rank, host in enumerate(HOSTS):
        settings = dict(
            NNODES=told[rank], NODE_RANK=str(rank), MASTER_ADDR=ADDRESSES[0], PORT="29500"
        )
        trial = training(folder, 2, "--work-dir", "run", *options, **(settings | environment))
        words = ["1" if word == "2" else word for word in trial.command]
        trial.command = ["ip", "netns", "exec", host, *words]
        found.append(trial)
    return found


def meet() -> None:
    """Try what works and what does not."""
    cable = dict(GLOO_SOCKET_IFNAME="milan0")
    short = dict(RDZV_TIMEOUT=str(SECONDS), **cable)
    wrong = "10.213.0.9"
    cases = [
        ("with GLOO_SOCKET_IFNAME", cable, (0, 0), ("", "")),
        (
            "a process killed, MAX_RESTARTS=1",
            dict(cable, MAX_RESTARTS="1", FAULT="kill@train@1"),
            (0, 0),
            ("", ""),
        ),
        ("without it", {}, (2, 2), ("set GLOO_SOCKET_IFNAME",) * 2),
        (
            "the second told another address",
            dict(short, MASTER_ADDR=wrong),
            (2, 2),
            ("set MASTER_ADDR to an address of this machine", f"{wrong}:29500 was not reached"),
        ),
        (
            "other numbers of machines",
            dict(short, NODES="3"),
            (2, 2),
            ("NNODES is 2 here and 3 on machine 1", "NNODES is 3 here and 2 on machine 0"),
        ),
        (
            "a firewall",
            short,
            (2, 2),
            ("machine 1 of 2 did not come to 10.213.0.1:29500", "10.213.0.1:29500 was not reached"),
        ),
    ]
    good = 0
    with machines():
        for name, environment, codes, texts in cases:
            if name == "a firewall":  # nothing comes through: a route that drops what it gets
                _ip("-n", HOSTS[1], "route", "add", "blackhole", f"{ADDRESSES[0]}/32")
            with tempfile.TemporaryDirectory() as folder:
                trials = _pair(Path(folder), **environment)
                running = [trial.start() for trial in trials]
                found = tuple(process.wait(300) for process in running)
                fits = found == codes and all(
                    text in trial.last_line for text, trial in zip(texts, trials, strict=True)
                )
                good += fits
                lines = [trial.last_line or "nothing to say" for trial in trials]
                print(f"{name}: exit codes {found}, {'as promised' if fits else 'WRONG'}")
                print(
                    *(f"    {host}: {line}" for host, line in zip(HOSTS, lines, strict=True)),
                    sep="\n",
                )
                sys.stdout.flush()
    print(f"{good} of {len(cases)} meetings of two machines went as promised")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["ends", "machines"])
    parser.add_argument("--launches", type=int, default=20)
    parser.add_argument("--backend", choices=["static", "c10d"], default="static")
    args = parser.parse_args()
    if args.what == "ends":
        return ends(args.launches, args.backend)
    if os.geteuid():
        sys.exit("network namespaces need root")
    return meet()


if __name__ == "__main__":
    main()
