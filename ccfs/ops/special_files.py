# SPDX-License-Identifier: MIT
"""`events`, `lock` and `changed`: files that are logged to, locked, and waited at."""

from ccfs.ops.file_system import FileSystem
from ccfs.ops.handles import Handle, LockHandle, LogHandle
from ccfs.ops.node import LONG, Attributes, Node, Opening, mtime_of
from ccfs.store import Stamp
from ccfs.store.errors import GoneError
from ccfs.store.event_log import Edition


class Events(Node):
    """`events`: one inode an edition of the log."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        log = fs.store.events
        edition = log.find(serial) or _open_edition(fs, serial)
        return Attributes(size=log.size(edition), mtime=log.mtime, entry_timeout=0.0)

    def open(self, fs: FileSystem, serial: int, opening: Opening) -> Handle:
        log = fs.store.events
        return LogHandle(fs.store, log.find(serial) or log.edition)


def _open_edition(fs: FileSystem, number: int) -> Edition:
    """Return an edition that the log has dropped and a client has open: `tail -f` continues."""
    for handle in fs.handles.by_number.values():
        if isinstance(handle, LogHandle) and handle.edition.number == number:
            return handle.edition
    raise GoneError("an unknown edition of the log")


class Lock(Node):
    """`lock`: a file for fcntl locks, which the kernel keeps without asking the daemon."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        return Attributes(mtime=mtime_of(fs, serial), attr_timeout=LONG)

    def open(self, fs: FileSystem, serial: int, opening: Opening) -> Handle:
        mtime_of(fs, serial)  # GoneError where the ccache was destroyed
        return LockHandle()

    def truncate(self, fs: FileSystem, serial: int, size: int, at: Stamp) -> None:
        """Accept size 0: the file stays empty."""
        if size:
            super().truncate(fs, serial, size, at)


class Fifo(Node):
    """`changed`: a FIFO, whose readers wait in the kernel, also when the ccache is destroyed."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        return Attributes(mtime=fs.store.start_time, attr_timeout=LONG)
