"""Small files made of text: read as a snapshot, written as a whole."""

from collections.abc import Callable

from ccfs.format.errors import FormatError
from ccfs.format.principal import Principal, parse_name
from ccfs.format.wire import COUNT_MAX
from ccfs.ops import render
from ccfs.ops.file_system import Server
from ccfs.ops.handles import (
    CommitHandle,
    Handle,
    LockHandle,
    LogHandle,
    TextHandle,
    TransactionHandle,
    transaction_key,
)
from ccfs.ops.node import LONG, Attributes, Node, Opening, ccache_of, decoded, mtime_of
from ccfs.store import Stamp
from ccfs.store.ccache import Ccache
from ccfs.store.dir_names import ccache_name, shown_ident
from ccfs.store.errors import BadContentError, GoneError
from ccfs.store.event_log import Edition

Render = Callable[[Server, int], bytes]
Write = Callable[[Server, int, bytes, Stamp], None]

MAX_TEXT = 1024 * 1024 + 4096
"""The most bytes that a written text may have: a principal of 1 MiB and its quoting."""


class Text(Node):
    """A text made anew at each open, and changed by writing, where `write` is given."""

    def __init__(self, render: Render, write: Write | None = None) -> None:
        self._render = render
        self._write = write

    def attributes(self, server: Server, serial: int) -> Attributes:
        mtime = mtime_of(server, serial)
        return Attributes(size=len(self._render(server, serial)), mtime=mtime)

    def open(self, server: Server, serial: int, opening: Opening) -> Handle:
        mtime_of(server, serial)
        text = self._render(server, serial)
        write = self._write
        if write is None:
            return TextHandle(text)
        who = opening.at.client

        def commit(content: bytes, now: float) -> None:
            if len(content) > MAX_TEXT:
                raise BadContentError("too long")
            write(server, serial, content, Stamp(now, who))

        return CommitHandle(text, commit)

    def truncate(self, server: Server, serial: int, size: int, at: Stamp) -> None:
        """Nothing happens before something is written."""
        if self._write is None or size:
            super().truncate(server, serial, size, at)


def write_principal(server: Server, serial: int, content: bytes, at: Stamp) -> None:
    """Set the client principal of a ccache: one quoted name with its realm, perhaps a newline."""
    ccache = ccache_of(server, serial)
    server.store.edits.set_principal(ccache, _principal(content.removesuffix(b"\n")), at)


def _principal(text: bytes) -> Principal:
    try:
        principal = parse_name(text)
    except FormatError as error:
        raise BadContentError(str(error)) from None
    if len(principal.components) > COUNT_MAX:
        raise BadContentError(f"over {COUNT_MAX} components")
    return principal


def write_kdc_offset(server: Server, serial: int, content: bytes, at: Stamp) -> None:
    """Set the KDC offset to a number of seconds; nothing but white space clears it."""
    ccache = ccache_of(server, serial)
    text = content.strip()
    try:
        seconds = int(text) if text else None
    except ValueError:
        raise BadContentError("no number of seconds") from None
    if seconds is not None and not -(2**31) <= seconds < 2**31:
        raise BadContentError("an offset that does not fit 32 bits")
    server.store.edits.set_kdc_offset(ccache, seconds, at)


class KdcOffset(Text):
    """`kdc_offset`: to remove it is to clear it."""

    def __init__(self) -> None:
        super().__init__(render.kdc_offset, write_kdc_offset)

    def unlinked(self, server: Server, serial: int, at: Stamp) -> None:
        if render.kdc_offset(server, serial):
            write_kdc_offset(server, serial, b"", at)


def write_primary(server: Server, _: int, content: bytes, at: Stamp) -> None:
    """Set the default by its name in `dir/`; a ccache to come is made, uninitialised."""
    name = raw_name(server, content.removesuffix(b"\n"))
    if name is None:
        raise BadContentError("no name of a ccache in dir/")
    collection = server.store.collection
    collection.set_default(collection.find(name) or collection.create(name, at), at)


def raw_name(server: Server, listed: bytes) -> bytes | None:
    """The (raw) name of the ccache that a file name in `dir/` stands for; None for no ccache's."""
    ident = shown_ident(listed)
    if ident is None:
        return ccache_name(listed)
    found = server.store.collection.by_ident(ident)
    return found.name if found else None


class Primary(Text):
    """`dir/primary`: not there before a default was initialised or chosen, as in a real DIR."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        return super().attributes(server, serial)._replace(entry_timeout=0.0)


PRIMARY_FILE = Primary(render.primary, write_primary)


class New(Node):
    """`new`: one open is one transaction, which makes a ccache and answers with its id.

    `default PRINCIPAL` resets or initialises the default; `new PRINCIPAL` makes one of a name of
    its own; `create NAME PRINCIPAL` makes or resets the one of a name (encoded; a tab behind it
    where it has a space in it).
    """

    def attributes(self, server: Server, serial: int) -> Attributes:
        return Attributes(mtime=server.store.collection.mtime, attr_timeout=LONG)

    def open(self, server: Server, serial: int, opening: Opening) -> Handle:
        return self.reopen(server, serial, opening, 0)

    def reopen(self, server: Server, serial: int, opening: Opening, number: int) -> Handle:
        who = opening.at.client

        def transact(order: bytes, now: float) -> bytes:
            return _make(server, order, Stamp(now, who)).ident.encode("ascii") + b"\n"

        said = server.store.notes.get(transaction_key(number), b"")
        return TransactionHandle(transact, server.note, said)

    def truncate(self, server: Server, serial: int, size: int, at: Stamp) -> None:
        """It is empty until it is asked."""
        if size:
            super().truncate(server, serial, size, at)


def _make(server: Server, order: bytes, at: Stamp) -> Ccache:
    word, _, rest = order.removesuffix(b"\n").partition(b" ")
    store = server.store
    if word == b"create":
        name, _, principal = rest.partition(b"\t" if b"\t" in rest else b" ")
        return store.reset_named(decoded(name), _principal(principal), at)
    if word == b"default":
        store.reset(store.collection.default, _principal(rest), at)
        return store.collection.default
    if word == b"new":
        return store.reset_named(store.collection.unique_name(), _principal(rest), at)
    raise BadContentError("neither default, new nor create")


class Log(Node):
    """`events`: one inode an edition of the log."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        log = server.store.events
        edition = log.find(serial) or _followed(server, serial)
        return Attributes(size=log.size(edition), mtime=log.mtime, entry_timeout=0.0)

    def open(self, server: Server, serial: int, opening: Opening) -> Handle:
        log = server.store.events
        return LogHandle(server.store, log.find(serial) or log.edition)


def _followed(server: Server, number: int) -> Edition:
    """An edition that is forgotten but for those who have it open: `tail -f` goes on in it."""
    for handle in server.handles.values():
        if isinstance(handle, LogHandle) and handle.edition.number == number:
            return handle.edition
    raise GoneError("an edition nobody knows")


class Lock(Node):
    """A file for locks: the kernel keeps them, we never hear of one."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        return Attributes(mtime=mtime_of(server, serial), attr_timeout=LONG)

    def open(self, server: Server, serial: int, opening: Opening) -> Handle:
        mtime_of(server, serial)
        return LockHandle()

    def truncate(self, server: Server, serial: int, size: int, at: Stamp) -> None:
        """It is empty, and stays so."""
        if size:
            super().truncate(server, serial, size, at)


class Fifo(Node):
    """`changed`: the kernel does the waiting, also for a ccache that is gone meanwhile."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        return Attributes(mtime=server.store.start_time, attr_timeout=LONG)
