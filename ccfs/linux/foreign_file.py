# SPDX-License-Identifier: MIT
"""A file that another process has left to be imported: opened with care, read once, then removed.

That process may be hostile and change the file, or its name, meanwhile: what counts is the one file
that was opened, by its descriptor.  Everything happens with the rights of the calling process.

Knows files and their owners; never what a ccache is, and never FUSE.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

from ccfs.errors import SourceError
from ccfs.linux import record_locks, rename_noreplace
from ccfs.linux.fsuid import filesystem_uid

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_CHUNK = 1 << 20
_SET_ASIDE = ".ccfs-import-"

Fault = Callable[[os.stat_result, int, int], bool]
"""True if a file has a fault, for a user (uid) and a limit of its size (bytes)."""

FAULTS: tuple[tuple[Fault, str], ...] = (
    (lambda s, uid, most: not stat.S_ISREG(s.st_mode), "is not a regular file"),
    (lambda s, uid, most: s.st_uid != uid, "belongs to another user"),
    (lambda s, uid, most: s.st_nlink != 1, "has more than one name"),
    (lambda s, uid, most: bool(s.st_mode & 0o077), "is open to others"),
    (lambda s, uid, most: s.st_size > most, "is larger than a ccache may be"),
)
"""Why a file is refused, in the order in which it is checked, and what the message says of it."""


def path_of_residual(residual: str) -> str:
    """Return the path in a FILE residual: `FILE:/path` or a bare absolute path.

    Raises SourceError for another type, a relative path, or one that names no file.
    """
    path = residual.removeprefix("FILE:")
    if not path.startswith("/") or "\0" in path:
        raise SourceError(f"cannot import {printable(residual)}: not an absolute path of a file")
    if os.path.basename(path) in ("", ".", ".."):
        raise SourceError(f"cannot import {printable(path)}: not a file")
    return path


def printable(text: str) -> str:
    """Return a path as one line of a message, whatever characters are in it."""
    return text if text.isprintable() else ascii(text)


@contextmanager
def open_source(path: str, limit: int) -> Iterator[Source]:
    """Open, read and read-lock the file at an absolute path.

    `limit`: most bytes.  Raises SourceError unless it is a regular file that the caller owns, with
    one link and no permission for other users, and that no process has locked for writing.
    """
    with closing(Source(path, limit)) as source:
        yield source


class Source:
    """A file that was read.  `data`: its bytes, overwritten by `close`."""

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self.data = bytearray()
        self._file = -1
        parent, self._name = os.path.split(path)
        try:
            self._directory = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._refused(_reason(error)) from None
        try:
            self._open(limit)
        except OSError as error:
            self.close()
            raise self._refused(_reason(error)) from None
        except BaseException:
            self.close()
            raise

    def remove(self) -> None:
        """Remove the file, and overwrite its content.

        Raises SourceError where the name leads to another file by now, where the file has changed
        since it was read, or where it can't be removed: it stays.
        """
        try:
            if _state(self._look(self._name)) != self._state:
                raise self._changed()
            with self._writable() as writer:
                self._unlink()
                _overwrite(writer, os.fstat(self._file).st_size)
            self._finish_others()
        except OSError as error:
            raise SourceError(f"cannot remove {printable(self.path)}: {_reason(error)}") from None

    def device(self) -> int:
        """Return the device number of the file system that the file is on."""
        return self._state[0]

    def close(self) -> None:
        """Close it, and overwrite `data`."""
        self.data[:] = bytes(len(self.data))
        for descriptor in (self._file, self._directory):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._directory = -1

    def _unlink(self) -> None:
        """Remove this file, and no other that gets its name at this very moment.

        unlink(2) removes the file that has the name then.  So the file is renamed to a name that no
        other process knows, and what has that name is checked and removed.  The name tells which
        file was to be removed, so that the next import finishes it where this process is killed in
        between (`_finish_others`).
        """
        aside = _name_aside(self._state)
        os.rename(self._name, aside, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        try:
            # Without the last field, ctime: rename(2) has changed it.
            if _state(self._look(aside))[:-1] != self._state[:-1]:
                raise self._changed()
            os.unlink(aside, dir_fd=self._directory)
        except BaseException:
            self._put_back(aside)
            raise

    def _put_back(self, aside: str) -> None:
        """Give the file its name back, unless another file has that by now."""
        try:
            rename_noreplace.rename(aside, self._name, self._directory)
        except FileExistsError:
            raise SourceError(
                f"{printable(self.path)} has changed since it was read, the former file is {aside}"
            ) from None

    def _finish_others(self) -> None:
        """Remove files that an earlier import had renamed when it was killed.

        The journal had each of them before it was renamed.  One whose name doesn't fit it stays.
        """
        with suppress(OSError):
            names = os.listdir(f"/proc/self/fd/{self._directory}")
            for name in names:
                if name.startswith(_SET_ASIDE):
                    with suppress(OSError):
                        self._finish(name)

    def _finish(self, name: str) -> None:
        descriptor = os.open(name, os.O_RDWR | _FLAGS, dir_fd=self._directory)
        try:
            status = os.fstat(descriptor)
            faulty = any(is_fault(status, filesystem_uid(), 1 << 62) for is_fault, _ in FAULTS)
            if faulty or not name.startswith(_name_aside(_state(status), "")):
                return
            if not record_locks.try_lock(descriptor, record_locks.WRITE):
                return  # another import is about to remove it
            os.unlink(name, dir_fd=self._directory)
            _overwrite(descriptor, status.st_size)
        finally:
            os.close(descriptor)

    def _look(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self._directory, follow_symlinks=False)

    def _open(self, limit: int) -> None:
        self._file = os.open(self._name, os.O_RDONLY | _FLAGS, dir_fd=self._directory)
        status = os.fstat(self._file)
        for is_fault, message in FAULTS:
            if is_fault(status, filesystem_uid(), limit):
                raise self._refused(f"it {message}")
        self._lock_out_writers()
        self._state = _state(os.fstat(self._file))
        self.data = _read(self._file, status.st_size)
        if _state(os.fstat(self._file)) != self._state or len(self.data) != status.st_size:
            raise self._refused("it changes while it is read")

    def _lock_out_writers(self) -> None:
        """Take the read lock that Kerberos libraries take, until `close`."""
        with suppress(OSError):  # a file system without locks
            if not record_locks.try_lock(self._file, record_locks.READ):
                raise self._refused("another process has locked it")

    @contextmanager
    def _writable(self) -> Iterator[int]:
        """A descriptor for overwriting the file, -1 where the mode forbids that."""
        writer = -1
        with suppress(PermissionError):
            writer = os.open(self._name, os.O_WRONLY | _FLAGS, dir_fd=self._directory)
        try:
            if writer >= 0 and _state(os.fstat(writer)) != self._state:
                raise self._changed()
            yield writer
        finally:
            if writer >= 0:
                os.close(writer)

    def _changed(self) -> SourceError:
        return SourceError(f"{printable(self.path)} has changed since it was read, and stays")

    def _refused(self, reason: str) -> SourceError:
        return SourceError(f"cannot import {printable(self.path)}: {reason}")


def _state(status: os.stat_result) -> tuple[int, ...]:
    """What identifies a file, and changes with its content, owner, mode or names."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _name_aside(state: tuple[int, ...], random: str | None = None) -> str:
    """The name for a file that is about to be removed: its identity, and a random part."""
    suffix = secrets.token_hex(16) if random is None else random
    return f"{_SET_ASIDE}{state[1]:x}-{state[2]:x}-{state[3]:x}-{suffix}"


def _read(descriptor: int, size: int) -> bytearray:
    """Read a file of `size` bytes; one byte more where it has grown."""
    data = bytearray(size + 1)
    length = 0
    with memoryview(data) as view:
        while length <= size and (got := os.readv(descriptor, [view[length : length + _CHUNK]])):
            length += got
    del data[length:]
    return data


def _overwrite(descriptor: int, left: int) -> None:
    """Write zeros over `left` bytes of a removed file, as far as that succeeds."""
    with suppress(OSError):
        while descriptor >= 0 and left > 0:
            left -= os.write(descriptor, bytes(min(left, _CHUNK)))


def _reason(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is a symbolic link"
    return (error.strerror or str(error)).lower()
