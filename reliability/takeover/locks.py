# SPDX-License-Identifier: MIT
"""Locks held over the kills: others are still kept out, and get in once they are released."""

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
from pathlib import Path

from reliability.takeover.closing import SECONDS, Closing, ccache

F_OFD_SETLK = 37
TO_WRITE = struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0)
TO_READ = struct.pack("hhqqi", fcntl.F_RDLCK, 0, 0, 0, 0)
"""struct flock (fcntl(2)) for the whole of a file."""
REFUSED = os.EX_TEMPFAIL
PROGRAM = """
import fcntl, os, struct, sys
file = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.fcntl(file, 37, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0))
except BlockingIOError:
    sys.exit(75)
"""


class Flock(Closing):
    """A flock(2) lock: flock(1) is still kept out, and gets in once it is released."""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        self.path = ccache(mount, "half").parent / "lock"
        self.file = self.open(self.path, os.O_RDWR)
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def check(self) -> None:
        argv = ["timeout", "10", "flock", "-n", str(self.path), "true"]
        assert subprocess.run(argv, check=False).returncode == 1, "flock(1) got the lock, too"
        fcntl.flock(self.file, fcntl.LOCK_UN)
        assert subprocess.run(argv, check=False).returncode == 0, "flock(1) did not get the lock"


class Lock(Closing):
    """An OFD lock: a second process that wants to write is still kept out until it is released."""

    def __init__(self, mount: Path, name: str, lock: bytes) -> None:
        super().__init__()
        self.path = mount / "caches/locked" / name
        self.file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self.stack.callback(self._release)
        fcntl.fcntl(self.file, F_OFD_SETLK, lock)

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.file)

    def check(self) -> None:
        assert self._second() == REFUSED, "a second process got the lock, too"
        os.close(self.file)
        assert self._second() == 0, "a second process did not get the released lock"

    def _second(self) -> int:
        argv = ["timeout", "10", sys.executable, "-S", "-c", PROGRAM, str(self.path)]
        return subprocess.run(argv, check=False, timeout=SECONDS + 5).returncode
