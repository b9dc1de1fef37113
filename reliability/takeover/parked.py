# SPDX-License-Identifier: MIT
"""Clients that wait in the mount while nothing changes, over kills in a quiet time.

Each is parked before the kills and must be woken by the first change after them.
"""

import fcntl
import os
import select
import subprocess
import sys
import time
from pathlib import Path

from reliability.takeover.closing import CHANGED_IN_QUIET, SECONDS, Closing
from reliability.takeover.followers import Cat
from reliability.takeover.holder import Maker
from reliability.takeover.locks import F_OFD_SETLK, TO_WRITE

POLL = """
import os, select, sys
file = os.open(sys.argv[1], os.O_RDONLY)
while os.read(file, 1 << 20):
    pass
poll = select.poll()
poll.register(file, select.POLLIN)
print("parked", flush=True)
while True:
    told = poll.poll()
    if told[0][1] & ~select.POLLIN:
        sys.exit(f"poll says {told[0][1]:#x}")
    if said := os.read(file, 1 << 20):
        print(said.decode(), end="", flush=True)
        break
"""
LOCK = """
import fcntl, os, struct, sys
file = os.open(sys.argv[1], os.O_RDWR)
print("parked", flush=True)
fcntl.fcntl(file, 38, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0))
print("locked", flush=True)
"""


class Poll(Closing):
    """poll(2) on `events`: an event after the kills wakes it, and it reads that event."""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        self.mount = mount
        self.process = started(self, POLL, mount / "events")

    def check(self) -> None:
        assert self.process.poll() is None, f"it returned: {self.process.communicate()}"
        began = time.monotonic()
        (self.mount / "caches/for-the-poll").mkdir()
        said, wrong = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, wrong
        assert "created\tfor-the-poll" in said, said
        assert said.count("\n") == 1, said
        assert time.monotonic() - began < 2.0, "woken only after 2 s"


class LockWaiter(Closing):
    """A process that waits for an OFD lock gets it when the holder lets go."""

    def __init__(self, mount: Path) -> None:
        super().__init__()
        path = mount / "caches/quiet/lock"
        self.file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        fcntl.fcntl(self.file, F_OFD_SETLK, TO_WRITE)
        self.process = started(self, LOCK, path)

    def check(self) -> None:
        assert self.process.stdout is not None
        assert not select.select([self.process.stdout], [], [], 0.2)[0], "it did not wait"
        os.close(self.file)
        said, wrong = self.process.communicate(timeout=SECONDS)
        assert said == "locked\n", (said, wrong)


def started(holder: Closing, program: str, path: Path) -> "subprocess.Popen[str]":
    """A Python program that has said that it waits."""
    argv = [sys.executable, "-S", "-c", program, str(path)]
    process = holder.start(argv, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "parked\n"
    return process


PARKED: dict[str, Maker] = {
    "poll on events": Poll,
    "waiter for a lock": LockWaiter,
    "cat changed, in a quiet time": lambda mount: Cat(mount, CHANGED_IN_QUIET),
}
