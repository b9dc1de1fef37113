# SPDX-License-Identifier: MIT
"""One file of frames, each of them a step.

    file   = header frame...                                   the header has a page of its own
    header = "ccfslog" NUL version(u32) uid(u32) sha256(mountpoint) name(u64) crc(u32)
    step   = u64 at byte 64
    frame  = size(u32) size(u32) number(u64) crc(u32) meta data      the sizes of meta and of data

`meta`: the step's entries (ccfs.journal.entries); `data`: the bytes of records that they refer to.
`step` is the number of frames that count, with a checksum in its upper bits.  A step is
acknowledged by writing that word in one store instruction of eight bytes; bytes after the frames
that count were written by a process that was killed before that.  `name` is a random number that no
other log has.  The header is the same in all later versions.  The checksum of a frame is over its
sizes, number and meta, not over data: data may be overwritten with zeros later, and has checksums
of its own in the meta.  Numbers are little-endian, but for `step`, which has the machine's order.

Knows bytes and extents of the file; never what a step is.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct
from zlib import crc32

from ccfs.store.errors import DamagedError, ForeignError, InUseError, NewerError

log = logging.getLogger(__name__)

VERSION = 7
"""The version of the format; up to 5 it was an SQLite database."""
MAGIC = b"ccfslog\0"
_HEADERS = {6: Struct("<8sII32s"), VERSION: Struct("<8sII32sQ")}
_VERSION_AT = len(MAGIC)
_CHECK = Struct("<I")
_FRAME = Struct("<IIQI")
_SIZES = Struct("<IIQ")
_START = mmap.PAGESIZE
_STEP = 8  # position of the word in the header, at byte 64
_STEP_BITS = 40
_SIZE = (1 << 32) - 1
_NO_HEADER = memoryview(bytearray(_START)).cast("Q")
_PIECE = 64 * 1024
_DAMAGED = "it is damaged"


Extent = int
"""Where data is in the file: its offset, shifted left by 32 bits, and its size.

There is one for each record: an integer takes a third of the memory of a pair.
"""


def extent_of(offset: int, size: int) -> Extent:
    """The extent of `size` bytes at `offset`."""
    return offset << 32 | size


def size_of(extent: Extent) -> int:
    """The size of an extent in bytes."""
    return extent & _SIZE


def version_of(path: str) -> int:
    """The version in a log's header; 0 where the file at `path` is no log."""
    with suppress(OSError), open(path, "rb") as file:
        head = file.read(_VERSION_AT + 4)
        if head.startswith(MAGIC) and len(head) == _VERSION_AT + 4:
            return int.from_bytes(head[_VERSION_AT:], "little")
    return 0


@dataclass(frozen=True, slots=True)
class Frame:
    """One step: its number, its entries as bytes, and the offset of its data in the file."""

    number: int
    meta: bytes
    data: int


