# SPDX-License-Identifier: MIT
"""How many requests an operation makes, by the counters of the mount itself.

`waited` leaves out what the kernel sends without letting the client wait for an answer.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.measure import Bench, Cell, named, reason
from bench.work.client import Client
from bench.work.operations import Servers, Storing

PART = "requests"
UNAWAITED = ("release", "releasedir", "forget")
TIMES = 20


class Counters:
    """The counters of a mount; what counting itself costs is known and left out."""

    def __init__(self, stats: Path) -> None:
        self._stats = stats
        self._read()
        first, second = self._read(), self._read()
        self._own = {name: second[name] - first[name] for name in second}

    def _read(self) -> dict[str, int]:
        found: dict[str, int] = json.loads(self._stats.read_bytes())["requests"]
        return found

    def during(self, work: Callable[[], object]) -> dict[str, int]:
        """The requests that `work` makes; those of counting are left out."""
        before = self._read()
        work()
        after = self._read()
        return {
            name: made
            for name in after
            if (made := after[name] - before[name] - self._own.get(name, 0))
        }


def run(bench: Bench, servers: Servers, sizes: Sequence[int], works: Sequence[str]) -> None:
    """Count for each mount that has counters."""
    for peer, server in servers.items():
        if server.stats is None:
            continue
        client = Client(server)
        for size in sizes:
            for work in works:
                cell = Cell(PART, work, size, peer)
                try:
                    with bench.guard.watching(60, server.pids, server.connection):
                        count(bench, cell, client, server.stats)
                except Exception as error:
                    bench.results.failures[cell] = reason(error)
    bench.say(f"{PART}: done")


def count(bench: Bench, cell: Cell, client: Client, stats: Path) -> None:
    """The requests of a warm operation that a client waits for; the mean of each kind of request.

    One append in seven crosses a page and is two writes: the mean sees them, the median does not.
    """
    if cell.work == "store":
        storing = Storing(client, cell.size)
        operation, name = storing.operation, storing.name
    else:
        name = f"count-{cell.size}"
        client.fill(name, cell.size)
        operation = client.operation(cell.work, name, cell.size)
    client.server.choose(name)
    for _ in range(2):
        operation()
    counters = Counters(stats)
    each = [counters.during(operation) for _ in range(TIMES)]
    for kind in sorted({kind for made in each for kind in made}):
        total = sum(made.get(kind, 0) for made in each)
        bench.results.add(named(cell, kind), total / TIMES)
    for made in each:
        waited = sum(number for kind, number in made.items() if kind not in UNAWAITED)
        bench.results.add(cell, waited)
