"""The directories of the tree, and the links in it."""

from collections.abc import Iterable

from ccfs.format.names import encode_name
from ccfs.ops.ccache_file import open_generation
from ccfs.ops.errnos import WrongKindError
from ccfs.ops.file_system import Server
from ccfs.ops.handles import Handle
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.node import LONG, Attributes, Directory, Node, Opening, ccache_of, decoded, mtime_of
from ccfs.ops.texts import PRIMARY_FILE, raw_name
from ccfs.store import Stamp
from ccfs.store.ccache import Ccache
from ccfs.store.dir_names import PRIMARY, shown_name
from ccfs.store.errors import (
    BadContentError,
    BadNameError,
    ExistsError,
    GoneError,
    NotFoundError,
    NotPermittedError,
    StoreError,
)
from ccfs.store.scratch import COLLECTION

CCACHE = b"ccache"
DEFAULT = b"default"
_PRIMARY = Ref(0, Slot.PRIMARY)
KICK = b".kick."
"""The helper finds the FIFO of a serial number (hexadecimal) here; nobody else sees the name."""


class Root(Directory):
    """The mount itself."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        return Attributes(mtime=server.store.start_time, nlink=4, attr_timeout=LONG)

    def find(self, server: Server, serial: int, name: bytes, pid: int) -> Ref:
        if name == b"events":
            return Ref(server.store.events.edition.number, Slot.EVENTS)
        if server.helper and pid == server.helper and name.startswith(KICK):
            return Ref(int(name.removeprefix(KICK), 16), Slot.CHANGED)
        link = server.store.scratch.links.get(name)
        if link is None:
            raise NotFoundError("no such name")
        return Ref(link.number, Slot.LINK)

    def entries(self, server: Server, serial: int) -> Iterable[tuple[bytes, Ref]]:
        yield b"events", Ref(server.store.events.edition.number, Slot.EVENTS)
        for name, link in server.store.scratch.links.items():
            yield name, Ref(link.number, Slot.LINK)

    def symlink(self, server: Server, serial: int, name: bytes, target: bytes, at: Stamp) -> Ref:
        """A scratch link: what `ln -sfn` makes before it renames it to `default`.

        It may lead only where `default` may: a process with more rights that walks through the
        root must never be led out of the mount.
        """
        ccache = _linked(server, target)
        if name == DEFAULT:
            server.store.collection.set_default(ccache, at)
            return Ref(0, Slot.DEFAULT)
        # Kept relative: the path of an absolute target may mean another place later.
        inside = b"caches/" + _encoded(ccache.name)
        return Ref(server.store.create_link(name, inside, at).number, Slot.LINK)

    def unlink(self, server: Server, serial: int, name: bytes, at: Stamp) -> None:
        if name in server.store.scratch.links:
            server.store.drop_link(name)
        else:
            super().unlink(server, serial, name, at)


class Caches(Directory):
    """The collection: a directory for each ccache, in list order."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        count = len(server.store.collection.all())
        return Attributes(mtime=mtime_of(server, 0), nlink=2 + count, attr_timeout=LONG)

    def find(self, server: Server, serial: int, name: bytes, pid: int) -> Ref:
        return Ref(_named(server, name).serial, Slot.CCACHE)

    def entries(self, server: Server, serial: int) -> Iterable[tuple[bytes, Ref]]:
        for ccache in server.store.collection.all():
            yield _encoded(ccache.name), Ref(ccache.serial, Slot.CCACHE)

    def mkdir(self, server: Server, serial: int, name: bytes, at: Stamp) -> Ref:
        ccache = server.store.collection.create(decoded(name), at)
        return Ref(ccache.serial, Slot.CCACHE)

    def rmdir(self, server: Server, serial: int, name: bytes, at: Stamp) -> None:
        server.store.destroy(_named(server, name), at)

    def unlink(self, server: Server, serial: int, name: bytes, at: Stamp) -> None:
        _named(server, name)
        raise WrongKindError


