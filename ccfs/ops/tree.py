"""The tree of names: this table is the whole layout of the mount.

`lookup`, `getattr` and `readdir` read it and nothing else.  A row says where a name stands, what
it is called, which slot its inodes have, its mode, and the node that answers for it.  A name of
None stands for names that the directory's node gives.
"""

from collections.abc import Iterable
from stat import S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG
from typing import NamedTuple

from ccfs.ops import ccache_file, credentials, directories, render, texts
from ccfs.ops.errnos import WrongKindError
from ccfs.ops.file_system import Server
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.node import Directory, Node, ccache_of
from ccfs.store.errors import NameTooLongError, NotFoundError
from ccfs.store.values import NAME_MAX


class Row(NamedTuple):
    """One line of the table."""

    parent: Slot | None
    name: bytes | None
    slot: Slot
    mode: int
    node: Node


_DIR = S_IFDIR | 0o700
_READ = S_IFREG | 0o400
_WRITE = S_IFREG | 0o600
_LINK = S_IFLNK | 0o777
_FIFO = S_IFIFO | 0o600

_INFO = texts.Text(render.info)
_LOCK = texts.Lock()
_CHANGED = texts.Fifo()
_BYTES = ccache_file.Bytes()

# fmt: off
TABLE: tuple[Row, ...] = (
    Row(None,             None,           Slot.ROOT,        _DIR,   directories.Root()),
    Row(Slot.ROOT,        b"README",      Slot.README,      _READ,  texts.Text(render.readme)),
    Row(Slot.ROOT,        b"default",     Slot.DEFAULT,     _LINK,  directories.Default()),
    Row(Slot.ROOT,        None,           Slot.LINK,        _LINK,  directories.ScratchLink()),
    Row(Slot.ROOT,        b"caches",      Slot.CACHES,      _DIR,   directories.Caches()),
    Row(Slot.CACHES,      None,           Slot.CCACHE,      _DIR,   directories.CcacheDirectory()),
    Row(Slot.CCACHE,      None,           Slot.BYTES,       _WRITE, _BYTES),
    Row(Slot.CCACHE,      b"principal",   Slot.PRINCIPAL,   _WRITE,
        texts.Text(render.principal, texts.write_principal)),
    Row(Slot.CCACHE,      b"credentials", Slot.CREDENTIALS, _DIR,   credentials.Credentials()),
    Row(Slot.CREDENTIALS, None,           Slot.TEXT,        _READ,  credentials.Text()),
    Row(Slot.CREDENTIALS, None,           Slot.RAW,         _READ,  credentials.Raw()),
    Row(Slot.CREDENTIALS, None,           Slot.PENDING,     _WRITE, credentials.Pending()),
    Row(Slot.CCACHE,      b"config",      Slot.CONFIG,      _DIR,   credentials.Config()),
    Row(Slot.CONFIG,      None,           Slot.VALUE,       _WRITE, credentials.Value()),
    Row(Slot.CCACHE,      b"kdc_offset",  Slot.KDC_OFFSET,  _WRITE, texts.KdcOffset()),
    Row(Slot.CCACHE,      b"ids",         Slot.IDS,         _READ,  texts.Text(render.ids)),
    Row(Slot.CCACHE,      b"info",        Slot.INFO,        _READ,  _INFO),
    Row(Slot.CCACHE,      b"changed",     Slot.CHANGED,     _FIFO,  _CHANGED),
    Row(Slot.CCACHE,      b"lock",        Slot.LOCK,        _WRITE, _LOCK),
    Row(Slot.ROOT,        b"by-id",       Slot.BY_ID,       _DIR,   directories.ById()),
    Row(Slot.BY_ID,       None,           Slot.ID_LINK,     _LINK,  directories.IdLink()),
    Row(Slot.ROOT,        b"dir",         Slot.DIR,         _DIR,   directories.Listing()),
    Row(Slot.DIR,         None,           Slot.PRIMARY,     _WRITE, texts.PRIMARY_FILE),
    Row(Slot.DIR,         None,           Slot.BYTES,       _WRITE, _BYTES),
    Row(Slot.ROOT,        b"new",         Slot.NEW,         _WRITE, texts.New()),
    Row(Slot.ROOT,        None,           Slot.EVENTS,      _READ,  texts.Log()),
    Row(Slot.ROOT,        b"changed",     Slot.CHANGED,     _FIFO,  _CHANGED),
    Row(Slot.ROOT,        b"lock",        Slot.LOCK,        _WRITE, _LOCK),
    Row(Slot.ROOT,        b"info",        Slot.INFO,        _READ,  _INFO),
    Row(Slot.ROOT,        b"stats",       Slot.STATS,       _READ,  texts.Text(render.stats)),
)
# fmt: on

ROWS: dict[Slot, Row] = {row.slot: row for row in TABLE}

_FIXED: dict[Slot, dict[bytes, Slot]] = {
    parent: {row.name: row.slot for row in TABLE if row.parent is parent and row.name}
    for parent in Slot
}


def directory(parent: Ref) -> Directory:
    """The node of a directory; WrongKindError for what is none."""
    node = ROWS[parent.slot].node
    if not isinstance(node, Directory):
        raise WrongKindError
    return node


def fixed(parent: Ref, name: bytes) -> Ref | None:
    """The entry of the table that a name stands for, where it is one."""
    slot = _FIXED[parent.slot].get(name)
    return None if slot is None else Ref(parent.serial, slot)


def find(server: Server, parent: Ref, name: bytes, pid: int) -> Ref:
    """The entry of a name in a directory."""
    check_length(name)
    node = directory(parent)
    if parent.serial:
        ccache_of(server, parent.serial)
    known = fixed(parent, name)
    if known is not None and server.removed.has(parent, name, server.clock()):
        raise NotFoundError("a name that was removed")
    return known or node.find(server, parent.serial, name, pid)


def exists(server: Server, parent: Ref, name: bytes) -> bool:
    """Whether a directory has a name."""
    try:
        find(server, parent, name, 0)
    except NotFoundError:
        return False
    return True


def check_length(name: bytes) -> None:
    """Refuse a name that no file system has: the kernel lets us have up to 1,024 bytes."""
    if len(name) > NAME_MAX:
        raise NameTooLongError(f"a name of over {NAME_MAX} bytes")


def entries(server: Server, parent: Ref) -> Iterable[tuple[bytes, Ref]]:
    """All entries of a directory that are listed: what can be read to its end.

    `cat *`, a backup or an indexer would wait at a FIFO for ever.
    """
    node = directory(parent)
    for name, slot in _FIXED[parent.slot].items():
        if slot is not Slot.CHANGED:
            yield name, Ref(parent.serial, slot)
    yield from node.entries(server, parent.serial)
