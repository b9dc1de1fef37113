# SPDX-License-Identifier: MIT
"""Tables of results, in Markdown.

This file knows cells and texts, never how anything was measured.
"""

from collections.abc import Iterable, Iterator, Sequence

from bench import parts
from bench.goals import Goal, goals
from bench.machine import Machine
from bench.measure import Cell, Results, spread
from bench.peers import BY_KEY, PEERS

ABSENT = "not measured"
READING = """Every cell: the median, the quartiles in parentheses, and the ratio of the median to
that of FILE on tmpfs (in the table of KCM requests: of Heimdal's daemon). `*`: fewer samples than
elsewhere, because that peer is so slow. All of it is from one run, its order left to chance.
"""


def document(results: Results, machine: Machine) -> str:
    """All that was measured, with the machine and the goals."""
    blocks = ["# Results", READING, *_machine(machine), "## Goals", goal_table(results)]
    blocks += [tables(results), *_absent(results)]
    return "\n\n".join(block.rstrip() for block in blocks) + "\n"


def tables(results: Results) -> str:
    """A table for each part, kind and size."""
    groups: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in [*results.samples, *results.failures]:
        kind = parts.kind(cell)
        if kind is not None:
            groups.setdefault((cell.part, kind, cell.size), []).append(cell)
    blocks: list[str] = []
    for part, title in parts.TITLES.items():
        mine = sorted(key for key in groups if key[0] == part)
        blocks += [f"## {title}"] if mine else []
        for key in mine:
            heading = _heading(*key)
            blocks += [f"### {heading}"] if heading else []
            table = _kinds if key[1] == parts.OF_EACH_KIND else _table
            blocks.append(table(results, groups[key]))
    return "\n\n".join(blocks)


def _heading(part: str, kind: str, size: int) -> str:
    """What tells the tables of a part apart."""
    what = "ccaches" if part in ("growth, ccaches", "memory") else "credentials"
    if part == "looking around":
        what = "of them"
    return ": ".join(filter(None, (f"{size:,} {what}" if size else "", kind)))


def _table(results: Results, cells: Sequence[Cell]) -> str:
    """Rows are peers, columns are works."""
    works = sorted({cell.work for cell in cells}, key=_rank)
    by_place = {(cell.peer, cell.work): cell for cell in cells}
    shown = [peer for peer in PEERS if any(cell.peer == peer.key for cell in cells)]
    heads = [parts.heading(next(cell for cell in cells if cell.work == work)) for work in works]
    rows = [
        [peer.title, *(_cell(results, by_place.get((peer.key, work))) for work in works)]
        for peer in shown
    ]
    return markdown(["", *heads], rows)


def _kinds(results: Results, cells: Sequence[Cell]) -> str:
    """Rows are peers, columns are works; in a cell each kind of request, how often on average."""
    said: dict[tuple[str, str], list[str]] = {}
    for cell in sorted(cells):
        work, _, kind = cell.work.rpartition(", ")
        times = results.samples[cell][0]
        said.setdefault((cell.peer, work), []).append(
            kind if times == 1 else f"{kind} x{number(times)}"
        )
    works = sorted({work for _, work in said}, key=_rank)
    rows = [
        [peer.title, *(", ".join(said.get((peer.key, work), [])) for work in works)]
        for peer in PEERS
        if any(key == peer.key for key, _ in said)
    ]
    return markdown(["", *works], rows)


def _rank(work: str) -> tuple[int, str]:
    """Works in the order of ORDER, others by their name."""
    known = [place for place, name in enumerate(parts.ORDER) if work.startswith(name)]
    return (known[0] if known else len(parts.ORDER), work)


def _cell(results: Results, cell: Cell | None) -> str:
    """A cell's text."""
    if cell is None:
        return ""
    if cell not in results.samples:
        return results.failures.get(cell, "")
    one, unit = spread(results.samples[cell]), parts.unit(cell)
    text = number(one.median * unit.factor)
    if one.count > 1 and cell.part != "requests":
        text += f" ({number(one.low * unit.factor)}-{number(one.high * unit.factor)})"
    reference = results.median(cell.part, cell.work, cell.size, parts.base(cell.part))
    if reference and cell.peer != parts.base(cell.part):
        text += f" x{number(one.median / reference)}"
    return text + ("*" if cell in results.cut else "")


def goal_table(results: Results, *, measured: bool = False) -> str:
    """Each goal, what was measured, and whether it is reached; or those `measured` alone."""
    rows = [[goal.what, _limit(goal), *_outcome(goal, results)] for goal in goals()]
    shown = [row for row in rows if not measured or row[2] != ABSENT]
    return markdown(["goal", "wanted", "measured", ""], shown) if shown else ""


def _limit(goal: Goal) -> str:
    sign = ">=" if goal.at_least else "<="
    return f"{sign} {number(goal.limit)}{_spaced(goal.unit)}"


def _outcome(goal: Goal, results: Results) -> list[str]:
    value = goal.measure(results)
    if value is None:
        return [ABSENT, ""]
    said = "reached" if goal.reached(value) else f"**missed**{_by(goal, value)}"
    return [f"{number(value)}{_spaced(goal.unit)}", said]


def _by(goal: Goal, value: float) -> str:
    """By how much a goal is missed."""
    if not goal.limit or not value:
        return ""
    factor = goal.limit / value if goal.at_least else value / goal.limit
    return f" by {number((factor - 1) * 100)} %"


def _spaced(unit: str) -> str:
    return unit if unit in ("x", "") else f" {unit}"


def number(value: float) -> str:
    """A number to three digits, without an exponent."""
    if value and abs(value) < 0.0005:
        return "0.000"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:g}"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _machine(machine: Machine) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    yield (
        f"{machine.date}, ccfs at {machine.commit or 'no commit'}. {machine.processor},"
        f" {machine.cores} cores, {machine.memory}; Linux {machine.kernel}, {machine.system};"
        f" load before {machine.load}, after {machine.load_after}. {versions}."
    )


def _absent(results: Results) -> Iterator[str]:
    if results.missing:
        yield "## Not there"
        rows = [[_title(key), why] for key, why in results.missing.items()]
        yield markdown(["", "why"], rows)


def _title(key: str) -> str:
    return BY_KEY[key].title if key in BY_KEY else key
