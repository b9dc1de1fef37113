# SPDX-License-Identifier: MIT
"""Ends what hangs: servers whose client waits in C code, where no exception of Python gets in.

This file knows processes, FUSE connections and clocks, never what is measured.  A process of its
own watches one deadline; when it has passed, the servers named with it are killed and their mounts
aborted, so that the client's call returns with an error.
"""

import contextlib
import mmap
import os
import signal
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

LAYOUT = struct.Struct("d16i")
PIDS = 15
TICK = 0.25
FUSECTL = Path("/sys/fs/fuse/connections")


class Guard:
    """`with guard.watching(seconds, pids, connection):` bounds what is inside."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, mmap.PAGESIZE)
        parent = os.getpid()
        self._watcher = os.fork()
        if self._watcher == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _watch(self._shared, parent)

    @contextlib.contextmanager
    def watching(
        self, seconds: float, pids: Iterable[int] = (), connection: int = 0
    ) -> Iterator[None]:
        """Kill these servers unless the block ends in time."""
        known = [*pids][:PIDS]
        padded = known + [0] * (PIDS - len(known))
        LAYOUT.pack_into(self._shared, 0, time.monotonic() + seconds, connection, *padded)
        try:
            yield
        finally:
            LAYOUT.pack_into(self._shared, 0, 0.0, *[0] * (PIDS + 1))

    def close(self) -> None:
        """End the watcher."""
        os.kill(self._watcher, signal.SIGKILL)
        os.waitpid(self._watcher, 0)


def _watch(shared: mmap.mmap, parent: int) -> None:
    while os.getppid() == parent:
        deadline, connection, *pids = LAYOUT.unpack_from(shared, 0)
        if deadline and time.monotonic() > deadline:
            end(pids, connection)
        time.sleep(TICK)
    os._exit(0)


def end(pids: Iterable[int], connection: int) -> None:
    """Kill servers and abort their FUSE connection, so that all who wait for them wake up."""
    for pid in pids:
        if pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if connection:
        with contextlib.suppress(OSError):
            (FUSECTL / str(connection) / "abort").write_text("1")
