"""A file that somebody has left for us to take over: opened with care, read once, then removed.

Knows files and their owners; never what a ccache is, and never FUSE.  Whoever has left it may be
hostile and change it meanwhile: what counts is the one file that was opened, by its descriptor.
Everything happens with the caller's own rights.
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
_PIECE = 1 << 20
_ASIDE = ".ccfs-import-"

Wrong = Callable[[os.stat_result, int, int], bool]
"""Whether something is wrong with a file, for a user (uid) and a size (bytes, the largest)."""

WRONG: tuple[tuple[Wrong, str], ...] = (
    (lambda s, uid, most: not stat.S_ISREG(s.st_mode), "is not a regular file"),
    (lambda s, uid, most: s.st_uid != uid, "belongs to another user"),
    (lambda s, uid, most: s.st_nlink != 1, "has more than one name"),
    (lambda s, uid, most: bool(s.st_mode & 0o077), "is open to others"),
    (lambda s, uid, most: s.st_size > most, "is larger than a ccache may be"),
)
"""What no source may be, in the order in which it is looked at, and what is said of it."""


def path_of(residual: str) -> str:
    """The path that a FILE residual names: `FILE:/path` or a bare absolute path.

    SourceError for another type, a relative path, or one that names no file.
    """
    path = residual.removeprefix("FILE:")
    if not path.startswith("/") or "\0" in path:
        raise SourceError(f"cannot import {shown(residual)}: not an absolute path of a file")
    if os.path.basename(path) in ("", ".", ".."):
        raise SourceError(f"cannot import {shown(path)}: not a file")
    return path


def shown(text: str) -> str:
    """A path as a message may have it: one line, whatever is in it."""
    return text if text.isprintable() else ascii(text)


@contextmanager
def opened(path: str, limit: int) -> Iterator[Source]:
    """The source at an absolute path, open, read, and locked for readers.

    `limit`: most bytes.  SourceError unless it is a regular file that the caller owns, under one
    name, closed to everybody else, that nobody writes.
    """
    with closing(Source(path, limit)) as source:
        yield source


class Source:
    """A file that was read.  `data` are its bytes, overwritten at the end."""

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self.data = bytearray()
        self._file = -1
        parent, self._name = os.path.split(path)
        try:
            self._directory = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._refused(_why(error)) from None
        try:
            self._open(limit)
        except OSError as error:
            self.close()
            raise self._refused(_why(error)) from None
        except BaseException:
            self.close()
            raise

    def remove(self) -> None:
        """Remove the file, and overwrite what it held.

        SourceError where the name stands for something else by now, where the file has changed
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
            raise SourceError(f"cannot remove {shown(self.path)}: {_why(error)}") from None

    def device(self) -> int:
        """The device number of the file system that the file is on."""
        return self._state[0]

    def close(self) -> None:
        """Let go of it."""
        self.data[:] = bytes(len(self.data))
        for descriptor in (self._file, self._directory):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._directory = -1

    def _unlink(self) -> None:
        """Remove this file, and no other that is put in its place at this very moment.

        unlink(2) takes whatever has the name.  So the file gets one that no other process knows:
        what is there then is what is removed.  The name says which file was to be removed, for the
        next import to finish it where this process is killed in between (`_finish_others`).
        """
        aside = _aside(self._state)
        os.rename(self._name, aside, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        try:
            # Its new name has changed the last of them, the time of that (stat(2)).
            if _state(self._look(aside))[:-1] != self._state[:-1]:
                raise self._changed()
            os.unlink(aside, dir_fd=self._directory)
        except BaseException:
            self._put_back(aside)
            raise

    def _put_back(self, aside: str) -> None:
        """Give the file its name again, unless another file has that by now."""
        try:
            rename_noreplace.rename(aside, self._name, self._directory)
        except FileExistsError:
            raise SourceError(
                f"{shown(self.path)} has changed since it was read; the former file is now {aside}"
            ) from None

    def _finish_others(self) -> None:
        """Remove files that an earlier import had taken over when it was killed.

        Each was in the journal before it got its name; one that is not what its name says stays.
        """
        with suppress(OSError):
            names = os.listdir(f"/proc/self/fd/{self._directory}")
            for name in names:
                if name.startswith(_ASIDE):
                    with suppress(OSError):
                        self._finish(name)

    def _finish(self, name: str) -> None:
        descriptor = os.open(name, os.O_RDWR | _FLAGS, dir_fd=self._directory)
        try:
            status = os.fstat(descriptor)
            wrong = any(is_wrong(status, filesystem_uid(), 1 << 62) for is_wrong, _ in WRONG)
            if wrong or not name.startswith(_aside(_state(status), "")):
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
        for is_wrong, what in WRONG:
            if is_wrong(status, filesystem_uid(), limit):
                raise self._refused(f"it {what}")
        self._keep_writers_out()
        self._state = _state(os.fstat(self._file))
        self.data = _read(self._file, status.st_size)
        if _state(os.fstat(self._file)) != self._state or len(self.data) != status.st_size:
            raise self._refused("it changes while it is read")

    def _keep_writers_out(self) -> None:
        """Take the lock that Kerberos libraries take, until the end; not every file has locks."""
        with suppress(OSError):  # a file system without locks
            if not record_locks.try_lock(self._file, record_locks.READ):
                raise self._refused("another process has locked it")

    @contextmanager
    def _writable(self) -> Iterator[int]:
        """A descriptor to overwrite the file by, -1 where that is not allowed."""
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
        return SourceError(f"{shown(self.path)} has changed since it was read, and stays")

    def _refused(self, why: str) -> SourceError:
        return SourceError(f"cannot import {shown(self.path)}: {why}")


def _state(status: os.stat_result) -> tuple[int, ...]:
    """Which file it is, and what changes when its content, owner, mode or names do."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _aside(state: tuple[int, ...], random: str | None = None) -> str:
    """The name for a file that is about to be removed: which one it is, and what no one guesses."""
    suffix = secrets.token_hex(16) if random is None else random
    return f"{_ASIDE}{state[1]:x}-{state[2]:x}-{state[3]:x}-{suffix}"


def _read(descriptor: int, size: int) -> bytearray:
    """The bytes of a file that had `size` of them; one more where it has more by now."""
    data = bytearray(size + 1)
    have = 0
    with memoryview(data) as view:
        while have <= size and (got := os.readv(descriptor, [view[have : have + _PIECE]])):
            have += got
    del data[have:]
    return data


def _overwrite(descriptor: int, left: int) -> None:
    """Write zeros over a file whose name is gone, as far as that goes."""
    with suppress(OSError):
        while descriptor >= 0 and left > 0:
            left -= os.write(descriptor, bytes(min(left, _PIECE)))


def _why(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is a symbolic link"
    return (error.strerror or str(error)).lower()
