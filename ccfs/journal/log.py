"""One file of frames, each of them a step.

    file   = header frame...                                   the header has a page of its own
    header = "ccfslog" NUL version(u32) uid(u32) sha256(mountpoint) name(u64) crc(u32)
    step   = u64 at byte 64
    frame  = size(u32) room(u32) number(u64) crc(u32) meta data      size of meta, room of data

`step` says how many frames count, with a checksum in its upper bits: to write that word is to
acknowledge a step, in one store of the machine's. What lies behind those frames is what a killed
process has not finished. `name` is a random number that no other log has. The header is the same in
all later versions. The checksum of a frame is over its sizes, number and meta: data may be
overwritten with zeros later, and has checksums in the meta. All other numbers are little-endian.

Knows bytes and places in the file; never what a step is.
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
"""Of the format; up to 5 it was an SQLite database."""
MAGIC = b"ccfslog\0"
_HEADERS = {6: Struct("<8sII32s"), VERSION: Struct("<8sII32sQ")}
_VERSION_AT = len(MAGIC)
_CHECK = Struct("<I")
_FRAME = Struct("<IIQI")
_SIZES = Struct("<IIQ")
_START = mmap.PAGESIZE
_STEP = 8  # the word at byte 64
_STEP_BITS = 40
_SIZE = (1 << 32) - 1
_NO_WORDS = memoryview(bytearray(_START)).cast("Q")
_PIECE = 64 * 1024
_DAMAGED = "it is damaged"


Place = int
"""Where data is in the file: the byte it begins at, and below that, in 32 bits, its size.

