# SPDX-License-Identifier: MIT
"""The log of one process: a line for each thing it did, written before and after it was done.

Knows lines of JSON in a file on tmpfs, never what the steps mean.  A line is one write(2), so that
a process that dies leaves whole lines, but for the last one.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ASK, ACK, FOUND, ERROR, WRONG, GAP, HELD, DONE = (
    "ask",
    "ack",
    "found",
    "error",
    "wrong",
    "gap",
    "held",
    "done",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: when (time.monotonic), who wrote it, its kind, and what that kind has to say."""

    time: float
    who: str
    kind: str
    what: tuple[Any, ...]


class Log:
    """Writes the lines of one process.  The file is opened by its first line, after a fork."""

    def __init__(self, directory: Path, who: str) -> None:
        self.path = directory / who
        self._descriptor = -1

    def write(self, kind: str, *what: object) -> None:
        """Add a line."""
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o600)
        line = json.dumps([time.monotonic(), kind, *what], separators=(",", ":"))
        os.write(self._descriptor, line.encode() + b"\n")

    def error(self, operation: str, error: BaseException) -> None:
        """A client saw an error: its errno or code, and its words."""
        number = getattr(error, "errno", None) or getattr(error, "code", None)
        self.write(ERROR, operation, number, f"{type(error).__name__}: {error}"[:500])

    def wrong(self, category: str, text: str) -> None:
        """What is there is not what was acknowledged: lost, doubled or torn."""
        self.write(WRONG, category, text[:500])


def read(path: Path) -> Iterator[Entry]:
    """The whole lines of a log."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                at, kind, *what = json.loads(line)
                yield Entry(at, path.name, kind, tuple(what))


def read_all(directory: Path) -> list[Entry]:
    """The lines of all logs in the order of their times."""
    found = [entry for path in directory.iterdir() for entry in read(path)]
    return sorted(found, key=lambda entry: entry.time)
