# SPDX-License-Identifier: MIT
"""`config/`: a file for each configuration entry of a ccache."""

from collections.abc import Iterable

from ccfs.format.config import config_key
from ccfs.format.credential import decode_credential
from ccfs.ops import records, unfinished_files
from ccfs.ops.file_system import FileSystem
from ccfs.ops.handles import Handle, TextHandle, WholeFileHandle
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.node import Attributes, Directory, Node, Opening, ccache_of
from ccfs.store import Stamp
from ccfs.store.errors import GoneError, NotFoundError


class Config(Directory):
    """The configuration entries of a ccache: KEY, or KEY~PRINCIPAL."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        return records.directory_attributes(ccache_of(fs, serial))

    def find(self, fs: FileSystem, serial: int, name: bytes, pid: int) -> Ref:
        stored = records.by_name(ccache_of(fs, serial).config, name)
        if stored is None:
            raise NotFoundError("no such configuration entry")
        return Ref(stored.serial, Slot.VALUE)

    def entries(self, fs: FileSystem, serial: int) -> Iterable[tuple[bytes, Ref]]:
        for stored in ccache_of(fs, serial).config.values():
            yield records.file_name(stored), Ref(stored.serial, Slot.VALUE)

    def create(
        self, fs: FileSystem, serial: int, name: bytes, opening: Opening
    ) -> tuple[Ref, Handle]:
        """A new entry; its value is what is written, or nothing."""
        at = opening.at
        records.entry_setter(fs, serial, records.entry_key(name), at.client)(b"", at.now)
        return unfinished_files.create(fs, Slot.CONFIG, serial, name, opening)

    def unlink(self, fs: FileSystem, serial: int, name: bytes, at: Stamp) -> None:
        ref = self.find(fs, serial, name, 0)
        fs.store.edits.remove(ccache_of(fs, serial), ref.serial, at)


class Value(Node):
    """The value of a configuration entry, without a newline."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        return Attributes(len(records.value(fs, serial)), records.ccache_with(fs, serial).mtime)

    def open(self, fs: FileSystem, serial: int, opening: Opening) -> Handle:
        ccache = records.ccache_with(fs, serial)
        value = records.value(fs, serial)
        if not opening.writes:
            return TextHandle(value)
        key = config_key(decode_credential(*records.record(fs, serial))[0].server)
        if key is None:
            raise GoneError("no configuration entry")
        return WholeFileHandle(
            value, records.entry_setter(fs, ccache.serial, key, opening.at.client)
        )

    def truncate(self, fs: FileSystem, serial: int, size: int, at: Stamp) -> None:
        """Accept size 0, without effect before the first write; refuse any other."""
        if size:
            super().truncate(fs, serial, size, at)


def rename_entry(fs: FileSystem, serial: int, old: bytes, new: bytes, at: Stamp) -> None:
    """Give a configuration entry another key, in place of the entry that has it."""
    ccache, edits, key = ccache_of(fs, serial), fs.store.edits, records.entry_key(new)
    stored = records.by_name(ccache.config, old)
    if stored is None:
        raise NotFoundError("no such configuration entry")
    edits.set_config(ccache, key, records.value(fs, stored.serial), at)
    edits.remove(ccache, stored.serial, at)
