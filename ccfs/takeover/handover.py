"""What one daemon of a mount leaves to the next, beside the journal: a little shared memory.

The journal has what was done; here is what was being done.  The supervisor holds it, and it
is written by single stores, so that it says how things were at the moment of a kill.

    word 0    size of the kernel's FUSE_INIT request, whose bytes are at INIT
    1, 2      the mark of the step that the present request makes (ccfs.journal), its number one
              higher; word 2 is 0 where there is none
    3         the last request that was given to a daemon again, by its number (`unique`)
    4         1 while notifications of a step are still to be sent
    5         a number that changes while the daemon answers
    6         what tells the file that was opened last from others of its inode
              (ccfs.ops.handle_numbers)
    64 - 127  who polls a file, as the kernel calls them (FUSE_NOTIFY_POLL); 0: none
    128 - 255 FIFOs that are to be kicked, and ccaches that are to be touched: serial numbers, one
              higher; 0: none

A page behind it, from word KCM on, is of the present KCM request (ccfs.kcm.inflight): it is not
about a connection to the kernel, and stays when there is another one.  All is locked in memory as
the daemon is.  Knows words and bytes; never what a request asks.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterable
from itertools import islice, zip_longest

INIT_SIZE, MARK_NAME, MARK_STEP, RESENT, OWED, TURNS, OPENED = range(7)
POLLS, KICKS, TOUCHES = range(64, 128), range(128, 192), range(192, 256)
KCM = mmap.PAGESIZE // 8
SIZE = 2 * mmap.PAGESIZE

INIT_MOST = 16 * 1024
"""Bytes; what the kernel wants to have room for at least (FUSE_MIN_READ_BUFFER) is less."""
_INIT = 2048
_WORD = struct.Struct("=Q")

_HEAD = 40
_RESEND = 1 << 7
"""FUSE_HAS_RESEND in the upper flags of FUSE_INIT (linux/fuse.h), since Linux 6.9."""
_FLAGS2 = _HEAD + 16


class Handover:
    """The memory, mapped.  `words`: all but the bytes of FUSE_INIT."""

    def __init__(self, descriptor: int = -1) -> None:
        """Map what another process has made, or make it."""
        self.descriptor = descriptor if descriptor >= 0 else _make()
        self.memory = mmap.mmap(self.descriptor, SIZE)
        self.words = memoryview(self.memory).cast("Q")

    @property
    def init(self) -> bytes:
        """The kernel's FUSE_INIT request; b"" where it is to be read from the device still."""
        return self.memory[_INIT : _INIT + self.words[INIT_SIZE]]

    @property
    def can_resend(self) -> bool:
        """Whether the kernel gives out again what was not answered."""
        return can_resend(self.init)

    def renew(self, init: bytes) -> None:
        """Begin with a connection that no daemon has served yet."""
        self.memory[: mmap.PAGESIZE] = bytes(mmap.PAGESIZE)
        self.memory[_INIT : _INIT + len(init)] = init
        self.words[INIT_SIZE] = len(init)

    def unmap(self) -> None:
        """Use it no more; the descriptor stays open."""
        self.words.release()
        self.memory.close()

    def note(self, where: range, numbers: Iterable[int]) -> None:
        """Have these numbers, none of them 0, in a place, as many as it has room for."""
        for at, number in zip_longest(where, islice(numbers, len(where)), fillvalue=0):
            self.words[at] = number

    def note_one(self, where: range, at: int, number: int) -> None:
        """Have one more number in a place, where it has `at` of them."""
        if at < len(where):
            self.words[where[at]] = number

    def noted(self, where: range) -> list[int]:
        """The numbers in a place."""
        return [number for number in self.words[where.start : where.stop].tolist() if number]


def words_of(handover: Handover | None) -> memoryview[int]:
    """Its words; where there is none, as many in memory of this process alone."""
    return handover.words if handover else memoryview(bytearray(SIZE)).cast("Q")


def can_resend(init: bytes) -> bool:
    """Whether a kernel that has begun so gives out again what was not answered."""
    return bool(int.from_bytes(init[_FLAGS2 : _FLAGS2 + 4], "little") & _RESEND)


def init_in(descriptor: int) -> bytes:
    """The FUSE_INIT request that a hand-over has, read without mapping it."""
    (size,) = _WORD.unpack(os.pread(descriptor, _WORD.size, INIT_SIZE * _WORD.size))
    return os.pread(descriptor, min(size, mmap.PAGESIZE - _INIT), _INIT)


def _make() -> int:
    descriptor = os.memfd_create("ccfs-handover", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, SIZE)
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor
