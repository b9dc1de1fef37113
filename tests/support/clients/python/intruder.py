# SPDX-License-Identifier: MIT
"""Tries every known attack on a mount and its daemon, and prints the outcomes.

    intruder.py use TOP PID                 everything by path, and with the process
    intruder.py pass TOP OWNER OTHER        as uid OWNER, give descriptors to uid OTHER

It prints a JSON object: `ok`, or the name of the errno value, for each thing tried.  It knows the
names in a mount; it needs nothing but the standard library, so that anybody can run it.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

PTRACE_ATTACH, PTRACE_DETACH = 16, 17
NEW = "intruder"
OFD_SETLK = 37

Attempt = Callable[[], object]


def result(attempt: Attempt) -> str:
    """The outcome of an attempt."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


def opened(path: Path, flags: int) -> int:
    """A descriptor, closed when the process ends."""
    return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)


def lock(path: Path) -> None:
    request = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
    fcntl.fcntl(opened(path, os.O_RDONLY), OFD_SETLK, request)


def poll(path: Path) -> None:
    poller = select.poll()
    poller.register(opened(path, os.O_RDONLY), select.POLLIN)
    assert poller.poll(0)


def trace(pid: int) -> None:
    """Attach and let go."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(PTRACE_ATTACH, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(pid, 0x40000000)  # __WALL
    libc.ptrace(PTRACE_DETACH, pid, None, None)


def of_files(top: Path) -> dict[str, Attempt]:
    """Everything that is done by path, in an order in which each finds what it needs."""
    ccache = top / "caches/tkt"
    return {
        "lookup": lambda: os.stat(ccache / "ccache"),
        "stat": lambda: os.stat(top),
        "readlink": lambda: os.readlink(top / "default"),
        "list": lambda: os.listdir(top / "caches"),
        "read": lambda: os.read(opened(ccache / "ccache", os.O_RDONLY), 10),
        "read text": lambda: os.read(opened(top / "events", os.O_RDONLY), 10),
        "write": lambda: opened(ccache / "ccache", os.O_WRONLY | os.O_APPEND),
        "create": lambda: opened(ccache / NEW, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
        "rename": lambda: os.rename(ccache / NEW, ccache / (NEW + "2")),
        "unlink": lambda: os.unlink(ccache / (NEW + "2")),
        "mkdir": lambda: os.mkdir(top / "caches" / NEW),
        "rmdir": lambda: os.rmdir(top / "caches" / NEW),
        "switch": lambda: (
            os.symlink("caches/tkt", top / NEW) or os.rename(top / NEW, top / "default")
        ),
        "truncate": lambda: os.truncate(ccache / "kdc_offset", 0),
        "lock": lambda: lock(ccache / "lock"),
        "poll": lambda: poll(top / "events"),
        "wait": lambda: opened(top / "changed", os.O_RDONLY),
    }


def of_process(pid: int) -> dict[str, Attempt]:
    """Everything that is done with a process."""
    proc = Path(f"/proc/{pid}")
    return {
        "signal": lambda: os.kill(pid, 0),
        "ptrace": lambda: trace(pid),
        "mem": lambda: opened(proc / "mem", os.O_RDONLY),
        "maps": lambda: os.read(opened(proc / "maps", os.O_RDONLY), 10),
        "environ": lambda: os.read(opened(proc / "environ", os.O_RDONLY), 10),
        "fd": lambda: os.listdir(proc / "fd"),
    }


def use(top: Path, pid: int) -> dict[str, str]:
    return {what: result(attempt) for what, attempt in (of_files(top) | of_process(pid)).items()}


def become(uid: int) -> None:
    """Be this user with everything, and nothing of root."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def hand_over(top: Path, owner: int, other: int) -> dict[str, str]:
    """The owner opens files and a directory; another user gets the descriptors over a socket."""
    here, there = socket.socketpair()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            become(owner)
            paths = {"caches/tkt/ccache": os.O_RDWR, "events": os.O_RDONLY, "caches": os.O_RDONLY}
            descriptors = [opened(top / path, flags) for path, flags in paths.items()]
            socket.send_fds(there, [b"x"], descriptors)
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    become(other)
    _, (ccache, events, directory), _, _ = socket.recv_fds(here, 1, 3)
    attempts: dict[str, Attempt] = {
        "read": lambda: os.pread(ccache, 10, 0),
        "write": lambda: os.pwrite(ccache, os.pread(ccache, 10, 0), 0),
        "read text": lambda: os.pread(events, 10, 0),
        "stat": lambda: os.fstat(ccache),
        "truncate": lambda: os.ftruncate(ccache, os.fstat(ccache).st_size),
        "list": lambda: os.listdir(directory),
        "lookup": lambda: os.stat("tkt", dir_fd=directory),
        "create": lambda: os.mkdir("x", dir_fd=directory),
        "open again": lambda: opened(Path(f"/proc/self/fd/{ccache}"), os.O_RDONLY),
    }
    return {what: result(attempt) for what, attempt in attempts.items()}


def main() -> None:
    signal.alarm(20)
    what, top, *numbers = sys.argv[1:]
    act = {"use": use, "pass": hand_over}[what]
    print(json.dumps(act(Path(top), *map(int, numbers))))


if __name__ == "__main__":
    main()
