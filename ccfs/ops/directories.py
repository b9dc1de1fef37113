# SPDX-License-Identifier: MIT
"""The root, `caches/`, `caches/NAME/` and `by-id/`."""

from collections.abc import Iterable

from ccfs.ops import ccache_file
from ccfs.ops.errnos import WrongKindError
from ccfs.ops.file_system import FileSystem
from ccfs.ops.handles import Handle
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.links import new_link_ccache
from ccfs.ops.node import (
    LONG,
    Attributes,
    Directory,
    Opening,
    ccache_of,
    decoded,
    encoded,
    mtime_of,
)
from ccfs.store import Stamp
from ccfs.store.ccache import Ccache
from ccfs.store.errors import BadNameError, NotFoundError

CCACHE = b"ccache"
DEFAULT = b"default"
KICK = b".kick."
"""The notifier looks up the FIFO of a serial number (hexadecimal) by a name with this prefix.

No other process finds such a name.
"""


class Root(Directory):
    """The root of the mount."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        return Attributes(mtime=fs.store.start_time, nlink=4, attr_timeout=LONG)

    def find(self, fs: FileSystem, serial: int, name: bytes, pid: int) -> Ref:
        if name == b"events":
            return Ref(fs.store.events.edition.number, Slot.EVENTS)
        notifier = fs.waiters.notifier_pid
        if notifier and pid == notifier and name.startswith(KICK):
            return Ref(int(name.removeprefix(KICK), 16), Slot.CHANGED)
        link = fs.store.scratch.links.get(name)
        if link is None:
            raise NotFoundError("no such name")
        return Ref(link.number, Slot.LINK)

    def entries(self, fs: FileSystem, serial: int) -> Iterable[tuple[bytes, Ref]]:
        yield b"events", Ref(fs.store.events.edition.number, Slot.EVENTS)
        for name, link in fs.store.scratch.links.items():
            yield name, Ref(link.number, Slot.LINK)

    def symlink(self, fs: FileSystem, serial: int, name: bytes, target: bytes, at: Stamp) -> Ref:
        """Set the default, or make a scratch link that is to be renamed to `default`.

        The target may only be one that `default` may have: a process with more rights that follows
        links in the root must never be led out of the mount.
        """
        ccache = new_link_ccache(fs, target)
        if name == DEFAULT:
            fs.store.collection.set_default(ccache, at)
            return Ref(0, Slot.DEFAULT)
        # Stored relative: an absolute path may lead to another mount later.
        inside = b"caches/" + encoded(ccache.name)
        return Ref(fs.store.scratch.create_link(name, inside, at).number, Slot.LINK)

    def unlink(self, fs: FileSystem, serial: int, name: bytes, at: Stamp) -> None:
        if name in fs.store.scratch.links:
            fs.store.scratch.remove_link(name)
        else:
            super().unlink(fs, serial, name, at)


class Caches(Directory):
    """The collection: a directory for each ccache, in list order."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        count = len(fs.store.collection.all())
        return Attributes(mtime=mtime_of(fs, 0), nlink=2 + count, attr_timeout=LONG)

    def find(self, fs: FileSystem, serial: int, name: bytes, pid: int) -> Ref:
        return Ref(_ccache_named(fs, name).serial, Slot.CCACHE)

    def entries(self, fs: FileSystem, serial: int) -> Iterable[tuple[bytes, Ref]]:
        for ccache in fs.store.collection.all():
            yield encoded(ccache.name), Ref(ccache.serial, Slot.CCACHE)

    def mkdir(self, fs: FileSystem, serial: int, name: bytes, at: Stamp) -> Ref:
        ccache = fs.store.collection.create(decoded(name), at)
        return Ref(ccache.serial, Slot.CCACHE)

    def rmdir(self, fs: FileSystem, serial: int, name: bytes, at: Stamp) -> None:
        fs.store.destroy(_ccache_named(fs, name), at)

    def unlink(self, fs: FileSystem, serial: int, name: bytes, at: Stamp) -> None:
        _ccache_named(fs, name)
        raise WrongKindError


class CcacheDirectory(Directory):
    """One ccache: its file, its fixed names, and scratch files beside them."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        return Attributes(mtime=mtime_of(fs, serial), nlink=4, attr_timeout=LONG)

    def find(self, fs: FileSystem, serial: int, name: bytes, pid: int) -> Ref:
        ccache = ccache_of(fs, serial)
        current = ccache.current if name == CCACHE else fs.store.scratch.find(serial, name)
        if current is None:
            raise NotFoundError("no such file")
        return Ref(current.number, Slot.BYTES)

    def entries(self, fs: FileSystem, serial: int) -> Iterable[tuple[bytes, Ref]]:
        ccache = ccache_of(fs, serial)
        if ccache.current:
            yield CCACHE, Ref(ccache.current.number, Slot.BYTES)
        for name, generation in fs.store.scratch.names(serial):
            yield name, Ref(generation.number, Slot.BYTES)

    def create(
        self, fs: FileSystem, serial: int, name: bytes, opening: Opening
    ) -> tuple[Ref, Handle]:
        ccache = ccache_of(fs, serial)
        if name == CCACHE:
            return ccache_file.create(fs, ccache, opening)
        return ccache_file.create_scratch(fs, serial, name, opening)

    def symlink(self, fs: FileSystem, serial: int, name: bytes, target: bytes, at: Stamp) -> Ref:
        """Set the default for `ln -sf caches/NAME default` without `-n`.

        Then ln(1) follows the link `default` and makes a link in that directory, named as the
        target's last component.  Refused in any other directory, and for any other name.
        """
        ccache, parent = new_link_ccache(fs, target), ccache_of(fs, serial)
        last_component = target.rstrip(b"/").rpartition(b"/")[2]
        if parent is not fs.store.collection.default or name != last_component:
            return super().symlink(fs, serial, name, target, at)
        fs.store.collection.set_default(ccache, at)
        return Ref(ccache.serial, Slot.ID_LINK)

    def unlink(self, fs: FileSystem, serial: int, name: bytes, at: Stamp) -> None:
        ccache = ccache_of(fs, serial)
        if name == CCACHE:
            fs.store.uninitialise(ccache, at)
        else:
            fs.store.scratch.unlink(serial, name)


class ById(Directory):
    """The same ccaches by their identifiers, which are never reused."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        return Attributes(mtime=mtime_of(fs, 0), nlink=2)

    def find(self, fs: FileSystem, serial: int, name: bytes, pid: int) -> Ref:
        ccache = fs.store.collection.by_ident(name)
        if ccache is None:
            raise NotFoundError("no such ccache")
        return Ref(ccache.serial, Slot.ID_LINK)

    def entries(self, fs: FileSystem, serial: int) -> Iterable[tuple[bytes, Ref]]:
        for ccache in fs.store.collection.all():
            yield ccache.ident.encode("ascii"), Ref(ccache.serial, Slot.ID_LINK)

    def unlink(self, fs: FileSystem, serial: int, name: bytes, at: Stamp) -> None:
        """Destroy the ccache: this one, whatever ccache has its name by now."""
        ref = self.find(fs, serial, name, 0)
        fs.store.destroy(ccache_of(fs, ref.serial), at)


def _ccache_named(fs: FileSystem, name: bytes) -> Ccache:
    try:
        raw = decoded(name)
    except BadNameError:
        raise NotFoundError("no such ccache") from None
    return fs.store.collection.get(raw)
