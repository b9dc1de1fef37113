# SPDX-License-Identifier: MIT
"""What all that is held has in common: its ccaches, and a stack of what is to be closed.

Knows no more of the mount than the ccaches that prepare() makes, one for each kind of use.
"""

import contextlib
import os
import subprocess
from pathlib import Path

from tests.support.clients.python import records

QUIET, CHANGED, CHANGED_IN_QUIET = "quiet", "changed", "changed-in-quiet"
HERE = ["host/quiet-1", "host/quiet-2"]
MANY = 1000
"""Credentials in the directory that is read in two parts: more than one getdents(2) brings."""
SECONDS = 10.0


def prepare(mount: Path) -> None:
    """Make the ccaches that are held: one for each kind of use, so that none disturbs another."""
    for name in (
        QUIET,
        "changes",
        "appended",
        "watched",
        "locked",
        "scratch",
        "superseded",
        "half",
    ):
        (mount / "caches" / name).mkdir()
        (mount / "caches" / name / "ccache").write_bytes(records.ccache(HERE))
    for name in (CHANGED, CHANGED_IN_QUIET, "many"):
        (mount / "caches" / name).mkdir()
    image = records.ccache(f"host/many-{number}" for number in range(MANY))
    (mount / "caches/many/ccache").write_bytes(image)


def ccache(mount: Path, name: str = QUIET) -> Path:
    """Return the file of a ccache below a mount."""
    return mount / "caches" / name / "ccache"


class Closing:
    """Something that ends with a stack of things to close."""

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()

    def close(self) -> None:
        self.stack.close()

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        descriptor = os.open(path, flags | os.O_CLOEXEC, mode)
        self.stack.callback(os.close, descriptor)
        return descriptor

    def start(self, argv: list[str], **options: object) -> "subprocess.Popen[str]":
        settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True, **options}
        process: subprocess.Popen[str] = subprocess.Popen(argv, **settings)  # type: ignore[call-overload]
        self.stack.callback(process.kill)
        return process
