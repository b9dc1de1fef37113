# SPDX-License-Identifier: MIT
"""The caller of a request: its process and command, by the thread id that the kernel gives.

FUSE puts the id of the calling thread into each request (`pid` in struct fuse_in_header).  Reads
/proc/PID/status (proc(5)); knows nothing else.
"""

import os

COMMAND_UNKNOWN = "-"
CACHE_SECONDS = 0.005
"""For how long the process of a thread is cached: the kernel reuses no thread id so soon."""


class CallerLookup:
    """Looks up the process of a thread, and caches the last one for CACHE_SECONDS.

    A client makes several requests for one operation (lookup, open, write, release), one after the
    other.
    """

    def __init__(self) -> None:
        self._thread = 0
        self._process = (0, COMMAND_UNKNOWN)
        self._looked_up = 0.0

    def process(self, thread: int, now: float) -> tuple[int, str]:
        """Return the process id and the command of a thread."""
        if thread != self._thread or not 0 <= now - self._looked_up < CACHE_SECONDS:
            self._process = process_of(thread)
            self._thread, self._looked_up = thread, now
        return self._process


def process_of(thread: int) -> tuple[int, str]:
    """Read the process id and the command of a thread from /proc.

    Returns the thread's own id and COMMAND_UNKNOWN where it has ended, or is not in our pid
    namespace.
    """
    status = _read(f"/proc/{thread}/status")
    name, _, rest = status.partition(b"\n")
    _, tgid, after = rest.partition(b"\nTgid:\t")
    if not tgid:
        return thread, COMMAND_UNKNOWN
    process = int(after.partition(b"\n")[0])
    command = name.removeprefix(b"Name:\t")
    if process != thread or b"\\" in command:  # a thread's own name, or an escaped one
        command = _read(f"/proc/{process}/comm").rstrip(b"\n")
    return process, command.decode("utf-8", "surrogateescape") or COMMAND_UNKNOWN


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 512)
    except OSError:  # the process ended after the open
        return b""
    finally:
        os.close(descriptor)
