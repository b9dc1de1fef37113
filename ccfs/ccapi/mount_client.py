# SPDX-License-Identifier: MIT
"""A mount as a client sees it: its root, and file operations below that.

Knows paths and bytes, never what they mean to the CCAPI.  The descriptor of the root belongs to one
mount for ever: when its daemon dies for good every operation fails, whatever is mounted at the path
by then.  Every method raises OSError.
"""

import errno
import os
import threading
import weakref
from contextlib import suppress
from itertools import count

CHUNK = 1 << 14
"""Bytes of one read: the mount answers a shorter read only at the end of a file."""

_numbers = count()


class Info(dict[str, str]):
    """The lines of an `info` file; a missing key raises OSError (EIO)."""

    def __missing__(self, key: str) -> str:
        raise OSError(errno.EIO, f"no {key} in info")


class MountClient:
    """A mount that answers.  `root`: an O_PATH descriptor of its root, which this object owns."""

    def __init__(self, root: int) -> None:
        weakref.finalize(self, os.close, root)
        self._root = root
        self.device = os.fstat(root).st_dev
        self.identity = self.info("info")["server_id"]

    def ping(self) -> None:
        """Raise OSError if the mount is dead."""
        self.readlink("default")

    def open(self, path: str, flags: int) -> int:
        """Open a file and return its descriptor; a new file has mode 0600."""
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY, 0o600, dir_fd=self._root)

    def read(self, path: str) -> bytes:
        """Return all bytes of a file."""
        descriptor = self.open(path, os.O_RDONLY)
        try:
            return read_all(descriptor)
        finally:
            os.close(descriptor)

    def info(self, path: str) -> Info:
        """Return the `key: value` lines of a file; the value of an empty one is ""."""
        text = self.read(path).decode("utf-8", "surrogateescape")
        pairs = (line.partition(":") for line in text.split("\n"))
        return Info((key, value.removeprefix(" ")) for key, colon, value in pairs if colon)

    def readlink(self, path: str) -> str:
        """Return the target of a symbolic link."""
        return os.readlink(path, dir_fd=self._root)

    def names(self, path: str) -> list[str]:
        """Return the entries of a directory in its own order, as of one moment."""
        descriptor = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return os.listdir(descriptor)
        finally:
            os.close(descriptor)

    def unlink(self, path: str) -> None:
        """Remove a name that is not a directory's."""
        os.unlink(path, dir_fd=self._root)

    def replace_link(self, path: str, target: str) -> None:
        """Replace a symbolic link by another in one step."""
        scratch = unique("." + path)
        os.symlink(target, scratch, dir_fd=self._root)
        try:
            os.rename(scratch, path, src_dir_fd=self._root, dst_dir_fd=self._root)
        except OSError:
            with suppress(OSError):
                os.unlink(scratch, dir_fd=self._root)
            raise

    def transact(self, path: str, request: bytes) -> bytes:
        """Write a request to a file and return the reply, each in one operation."""
        descriptor = self.open(path, os.O_RDWR)
        try:
            os.write(descriptor, request)
            return os.pread(descriptor, CHUNK, 0)
        finally:
            os.close(descriptor)


def read_all(descriptor: int) -> bytes:
    """Read from a descriptor's offset to the end of the file."""
    chunks = [os.read(descriptor, CHUNK)]
    while len(chunks[-1]) == CHUNK:
        chunks.append(os.read(descriptor, CHUNK))
    return b"".join(chunks)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def unique(name: str) -> str:
    """Return a file name that no other client makes at the same time."""
    return f"{name}.{os.getpid()}.{threading.get_native_id()}.{next(_numbers)}"
