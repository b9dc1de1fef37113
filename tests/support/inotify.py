# SPDX-License-Identifier: MIT
"""Watching a directory with inotify(7), as a client does."""

import contextlib
import ctypes
import os
import select
import struct
from collections.abc import Iterator
from pathlib import Path

IN_MODIFY, IN_CLOSE_WRITE, IN_CREATE, IN_DELETE = 0x2, 0x8, 0x100, 0x200


IN_ATTRIB, IN_MOVED_TO = 0x4, 0x80


@contextlib.contextmanager
def watching(path: Path) -> Iterator[int]:
    """An inotify descriptor that hears of everything in a directory."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    assert descriptor >= 0
    try:
        mask = IN_MODIFY | IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_ATTRIB
        assert libc.inotify_add_watch(descriptor, os.fsencode(path), mask) >= 0
        yield descriptor
    finally:
        os.close(descriptor)


def seen(descriptor: int, wanted: tuple[int, bytes]) -> set[tuple[int, bytes]]:
    """Read inotify's events until `wanted` has come."""
    found: set[tuple[int, bytes]] = set()
    while wanted not in found:
        assert select.select([descriptor], [], [], 20)[0], found
        data, at = os.read(descriptor, 65536), 0
        while at < len(data):
            _, mask, _, length = struct.unpack_from("iIII", data, at)
            found.add((mask, data[at + 16 : at + 16 + length].rstrip(b"\0")))
            at += 16 + length
    return found
