# SPDX-License-Identifier: MIT
"""The log of ccfsd and its daemons: lines on stderr, written without waiting for a reader.

Knows lines and levels; never what is logged.
"""

from __future__ import annotations

import logging
import os
import select

from ccfs.errors import UserError

_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
"""The numbers that journald reads before a line (sd-daemon(3))."""
_MOST = 4000
"""Bytes of a line: up to PIPE_BUF a pipe takes all at once, or none (pipe(7))."""

log = logging.getLogger("ccfs")


class _Stderr(logging.Handler):
    """Writes lines to stderr; a line that would have to wait is dropped."""

    def __init__(self, *, priorities: bool) -> None:
        super().__init__()
        self.name_in_lines = "ccfsd"
        self._priorities = priorities
        self._poll = select.poll()
        self._poll.register(2, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as one line."""
        text = " ".join(record.getMessage().splitlines())
        line = f"{self.name_in_lines}: {record.levelname.lower()}: {text}"
        if self._priorities:
            line = f"<{_PRIORITIES.get(record.levelno, 5)}>{line}"
        data = line.encode("utf-8", "backslashreplace")[:_MOST] + b"\n"
        try:
            if any(events & select.POLLOUT for _, events in self._poll.poll(0)):
                os.write(2, data)
        except OSError:
            return


_handlers: list[_Stderr] = []


def begin(*, debug: bool) -> None:
    """Log to stderr from INFO on, or everything; with priorities where journald reads it."""
    handler = _Stderr(priorities="JOURNAL_STREAM" in os.environ)
    _handlers.append(handler)
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if debug else logging.INFO)


def speak_as(name: str) -> None:
    """Begin lines with another name from now on."""
    for handler in _handlers:
        handler.name_in_lines = name


def fail(error: UserError) -> None:
    """Log why a process ends."""
    log.error("%s%s", error.reason, f" ({error.hint})" if error.hint else "")
