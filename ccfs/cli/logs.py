# SPDX-License-Identifier: MIT
"""The daemon's log: to stderr with --foreground, else to syslog(3).

Knows lines and levels; never what is logged.  A line on stderr is `ccfs: LEVEL: TEXT`, like the
command's messages.
"""

from __future__ import annotations

import logging
import sys
import syslog

_PRIORITIES = {
    logging.DEBUG: syslog.LOG_DEBUG,
    logging.INFO: syslog.LOG_INFO,
    logging.WARNING: syslog.LOG_WARNING,
    logging.ERROR: syslog.LOG_ERR,
    logging.CRITICAL: syslog.LOG_CRIT,
}


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"ccfs: {record.levelname.lower()}: {super().format(record)}"


class _Syslog(logging.Handler):
    """A handler that calls syslog(3), which reconnects when the log daemon restarts."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record, line by line: a message of syslog has no newlines."""
        priority = _PRIORITIES.get(record.levelno, syslog.LOG_NOTICE)
        text = self.format(record).encode("utf-8", "backslashreplace").decode("utf-8")  # a path
        for line in text.splitlines():
            syslog.syslog(priority, line)


def to_stderr(debug: bool) -> None:
    """Log to stderr, from INFO on, or everything."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(message)s"))
    _install(handler, debug)


def to_syslog(debug: bool) -> None:
    """Log to syslog as `ccfs[PID]`, from INFO on, or everything."""
    syslog.openlog("ccfs", syslog.LOG_PID, syslog.LOG_DAEMON)
    handler = _Syslog()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    _install(handler, debug)


def close_syslog() -> None:
    """Close syslog(3)'s descriptor before the caller closes all descriptors.

    Else the C library would later write to whatever has that number by then.
    """
    syslog.closelog()


def _install(handler: logging.Handler, debug: bool) -> None:
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if debug else logging.INFO)
