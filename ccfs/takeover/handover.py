# SPDX-License-Identifier: MIT
"""The handover page: a little shared memory that one daemon of a mount leaves to the next.

The journal has the steps that were made; the page says what was in progress.  The supervisor holds
it.  It is written by single stores, so that it is right at any moment of a kill.

    word 0    size of the kernel's FUSE_INIT request, whose bytes are at _INIT
    1, 2      the mark of the step that the present request makes (ccfs.journal), its number plus
              one; word 2 is 0 where there is none
    3         `unique` of the last request that was resent to a daemon
    4         1 while notifications of a step are still to be sent
    5         a number that changes while the daemon handles requests
    6         distinguishes the file that was opened last from others of its inode
              (ccfs.ops.handle_numbers)
    64 - 127  poll handles of the kernel (FUSE_NOTIFY_POLL); 0: none
    128 - 191 FIFOs whose readers are to be woken: serial numbers plus one; 0: none
    192 - 255 ccaches that are to be touched, the same

A page behind it, from word KCM on, is about the present KCM request (ccfs.kcm.request_progress): it
has nothing to do with a FUSE connection, and stays when there is another one.  All is locked in
memory as the daemon is.

Knows words and bytes; never what a request asks.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterable
from itertools import islice, zip_longest

INIT_SIZE, MARK_NAME, MARK_STEP, RESENT, NOTIFYING, PROGRESS, OPENED = range(7)
POLLS, KICKS, TOUCHES = range(64, 128), range(128, 192), range(192, 256)
KCM = mmap.PAGESIZE // 8
SIZE = 2 * mmap.PAGESIZE

INIT_MAX = 16 * 1024
"""Bytes; the kernel requires room for less at least (FUSE_MIN_READ_BUFFER)."""
_INIT = 2048
_WORD = struct.Struct("=Q")

_HEAD = 40
_RESEND = 1 << 7
"""FUSE_HAS_RESEND in the upper flags of FUSE_INIT (linux/fuse.h), since Linux 6.9."""
_FLAGS2 = _HEAD + 16


class Handover:
    """The page, mapped.  `words`: all but the bytes of FUSE_INIT."""

    def __init__(self, descriptor: int = -1) -> None:
        """Map a page that another process has made, or make one."""
        self.descriptor = descriptor if descriptor >= 0 else _create()
        self.memory = mmap.mmap(self.descriptor, SIZE)
        self.words = memoryview(self.memory).cast("Q")

    @property
    def init(self) -> bytes:
        """The kernel's FUSE_INIT request; b"" where it is still to be read from the device."""
        return self.memory[_INIT : _INIT + self.words[INIT_SIZE]]

    @property
    def can_resend(self) -> bool:
        """True if the kernel resends requests without a reply."""
        return can_resend(self.init)

    def begin(self, init: bytes) -> None:
        """Begin with a connection that no daemon has served yet."""
        self.memory[: mmap.PAGESIZE] = bytes(mmap.PAGESIZE)
        self.memory[_INIT : _INIT + len(init)] = init
        self.words[INIT_SIZE] = len(init)

    def unmap(self) -> None:
        """Use it no more; the descriptor stays open."""
        self.words.release()
        self.memory.close()

    def store(self, area: range, numbers: Iterable[int]) -> None:
        """Replace the content of an area by numbers other than 0, as many as fit."""
        for at, number in zip_longest(area, islice(numbers, len(area)), fillvalue=0):
            self.words[at] = number

    def store_one(self, area: range, at: int, number: int) -> None:
        """Put the number with index `at` into an area, if it fits."""
        if at < len(area):
            self.words[area[at]] = number

    def stored(self, area: range) -> list[int]:
        """Return the numbers in an area."""
        return [number for number in self.words[area.start : area.stop].tolist() if number]


def words_of(handover: Handover | None) -> memoryview[int]:
    """Return the words of a page; without one, as many in memory of this process alone."""
    return handover.words if handover else memoryview(bytearray(SIZE)).cast("Q")


def can_resend(init: bytes) -> bool:
    """True if a kernel that has sent this FUSE_INIT resends requests without a reply."""
    return bool(int.from_bytes(init[_FLAGS2 : _FLAGS2 + 4], "little") & _RESEND)


def init_in(descriptor: int) -> bytes:
    """Return the FUSE_INIT request in a page, read without mapping it."""
    (size,) = _WORD.unpack(os.pread(descriptor, _WORD.size, INIT_SIZE * _WORD.size))
    return os.pread(descriptor, min(size, mmap.PAGESIZE - _INIT), _INIT)


def _create() -> int:
    descriptor = os.memfd_create("ccfs-handover", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, SIZE)
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor
