"""Who asks: the process of a thread that the kernel names, and its command.

A FUSE server hears the id of the asking thread.  Knows /proc only (proc(5), /proc/PID/status).
"""

import os

COMMAND_UNKNOWN = "-"


def process_of(thread: int) -> tuple[int, str]:
    """The process that a thread belongs to, and the command of that.

    The thread's own id and COMMAND_UNKNOWN where it has ended, or is in no pid namespace of ours.
    """
    status = _read(f"/proc/{thread}/status")
    name, _, rest = status.partition(b"\n")
    _, found, after = rest.partition(b"\nTgid:\t")
    if not found:
        return thread, COMMAND_UNKNOWN
    process = int(after.partition(b"\n")[0])
    command = name.removeprefix(b"Name:\t")
    if process != thread or b"\\" in command:  # a thread's own name, or one that is quoted
        command = _read(f"/proc/{process}/comm").rstrip(b"\n")
    return process, command.decode("utf-8", "surrogateescape") or COMMAND_UNKNOWN


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 512)
    except OSError:  # it has ended meanwhile
        return b""
    finally:
        os.close(descriptor)
