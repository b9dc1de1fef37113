# SPDX-License-Identifier: MIT
"""Many at once: eight clients that ask, and a reader beside a process that stores all the time.

Each client is a process of its own.  Rates are sums over all of them, latencies are of single
operations as each client sees them.
"""

import contextlib
import json
import mmap
import os
import time
from collections.abc import Callable, Iterator
from statistics import median

from bench.measure import Bench, Case, Cell, percentile
from bench.work.client import Client
from bench.work.operations import Sample, Servers, once
from bench.work.requests import Counters

PART = "many at once"
CLIENTS = 8
CREDENTIALS = 42
STORES_A_SECOND = 100
PATIENCE = 20.0


def run(bench: Bench, servers: Servers, seconds: float) -> None:
    """All works, each for some seconds in a turn."""
    found: list[Case] = []
    for peer, server in servers.items():
        client = Client(server)
        found.append(crowd_case(peer, client, "principal", seconds))
        found.append(crowd_case(peer, client, "store", seconds))
        if peer in ("ccfs", "plain-fuse"):
            found.append(crowd_case(peer, client, "open and close", seconds))
        cell = Cell(PART, "iterate beside stores", CREDENTIALS, peer)
        found.append(Case(cell, server, reader(client, 2 * seconds)))
    bench.run(found, PART)


def crowd_case(peer: str, client: Client, work: str, seconds: float) -> Case:
    """Eight clients at one work."""
    cell = Cell(PART, f"eight clients: {work}", CREDENTIALS, peer)
    return Case(cell, client.server, crowd(client, work, seconds))


def crowd(client: Client, work: str, seconds: float) -> Sample:
    """The 99th percentile in seconds, operations a second, and requests a second."""

    def sample() -> dict[str, float]:
        server = client.server
        name = f"crowd-{work.partition(' ')[0]}"
        client.fill(name, CREDENTIALS)
        operation = chosen(client, work, name)
        operation()
        took: list[float] = []

        def work_together() -> None:
            took.extend(together(operation, seconds))

        requests = 0
        if server.stats is None:
            work_together()
        else:
            requests = sum(Counters(server.stats).during(work_together).values())
        found = {"": percentile(took, 0.99), "median": median(took), "rate": len(took) / seconds}
        return found | ({"requests": requests / seconds} if requests else {})

    return sample


def chosen(client: Client, work: str, name: str) -> Callable[[], object]:
    """What each client of a crowd does over and over."""
    if work != "open and close":
        return client.operation(work, name, CREDENTIALS)
    assert client.server.file is not None
    path = client.server.file(name)
    return lambda: os.close(os.open(path, os.O_RDONLY))


def together(operation: Callable[[], object], seconds: float) -> list[float]:
    """Have CLIENTS processes do it until the time is up; the seconds of every operation."""
    with contextlib.ExitStack() as stack:
        gate = stack.enter_context(contextlib.closing(mmap.mmap(-1, mmap.PAGESIZE)))
        pipes = [
            stack.enter_context(forked(lambda: repeated(operation, gate, seconds)))
            for _ in range(CLIENTS)
        ]
        gate[0] = 1
        return [one for pipe in pipes for one in result(pipe)]


def repeated(operation: Callable[[], object], gate: mmap.mmap, seconds: float) -> list[float]:
    """What one client does, from when the gate opens."""
    while not gate[0]:
        time.sleep(0.0005)
    deadline, took = time.perf_counter() + seconds, list[float]()
    while time.perf_counter() < deadline:
        took.append(once(operation))
    return took


def reader(client: Client, seconds: float) -> Sample:
    """Iterations by one process while another one stores, and before it does."""

    def sample() -> dict[str, float]:
        name = "beside"
        client.fill(name, CREDENTIALS)
        iterate = client.operation("iterate", name, CREDENTIALS)
        store = client.operation("store", name, CREDENTIALS)
        iterate()
        quiet = during(iterate, seconds / 4)
        with forked(lambda: [float(steadily(store, seconds))]) as pipe:
            beside = during(iterate, seconds)
            stored = result(pipe)[0]
        return {
            "": percentile(beside, 0.99),
            "median": median(beside),
            "median without": median(quiet),
            "stored": stored / seconds,
        }

    return sample


def during(operation: Callable[[], object], seconds: float) -> list[float]:
    """The seconds of each operation that is begun in this time."""
    deadline, took = time.perf_counter() + seconds, list[float]()
    while time.perf_counter() < deadline or not took:
        took.append(once(operation))
    return took


def steadily(operation: Callable[[], object], seconds: float) -> int:
    """Do it STORES_A_SECOND times a second, or as often as it gets done."""
    began, done = time.perf_counter(), 0
    while (now := time.perf_counter() - began) < seconds:
        if now * STORES_A_SECOND < done:
            time.sleep(done / STORES_A_SECOND - now)
        operation()
        done += 1
    return done


@contextlib.contextmanager
def forked(work: Callable[[], list[float]]) -> Iterator[int]:
    """A process that does the work; a pipe with what it returns, or why it could not."""
    pipe, report = os.pipe()
    pid = os.fork()
    if pid == 0:
        said: object = "it died"
        try:
            said = work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"[:200]
        finally:
            with os.fdopen(report, "w") as file:
                json.dump(said, file)
            os._exit(0)
    os.close(report)
    try:
        yield pipe
    finally:
        os.close(pipe)
        ended(pid)


def ended(pid: int) -> None:
    """Wait for a process, with a bound."""
    deadline = time.monotonic() + PATIENCE
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            return
        time.sleep(0.001)


def result(pipe: int) -> list[float]:
    """Read the result from a pipe of `forked`; raises ClientError where a client failed."""
    with open(pipe, closefd=False) as file:
        said = json.load(file)
    if isinstance(said, str):
        raise ClientError(said)
    return list(said)


class ClientError(Exception):
    """A client of a crowd could not do its work."""
