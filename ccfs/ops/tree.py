# SPDX-License-Identifier: MIT
"""The tree of names: this table is the whole layout of the mount.

`lookup`, `getattr` and `readdir` read it and nothing else.  A row has the directory of a name, the
name, the slot of its inodes, its mode, and the node that answers for it.  Where the name is None
the directory's node has the names.
"""

from collections.abc import Iterable
from stat import S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG
from typing import NamedTuple

from ccfs.ops import (
    ccache_file,
    config_entries,
    credentials,
    dir_collection,
    directories,
    links,
    new_ccache,
    render,
    special_files,
    texts,
    unfinished_files,
)
from ccfs.ops.errnos import WrongKindError
from ccfs.ops.file_system import FileSystem
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
_LOCK = special_files.Lock()
_CHANGED = special_files.Fifo()
_BYTES = ccache_file.Bytes()

# fmt: off
TABLE: tuple[Row, ...] = (
    Row(None,             None,           Slot.ROOT,        _DIR,   directories.Root()),
    Row(Slot.ROOT,        b"README",      Slot.README,      _READ,  texts.Text(render.readme)),
    Row(Slot.ROOT,        b"default",     Slot.DEFAULT,     _LINK,  links.Default()),
    Row(Slot.ROOT,        None,           Slot.LINK,        _LINK,  links.ScratchLink()),
    Row(Slot.ROOT,        b"caches",      Slot.CACHES,      _DIR,   directories.Caches()),
    Row(Slot.CACHES,      None,           Slot.CCACHE,      _DIR,   directories.CcacheDirectory()),
    Row(Slot.CCACHE,      None,           Slot.BYTES,       _WRITE, _BYTES),
    Row(Slot.CCACHE,      b"principal",   Slot.PRINCIPAL,   _WRITE,
        texts.Text(render.principal, texts.write_principal)),
    Row(Slot.CCACHE,      b"credentials", Slot.CREDENTIALS, _DIR,   credentials.Credentials()),
    Row(Slot.CREDENTIALS, None,           Slot.TEXT,        _READ,  credentials.Text()),
    Row(Slot.CREDENTIALS, None,           Slot.RAW,         _READ,  credentials.Raw()),
    Row(Slot.CREDENTIALS, None,           Slot.UNFINISHED,  _WRITE, unfinished_files.Unfinished()),
    Row(Slot.CCACHE,      b"config",      Slot.CONFIG,      _DIR,   config_entries.Config()),
    Row(Slot.CONFIG,      None,           Slot.VALUE,       _WRITE, config_entries.Value()),
    Row(Slot.CCACHE,      b"kdc_offset",  Slot.KDC_OFFSET,  _WRITE, texts.KdcOffset()),
    Row(Slot.CCACHE,      b"ids",         Slot.IDS,         _READ,  texts.Text(render.ids)),
    Row(Slot.CCACHE,      b"info",        Slot.INFO,        _READ,  _INFO),
    Row(Slot.CCACHE,      b"changed",     Slot.CHANGED,     _FIFO,  _CHANGED),
    Row(Slot.CCACHE,      b"lock",        Slot.LOCK,        _WRITE, _LOCK),
    Row(Slot.ROOT,        b"by-id",       Slot.BY_ID,       _DIR,   directories.ById()),
    Row(Slot.BY_ID,       None,           Slot.ID_LINK,     _LINK,  links.IdLink()),
    Row(Slot.ROOT,        b"dir",         Slot.DIR,         _DIR,   dir_collection.DirCollection()),
    Row(Slot.DIR,         None,           Slot.PRIMARY,     _WRITE, texts.PRIMARY_FILE),
    Row(Slot.DIR,         None,           Slot.BYTES,       _WRITE, _BYTES),
    Row(Slot.ROOT,        b"new",         Slot.NEW,         _WRITE, new_ccache.New()),
    Row(Slot.ROOT,        None,           Slot.EVENTS,      _READ,  special_files.Events()),
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
    """Return the node of a directory; WrongKindError for any other inode."""
    node = ROWS[parent.slot].node
    if not isinstance(node, Directory):
        raise WrongKindError
    return node


def fixed(parent: Ref, name: bytes) -> Ref | None:
    """Return the entry of a fixed name, one that is in the table; None for any other name."""
    slot = _FIXED[parent.slot].get(name)
    return None if slot is None else Ref(parent.serial, slot)


def find(fs: FileSystem, parent: Ref, name: bytes, pid: int) -> Ref:
    """Return the entry of a name in a directory.  Raises NotFoundError."""
    check_length(name)
    node = directory(parent)
    if parent.serial:
        ccache_of(fs, parent.serial)
    entry = fixed(parent, name)
    if entry is not None and fs.removed_names.has(parent, name, fs.committer.clock()):
        raise NotFoundError("a name that was removed")
    return entry or node.find(fs, parent.serial, name, pid)


def exists(fs: FileSystem, parent: Ref, name: bytes) -> bool:
    """Whether a directory has a name."""
    try:
        find(fs, parent, name, 0)
    except NotFoundError:
        return False
    return True


def check_length(name: bytes) -> None:
    """Refuse a name longer than any file system's: the kernel's FUSE allows 1,024 bytes."""
    if len(name) > NAME_MAX:
        raise NameTooLongError(f"a name of over {NAME_MAX} bytes")


def entries(fs: FileSystem, parent: Ref) -> Iterable[tuple[bytes, Ref]]:
    """Yield the entries of a directory that a listing shows.

    FIFOs are not listed: `cat *`, a backup or an indexer would wait there for ever.
    """
    node = directory(parent)
    for name, slot in _FIXED[parent.slot].items():
        if slot is not Slot.CHANGED:
            yield name, Ref(parent.serial, slot)
    yield from node.entries(fs, parent.serial)
