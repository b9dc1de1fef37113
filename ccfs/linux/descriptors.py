"""Closing descriptors that were inherited.

Knows close_range(2); never what a descriptor is of.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

_LAST = (1 << 32) - 1
_libc = ctypes.CDLL(None, use_errno=True)


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor from 3 on but these.

    A descriptor may be above the soft limit (RLIMIT_NOFILE), which can be lowered after it was
    opened: what counts is which ones there are.
    """
    low = 3
    for descriptor in sorted(number for number in set(kept) if number >= low):
        _close_range(low, descriptor - 1)
        low = descriptor + 1
    _close_range(low, _LAST)


def _close_range(first: int, last: int) -> None:
    if first > last:
        return
    if _libc.close_range(ctypes.c_uint(first), ctypes.c_uint(last), 0) == 0:
        return
    for name in os.listdir("/proc/self/fd"):  # before Linux 5.9
        if first <= int(name) <= last:
            os.closerange(int(name), int(name) + 1)
