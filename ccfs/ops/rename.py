# SPDX-License-Identifier: MIT
"""`rename`: its step depends on the kinds of the old and the new name.

Both kinds are looked up in one table.  A pair that is not in it is refused with EPERM, never EXDEV:
mv(1) would copy then.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from ccfs.ops.config_entries import rename_entry
from ccfs.ops.dir_collection import has_ccache
from ccfs.ops.directories import CCACHE
from ccfs.ops.errnos import BadMessageError
from ccfs.ops.file_system import FileSystem
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.links import linked_ccache
from ccfs.ops.node import ccache_of, decoded
from ccfs.ops.texts import ccache_of_file, write_kdc_offset, write_primary, write_principal
from ccfs.ops.tree import fixed
from ccfs.store import Stamp
from ccfs.store.ccache import Ccache
from ccfs.store.dir_names import PRIMARY
from ccfs.store.errors import BadContentError, BadNameError, NotFoundError, NotPermittedError
from ccfs.store.scratch import DIR


class Kind(Enum):
    """What a name of a rename stands for."""

    DIRECTORY = auto()  # caches/NAME
    CONTENT = auto()  # caches/NAME/ccache
    LISTED = auto()  # dir/tkt...
    SCRATCH = auto()  # any other name beside those
    PRIMARY = auto()  # dir/primary
    DEFAULT = auto()  # default
    CONFIG = auto()  # caches/NAME/config/KEY
    TEXT = auto()  # caches/NAME/principal, caches/NAME/kdc_offset
    LINK = auto()  # any other name in the root
    FIXED = auto()  # the rest of the table


class Entry(NamedTuple):
    """A name in a directory.  `serial`: of the directory's ccache, 0 for the mount's."""

    kind: Kind
    serial: int
    name: bytes

    @property
    def scratch(self) -> tuple[int | None, bytes]:
        """The key of the scratch file that may have this name."""
        return self.serial or DIR, self.name


def rename(fs: FileSystem, source: tuple[Ref, bytes], target: tuple[Ref, bytes], at: Stamp) -> None:
    """Rename `source` to `target`, each a directory and a name."""
    old, new = _source_entry(fs, *source), _entry(fs, *target)
    step = STEPS.get((old.kind, new.kind))
    if step is None:
        raise NotPermittedError("these names can't be renamed to each other")
    try:
        step(fs, old, new, at)
    except BadContentError:
        raise BadMessageError from None
    except BadNameError:  # mv(1) explains EINVAL as a move of a directory into itself
        raise NotPermittedError("no name of a ccache") from None


def _entry(fs: FileSystem, parent: Ref, name: bytes) -> Entry:
    """Return the kind of a name; GoneError where the directory's ccache was destroyed.

    The kernel may have the dentry of a destroyed ccache still.
    """
    if parent.serial:
        ccache_of(fs, parent.serial)
    return Entry(_kind(fs, parent, name), parent.serial, name)


def _kind(fs: FileSystem, parent: Ref, name: bytes) -> Kind:
    entry = fixed(parent, name)
    if entry is not None:
        return _FIXED.get(entry.slot, Kind.FIXED)
    if parent.slot is Slot.CCACHE:
        return Kind.CONTENT if name == CCACHE else Kind.SCRATCH
    if parent.slot is Slot.DIR:
        if name == PRIMARY:
            return Kind.PRIMARY
        return Kind.SCRATCH if ccache_of_file(fs, name) is None else Kind.LISTED
    if parent.slot is Slot.CONFIG:
        return Kind.CONFIG
    return _TOP.get(parent.slot, Kind.FIXED) if name != b"events" else Kind.FIXED


_FIXED = {Slot.DEFAULT: Kind.DEFAULT, Slot.PRINCIPAL: Kind.TEXT, Slot.KDC_OFFSET: Kind.TEXT}
_TOP = {Slot.ROOT: Kind.LINK, Slot.CACHES: Kind.DIRECTORY}


def _source_entry(fs: FileSystem, parent: Ref, name: bytes) -> Entry:
    """Return the entry of a name that exists: a ccache's name in `dir/` may be a scratch file's."""
    entry = _entry(fs, parent, name)
    if entry.kind is Kind.LISTED and not has_ccache(fs, name):
        return entry._replace(kind=Kind.SCRATCH)
    return entry


def _ccache(fs: FileSystem, entry: Entry) -> Ccache:
    collection = fs.store.collection
    if entry.kind is Kind.CONTENT:
        ccache = collection.by_serial(entry.serial)
    else:
        listed = entry.kind is Kind.LISTED
        name = ccache_of_file(fs, entry.name) if listed else decoded(entry.name)
        ccache = collection.find(name) if name is not None else None
    if ccache is None:
        raise NotFoundError("no such ccache")
    return ccache


def _initialised(fs: FileSystem, entry: Entry) -> Ccache:
    """Return the ccache whose file is moved; the file may be gone since the kernel's lookup."""
    ccache = _ccache(fs, entry)
    if ccache.current is None:
        raise NotFoundError("no ccache file")
    return ccache


