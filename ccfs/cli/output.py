"""What `ccfs` says, in one voice: lower case, one line, no full stop.

Knows streams and wording; never what the words are about.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ccfs.errors import Exit, UserError


def say(kind: str, text: str) -> None:
    """Write `ccfs: KIND: TEXT` to stderr (`error`, `hint`, `notice`)."""
    print(f"ccfs: {kind}: {printable(text)}", file=sys.stderr)


def fail(error: UserError) -> int:
    """Say what is wrong and what to do; returns the exit status."""
    say("error", error.reason)
    if error.hint:
        say("hint", error.hint)
    return int(error.status)


def crash(error: Exception, debug: bool) -> int:
    """Say that something went wrong that nobody foresaw; `debug` shows where."""
    if debug:
        import traceback

        traceback.print_exception(error)
    detail = f"{type(error).__name__}: {error}".rstrip(": ")
    say("error", f"unexpected failure: {detail}")
    if not debug:
        say("hint", "run it with --debug to see where it came from")
    return int(Exit.UNEXPECTED)


def printable(text: str) -> str:
    r"""`text` with what could steer a terminal written as `\xNN` or `\uNNNN`."""
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as left-aligned columns, two spaces apart, no blanks at a line's end."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in shown)
    return "".join(line + "\n" for line in lines)
