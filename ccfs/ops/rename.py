"""`rename`: what it means depends on what is moved and on what it is moved to.

A rename is looked up in one table by the two kinds; what isn't in it is refused, never EXDEV: mv
would copy then.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from ccfs.ops.credentials import rename_entry
from ccfs.ops.directories import CCACHE, is_current, link_target
from ccfs.ops.errnos import BadMessageError
from ccfs.ops.file_system import Server
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.node import ccache_of, decoded
from ccfs.ops.texts import raw_name, write_kdc_offset, write_primary, write_principal
from ccfs.ops.tree import fixed
from ccfs.store import Stamp
from ccfs.store.ccache import Ccache
from ccfs.store.dir_names import PRIMARY
from ccfs.store.errors import BadContentError, BadNameError, NotFoundError, NotPermittedError


class Kind(Enum):
    """What a name in a directory may stand for, in a rename."""

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


class Place(NamedTuple):
    """A name in a directory.  `name` is as the file system has it."""

    kind: Kind
    serial: int
    name: bytes

    @property
    def scratch(self) -> tuple[int, bytes]:
        """The key of the scratch file that may be here."""
        return self.serial, self.name


def rename(server: Server, source: tuple[Ref, bytes], target: tuple[Ref, bytes], at: Stamp) -> None:
    """Carry a rename out, or refuse it."""
    old, new = _source(server, *source), _place(server, *target)
    step = STEPS.get((old.kind, new.kind))
    if step is None:
        raise NotPermittedError("this is not renamed to that")
    try:
        step(server, old, new, at)
    except BadContentError:
        raise BadMessageError from None
    except BadNameError:  # mv(1) takes EINVAL for a move of a directory into itself
        raise NotPermittedError("no name of a ccache") from None


def _place(server: Server, parent: Ref, name: bytes) -> Place:
    """What a name is, in a directory that is still there: the kernel may not know that it isn't."""
    if parent.serial:
        ccache_of(server, parent.serial)
    return Place(_kind(server, parent, name), parent.serial, name)


def _kind(server: Server, parent: Ref, name: bytes) -> Kind:
    known = fixed(parent, name)
    if known is not None:
        return _FIXED.get(known.slot, Kind.FIXED)
    if parent.slot is Slot.CCACHE:
        return Kind.CONTENT if name == CCACHE else Kind.SCRATCH
    if parent.slot is Slot.DIR:
        if name == PRIMARY:
            return Kind.PRIMARY
        return Kind.SCRATCH if raw_name(server, name) is None else Kind.LISTED
    if parent.slot is Slot.CONFIG:
        return Kind.CONFIG
    return _TOP.get(parent.slot, Kind.FIXED) if name != b"events" else Kind.FIXED


_FIXED = {Slot.DEFAULT: Kind.DEFAULT, Slot.PRINCIPAL: Kind.TEXT, Slot.KDC_OFFSET: Kind.TEXT}
_TOP = {Slot.ROOT: Kind.LINK, Slot.CACHES: Kind.DIRECTORY}


def _source(server: Server, parent: Ref, name: bytes) -> Place:
    """A name that is there: in `dir/` a ccache's name may still be scratch."""
    place = _place(server, parent, name)
    if place.kind is Kind.LISTED and not is_current(server, name):
        return place._replace(kind=Kind.SCRATCH)
    return place


def _ccache(server: Server, place: Place) -> Ccache:
    collection = server.store.collection
    if place.kind is Kind.CONTENT:
        found = collection.by_serial(place.serial)
    else:
        listed = place.kind is Kind.LISTED
        name = raw_name(server, place.name) if listed else decoded(place.name)
        found = collection.find(name) if name is not None else None
    if found is None:
        raise NotFoundError("no such ccache")
    return found


def _file(server: Server, place: Place) -> Ccache:
    """The ccache whose file is moved; it may have lost it since the kernel looked."""
    found = _ccache(server, place)
    if found.current is None:
        raise NotFoundError("no ccache file")
    return found


def _replace(server: Server, old: Place, new: Place, at: Stamp) -> None:
    server.store.replace(old.scratch, _ccache(server, new), at)


def _replace_listed(server: Server, old: Place, new: Place, at: Stamp) -> None:
    server.store.replace_new(old.scratch, _listed(server, new), at)
    _clear(server, new)


def _rename_scratch(server: Server, old: Place, new: Place, at: Stamp) -> None:
    server.store.rename_scratch(old.scratch, new.scratch, at)


def _set_primary(server: Server, old: Place, new: Place, at: Stamp) -> None:
    write_primary(server, 0, bytes(server.store.scratch.get(*old.scratch).data), at)
    server.store.unlink_scratch(*old.scratch)


def _set_text(server: Server, old: Place, new: Place, at: Stamp) -> None:
    write = write_principal if new.name == b"principal" else write_kdc_offset
    write(server, new.serial, bytes(server.store.scratch.get(*old.scratch).data), at)
    server.store.unlink_scratch(*old.scratch)


def _rename_config(server: Server, old: Place, new: Place, at: Stamp) -> None:
    """`sed -i` makes the new value under another name beside; entries stay in their ccache."""
    if old.serial != new.serial:
        raise NotPermittedError("an entry is not moved to another ccache")
    if old.name != new.name:
        rename_entry(server, old.serial, old.name, new.name, at)


def _move(server: Server, old: Place, new: Place, at: Stamp) -> None:
    server.store.move_file(_file(server, old), _ccache(server, new), at)


def _move_listed(server: Server, old: Place, new: Place, at: Stamp) -> None:
    server.store.move_to_name(_file(server, old), _listed(server, new), at)
    _clear(server, new)


def _listed(server: Server, place: Place) -> bytes:
    name = raw_name(server, place.name)
    if name is None:
        raise NotFoundError("no name of a ccache")
    return name


def _clear(server: Server, place: Place) -> None:
    """A scratch file that had the name is replaced, too."""
    if server.store.scratch.find(*place.scratch):
        server.store.unlink_scratch(*place.scratch)


def _move_directory(server: Server, old: Place, new: Place, at: Stamp) -> None:
    target = server.store.collection.find(decoded(new.name))
    server.store.move_to_name(_ccache(server, old), decoded(new.name), at)
    if target is not None:
        server.revive(Ref(target.serial, Slot.CCACHE))


def _put_aside(server: Server, old: Place, new: Place, at: Stamp) -> None:
    server.store.put_aside(_file(server, old), new.scratch, at)


def _set_default(server: Server, old: Place, new: Place, at: Stamp) -> None:
    links = server.store.scratch.links
    if old.name not in links:
        raise NotFoundError("no such link")
    target = link_target(server, links[old.name].target)
    server.store.collection.set_default(target, at)
    server.store.drop_link(old.name)


def _rename_link(server: Server, old: Place, new: Place, at: Stamp) -> None:
    server.store.rename_link(old.name, new.name)


Step = Callable[[Server, Place, Place, Stamp], None]

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