class CcacheDirectory(Directory):
    """One ccache: its file, its faces, and scratch files beside them."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        return Attributes(mtime=mtime_of(server, serial), nlink=4, attr_timeout=LONG)

    def find(self, server: Server, serial: int, name: bytes, pid: int) -> Ref:
        ccache = ccache_of(server, serial)
        current = ccache.current if name == CCACHE else server.store.scratch.find(serial, name)
        if current is None:
            raise NotFoundError("no such file")
        return Ref(current.number, Slot.BYTES)

    def entries(self, server: Server, serial: int) -> Iterable[tuple[bytes, Ref]]:
        ccache = ccache_of(server, serial)
        if ccache.current:
            yield CCACHE, Ref(ccache.current.number, Slot.BYTES)
        for name, generation in server.store.scratch.names(serial):
            yield name, Ref(generation.number, Slot.BYTES)

    def create(
        self, server: Server, serial: int, name: bytes, opening: Opening
    ) -> tuple[Ref, Handle]:
        ccache = ccache_of(server, serial)
        if name == CCACHE:
            return _create(server, ccache, opening)
        return _create_scratch(server, serial, name, opening)

    def symlink(self, server: Server, serial: int, name: bytes, target: bytes, at: Stamp) -> Ref:
        """`ln -sf caches/NAME default` without `-n`: ln takes the link for the directory.

        What is meant is done.  It isn't where the directory is not the default one, or the link is
        to have another name than what it leads to.
        """
        ccache, here = _linked(server, target), ccache_of(server, serial)
        meant = target.rstrip(b"/").rpartition(b"/")[2]
        if here is not server.store.collection.default or name != meant:
            return super().symlink(server, serial, name, target, at)
        server.store.collection.set_default(ccache, at)
        return Ref(ccache.serial, Slot.ID_LINK)

    def unlink(self, server: Server, serial: int, name: bytes, at: Stamp) -> None:
        ccache = ccache_of(server, serial)
        if name == CCACHE:
            server.store.uninitialise(ccache, at)
        else:
            server.store.unlink_scratch(serial, name)


class Listing(Directory):
    """`dir/`: the collection as a DIR: ccache has it."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        return Attributes(mtime=mtime_of(server, 0), nlink=2, attr_timeout=LONG)

    def find(self, server: Server, serial: int, name: bytes, pid: int) -> Ref:
        if name == PRIMARY:
            if not server.store.collection.has_default():
                raise NotFoundError("no default was initialised or chosen")
            return _PRIMARY
        ccache = _listed(server, name)
        if ccache and ccache.current:
            return Ref(ccache.current.number, Slot.BYTES)
        return Ref(server.store.scratch.get(COLLECTION, name).number, Slot.BYTES)

    def entries(self, server: Server, serial: int) -> Iterable[tuple[bytes, Ref]]:
        if server.store.collection.has_default():
            yield PRIMARY, _PRIMARY
        for ccache in server.store.collection.all():
            if ccache.current:
                yield shown_name(ccache), Ref(ccache.current.number, Slot.BYTES)
        for name, generation in server.store.scratch.names(COLLECTION):
            if not is_current(server, name):
                yield name, Ref(generation.number, Slot.BYTES)

    def create(
        self, server: Server, serial: int, name: bytes, opening: Opening
    ) -> tuple[Ref, Handle]:
        if name == PRIMARY:
            return _PRIMARY, PRIMARY_FILE.open(server, 0, opening)
        ccache = _listed(server, name)
        if ccache is not None:
            return _create(server, ccache, opening)
        return _create_scratch(server, COLLECTION, name, opening)

    def unlink(self, server: Server, serial: int, name: bytes, at: Stamp) -> None:
        if name == PRIMARY:
            self.find(server, serial, name, 0)
            super().unlink(server, serial, name, at)
        ccache = _listed(server, name)
        if ccache is not None and ccache.current:
            server.store.unlink_listed(ccache, at)
        else:
            server.store.unlink_scratch(COLLECTION, name)


