"""Close inherited descriptors, also those above the limit of open files (close_range(2)); raise it.

A limit that was lowered later (`ulimit -n`) leaves descriptors above it open, so SC_OPEN_MAX is no
bound.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterable
from contextlib import suppress

CLOSE_RANGE = 436
"""The number of close_range(2) (Linux 5.9) on every architecture."""
LAST = (1 << 32) - 1
FIRST = 3
"""The first descriptor that is none of the standard ones."""

_libc = ctypes.CDLL(None, use_errno=True)


def keep_only(kept: Iterable[int] = ()) -> None:
    """Close every descriptor from 3 on but those of `kept`."""
    low = FIRST
    for descriptor in sorted({number for number in kept if number >= FIRST}):
        _close(low, descriptor - 1)
        low = descriptor + 1
    _close(low, LAST)


def room_for(most: int, own: int) -> int:
    """Raise the limit of open files as far as we may; returns how many there is room for.

    `most` are wanted, beside `own` for anything else; there is room for one at least.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + own
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    enough = soft == resource.RLIM_INFINITY or soft >= wanted
    return most if enough else max(1, soft - own)


def _close(low: int, high: int) -> None:
    """Close the descriptors from `low` to `high`, both included."""
    if low > high:
        return
    numbers = [ctypes.c_long(n) for n in (CLOSE_RANGE, low, high, 0)]
    if _libc.syscall(*numbers) != 0:
        _close_one_by_one(low, high)


def _close_one_by_one(low: int, high: int) -> None:
    """Do it without close_range(2): an older kernel, or a seccomp filter that doesn't know it."""
    for name in os.listdir("/proc/self/fd"):
        if low <= int(name) <= high:
            with suppress(OSError):  # the descriptor of the listing itself
                os.close(int(name))
