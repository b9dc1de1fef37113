"""What a node of the tree can be asked.

A node is one row's behaviour, without state: it gets the server and the serial number it is asked
about.  What a node does not do is refused here.
"""

from collections.abc import Iterable
from typing import NamedTuple

from ccfs.format.errors import FormatError
from ccfs.format.names import decode_name
from ccfs.ops.errnos import IsDirectoryError, WrongKindError
from ccfs.ops.file_system import Server
from ccfs.ops.handles import Handle
from ccfs.ops.inodes import Ref
from ccfs.store import Stamp
from ccfs.store.ccache import Ccache
from ccfs.store.errors import BadNameError, GoneError, NotFoundError, NotPermittedError

LONG = 3600.0
"""Seconds that the kernel may keep what can't become false without it being told."""


class Attributes(NamedTuple):
    """What `stat` says beyond the table: size in bytes, mtime in seconds, timeouts in seconds.

    `inode`: the number to show, where it is not the one that was asked for.  `set_times`: atime
    and mtime in nanoseconds, where the user has set them.
    """

    size: int = 0
    mtime: float = 0.0
    nlink: int = 1
    attr_timeout: float = 0.0
    entry_timeout: float = LONG
    inode: int = 0
    set_times: tuple[int, int] | None = None


class Opening(NamedTuple):
    """How a file is opened, when and by whom.  `task`: the thread that asks."""

    at: Stamp
    task: int
    writes: bool
    append: bool
    truncate: bool


class Node:
    """Any node."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        """What `stat` says; GoneError where the thing is gone."""
        raise NotImplementedError

    def open(self, server: Server, serial: int, opening: Opening) -> Handle:
        """Open it as a file."""
        raise WrongKindError

    def reopen(self, server: Server, serial: int, opening: Opening, number: int) -> Handle:
        """Open it as another daemon had it open, under a number of the kernel's."""
        return self.open(server, serial, opening)

    def truncate(self, server: Server, serial: int, size: int, at: Stamp) -> None:
        """Set its size."""
        raise NotPermittedError("this file's size can't be set")

    def readlink(self, server: Server, serial: int) -> bytes:
        """Where a symbolic link points."""
        raise WrongKindError

    def unlinked(self, server: Server, serial: int, at: Stamp) -> None:
        """Its name was removed, but it is part of its directory and stays."""


class Directory(Node):
    """A directory.  Names of the table are found before these methods are asked."""

    def open(self, server: Server, serial: int, opening: Opening) -> Handle:
        raise IsDirectoryError

    def find(self, server: Server, serial: int, name: bytes, pid: int) -> Ref:
        """The entry of a name; NotFoundError where there is none."""
        raise NotFoundError("no such name")

    def entries(self, server: Server, serial: int) -> Iterable[tuple[bytes, Ref]]:
        """Names that the table doesn't have, in their order."""
        return ()

    def create(
        self, server: Server, serial: int, name: bytes, opening: Opening
    ) -> tuple[Ref, Handle]:
        """Make a file and open it."""
        raise NotPermittedError("no files are made here")

    def mkdir(self, server: Server, serial: int, name: bytes, at: Stamp) -> Ref:
        """Make a directory."""
        raise NotPermittedError("no directories are made here")

    def symlink(self, server: Server, serial: int, name: bytes, target: bytes, at: Stamp) -> Ref:
        """Make a symbolic link."""
        raise NotPermittedError("no links are made here")

    def unlink(self, server: Server, serial: int, name: bytes, at: Stamp) -> None:
        """Remove what is no directory."""
        raise NotPermittedError("nothing is removed here")

    def rmdir(self, server: Server, serial: int, name: bytes, at: Stamp) -> None:
        """Remove a directory, empty or not."""
        raise NotPermittedError("no directories are removed here")


def ccache_of(server: Server, serial: int) -> Ccache:
    """The ccache of a serial number; GoneError where it was destroyed."""
    ccache = server.store.collection.by_serial(serial)
    if ccache is None:
        raise GoneError("the ccache is gone")
    return ccache


def mtime_of(server: Server, serial: int) -> float:
    """When entries of the mount (0) or of a ccache last came or went."""
    return server.store.collection.mtime if not serial else ccache_of(server, serial).mtime


def decoded(name: bytes) -> bytes:
    """The raw name of a ccache's directory name; BadNameError where it isn't canonical."""
    try:
        return decode_name(name.decode("utf-8"))
    except (FormatError, UnicodeDecodeError):
        raise BadNameError("no canonical encoding of a name") from None
