# SPDX-License-Identifier: MIT
"""What a server costs: processor time, memory, and the time until it serves.

Processor time is what the kernel's scheduler counted for a server and its children; memory is the
proportional set size (shared pages count in part).
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.measure import Bench, Case, Cell, reason
from bench.peers import BY_KEY
from bench.peers.base import Server, Workspace
from bench.peers.ccfs import command
from bench.scale import Scale
from bench.work.client import Client, TooSlowError
from bench.work.operations import Sample, Servers
from bench.work.requests import Counters

CPU, CPU_REQUEST = "processor time an operation", "processor time a request"
IDLE, MEMORY, START = "idle processor time", "memory", "start"
WORKS = ("principal", "iterate", "store", "initialize")
CREDENTIALS, TIMES = 42, 40
EACH = 40
"""Credentials of each ccache where memory is looked at."""


SAME = ("ccfs-default", "ccfs-dir", "ccfs-kcm")
"""Other doors of the same server, whose memory and start are looked at once."""
FILL_SECONDS = 20.0


def processes(pids: list[int]) -> list[int]:
    """These processes and all below them."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            stat = Path(f"/proc/{int(entry)}/stat").read_bytes()
            parents[int(entry)] = int(stat.rpartition(b")")[2].split()[1])
    found = {*pids}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def used(pids: list[int]) -> float:
    """The seconds of processor time that processes have had."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def resident(pids: list[int]) -> float:
    """The proportional set size of processes, in MiB."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def run(bench: Bench, servers: Servers, size: Scale) -> None:
    """Idle first, while nothing has happened yet; then at work; then full."""
    serving = {peer: server for peer, server in servers.items() if server.pids}
    time.sleep(size.settle_seconds)
    idle(bench, serving, size.idle_seconds)
    found = []
    for peer, server in serving.items():
        for work in WORKS:
            case = Case(Cell(CPU, work, CREDENTIALS, peer), server, costs(server, work))
            found.append(case)
    bench.run(found, CPU)
    for peer, server in serving.items():
        if peer not in SAME:
            bench.say(f"{MEMORY}: filling {peer}", over=True)
            full(bench, peer, server, size.full)
    bench.say(f"{MEMORY}: done")


def idle(bench: Bench, servers: Mapping[str, Server], seconds: float) -> None:
    """Measure an idle server: share of a processor in per cent, and memory."""
    below = {peer: processes(server.pids) for peer, server in servers.items()}
    before = {peer: used(pids) for peer, pids in below.items()}
    time.sleep(seconds)
    for peer, pids in below.items():
        share = (used(pids) - before[peer]) / seconds * 100
        bench.results.add(Cell(IDLE, "per cent", 0, peer), share)
        bench.results.add(Cell(MEMORY, "empty", 0, peer), resident(pids))
    bench.say(f"{IDLE}: done")


def costs(server: Server, work: str) -> Sample:
    """Seconds of the server's processor time for one operation, and for one of its requests."""
    client, name = Client(server), f"cost-{work}"
    operation = client.operation(work, name, CREDENTIALS)

    def sample() -> dict[str, float]:
        client.fill(name, CREDENTIALS)
        operation()
        pids = processes(server.pids)
        if server.stats is None:
            return {"": during(pids, lambda: [operation() for _ in range(TIMES)]) / TIMES}
        took = 0.0

        def work() -> None:
            nonlocal took
            took = during(pids, lambda: [operation() for _ in range(TIMES)])

        requests = sum(Counters(server.stats).during(work).values())
        return {"": took / TIMES, "a request": took / max(1, requests)}

    return sample


def during(pids: list[int], work: Callable[[], object]) -> float:
    """The processor time of processes while something is done."""
    before = used(pids)
    work()
    return used(pids) - before


def full(bench: Bench, peer: str, server: Server, ccaches: int) -> None:
    """Memory with so many ccaches of EACH credentials, or with as many as there can be."""
    client, made = Client(server), 0
    began = time.perf_counter()
    try:
        with bench.guard.watching(90, server.pids, server.connection):
            for made in range(ccaches):
                client.fill(f"full-{made}", EACH)
                if time.perf_counter() - began > FILL_SECONDS:
                    raise TooSlowError(f"{made + 1} ccaches after {FILL_SECONDS:.0f} s")
        made = ccaches
    except Exception as error:
        why = str(error) if isinstance(error, TooSlowError) else reason(error)
        bench.results.failures[Cell(MEMORY, "full", ccaches, peer)] = why
    if made:
        with contextlib.suppress(OSError):
            used_now = resident(processes(server.pids))
            bench.results.add(Cell(MEMORY, "full", made, peer), used_now)
            took = time.perf_counter() - began
            bench.results.add(Cell(MEMORY, "full, seconds to fill", made, peer), took)


def starts(bench: Bench, peers: list[str], workspace: Workspace) -> None:
    """The seconds until a server answers, and until `ccfs mount` has mounted and returns."""
    unused = Server(config=Path("/dev/null"), residual=str)
    found = [
        Case(Cell(START, "until it answers", 0, peer), unused, starting(peer, workspace))
        for peer in peers
        if peer not in ("ccfs-default", "ccfs-dir")
    ]
    if "ccfs" in peers:
        found.append(Case(Cell(START, "ccfs mount", 0, "ccfs"), unused, mounting(workspace)))
    bench.run(found, START)


def starting(peer: str, workspace: Workspace) -> Sample:
    """How the start of a server is timed."""
    number = 0

    def sample() -> dict[str, float]:
        nonlocal number
        number += 1
        with BY_KEY[peer].start(workspace.below(f"{peer}-start-{number}")) as server:
            return {"": server.started}

    return sample


def mounting(workspace: Workspace) -> Sample:
    """How the command that users type is timed."""
    root, journal = workspace.directory / "mount", workspace.directory / "mount.journal"

    def sample() -> dict[str, float]:
        began = time.perf_counter()
        call("mount", "--journal", str(journal), str(root))
        took = time.perf_counter() - began
        call("unmount", str(root))
        return {"": took}

    return sample


def call(*arguments: str) -> None:
    """Run `ccfs` to its end."""
    subprocess.run(command(*arguments), check=True, capture_output=True, timeout=30)
