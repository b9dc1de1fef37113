"""Tables of results, in Markdown.

This file knows cells and texts, never how anything was measured.
"""

from bench.measure import Cell, Results, spread


def tables(results: Results) -> str:
    """All that was measured."""
    lines = []
    for part, work, size in sorted({(c.part, c.work, c.size) for c in results.samples}):
        of_this = [c for c in results.samples if (c.part, c.work, c.size) == (part, work, size)]
        lines += [f"{_name(cell)} {_value(results, cell)}" for cell in of_this]
    lines += [f"{_name(cell)} FAILED {why}" for cell, why in results.failures.items()]
    return "\n".join(lines)


def _name(cell: Cell) -> str:
    return f"{cell.part:12} {cell.work:22} {cell.size:6} {cell.peer:14}"


def _value(results: Results, cell: Cell) -> str:
    one = spread(results.samples[cell])
    if cell.part == "requests":
        return f"{one.median:g}"
    base = results.median(cell.part, cell.work, cell.size, "file")
    ratio = f"x{one.median / base:.2f}" if base else ""
    low, median, high = (value * 1e6 for value in (one.low, one.median, one.high))
    return f"{median:9.1f} us  ({low:.1f} .. {high:.1f}, {one.count}) {ratio}"
