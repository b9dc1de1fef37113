# SPDX-License-Identifier: MIT
"""Tables and JSON on stdout.

Knows columns and terminals; never what a cell means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ccfs.commandline.messages import printable


def table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows of cells as left-aligned columns, two spaces apart, without trailing blanks."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
    return "".join(line + "\n" for line in lines)


def print_json(value: Mapping[str, object] | Sequence[Mapping[str, object]]) -> None:
    """Print a value as JSON."""
    import json  # here: most commands print none

    print(json.dumps(value, indent=2))