class ById(Directory):
    """The same ccaches under their identifiers, which never mean another one."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        return Attributes(mtime=mtime_of(server, 0), nlink=2)

    def find(self, server: Server, serial: int, name: bytes, pid: int) -> Ref:
        ccache = server.store.collection.by_ident(name)
        if ccache is None:
            raise NotFoundError("no such ccache")
        return Ref(ccache.serial, Slot.ID_LINK)

    def entries(self, server: Server, serial: int) -> Iterable[tuple[bytes, Ref]]:
        for ccache in server.store.collection.all():
            yield ccache.ident.encode("ascii"), Ref(ccache.serial, Slot.ID_LINK)

    def unlink(self, server: Server, serial: int, name: bytes, at: Stamp) -> None:
        """Destroy the ccache itself, and surely this one, whatever has its name by now."""
        found = self.find(server, serial, name, 0)
        server.store.destroy(ccache_of(server, found.serial), at)


class IdLink(Node):
    """`by-id/ID`: a link to the ccache's directory."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        return Attributes(len(self.readlink(server, serial)), mtime_of(server, serial))

    def readlink(self, server: Server, serial: int) -> bytes:
        return b"../caches/" + _encoded(ccache_of(server, serial).name)


class Default(Node):
    """`default`: the link to the default ccache."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        return Attributes(len(self.readlink(server, serial)), mtime_of(server, 0))

    def readlink(self, server: Server, serial: int) -> bytes:
        return b"caches/" + _encoded(server.store.collection.default.name)


class ScratchLink(Node):
    """A link that is to become `default`."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        return Attributes(len(self.readlink(server, serial)), entry_timeout=0.0)

    def readlink(self, server: Server, serial: int) -> bytes:
        links = server.store.scratch.links.values()
        target = next((link.target for link in links if link.number == serial), None)
        if target is None:
            raise GoneError("a link that is gone")
        return target


def link_target(server: Server, target: bytes) -> Ccache:
    """The ccache that a link's target names: caches/NAME or by-id/ID, relative or absolute."""
    mount = server.mountpoint.encode("utf-8", "surrogateescape")
    path = target.rstrip(b"/").removeprefix(mount + b"/").removeprefix(b"./")
    directory, _, name = path.partition(b"/")
    collection = server.store.collection
    if directory == b"by-id":
        found = collection.by_ident(name)
    elif directory == b"caches" and name and b"/" not in name:
        found = collection.find(decoded(name))
    else:
        raise BadContentError("a link that does not point to caches/NAME")
    if found is None:
        raise NotFoundError("no such ccache")
    return found


def _linked(server: Server, target: bytes) -> Ccache:
    """The ccache that a link to be made leads to; NotPermittedError where it leads elsewhere."""
    try:
        return link_target(server, target)
    except NotFoundError:
        raise
    except StoreError:
        raise NotPermittedError("a link here leads to caches/NAME or by-id/ID") from None


def _encoded(name: bytes) -> bytes:
    return encode_name(name).encode("utf-8")


def _named(server: Server, name: bytes) -> Ccache:
    try:
        raw = decoded(name)
    except BadNameError:
        raise NotFoundError("no such ccache") from None
    return server.store.collection.get(raw)


def _listed(server: Server, name: bytes) -> Ccache | None:
    """The ccache of a name in `dir/`, where there is one."""
    raw = raw_name(server, name)
    return server.store.collection.find(raw) if raw is not None else None


def is_current(server: Server, name: bytes) -> bool:
    """Whether a name in `dir/` is a ccache's, which goes before a scratch file of the name."""
    ccache = _listed(server, name)
    return ccache is not None and ccache.current is not None


def _create(server: Server, ccache: Ccache, opening: Opening) -> tuple[Ref, Handle]:
    if ccache.current is not None:
        raise ExistsError("the file exists")
    generation = server.store.generations.start(ccache, opening.at)
    handle = open_generation(server, generation, opening)
    return Ref(generation.number, Slot.BYTES), handle


def _create_scratch(
    server: Server, place: int, name: bytes, opening: Opening
) -> tuple[Ref, Handle]:
    generation = server.store.create_scratch(place, name, opening.at)
    handle = open_generation(server, generation, opening)
    return Ref(generation.number, Slot.BYTES), handle
