# SPDX-License-Identifier: MIT
"""`dir/`: the collection as a DIR ccache: a file for each ccache, and `primary`."""

from collections.abc import Iterable

from ccfs.ops import ccache_file
from ccfs.ops.file_system import FileSystem
from ccfs.ops.handles import Handle
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.node import LONG, Attributes, Directory, Opening, mtime_of
from ccfs.ops.texts import PRIMARY_FILE, ccache_of_file
from ccfs.store import Stamp
from ccfs.store.ccache import Ccache
from ccfs.store.dir_names import PRIMARY, shown_name
from ccfs.store.errors import NotFoundError
from ccfs.store.scratch import DIR

_PRIMARY = Ref(0, Slot.PRIMARY)


class DirCollection(Directory):
    """The directory."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        return Attributes(mtime=mtime_of(fs, 0), nlink=2, attr_timeout=LONG)

    def find(self, fs: FileSystem, serial: int, name: bytes, pid: int) -> Ref:
        if name == PRIMARY:
            if not fs.store.collection.has_default:
                raise NotFoundError("no default was initialised or chosen")
            return _PRIMARY
        ccache = _ccache(fs, name)
        if ccache and ccache.current:
            return Ref(ccache.current.number, Slot.BYTES)
        return Ref(fs.store.scratch.get(DIR, name).number, Slot.BYTES)

    def entries(self, fs: FileSystem, serial: int) -> Iterable[tuple[bytes, Ref]]:
        if fs.store.collection.has_default:
            yield PRIMARY, _PRIMARY
        for ccache in fs.store.collection.all():
            if ccache.current:
                yield shown_name(ccache), Ref(ccache.current.number, Slot.BYTES)
        for name, generation in fs.store.scratch.names(DIR):
            if not has_ccache(fs, name):
                yield name, Ref(generation.number, Slot.BYTES)

    def create(
        self, fs: FileSystem, serial: int, name: bytes, opening: Opening
    ) -> tuple[Ref, Handle]:
        if name == PRIMARY:
            return _PRIMARY, PRIMARY_FILE.open(fs, 0, opening)
        ccache = _ccache(fs, name)
        if ccache is not None:
            return ccache_file.create(fs, ccache, opening)
        return ccache_file.create_scratch(fs, DIR, name, opening)

    def unlink(self, fs: FileSystem, serial: int, name: bytes, at: Stamp) -> None:
        if name == PRIMARY:
            self.find(fs, serial, name, 0)
            super().unlink(fs, serial, name, at)
        ccache = _ccache(fs, name)
        if ccache is not None and ccache.current:
            fs.store.unlink_listed(ccache, at)
        else:
            fs.store.scratch.unlink(DIR, name)


def has_ccache(fs: FileSystem, name: bytes) -> bool:
    """Whether a name is the file of an initialised ccache, which hides a scratch file."""
    ccache = _ccache(fs, name)
    return ccache is not None and ccache.current is not None


def _ccache(fs: FileSystem, file_name: bytes) -> Ccache | None:
    name = ccache_of_file(fs, file_name)
    return fs.store.collection.find(name) if name is not None else None
