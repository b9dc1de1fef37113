# SPDX-License-Identifier: MIT
"""What a process inherits from its parent beside descriptors and uids, set back to defaults.

Limits, scheduling, timers, signals, the session keyring, the environment and the name: a daemon
must neither be hindered nor be led by what the process that started it had.

Knows system calls; never what the process is for.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
from contextlib import suppress

from ccfs.linux.libc import libc, syscall

UNLIMITED = (
    resource.RLIMIT_AS,
    resource.RLIMIT_CPU,
    resource.RLIMIT_DATA,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_MEMLOCK,
    resource.RLIMIT_NPROC,  # counted for the service's uid, that is for all daemons
    resource.RLIMIT_RSS,
    15,  # RLIMIT_RTTIME
)
LEAST = {resource.RLIMIT_NOFILE: 1024, resource.RLIMIT_STACK: 8 << 20}
RLIMIT_NICE = 13
NICE_0 = 20
"""The limit that allows a nice value of 0 (getrlimit(2))."""
MOST_CORES = 8192
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_SECUREBITS = 28
PR_SET_TIMERSLACK = 29
IOPRIO_WHO_PROCESS = 1
KEYCTL_JOIN_SESSION_KEYRING = 1
SYS_IOPRIO_SET, SYS_SET_MEMPOLICY, SYS_KEYCTL = {
    "x86_64": (251, 238, 250),
    "aarch64": (30, 237, 219),
    "riscv64": (30, 237, 219),
    "ppc64le": (273, 261, 271),
    "s390x": (282, 270, 280),
}.get(os.uname().machine, (-1, -1, -1))
"""Numbers of system calls; the kernel answers -1 with ENOSYS."""


def reset_limits() -> None:
    """Have no limit that can end or hinder a daemon, whatever the parent had (setrlimit(2)).

    Where root may not raise the hard limits (CAP_SYS_RESOURCE) those of the parent stay.
    """
    infinite = resource.RLIM_INFINITY
    for number in UNLIMITED:
        try:
            resource.setrlimit(number, (infinite, infinite))
        except (ValueError, OSError):
            hard = resource.getrlimit(number)[1]
            resource.setrlimit(number, (hard, hard))
    for number, least in LEAST.items():
        soft, hard = resource.getrlimit(number)
        with suppress(ValueError, OSError):
            resource.setrlimit(number, (_at_least(soft, least), _at_least(hard, least)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def reset_scheduling() -> None:
    """Run as an ordinary process, on every core, whatever the parent was limited to.

    Nice value, scheduling policy, affinity, I/O priority, memory policy, timer slack, and the
    preference of the out-of-memory killer (oom_score_adj).
    """
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with suppress(OSError, ValueError):
        resource.setrlimit(RLIMIT_NICE, (NICE_0, NICE_0))  # in place of CAP_SYS_NICE
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    resource.setrlimit(RLIMIT_NICE, (0, 0))
    with suppress(OSError):
        os.sched_setaffinity(0, range(MOST_CORES))
    for number, who in ((SYS_IOPRIO_SET, IOPRIO_WHO_PROCESS), (SYS_SET_MEMPOLICY, 0)):
        with suppress(OSError):
            syscall(number, who, 0, 0)
    libc.prctl(PR_SET_TIMERSLACK, 50_000, 0, 0, 0)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("0")


def reset_process() -> None:
    """No timer, no signal at the parent's death, no personality (setarch(8)), no securebits."""
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)
    libc.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
    libc.prctl(PR_SET_SECUREBITS, 0, 0, 0, 0)
    libc.personality(ctypes.c_ulong(0))


def reset_signals() -> None:
    """The default disposition of every signal, and none blocked (signal(7))."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def new_session_keyring() -> None:
    """Have an empty session keyring: root's own would go with the process (keyrings(7)).

    A kernel without keyrings has none to inherit.  Raises OSError.
    """
    try:
        syscall(SYS_KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise


def clear_environment() -> None:
    """Leave no variable, nor in the memory that /proc/PID/environ shows (proc(5))."""
    os.environ.clear()
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return
    start, end = int(fields[47]), int(fields[48])
    if start and any(ctypes.string_at(start, end - start)):
        ctypes.memset(start, 0, end - start)


def set_name(name: str) -> None:
    """Set the name that ps(1) shows of the process: 15 bytes at most (prctl(2))."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    libc.prctl(PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0)


def _at_least(limit: int, least: int) -> int:
    return limit if limit == resource.RLIM_INFINITY else max(limit, least)
