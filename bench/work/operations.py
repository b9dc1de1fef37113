# SPDX-License-Identifier: MIT
"""The operations of libkrb5 in one process, at a few sizes.

A sample is one operation between others of the same kind: some are made before it, so that what
the machine, the kernel and the server keep is warm.  The first of them, after the other peers had
their turn, is kept as a sample of its own.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from bench.measure import Bench, Case, Cell, reason
from bench.peers.base import Server
from bench.work.client import OPERATIONS, Client

PART = "operations"
SIZES = (1, 42, 500)
AT_A_TIME = 5
LONG = 0.004
"""Seconds after which a sample gets no more operations."""

Servers = dict[str, Server]
Sample = Callable[[], dict[str, float]]


def run(bench: Bench, servers: Servers, sizes: Sequence[int], works: Sequence[str]) -> None:
    """All operations at all sizes, in one order of chance."""
    bench.run(cases(bench, servers, sizes, works), PART)


def cases(
    bench: Bench, servers: Servers, sizes: Sequence[int], works: Sequence[str]
) -> Iterator[Case]:
    """Every operation at every size on every peer; what can't be made is a failure."""
    for peer, server in servers.items():
        client = Client(server)
        for size in sizes:
            for work in (work for work in OPERATIONS if work in works):
                cell = Cell(PART, work, size, peer)
                try:
                    with bench.guard.watching(60, server.pids, server.connection):
                        case = Case(cell, server, sampler(client, work, size))
                except Exception as error:
                    bench.results.failures[cell] = reason(error)
                else:
                    yield case


def sampler(client: Client, work: str, size: int) -> Sample:
    """How a sample of an operation is taken."""
    if work == "store":
        return Storing(client, size)
    name = f"initialize-{size}" if work == "initialize" else f"read-{size}"
    client.filled(name, size)
    operation = client.operation(work, name, size)
    settled = client.operation("principal", name, size)

    def sample() -> dict[str, float]:
        client.server.choose(name)
        return timed(operation)

    def initialize() -> dict[str, float]:
        """Of a ccache with `size` credentials, when the server has nothing else to do any more."""
        client.fill(name, size)
        timed(settled)
        return {"": once(operation)}

    return initialize if work == "initialize" else sample


class Storing:
    """Stores into a ccache, which is made anew when it has grown by more than a quarter."""

    def __init__(self, client: Client, size: int, name: str = "", *, filled: bool = False) -> None:
        self.client, self.size, self.name = client, size, name or f"store-{size}"
        self.most = size + max(AT_A_TIME + 1, size // 4)
        self.operation = client.operation("store", self.name, size)
        self.there = size
        if not filled:
            self._renew()

    def _renew(self) -> None:
        self.client.fill(self.name, self.size)
        self.there = self.size

    def __call__(self) -> dict[str, float]:
        if self.there + AT_A_TIME + 1 > self.most:
            self._renew()
        self.client.server.choose(self.name)
        self.there += AT_A_TIME + 1
        return timed(self.operation)


def once(operation: Callable[[], object]) -> float:
    """The seconds of one operation."""
    began = time.perf_counter()
    operation()
    return time.perf_counter() - began


def timed(operation: Callable[[], object]) -> dict[str, float]:
    """The seconds of one operation among a few, and of the first of them."""
    first, rest, left = once(operation), list[float](), LONG
    while len(rest) < AT_A_TIME and (left > 0 or not rest):
        rest.append(once(operation))
        left -= rest[-1]
    return {"": median(rest), "first": first}