There is one for each record: a number takes a third of the memory that a pair does.
"""


def place(at: int, size: int) -> Place:
    """The place of `size` bytes at `at`."""
    return at << 32 | size


def version_of(path: str) -> int:
    """What a file says is its version; 0 where there is no log."""
    with suppress(OSError), open(path, "rb") as file:
        head = file.read(_VERSION_AT + 4)
        if head.startswith(MAGIC) and len(head) == _VERSION_AT + 4:
            return int.from_bytes(head[_VERSION_AT:], "little")
    return 0


@dataclass(frozen=True, slots=True)
class Frame:
    """One step: its number, what it says, and where its data begins in the file."""

    number: int
    meta: bytes
    data: int


class Log:
    """An open log, which no other process has.

    `end`: where the next frame goes.  `step`: the number of the last frame that counts.  `name`: a
    random number of 63 bits that is in its header.
    """

    def __init__(self, path: str, *, fresh: bool) -> None:
        """Open one, or make an empty file.  Raises InUseError, OSError."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if fresh else 0)
        self._file = os.open(path, flags, 0o600)
        self._memory: mmap.mmap | None = None
        self._mapped = 0
        self._words = _NO_WORDS
        self._unlocked = False
        self.end, self.step, self.name = _START, 0, 0
        try:
            self._lock()
            if fresh:
                os.ftruncate(self._file, 0)
            self._room = os.fstat(self._file).st_size
        except BaseException:
            os.close(self._file)
            raise

    def begin(self, mountpoint: bytes, uid: int) -> None:
        """Write the header.  Raises OSError where there is no room."""
        self._grow(_START)
        self._words = _header_words(self._file)
        self.name = int.from_bytes(os.urandom(8), "little") >> 1
        where = sha256(mountpoint).digest()
        head = _HEADERS[VERSION].pack(MAGIC, VERSION, uid, where, self.name)
        os.pwrite(self._file, head + _CHECK.pack(crc32(head)), 0)
        self._acknowledge(0)

    def check(self, mountpoint: bytes, uid: int, version: int = VERSION) -> None:
        """Look at the header.  Raises DamagedError, ForeignError, NewerError."""
        head, form = os.pread(self._file, _STEP * 8, 0), _HEADERS[version]
        if not head.startswith(MAGIC):
            raise DamagedError("it is no journal of ccfs")
        if self._room < _START or _CHECK.unpack_from(head, form.size)[0] != crc32(
            head[: form.size]
        ):
            raise DamagedError(_DAMAGED)
        _, found, owner, where, *rest = form.unpack_from(head)
        if found > VERSION:
            raise NewerError(f"it is of version {found}, this ccfs reads up to {VERSION}")
        if found != version:
            raise DamagedError(f"it is of version {found}, this ccfs writes {VERSION}")
        self.name = rest[0] if rest else 0
        if where != sha256(mountpoint).digest():
            raise ForeignError
        if owner != uid:
            raise DamagedError("it is another user's")
        self._map_all()
        self._words = _header_words(self._file)
        word = self._words[_STEP]
        self.step = word & (1 << _STEP_BITS) - 1
        if word != _checked(self.step):
            raise DamagedError(_DAMAGED)

    def frames(self) -> Iterator[Frame]:
        """The frames that count, in their order.  DamagedError where one isn't what was written."""
        for number in range(1, self.step + 1):
            head = os.pread(self._file, _FRAME.size, self.end)
            if len(head) < _FRAME.size:
                raise DamagedError("it has lost its last changes")
            size, room, found, check = _FRAME.unpack(head)
            start = self.end + _FRAME.size
            if found != number or start + size + room > self._room:
                raise DamagedError(_DAMAGED)
            meta = os.pread(self._file, size, start)
            if crc32(meta, crc32(head[: _SIZES.size])) != check:
                raise DamagedError(_DAMAGED)
            self.end = start + size + room
            yield Frame(number, meta, start + size)

    def forget_rest(self) -> None:
        """Overwrite what lies behind the frames that count: where there is no room, too."""
        for at in range(self.end, self._room, _PIECE):
            self._write(bytes(min(_PIECE, self._room - at)), at)

    def append(self, meta: bytes, data: list[bytes]) -> int:
        """Add a step, and acknowledge it; returns where its data is.

        Raises OSError where there is no room: nothing was added.
        """
        number, room = self.step + 1, sum(map(len, data))
        sizes = _SIZES.pack(len(meta), room, number)
        check = _CHECK.pack(crc32(meta, crc32(sizes)))
        start = self.end
        end = start + _FRAME.size + len(meta) + room
        if end > self._room:
            self._grow(end)
        self._write(b"".join((sizes, check, meta, *data)), start)
        self.end = end
        self._acknowledge(number)
        return end - room

    def read(self, where: Place) -> bytes:
        """The data at a place."""
        at, size = where >> 32, where & _SIZE
        if self._memory is not None and at + size <= self._mapped:
            return self._memory[at : at + size]
        return os.pread(self._file, size, at)

    def erase(self, places: list[Place]) -> None:
        """Overwrite what is there with zeros."""
        for at, size in _joined(places):
            self._write(bytes(size), at)

    def wipe(self) -> None:
        """Overwrite all of it."""
        for at in range(0, self._room, _PIECE):
            self._write(bytes(min(_PIECE, self._room - at)), at)

    def is_file(self, path: str) -> bool:
        """Whether a path leads to it."""
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._file), os.lstat(path))
        return False

    def close(self) -> None:
        """Let the file go."""
        if self._memory is not None:
            self._memory.close()
        self._mapped = 0
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _acknowledge(self, number: int) -> None:
        self._words[_STEP] = _checked(number)  # one store of eight bytes
        self.step = number

    def _grow(self, end: int) -> None:
        """Have room up to `end`, and a little more, mapped."""
        room = -(-max(end, self._room + self._room // 8) // _PIECE) * _PIECE
        os.posix_fallocate(self._file, 0, room)
        self._room = room
        self._map_all()

    def _map_all(self) -> None:
        """Have all of the file mapped, as far as it may be locked."""
        try:
            # The daemon's memory is locked (MCL_FUTURE), and what it maps from then on.
            if self._memory is None:
                self._memory = mmap.mmap(self._file, self._room)
            else:
                self._memory.resize(self._room)
            self._mapped = self._room
        except OSError as error:
            if not self._unlocked:
                log.warning("part of the journal is not locked in memory: %s", error.strerror)
            self._unlocked = True

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


def _header_words(file: int) -> memoryview[int]:
    """The header as words of eight bytes, in a mapping of its own: the other one is moved."""
    return memoryview(mmap.mmap(file, _START)).cast("Q")


def _checked(step: int) -> int:
    """The word for a step: its number below, a checksum above."""
    return crc32(step.to_bytes(8, "little")) >> 8 << _STEP_BITS | step


def _joined(places: list[Place]) -> list[tuple[int, int]]:
    """Where each run of neighbours begins, and how many bytes it has."""
    runs, start, end = [], 0, 0
    for where in sorted(places):
        at = where >> 32
        if at != end:
            runs.append((start, end - start))
            start = at
        end = at + (where & _SIZE)
    return [*runs[1:], (start, end - start)]
