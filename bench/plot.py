# SPDX-License-Identifier: MIT
"""Results as pictures: PNG and SVG.

This file knows cells and matplotlib, never how anything was measured.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench import parts
from bench.measure import Cell, Results, spread
from bench.peers import PEERS
from bench.report import number

OURS, OTHERS, BASE = "#1f6f8b", "#b0b0b0", "#555555"
SETTINGS: dict[Any, Any] = {"svg.hashsalt": "ccfs", "font.size": 8, "axes.titlesize": 9}
OPERATIONS = ("principal", "iterate", "retrieve", "initialize", "store")
PROCESSES = ("klist", "kvno", "kinit -k", "handshake")


def draw(results: Results, directory: Path) -> None:
    """All pictures of which there is something to show."""
    with mpl.rc_context(SETTINGS):
        sizes = sorted({cell.size for cell in results.samples if cell.part == "operations"})
        for size in sizes:
            what = f"Operations in one process, {size} credentials"
            bars(results, what, "operations", OPERATIONS, size, directory / f"operations-{size}")
        bars(results, "Whole processes", "processes", PROCESSES, 0, directory / "processes")
        works = ("principal", "iterate", "store")
        lines(results, works, "growth, credentials", directory / "growth-credentials")
        lines(results, ("principal", "store"), "growth, ccaches", directory / "growth-ccaches")


def bars(
    results: Results, title: str, part: str, works: Sequence[str], size: int, path: Path
) -> None:
    """A panel for each work, a bar for each peer; whiskers are quartiles."""
    there = [work for work in works if _peers(results, part, work, size)]
    if not there:
        return
    figure, panels = plt.subplots(
        1, len(there), figsize=(3.1 * len(there), 3.6), layout="constrained", squeeze=False
    )
    figure.suptitle(title)
    for axes, work in zip(panels[0], there, strict=True):
        _panel(axes, results, part, work, size)
    _save(figure, path)


def _panel(axes: Axes, results: Results, part: str, work: str, size: int) -> None:
    peers = _peers(results, part, work, size)
    unit = parts.unit(Cell(part, work, size, ""))
    for row, key in enumerate(peers):
        one = spread(results.samples[Cell(part, work, size, key)])
        low, median, high = (value * unit.factor for value in (one.low, one.median, one.high))
        axes.barh(row, median, color=_colour(key), xerr=[[median - low], [high - median]])
        axes.text(high * 1.15, row, number(median), va="center", fontsize=7)
    axes.set_xscale("log")
    axes.set_yticks(range(len(peers)), [_title(key) for key in peers])
    axes.invert_yaxis()
    axes.set_title(work)
    axes.set_xlabel(unit.name)
    medians = [results.median(part, work, size, key) or 1.0 for key in peers]
    axes.set_xlim(min(medians) * unit.factor / 3, max(medians) * unit.factor * 8)


def lines(results: Results, works: Sequence[str], part: str, path: Path) -> None:
    """A panel for each work, a line for each peer."""
    cells = [cell for cell in results.samples if cell.part == part and cell.work in works]
    if not cells:
        return
    figure, panels = plt.subplots(
        1, len(works), figsize=(4 * len(works), 3.8), layout="constrained", squeeze=False
    )
    figure.suptitle(parts.TITLES[part])
    for axes, work in zip(panels[0], works, strict=True):
        for row, peer in enumerate(PEERS):
            mine = sorted(cell for cell in cells if (cell.work, cell.peer) == (work, peer.key))
            medians = [spread(results.samples[cell]).median * 1e6 for cell in mine]
            style = "-" if peer.key.startswith("ccfs") else "--"
            colour = mpl.colormaps["tab20"](row)
            axes.plot([c.size for c in mine], medians, style, marker=".", color=colour)
            if mine:
                axes.plot([], [], style, color=colour, label=peer.title)
        axes.set(xscale="log", yscale="log", title=work, ylabel="us", xlabel=part.split()[-1])
    panels[0][-1].legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _save(figure, path)


def _peers(results: Results, part: str, work: str, size: int) -> list[str]:
    """The peers that have samples of a work."""
    keys = [peer.key for peer in PEERS]
    return [key for key in keys if Cell(part, work, size, key) in results.samples]


def _title(key: str) -> str:
    return next(peer.title for peer in PEERS if peer.key == key)


def _colour(key: str) -> str:
    if key.startswith("ccfs"):
        return OURS
    return BASE if key == "file" else OTHERS


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path.with_suffix(".png"), dpi=110, metadata={"Software": None})
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)
