# SPDX-License-Identifier: MIT
"""Descriptors: close those that were inherited, raise their limit, wait for one, receive some.

A limit that was lowered later (`ulimit -n`) leaves descriptors above it open, so SC_OPEN_MAX is no
bound: close_range(2) is used.
"""

from __future__ import annotations

import os
import resource
import select
import socket
from array import array
from collections.abc import Iterable
from contextlib import suppress

from ccfs.linux.libc import syscall

_CLOSE_RANGE = 436
"""The number of close_range(2) (Linux 5.9) on every architecture."""
LAST = (1 << 32) - 1
FIRST = 3
"""The first descriptor that is none of the standard ones."""


def close_all_but(kept: Iterable[int] = ()) -> None:
    """Close every descriptor from 3 on but those of `kept`."""
    low = FIRST
    for descriptor in sorted({number for number in kept if number >= FIRST}):
        _close_range(low, descriptor - 1)
        low = descriptor + 1
    _close_range(low, LAST)


def raise_limit(most: int, own: int) -> int:
    """Raise the limit of open files as far as permitted; return for how many there is room.

    `most` are requested, beside `own` for other purposes; there is room for one at least.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = most + own
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    enough = soft == resource.RLIM_INFINITY or soft >= needed
    return most if enough else max(1, soft - own)


def wait_readable(descriptor: int, seconds: float | None) -> bool:
    """Wait until a descriptor can be read or is closed at its other end; False after `seconds`.

    None: as long as it takes.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def receive(connection: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """Receive a message with up to `most` descriptors (unix(7), SCM_RIGHTS), closed on exec.

    socket.recv_fds of Python 3.11 ignores its flags, MSG_CMSG_CLOEXEC among them.  Raises OSError.
    """
    received = array("i")
    room = socket.CMSG_SPACE(most * received.itemsize)
    data, ancillary, _, _ = connection.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
    return data, received.tolist()


def _close_range(low: int, high: int) -> None:
    """Close the descriptors from `low` to `high`, both included."""
    if low > high:
        return
    try:
        syscall(_CLOSE_RANGE, low, high, 0)
    except OSError:  # an older kernel, or a seccomp filter that doesn't know it
        _close_one_by_one(low, high)


def _close_one_by_one(low: int, high: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        if low <= int(name) <= high:
            with suppress(OSError):  # the descriptor of the listing itself
                os.close(int(name))
