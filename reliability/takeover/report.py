# SPDX-License-Identifier: MIT
"""The figures of a run, and whether they are what they must be.

Knows the logs and the times of the kills; prints, and decides the exit status.
"""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from reliability.takeover import contents, log, pauses
from reliability.takeover.log import Entry

CLOCKS_APART = 0.005
"""Seconds that a client may seem to have seen a kill before it was made."""
SHOWN = 3
"""So many examples of each kind of error."""


@dataclass
class Report:
    """What a run came to.  `wrong`: (category, text); `troubles`: what ended or never came back.

    `old_way`: the mount is made anew after a death, and clients may see that.
    """

    seconds: float
    kills: list[tuple[float, float]]
    entries: list[Entry]
    steps: dict[str, int]
    others_killed: int = 0
    wrong: list[tuple[str, str]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    old_way: bool = False
    own_deaths: int = 0

    def categories(self) -> Counter[str]:
        """How much was lost, doubled and torn."""
        seen = [str(entry.what[0]) for entry in self.entries if entry.kind == log.WRONG]
        return Counter(seen + [category for category, _ in self.wrong])

    def errors(self) -> list[Entry]:
        """Every error that a client saw."""
        return [entry for entry in self.entries if entry.kind == log.ERROR]

    def dead(self) -> list[Entry]:
        """What was held and is dead."""
        held = [entry for entry in self.entries if entry.kind == log.HELD]
        return [entry for entry in held if entry.what[1] != "alive"]

    def good(self) -> bool:
        """Whether nothing was lost, doubled, torn, hanging, and (but in the old way) seen."""
        if self.categories() or self.troubles:
            return False
        return self.old_way or not (self.errors() or self.dead())

    def after_kill(self, at: float) -> str:
        """A time relative to the kill before it (or to the first one)."""
        if not self.kills:
            return "no kill"
        earlier = [kill for kill in enumerate(self.kills, 1) if kill[1][0] <= at + CLOCKS_APART]
        number, (began, _) = earlier[-1] if earlier else (1, self.kills[0])
        return f"{(at - began) * 1000:+.0f} ms from kill {number}"

    def lines(self) -> Iterator[str]:
        """The table, and examples of what went wrong."""
        yield from self._counts()
        yield from self._pauses()
        yield from self._clients()
        yield from self._held()
        yield from self._examples()
        yield "good" if self.good() else "NOT GOOD"

    def _counts(self) -> Iterator[str]:
        found = self.categories()
        yield f"seconds           {self.seconds:.1f}"
        yield f"kills             {len(self.kills)}" + (
            f", and {self.others_killed} of other processes" if self.others_killed else ""
        )
        if self.own_deaths:
            yield f"around a journal write: {self.own_deaths} of them"
        by_writer = ", ".join(f"{name} {count}" for name, count in self.steps.items())
        yield f"steps             {sum(self.steps.values())} ({by_writer})"
        for category in (contents.LOST, contents.DOUBLED, contents.TORN):
            yield f"{category:<17} {found[category]}"

    def _pauses(self) -> Iterator[str]:
        begins = [began for began, _ in self.kills]
        spans = list(itertools.pairwise([*begins, math.inf]))
        answers = [back - began for began, back in self.kills]
        rows = {"until info answers": answers}
        for who in (pauses.FILE, pauses.KCM):
            if any(entry.who == who for entry in self.entries):
                rows[who] = pauses.longest(self.entries, who, spans)
        for name, times in rows.items():
            if times:
                yield f"{name:<19}{_figures(times)}"

    def _clients(self) -> Iterator[str]:
        asked = Counter(entry.who for entry in self.entries if entry.kind == log.ASK)
        failed = Counter(entry.who for entry in self.errors())
        for name in sorted(asked.keys() | failed.keys()):
            yield f"errors  {name:<14} {failed[name]:>6} (asked {asked[name]} times)"

    def _held(self) -> Iterator[str]:
        for entry in self.entries:
            if entry.kind == log.HELD:
                name, state, text = entry.what
                yield f"held    {name:<34} {state} {_one_line(text)}".rstrip()

    def _examples(self) -> Iterator[str]:
        shown = Counter[tuple[str, str]]()
        for entry in self.errors():
            operation, number, text = entry.what
            kind = (entry.who, f"{operation}: {text}"[:60])
            shown[kind] += 1
            if shown[kind] <= SHOWN:
                yield (
                    f"error   {entry.who}, {self.after_kill(entry.time)}, {operation}:"
                    f" errno or status {number}, {_one_line(text)}"
                )
        for entry in self.entries:
            if entry.kind == log.WRONG:
                category, text = entry.what
                yield f"{category:<7} {entry.who}, {self.after_kill(entry.time)}: {text}"
        yield from (f"{category:<7} at the end: {text}" for category, text in self.wrong)
        yield from (f"trouble {text}" for text in self.troubles)


def _one_line(text: str) -> str:
    return " | ".join(filter(None, text.splitlines()))[:300]


def _figures(times: list[float]) -> str:
    ordered = sorted(times)
    within = ordered[max(0, math.ceil(len(ordered) * 0.99) - 1)]
    median, worst = statistics.median(ordered), ordered[-1]
    values = (f"{value * 1000:.0f}" for value in (median, within, worst))
    return "median {} ms, 99 of 100 within {} ms, worst {} ms".format(*values)