def _ccache_name(fs: FileSystem, entry: Entry) -> bytes:
    name = ccache_of_file(fs, entry.name)
    if name is None:
        raise NotFoundError("no name of a ccache")
    return name


def _unlink_hidden(fs: FileSystem, entry: Entry) -> None:
    """Remove a scratch file that had the name of the new ccache file."""
    if fs.store.scratch.find(*entry.scratch):
        fs.store.scratch.unlink(*entry.scratch)


def _replace(fs: FileSystem, old: Entry, new: Entry, at: Stamp) -> None:
    fs.store.replace(old.scratch, _ccache(fs, new), at)


def _replace_listed(fs: FileSystem, old: Entry, new: Entry, at: Stamp) -> None:
    fs.store.replace_named_by_scratch(old.scratch, _ccache_name(fs, new), at)
    _unlink_hidden(fs, new)


def _rename_scratch(fs: FileSystem, old: Entry, new: Entry, at: Stamp) -> None:
    fs.store.scratch.rename(old.scratch, new.scratch, at)


def _set_primary(fs: FileSystem, old: Entry, new: Entry, at: Stamp) -> None:
    write_primary(fs, 0, bytes(fs.store.scratch.get(*old.scratch).data), at)
    fs.store.scratch.unlink(*old.scratch)


def _set_text(fs: FileSystem, old: Entry, new: Entry, at: Stamp) -> None:
    write = write_principal if new.name == b"principal" else write_kdc_offset
    write(fs, new.serial, bytes(fs.store.scratch.get(*old.scratch).data), at)
    fs.store.scratch.unlink(*old.scratch)


def _rename_config(fs: FileSystem, old: Entry, new: Entry, at: Stamp) -> None:
    """Rename an entry within its ccache: `sed -i` writes the new value under another name."""
    if old.serial != new.serial:
        raise NotPermittedError("an entry is not moved to another ccache")
    if old.name != new.name:
        rename_entry(fs, old.serial, old.name, new.name, at)


def _move(fs: FileSystem, old: Entry, new: Entry, at: Stamp) -> None:
    fs.store.move_file(_initialised(fs, old), _ccache(fs, new), at)


def _move_listed(fs: FileSystem, old: Entry, new: Entry, at: Stamp) -> None:
    fs.store.move_to_name(_initialised(fs, old), _ccache_name(fs, new), at)
    _unlink_hidden(fs, new)


def _move_directory(fs: FileSystem, old: Entry, new: Entry, at: Stamp) -> None:
    target = fs.store.collection.find(decoded(new.name))
    fs.store.move_to_name(_ccache(fs, old), decoded(new.name), at)
    if target is not None:
        fs.kernel_cache.reissue(Ref(target.serial, Slot.CCACHE))


def _put_aside(fs: FileSystem, old: Entry, new: Entry, at: Stamp) -> None:
    fs.store.rename_to_scratch(_initialised(fs, old), new.scratch, at)


def _set_default(fs: FileSystem, old: Entry, new: Entry, at: Stamp) -> None:
    links = fs.store.scratch.links
    if old.name not in links:
        raise NotFoundError("no such link")
    target = linked_ccache(fs, links[old.name].target)
    fs.store.collection.set_default(target, at)
    fs.store.scratch.remove_link(old.name)


def _rename_link(fs: FileSystem, old: Entry, new: Entry, at: Stamp) -> None:
    fs.store.scratch.rename_link(old.name, new.name)


Step = Callable[[FileSystem, Entry, Entry, Stamp], None]

STEPS: dict[tuple[Kind, Kind], Step] = {
    (Kind.SCRATCH, Kind.CONTENT): _replace,
    (Kind.SCRATCH, Kind.LISTED): _replace_listed,
    (Kind.SCRATCH, Kind.SCRATCH): _rename_scratch,
    (Kind.SCRATCH, Kind.PRIMARY): _set_primary,
    (Kind.SCRATCH, Kind.TEXT): _set_text,
    (Kind.CONFIG, Kind.CONFIG): _rename_config,
    (Kind.CONTENT, Kind.CONTENT): _move,
    (Kind.CONTENT, Kind.LISTED): _move_listed,
    (Kind.CONTENT, Kind.SCRATCH): _put_aside,
    (Kind.LISTED, Kind.LISTED): _move_listed,
    (Kind.LISTED, Kind.CONTENT): _move,
    (Kind.LISTED, Kind.SCRATCH): _put_aside,
    (Kind.DIRECTORY, Kind.DIRECTORY): _move_directory,
    (Kind.LINK, Kind.DEFAULT): _set_default,
    (Kind.LINK, Kind.LINK): _rename_link,
}
