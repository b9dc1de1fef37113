# SPDX-License-Identifier: MIT
"""How something is measured: in random order, many times, within bounds.

This file knows clocks and chance, never what is measured.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from bench.guard import Guard
from bench.peers.base import Server

SAMPLE_SECONDS = 60.0
"""Bound of one sample; a server that lets it pass is killed."""
FEWEST = 5
"""Repetitions of a case that is so slow that its time is up before all of them are made."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """What a number says: a part of the benchmark, the work, its size, and the peer."""

    part: str
    work: str
    size: int
    peer: str


@dataclass
class Results:
    """All samples of a run by cell, in the unit of their part; `failures` say why there are none.

    `cut` are the cells with fewer repetitions than wanted, because the time was up.
    """

    samples: dict[Cell, list[float]] = field(default_factory=dict)
    failures: dict[Cell, str] = field(default_factory=dict)
    cut: set[Cell] = field(default_factory=set)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, cell: Cell, value: float) -> None:
        """One sample more."""
        self.samples.setdefault(cell, []).append(value)

    def median(self, part: str, work: str, size: int, peer: str) -> float | None:
        """The median of a cell; None where it has no sample."""
        samples = self.samples.get(Cell(part, work, size, peer))
        return statistics.median(samples) if samples else None


@dataclass(frozen=True, slots=True)
class Spread:
    """What a cell's samples come to."""

    count: int
    low: float
    median: float
    high: float


def spread(samples: Sequence[float]) -> Spread:
    """Median and quartiles."""
    if len(samples) < 2:
        return Spread(len(samples), samples[0], samples[0], samples[0])
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(len(samples), low, median, high)


def percentile(samples: Sequence[float], share: float) -> float:
    """The value that this share of the samples doesn't exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass
class Case:
    """A cell and how to get a sample of it: `sample` returns {suffix of the work: value}.

    The suffix is "" for the work itself; other values measured on the way have a name.
    """

    cell: Cell
    server: Server
    sample: Callable[[], dict[str, float]]
    spent: float = 0.0
    made: int = 0


@dataclass
class Bench:
    """What a part of the benchmark gets: chance, bounds, and where the results go.

    `repetitions`: samples of each case.  `seconds`: what one case may take in all, from when on it
    gets no more than FEWEST samples.
    """

    results: Results
    guard: Guard
    repetitions: int
    seconds: float
    random: Random = field(default_factory=lambda: Random(1))

    def run(self, cases: Iterable[Case], what: str) -> None:
        """Take all samples of all cases in one random order after another."""
        waiting = [*cases]
        for turn in range(self.repetitions):
            self.say(f"{what}: {turn + 1} of {self.repetitions}", over=True)
            self.random.shuffle(waiting)
            waiting = [case for case in waiting if self._take(case)]
        self.say(f"{what}: done")

    def _take(self, case: Case) -> bool:
        """One sample; whether there should be more."""
        began = time.monotonic()
        try:
            with self.guard.watching(SAMPLE_SECONDS, case.server.pids, case.server.connection):
                values = case.sample()
        except Exception as error:
            self.results.failures[case.cell] = reason(error)
            return False
        for suffix, value in values.items():
            self.results.add(named(case.cell, suffix), value)
        case.made += 1
        case.spent += time.monotonic() - began
        if case.spent < self.seconds or case.made < FEWEST:
            return True
        if case.made < self.repetitions:
            self.results.cut.add(case.cell)
        return False

    def say(self, text: str, *, over: bool = False) -> None:
        """A line of progress; one that is written over where it is a terminal."""
        if not over or sys.stderr.isatty():
            start = "\r\033[K" if sys.stderr.isatty() else ""
            print(f"{start}bench: {text}", end="" if over else "\n", file=sys.stderr, flush=True)


def named(cell: Cell, suffix: str) -> Cell:
    """The cell of something measured on the way."""
    work = f"{cell.work}, {suffix}" if suffix else cell.work
    return Cell(cell.part, work, cell.size, cell.peer)


def reason(error: Exception) -> str:
    """An exception in a few words, without a path of this machine."""
    text = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text}"[:160]
