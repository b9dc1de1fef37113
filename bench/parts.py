# SPDX-License-Identifier: MIT
"""The parts of the results as their readers see them: titles, units, what is compared with what.

This file knows names of cells, never how anything was measured or is laid out.
"""

from dataclasses import dataclass

from bench.measure import Cell


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: what a sample is multiplied by, its name, and whether a higher figure is better."""

    factor: float
    name: str
    higher: bool = False


MICROSECONDS, MILLISECONDS = Unit(1e6, "us"), Unit(1e3, "ms")
SECONDS, MIB, SHARE = Unit(1, "s"), Unit(1, "MiB"), Unit(1, "%")
A_SECOND, COUNT = Unit(1, "/s", higher=True), Unit(1, "")

ENDINGS = {
    "rate": A_SECOND,
    "requests": A_SECOND,
    "stored": A_SECOND,
    "seconds to fill": SECONDS,
}
UNITS = {
    "requests": COUNT,
    "processes": MILLISECONDS,
    "looking around": MILLISECONDS,
    "start": MILLISECONDS,
    "memory": MIB,
    "idle processor time": SHARE,
}

TITLES = {
    "operations": "Operations of libkrb5 in one process",
    "requests": "Requests of the kernel that an operation makes",
    "growth, credentials": "Growth with the credentials of a ccache",
    "growth, ccaches": "Growth with the ccaches of a user (each has one credential)",
    "processes": "Whole processes",
    "KCM requests": "KCM on a connection that is open already",
    "many at once": "Many at once",
    "looking around": "ls -l and cat, as whole processes",
    "processor time an operation": "Processor time of the server for an operation",
    "idle processor time": "Processor time of an idle server",
    "memory": "Memory of the server (proportional set size)",
    "start": "Start of the server",
}
OF_EACH_KIND = "of each kind"
ORDER = ("principal", "iterate", "retrieve", "initialize", "store", "klist", "kvno", "kinit")
"""Of columns; others come behind them by their names."""

BASES = {"KCM requests": "heimdal", "requests": ""}
"""What ratios are against where it isn't FILE on tmpfs."""


def unit(cell: Cell) -> Unit:
    """The unit of a cell's samples."""
    ending = cell.work.rpartition(", ")[2]
    return ENDINGS.get(ending) or UNITS.get(cell.part, MICROSECONDS)


def base(part: str) -> str:
    """The peer that others are compared with in a part."""
    return BASES.get(part, "file")


def kind(cell: Cell) -> str | None:
    """The name of the table in its part that a cell is in: "" for the first; None: in no table."""
    work, _, ending = cell.work.rpartition(", ")
    if cell.part == "requests":
        return OF_EACH_KIND if work else ""
    if cell.part == "many at once":
        return work or cell.work
    if ending != "first":
        return ""
    return "the first one after a pause" if cell.part == "operations" else None


def heading(cell: Cell) -> str:
    """What stands over a cell's column."""
    work = cell.work
    if cell.part == "many at once":
        work = work.rpartition(", ")[2] if ", " in work else "99th percentile"
    return f"{work} ({unit(cell).name})" if unit(cell).name else work
