# SPDX-License-Identifier: MIT
"""Protect a process's memory: no dumps, no tracing, no swap.

Knows prctl(2), mlockall(2) and limits; never what is in the memory.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource

from ccfs.linux import capabilities
from ccfs.linux.libc import libc

log = logging.getLogger(__name__)

PR_SET_DUMPABLE = 4
MCL_CURRENT = 1
MCL_FUTURE = 2
MCL_ONFAULT = 4


def harden() -> None:
    """Make this process undumpable and lock its memory; log a warning where that fails.

    Undumpable: no core file, and no process of the same user can trace it or read its memory or
    environment in /proc (prctl(2), ptrace(2)).
    """
    forbid_dumps()
    _lock_memory()


def forbid_dumps() -> None:
    """Make this process undumpable; log a warning where that fails."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("cannot make the process undumpable: %s", os.strerror(ctypes.get_errno()))


def lock_fork() -> None:
    """Lock the memory of a forked child as its parent's was: fork(2) undoes that."""
    if may_lock():
        _lock_memory()


def may_lock() -> bool:
    """True if this process may lock all memory that it will ever have."""
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
        return True
    return capabilities.has("IPC_LOCK")


def _lock_memory() -> None:
    """Lock each page once it is touched.

    Only without a limit: under one a later allocation would fail, and the daemon with it.
    """
    if not may_lock():
        log.warning("memory is not locked, it may be swapped out: the limit (ulimit -l) forbids it")
    elif libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0:
        log.warning("memory is not locked: %s", os.strerror(ctypes.get_errno()))
