"""Where the daemon's log goes.

Knows stderr and syslog(3); never what is logged. A line is `ccfs: LEVEL: TEXT`, the voice of the
command, so that one look tells a warning from a word.
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


class _Voice(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"ccfs: {record.levelname.lower()}: {super().format(record)}"


class _Syslog(logging.Handler):
    """A handler without a socket of its own: syslog(3) reconnects when the log daemon restarts."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on, line by line: syslog knows no newlines."""
        priority = _PRIORITIES.get(record.levelno, syslog.LOG_NOTICE)
        text = self.format(record).encode("utf-8", "backslashreplace").decode("utf-8")  # a path
        for line in text.splitlines():
            syslog.syslog(priority, line)


def to_stderr(debug: bool) -> None:
    """Log to stderr, from INFO on, or everything."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Voice("%(message)s"))
    _install(handler, debug)


def to_syslog(debug: bool) -> None:
    """Log to syslog as `ccfs[PID]`, from INFO on, or everything."""
    syslog.openlog("ccfs", syslog.LOG_PID, syslog.LOG_DAEMON)
    handler = _Syslog()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    _install(handler, debug)


def let_go() -> None:
    """Close what syslog(3) has open, before somebody closes it behind its back."""
    syslog.closelog()


def _install(handler: logging.Handler, debug: bool) -> None:
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if debug else logging.INFO)
