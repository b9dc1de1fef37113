"""What keeps a process's memory its own: no dumps, no tracing, no swap.

Knows prctl(2), mlockall(2) and limits; never what is in the memory.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource

log = logging.getLogger(__name__)

PR_SET_DUMPABLE = 4
CAP_IPC_LOCK = 14
MCL_CURRENT = 1
MCL_FUTURE = 2
MCL_ONFAULT = 4


def harden() -> None:
    """Make this process undumpable and lock its memory; a warning where that is not to be had.

    Undumpable: no core file, and nobody of the same user can trace it or read its memory or
    environment in /proc (prctl(2), ptrace(2)).
    """
    forbid_dumps()
    lock_memory(ctypes.CDLL(None, use_errno=True))


def forbid_dumps() -> None:
    """Make this process undumpable; a warning where that is not to be had."""
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("cannot make the process undumpable: %s", os.strerror(ctypes.get_errno()))


def lock_memory(libc: ctypes.CDLL) -> None:
    """Keep what is touched in memory.

    Only without a limit: under one a later allocation would fail, and the daemon with it.
    """
    if not may_lock():
        log.warning("memory is not locked, it may be swapped out: the limit (ulimit -l) forbids it")
    elif libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0:
        log.warning("memory is not locked: %s", os.strerror(ctypes.get_errno()))


def lock_copy() -> None:
    """Lock the memory of a fork, too, where that of its parent could be: fork(2) undoes it."""
    if may_lock():
        lock_memory(ctypes.CDLL(None, use_errno=True))


def may_lock() -> bool:
    """Whether this process may lock all memory that it will ever have."""
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
        return True
    return _has_capability(CAP_IPC_LOCK)


def _has_capability(number: int) -> bool:
    """Whether this process has a capability (proc(5), CapEff): uid 0 alone says nothing."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        found = next((line for line in file if line.startswith("CapEff:")), "CapEff: 0")
    return bool(int(found.split()[1], 16) >> number & 1)