class Log:
    """An open log, locked against other processes.

    `end`: the offset of the next frame.  `step`: the number of the last frame that counts.  `name`:
    the random number of 63 bits in the header.
    """

    def __init__(self, path: str, *, fresh: bool) -> None:
        """Open a log, or (`fresh`) make an empty file.  Raises InUseError, OSError."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if fresh else 0)
        self._file = os.open(path, flags, 0o600)
        self._memory: mmap.mmap | None = None
        self._mapped = 0
        self._header = _NO_HEADER
        self._warned = False
        self.end, self.step, self.name = _START, 0, 0
        try:
            self._lock()
            if fresh:
                os.ftruncate(self._file, 0)
            self._file_size = os.fstat(self._file).st_size
        except BaseException:
            os.close(self._file)
            raise

    def begin(self, mountpoint: bytes, uid: int) -> None:
        """Write the header.  Raises OSError where there is no room."""
        self._grow(_START)
        self._header = _map_header(self._file)
        self.name = int.from_bytes(os.urandom(8), "little") >> 1
        digest = sha256(mountpoint).digest()
        header = _HEADERS[VERSION].pack(MAGIC, VERSION, uid, digest, self.name)
        os.pwrite(self._file, header + _CHECK.pack(crc32(header)), 0)
        self._acknowledge(0)

    def check(self, mountpoint: bytes, uid: int, version: int = VERSION) -> None:
        """Read the header.  Raises DamagedError, ForeignError, NewerError."""
        header, form = os.pread(self._file, _STEP * 8, 0), _HEADERS[version]
        if not header.startswith(MAGIC):
            raise DamagedError("it is no journal of ccfs")
        if self._file_size < _START:
            raise DamagedError(_DAMAGED)
        if _CHECK.unpack_from(header, form.size)[0] != crc32(header[: form.size]):
            raise DamagedError(_DAMAGED)
        _, its_version, owner, digest, *names = form.unpack_from(header)
        if its_version > VERSION:
            raise NewerError(f"it is of version {its_version}, this ccfs reads up to {VERSION}")
        if its_version != version:
            raise DamagedError(f"it is of version {its_version}, this ccfs writes {VERSION}")
        self.name = names[0] if names else 0
        if digest != sha256(mountpoint).digest():
            raise ForeignError
        if owner != uid:
            raise DamagedError("it is another user's")
        self._map_all()
        self._header = _map_header(self._file)
        word = self._header[_STEP]
        self.step = word & (1 << _STEP_BITS) - 1
        if word != _with_checksum(self.step):
            raise DamagedError(_DAMAGED)

    def frames(self) -> Iterator[Frame]:
        """Read the frames that count, in their order.  DamagedError where one is damaged."""
        for number in range(1, self.step + 1):
            head = os.pread(self._file, _FRAME.size, self.end)
            if len(head) < _FRAME.size:
                raise DamagedError("it has lost its last changes")
            meta_size, data_size, its_number, checksum = _FRAME.unpack(head)
            start = self.end + _FRAME.size
            end = start + meta_size + data_size
            if its_number != number or end > self._file_size:
                raise DamagedError(_DAMAGED)
            meta = os.pread(self._file, meta_size, start)
            if crc32(meta, crc32(head[: _SIZES.size])) != checksum:
                raise DamagedError(_DAMAGED)
            self.end = end
            yield Frame(number, meta, start + meta_size)

    def wipe_rest(self) -> None:
        """Overwrite what is behind the frames that count; it may hold secrets."""
        for at in range(self.end, self._file_size, _PIECE):
            self._write(bytes(min(_PIECE, self._file_size - at)), at)

    def append(self, meta: bytes, data: list[bytes]) -> int:
        """Add a step, and acknowledge it; returns the offset of its data.

        OSError where there is no room: nothing was added.
        """
        number, data_size = self.step + 1, sum(map(len, data))
        sizes = _SIZES.pack(len(meta), data_size, number)
        checksum = _CHECK.pack(crc32(meta, crc32(sizes)))
        start = self.end
        end = start + _FRAME.size + len(meta) + data_size
        if end > self._file_size:
            self._grow(end)
        self._write(b"".join((sizes, checksum, meta, *data)), start)
        self.end = end
        self._acknowledge(number)
        return end - data_size

    def read(self, extent: Extent) -> bytes:
        """Read the data of an extent."""
        at, size = extent >> 32, extent & _SIZE
        if self._memory is not None and at + size <= self._mapped:
            return self._memory[at : at + size]
        return os.pread(self._file, size, at)

    def erase(self, extents: list[Extent]) -> None:
        """Overwrite extents with zeros."""
        for at, size in _joined(extents):
            self._write(bytes(size), at)

    def wipe(self) -> None:
        """Overwrite the whole file with zeros."""
        for at in range(0, self._file_size, _PIECE):
            self._write(bytes(min(_PIECE, self._file_size - at)), at)

    def is_file(self, path: str) -> bool:
        """Whether a path leads to this file."""
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._file), os.lstat(path))
        return False

    def close(self) -> None:
        """Close the file, which also unlocks it."""
        if self._memory is not None:
            self._memory.close()
        self._mapped = 0
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _acknowledge(self, number: int) -> None:
        self._header[_STEP] = _with_checksum(number)  # one store of eight bytes
        self.step = number

    def _grow(self, end: int) -> None:
        """Allocate the file up to `end` and an eighth more, and map it."""
        size = -(-max(end, self._file_size + self._file_size // 8) // _PIECE) * _PIECE
        os.posix_fallocate(self._file, 0, size)
        self._file_size = size
        self._map_all()

    def _map_all(self) -> None:
        """Map the whole file; what can't be mapped is read and written by system calls.

        The daemon's mappings are locked in memory (mlockall, MCL_FUTURE): beyond RLIMIT_MEMLOCK
        mmap(2) fails.
        """
        try:
            if self._memory is None:
                self._memory = mmap.mmap(self._file, self._file_size)
            else:
                self._memory.resize(self._file_size)
            self._mapped = self._file_size
        except OSError as error:
            if not self._warned:
                log.warning("part of the journal is not locked in memory: %s", error.strerror)
            self._warned = True

    def _write(self, data: bytes, at: int) -> None:
        end = at + len(data)
        if self._memory is not None and end <= self._mapped:
            self._memory[at:end] = data
            return
        view = memoryview(data)
        while view:
            done = os.pwrite(self._file, view, at)
            view, at = view[done:], at + done

    def _lock(self) -> None:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError from None


def _map_header(file: int) -> memoryview[int]:
    """Map the header as words of eight bytes, apart from the rest, whose mapping may move."""
    return memoryview(mmap.mmap(file, _START)).cast("Q")


def _with_checksum(step: int) -> int:
    """The word in the header for a number of steps: the number below, its checksum above."""
    return crc32(step.to_bytes(8, "little")) >> 8 << _STEP_BITS | step


def _joined(extents: list[Extent]) -> list[tuple[int, int]]:
    """Join neighbours: the offset and the size of each run."""
    runs, start, end = [], 0, 0
    for extent in sorted(extents):
        at = extent >> 32
        if at != end:
            runs.append((start, end - start))
            start = at
        end = at + (extent & _SIZE)
    return [*runs[1:], (start, end - start)]
