# SPDX-License-Identifier: MIT
"""What the fuzzers share: their arguments, the log's lines, and figures of memory."""

import argparse
import gc
import logging
import resource
import sys
from pathlib import Path


def argument_parser(description: str | None, count: int) -> argparse.ArgumentParser:
    """A parser with `--count` and `--seed`; the description's first line is shown."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=1)
    return parser


class Complaints(logging.Handler):
    """Remembers what was logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def blocks() -> int:
    """How many pieces of memory Python has in use."""
    gc.collect()
    return sys.getallocatedblocks()


def peak() -> int:
    """The most memory that this process had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident(pid: int) -> int:
    """Memory of a process, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
