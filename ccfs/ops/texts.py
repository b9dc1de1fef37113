# SPDX-License-Identifier: MIT
"""Small text files: read as a snapshot, written as a whole."""

from collections.abc import Callable

from ccfs.format.errors import FormatError
from ccfs.format.principal import Principal, parse_name
from ccfs.format.wire import COUNT_MAX
from ccfs.ops import render
from ccfs.ops.file_system import FileSystem
from ccfs.ops.handles import Handle, TextHandle, WholeFileHandle
from ccfs.ops.node import Attributes, Node, Opening, ccache_of, mtime_of
from ccfs.store import Stamp
from ccfs.store.dir_names import ccache_name, shown_ident
from ccfs.store.errors import BadContentError

Render = Callable[[FileSystem, int], bytes]
Write = Callable[[FileSystem, int, bytes, Stamp], None]

MAX_TEXT = 1024 * 1024 + 4096
"""The largest text in bytes that may be written: a principal of 1 MiB and its quoting."""


class Text(Node):
    """A text that is rendered at each open, and changed by writing where `write` is given."""

    def __init__(self, render: Render, write: Write | None = None) -> None:
        self._render = render
        self._write = write

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        mtime = mtime_of(fs, serial)
        return Attributes(size=len(self._render(fs, serial)), mtime=mtime)

    def open(self, fs: FileSystem, serial: int, opening: Opening) -> Handle:
        mtime_of(fs, serial)  # GoneError where the ccache was destroyed
        text = self._render(fs, serial)
        write = self._write
        if write is None:
            return TextHandle(text)
        client = opening.at.client

        def apply(content: bytes, now: float) -> None:
            if len(content) > MAX_TEXT:
                raise BadContentError("too long")
            write(fs, serial, content, Stamp(now, client))

        return WholeFileHandle(text, apply)

    def truncate(self, fs: FileSystem, serial: int, size: int, at: Stamp) -> None:
        """Accept size 0, without effect before the first write; refuse any other."""
        if self._write is None or size:
            super().truncate(fs, serial, size, at)


def write_principal(fs: FileSystem, serial: int, content: bytes, at: Stamp) -> None:
    """Set the client principal of a ccache: a quoted name with its realm, perhaps a newline."""
    ccache = ccache_of(fs, serial)
    fs.store.edits.set_principal(ccache, parse_principal(content.removesuffix(b"\n")), at)


def parse_principal(text: bytes) -> Principal:
    """Parse a quoted name with its realm.  Raises BadContentError."""
    try:
        principal = parse_name(text)
    except FormatError as error:
        raise BadContentError(str(error)) from None
    if len(principal.components) > COUNT_MAX:
        raise BadContentError(f"over {COUNT_MAX} components")
    return principal


def write_kdc_offset(fs: FileSystem, serial: int, content: bytes, at: Stamp) -> None:
    """Set the KDC offset to a number of seconds; white space alone clears it."""
    ccache = ccache_of(fs, serial)
    text = content.strip()
    try:
        seconds = int(text) if text else None
    except ValueError:
        raise BadContentError("no number of seconds") from None
    if seconds is not None and not -(2**31) <= seconds < 2**31:
        raise BadContentError("an offset that does not fit 32 bits")
    fs.store.edits.set_kdc_offset(ccache, seconds, at)


class KdcOffset(Text):
    """`kdc_offset`: unlink clears it."""

    def __init__(self) -> None:
        super().__init__(render.kdc_offset, write_kdc_offset)

    def unlinked(self, fs: FileSystem, serial: int, at: Stamp) -> None:
        if render.kdc_offset(fs, serial):
            write_kdc_offset(fs, serial, b"", at)


def write_primary(fs: FileSystem, _: int, content: bytes, at: Stamp) -> None:
    """Set the default ccache by its name in `dir/`.

    Where there is no ccache of the name an uninitialised one is made.
    """
    name = ccache_of_file(fs, content.removesuffix(b"\n"))
    if name is None:
        raise BadContentError("no name of a ccache in dir/")
    collection = fs.store.collection
    collection.set_default(collection.find(name) or collection.create(name, at), at)


def ccache_of_file(fs: FileSystem, file_name: bytes) -> bytes | None:
    """Return the name of the ccache that a file name in `dir/` stands for; None for none."""
    ident = shown_ident(file_name)
    if ident is None:
        return ccache_name(file_name)
    ccache = fs.store.collection.by_ident(ident)
    return ccache.name if ccache else None


class Primary(Text):
    """`dir/primary`: absent before a default was initialised or chosen, as in a DIR ccache."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        return super().attributes(fs, serial)._replace(entry_timeout=0.0)


PRIMARY_FILE = Primary(render.primary, write_primary)
