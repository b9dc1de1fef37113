# SPDX-License-Identifier: MIT
"""How the operations grow with the credentials of a ccache, and with the ccaches of a user."""

from collections.abc import Iterator, Sequence

from bench.measure import Bench, Case, Cell, reason
from bench.peers.base import Server
from bench.work.client import Client, TooSlowError
from bench.work.operations import Sample, Servers, Storing, timed

CREDENTIALS, CCACHES = "growth, credentials", "growth, ccaches"
OF_CREDENTIALS = ("principal", "iterate", "retrieve", "store")
OF_CCACHES = ("principal", "store")


def credentials(bench: Bench, servers: Servers, sizes: Sequence[int]) -> None:
    """Operations on a ccache of so many credentials."""
    found = [
        case for peer, server in servers.items() for case in _of_peer(bench, peer, server, sizes)
    ]
    bench.run(found, CREDENTIALS)


def _of_peer(bench: Bench, peer: str, server: Server, sizes: Sequence[int]) -> Iterator[Case]:
    client = Client(server)
    for size in sizes:
        bench.say(f"{CREDENTIALS}: filling {peer} with {size}", over=True)
        name = f"growth-{size}"
        try:
            with bench.guard.watching(90, server.pids, server.connection):
                client.fill(name, size)
        except Exception as error:
            _failed(bench, CREDENTIALS, OF_CREDENTIALS, sizes[sizes.index(size) :], peer, error)
            return
        for work in OF_CREDENTIALS:
            cell = Cell(CREDENTIALS, work, size, peer)
            yield Case(cell, server, sampler(client, work, name, size))


def ccaches(bench: Bench, servers: Servers, counts: Sequence[int]) -> None:
    """Operations on one of so many ccaches, each with one credential."""
    left = {peer: Client(server) for peer, server in servers.items()}
    there = 0
    for count in counts:
        for peer, client in [*left.items()]:
            bench.say(f"{CCACHES}: filling {peer} up to {count}", over=True)
            try:
                with bench.guard.watching(90, client.server.pids, client.server.connection):
                    for number in range(there, count):
                        client.fill(f"many-{number}", 1)
            except Exception as error:
                many = counts[counts.index(count) :]
                _failed(bench, CCACHES, OF_CCACHES, many, peer, error, number)
                del left[peer]
        there = count
        bench.run(
            [
                Case(
                    Cell(CCACHES, work, count, peer),
                    client.server,
                    sampler(client, work, f"many-{count // 2}", 1),
                )
                for peer, client in left.items()
                for work in OF_CCACHES
            ],
            f"{CCACHES}, {count}",
        )


def _failed(
    bench: Bench,
    part: str,
    works: Sequence[str],
    sizes: Sequence[int],
    peer: str,
    error: Exception,
    number: int | None = None,
) -> None:
    """Note that a peer doesn't get as far as this."""
    why = str(error) if isinstance(error, TooSlowError) else reason(error)
    where = "" if number is None else f" at ccache {number + 1}"
    for work in works:
        for size in sizes:
            bench.results.failures[Cell(part, work, size, peer)] = why + where


def sampler(client: Client, work: str, name: str, size: int) -> Sample:
    """How a sample is taken."""
    if work == "store":
        return Storing(client, size, name, filled=True)
    operation = client.operation(work, name, size)

    def sample() -> dict[str, float]:
        client.server.choose(name)
        return timed(operation)

    return sample
