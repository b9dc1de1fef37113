# SPDX-License-Identifier: MIT
"""`credentials/`: a file for each credential."""

from collections.abc import Iterable

from ccfs.ops import records, unfinished_files
from ccfs.ops.file_system import FileSystem
from ccfs.ops.handles import Handle, TextHandle
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.node import LONG, Attributes, Directory, Node, Opening, ccache_of
from ccfs.store import Stamp
from ccfs.store.ccache import Ccache
from ccfs.store.errors import NotFoundError
from ccfs.store.values import Stored

_RAW = b".raw"


class Credentials(Directory):
    """The credentials of a ccache; each can also be looked up as ID and as ID.raw."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        return records.directory_attributes(ccache_of(fs, serial))

    def find(self, fs: FileSystem, serial: int, name: bytes, pid: int) -> Ref:
        ccache = ccache_of(fs, serial)
        stored = records.by_name(ccache.credentials, name)
        if stored:
            return Ref(stored.serial, Slot.TEXT)
        slot = Slot.RAW if name.endswith(_RAW) else Slot.TEXT
        return Ref(_by_ident(ccache, name.removesuffix(_RAW)).serial, slot)

    def entries(self, fs: FileSystem, serial: int) -> Iterable[tuple[bytes, Ref]]:
        for stored in ccache_of(fs, serial).credentials.values():
            yield records.file_name(stored), Ref(stored.serial, Slot.TEXT)

    def create(
        self, fs: FileSystem, serial: int, name: bytes, opening: Opening
    ) -> tuple[Ref, Handle]:
        """A new file: one marshalled credential, stored at the write that completes it."""
        ccache_of(fs, serial)
        return unfinished_files.create(fs, Slot.CREDENTIALS, serial, name, opening)

    def unlink(self, fs: FileSystem, serial: int, name: bytes, at: Stamp) -> None:
        ref = self.find(fs, serial, name, 0)
        fs.store.edits.remove(ccache_of(fs, serial), ref.serial, at)


class Text(Node):
    """The text of a credential.  It never changes: another credential has another number."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        mtime, size = records.ccache_with(fs, serial).mtime, fs.texts.sizes.get(serial)
        if size is None:
            size = len(records.text(fs, serial))
        return Attributes(size, mtime, attr_timeout=LONG)

    def open(self, fs: FileSystem, serial: int, opening: Opening) -> Handle:
        return TextHandle(records.text(fs, serial), direct=False)


class Raw(Node):
    """The bytes of a credential, in FILE version 4 as one is stored; not in the page cache."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        return Attributes(len(records.raw(fs, serial)), records.ccache_with(fs, serial).mtime)

    def open(self, fs: FileSystem, serial: int, opening: Opening) -> Handle:
        return TextHandle(records.raw(fs, serial))


def _by_ident(ccache: Ccache, text: bytes) -> Stored:
    try:
        serial = int(text, 16)
    except ValueError:
        serial = 0
    stored = ccache.find(serial)
    if stored is None or stored.ident.encode() != text:
        raise NotFoundError("no such credential")
    return stored
