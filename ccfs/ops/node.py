# SPDX-License-Identifier: MIT
"""Nodes: what each row of the tree can be asked.

A node has no state: it gets the file system and the serial number that the request is about.  The
base classes refuse what a node does not do.
"""

from collections.abc import Iterable
from typing import NamedTuple

from ccfs.format.errors import FormatError
from ccfs.format.names import decode_name, encode_name
from ccfs.ops.errnos import IsDirectoryError, WrongKindError
from ccfs.ops.file_system import FileSystem
from ccfs.ops.handles import Handle
from ccfs.ops.inodes import Ref
from ccfs.store import Stamp
from ccfs.store.ccache import Ccache
from ccfs.store.errors import BadNameError, GoneError, NotFoundError, NotPermittedError

LONG = 3600.0
"""Timeout in seconds of attributes and names that change only with an invalidation."""


class Attributes(NamedTuple):
    """The attributes of a node: size in bytes, mtime in seconds, timeouts in seconds.

    `inode`: the number to return, where it is not the requested one.  `set_times`: atime and mtime
    in nanoseconds, where the user has set them.
    """

    size: int = 0
    mtime: float = 0.0
    nlink: int = 1
    attr_timeout: float = 0.0
    entry_timeout: float = LONG
    inode: int = 0
    set_times: tuple[int, int] | None = None


class Opening(NamedTuple):
    """The arguments of an open: when and by whom, and its flags.  `task`: the calling thread."""

    at: Stamp
    task: int
    writes: bool
    append: bool
    truncate: bool


class Node:
    """Any node."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        """Return the attributes; GoneError where the node does not exist any more."""
        raise NotImplementedError

    def open(self, fs: FileSystem, serial: int, opening: Opening) -> Handle:
        """Open it as a file."""
        raise WrongKindError

    def reopen(self, fs: FileSystem, serial: int, opening: Opening, number: int) -> Handle:
        """Make the handle of this number, which was opened through an earlier daemon."""
        return self.open(fs, serial, opening)

    def truncate(self, fs: FileSystem, serial: int, size: int, at: Stamp) -> None:
        """Set the size."""
        raise NotPermittedError("this file's size can't be set")

    def readlink(self, fs: FileSystem, serial: int) -> bytes:
        """Return the target of a symbolic link."""
        raise WrongKindError

    def unlinked(self, fs: FileSystem, serial: int, at: Stamp) -> None:
        """Handle the removal of its fixed name, which stays in its directory."""


class Directory(Node):
    """A directory.  Its fixed names are found in the table, all others by these methods."""

    def open(self, fs: FileSystem, serial: int, opening: Opening) -> Handle:
        raise IsDirectoryError

    def find(self, fs: FileSystem, serial: int, name: bytes, pid: int) -> Ref:
        """Return the entry of a name; NotFoundError where there is none."""
        raise NotFoundError("no such name")

    def entries(self, fs: FileSystem, serial: int) -> Iterable[tuple[bytes, Ref]]:
        """Return the names that are not in the table, in their order."""
        return ()

    def create(
        self, fs: FileSystem, serial: int, name: bytes, opening: Opening
    ) -> tuple[Ref, Handle]:
        """Make a file and open it."""
        raise NotPermittedError("no files are made here")

    def mkdir(self, fs: FileSystem, serial: int, name: bytes, at: Stamp) -> Ref:
        """Make a directory."""
        raise NotPermittedError("no directories are made here")

    def symlink(self, fs: FileSystem, serial: int, name: bytes, target: bytes, at: Stamp) -> Ref:
        """Make a symbolic link."""
        raise NotPermittedError("no links are made here")

    def unlink(self, fs: FileSystem, serial: int, name: bytes, at: Stamp) -> None:
        """Remove a file or link."""
        raise NotPermittedError("nothing is removed here")

    def rmdir(self, fs: FileSystem, serial: int, name: bytes, at: Stamp) -> None:
        """Remove a directory, empty or not."""
        raise NotPermittedError("no directories are removed here")


def ccache_of(fs: FileSystem, serial: int) -> Ccache:
    """Return the ccache of a serial number; GoneError where it was destroyed."""
    ccache = fs.store.collection.by_serial(serial)
    if ccache is None:
        raise GoneError("the ccache was destroyed")
    return ccache


def mtime_of(fs: FileSystem, serial: int) -> float:
    """Return when the entries of the mount (0) or of a ccache last changed."""
    return fs.store.collection.mtime if not serial else ccache_of(fs, serial).mtime


def decoded(name: bytes) -> bytes:
    """Decode a directory name to the ccache's name; BadNameError where it isn't canonical."""
    try:
        return decode_name(name.decode("utf-8"))
    except (FormatError, UnicodeDecodeError):
        raise BadNameError("no canonical encoding of a name") from None


def encoded(name: bytes) -> bytes:
    """Encode a ccache's name to its directory name."""
    return encode_name(name).encode("utf-8")
