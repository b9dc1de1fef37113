# SPDX-License-Identifier: MIT
"""The goals of the project, and what of them a run has reached.

This file knows names of cells and the goals; never how anything was measured.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.measure import Results

Value = float | None
Measure = Callable[[Results], Value]

OPERATIONS, PROCESSES, REQUESTS = "operations", "processes", "requests"
WIRE = ("GET_PRINCIPAL", "RETRIEVE", "GET_CRED_LIST", "GET_CRED_BY_UUID", "STORE", "INITIALIZE")
WHOLE = ("klist", "kvno", "kinit -k", "handshake")


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure and its limit: at most that, or at least that."""

    what: str
    limit: float
    unit: str
    at_least: bool
    measure: Measure

    def reached(self, value: float) -> bool:
        """Whether a value, as it is shown, keeps the limit."""
        shown = float(f"{value:.3g}")
        return shown >= self.limit if self.at_least else shown <= self.limit


def slower(part: str, work: str, size: int, than: str = "file", peer: str = "ccfs") -> Measure:
    """How many times the time of another peer ccfs takes."""

    def measure(results: Results) -> Value:
        ours, theirs = (results.median(part, work, size, one) for one in (peer, than))
        return ours / theirs if ours and theirs else None

    return measure


def faster(part: str, work: str, size: int, than: str, peer: str = "ccfs") -> Measure:
    """How many times the time of ccfs another peer takes."""

    def measure(results: Results) -> Value:
        ratio = slower(part, work, size, than, peer)(results)
        return 1 / ratio if ratio else None

    return measure


def median(part: str, work: str, size: int, factor: float = 1.0, peer: str = "ccfs") -> Measure:
    """A median of ccfs."""

    def measure(results: Results) -> Value:
        value = results.median(part, work, size, peer)
        return None if value is None else value * factor

    return measure


def steepest(work: str) -> Measure:
    """The slowest size against the fastest, from 10 credentials to 10,000."""

    def measure(results: Results) -> Value:
        sizes = (10, 100, 1000, 10000)
        found = [results.median("growth, credentials", work, size, "ccfs") for size in sizes]
        known = [value for value in found if value]
        return max(known) / min(known) if len(known) == len(sizes) else None

    return measure


def against_file() -> Iterator[Goal]:
    """Against FILE on tmpfs."""
    limits = {
        ("principal", 42): 3.0,
        ("iterate", 42): 1.25,
        ("retrieve", 42): 1.25,
        ("iterate", 500): 1.05,
        ("retrieve", 500): 1.05,
        ("initialize", 42): 8.0,
        ("store", 42): 8.0,
    }
    for (work, size), limit in limits.items():
        what = f"{work}, {size} credentials, against FILE on tmpfs"
        yield Goal(what, limit, "x", False, slower(OPERATIONS, work, size))
    for work in WHOLE:
        what = f"{work}, whole process, against FILE on tmpfs"
        yield Goal(what, 1.05, "x", False, slower(PROCESSES, work, 0))


def against_daemons() -> Iterator[Goal]:
    """Against sssd-kcm, and Heimdal's daemon."""
    limits = {
        ("principal", 42): 20.0,
        ("iterate", 42): 10.0,
        ("retrieve", 42): 10.0,
        ("iterate", 500): 1.0,
        ("retrieve", 500): 1.0,
        ("initialize", 42): 15.0,
        ("store", 42): 20.0,
    }
    for (work, size), limit in limits.items():
        what = f"{work}, {size} credentials, faster than sssd-kcm"
        yield Goal(what, limit, "x", True, faster(OPERATIONS, work, size, "sssd"))
    for work in WHOLE:
        what = f"{work}, whole process, faster than sssd-kcm"
        yield Goal(what, 3.0, "x", True, faster(PROCESSES, work, 0, "sssd"))
    for work in ("principal", "iterate"):
        what = f"{work}, 42 credentials, faster than Heimdal's kcm"
        yield Goal(what, 1.0, "x", True, faster(OPERATIONS, work, 42, "heimdal"))
    for work in WHOLE:
        what = f"{work}, whole process, faster than Heimdal's kcm"
        yield Goal(what, 1.0, "x", True, faster(PROCESSES, work, 0, "heimdal"))


def on_a_connection() -> Iterator[Goal]:
    """KCM's requests, against the daemon that keeps what it is told and one that does not."""
    without = {"sssd": ("RETRIEVE",)}  # it has no such request
    for than, name in (("sssd", "sssd-kcm"), ("plain-kcm", "plain Python")):
        for work in (work for work in WIRE if work not in without.get(than, ())):
            what = f"{work}, 42 credentials, faster than {name} on an open connection"
            yield Goal(what, 1.0, "x", True, faster("KCM requests", work, 42, than, "ccfs-kcm"))


def requests() -> Iterator[Goal]:
    """Requests that a client waits for."""
    limits = {"principal": (1, 2), "iterate": (1, 2), "store": (4, 5), "initialize": (6, 8)}
    for work, (direct, default) in limits.items():
        for peer, limit, way in (
            ("ccfs", direct, "caches/NAME"),
            ("ccfs-default", default, "default"),
        ):
            measure = median(REQUESTS, work, 42, peer=peer)
            yield Goal(f"requests waited for: {work}, through {way}", limit, "", False, measure)


def others() -> Iterator[Goal]:
    """All that is no ratio."""
    for work in ("store", "principal"):
        what = f"{work}, 10 to 10,000 credentials: slowest against fastest"
        yield Goal(what, 1.2, "x", False, steepest(work))
    around = "looking around"
    for state, limit in (("cold", 60.0), ("warm", 20.0)):
        measure = median(around, f"ls -l of ccaches, {state}", 1000, 1e3)
        yield Goal(f"ls -l of 1,000 ccaches, {state}", limit, "ms", False, measure)
    yield Goal("idle", 0.05, "%", False, median("idle processor time", "per cent", 0))
    mount = median("start", "ccfs mount", 0, 1e3)
    yield Goal("start to mounted (`ccfs mount` returns)", 150.0, "ms", False, mount)
    crowd = median("many at once", "eight clients: open and close, requests", 42)
    yield Goal("requests from eight clients", 30_000, "/s", True, crowd)


def goals() -> list[Goal]:
    """All goals, in the order of the table."""
    return [*against_file(), *against_daemons(), *on_a_connection(), *requests(), *others()]
