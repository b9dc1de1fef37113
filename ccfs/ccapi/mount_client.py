"""One server as a client sees it: the root of its mount, and file operations below that.

It knows paths and bytes, never what they mean to the CCAPI.  The descriptor of the root is one
server's for ever: when that dies every operation fails, whatever is mounted on the path by then.
Every method raises OSError.
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
    """The lines of an `info` file; OSError (EIO) for one that isn't there."""

    def __missing__(self, key: str) -> str:
        raise OSError(errno.EIO, f"no {key} in info")


class Server:
    """A living mount.  `root`: an O_PATH descriptor of its root, which this object owns."""

    def __init__(self, root: int) -> None:
        weakref.finalize(self, os.close, root)
        self._root = root
        self.device = os.fstat(root).st_dev
        self.identity = self.info("info")["server_id"]

    def ping(self) -> None:
        """Raise OSError where nobody serves any more."""
        self.readlink("default")

    def open(self, path: str, flags: int) -> int:
        """A descriptor; a new file is the owner's alone."""
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY, 0o600, dir_fd=self._root)

    def read(self, path: str) -> bytes:
        """All bytes of a file."""
        descriptor = self.open(path, os.O_RDONLY)
        try:
            return read_all(descriptor)
        finally:
            os.close(descriptor)

    def info(self, path: str) -> Info:
        """The `key: value` lines of a file; the value of a key without one is empty."""
        text = self.read(path).decode("utf-8", "surrogateescape")
        pairs = (line.partition(":") for line in text.split("\n"))
        return Info((key, value.removeprefix(" ")) for key, colon, value in pairs if colon)

    def readlink(self, path: str) -> str:
        """Where a symbolic link points."""
        return os.readlink(path, dir_fd=self._root)

    def names(self, path: str) -> list[str]:
        """The entries of a directory in its own order, as they were at one moment."""
        descriptor = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return os.listdir(descriptor)
        finally:
            os.close(descriptor)

    def unlink(self, path: str) -> None:
        """Remove what is no directory."""
        os.unlink(path, dir_fd=self._root)

    def replace_link(self, path: str, target: str) -> None:
        """Put a symbolic link in the place of another in one step."""
        beside = unique("." + path)
        os.symlink(target, beside, dir_fd=self._root)
        try:
            os.rename(beside, path, src_dir_fd=self._root, dst_dir_fd=self._root)
        except OSError:
            with suppress(OSError):
                os.unlink(beside, dir_fd=self._root)
            raise

    def transact(self, path: str, question: bytes) -> bytes:
        """Write a question and read its answer, both in one piece."""
        descriptor = self.open(path, os.O_RDWR)
        try:
            os.write(descriptor, question)
            return os.pread(descriptor, CHUNK, 0)
        finally:
            os.close(descriptor)


def read_all(descriptor: int) -> bytes:
    """All bytes from where a descriptor stands."""
    chunks = [os.read(descriptor, CHUNK)]
    while len(chunks[-1]) == CHUNK:
        chunks.append(os.read(descriptor, CHUNK))
    return b"".join(chunks)


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def unique(name: str) -> str:
    """A file name that no other client makes at the same time."""
    return f"{name}.{os.getpid()}.{threading.get_native_id()}.{next(_numbers)}"
