# SPDX-License-Identifier: MIT
"""New files in `credentials/` and `config/`, from create to close.

A credential is stored at the write that completes it; until then the file is nothing to the store.
It is noted in the journal, so that its writer can continue with the next daemon.
"""

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from ccfs.ops import records
from ccfs.ops.file_system import FileSystem
from ccfs.ops.handles import ApplyIfComplete, Handle, UnfinishedHandle
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.node import Attributes, Node, Opening, ccache_of
from ccfs.store import Client, Stamp
from ccfs.store.errors import BadContentError, GoneError
from ccfs.store.values import EventKind

_KEY = b"pending "
_HEAD = Struct(">BQ?HI")


class UnfinishedFile(NamedTuple):
    """A new file: its directory by slot and ccache, its name.

    `content`: what was written to it; `complete`: whether that is a whole credential, which is
    stored then.
    """

    slot: Slot
    ccache: int
    name: bytes
    complete: bool = False
    content: bytes = b""


class Unfinished(Node):
    """A new file, until it is closed."""

    def attributes(self, fs: FileSystem, serial: int) -> Attributes:
        handle = fs.handles.unfinished.get(serial)
        if isinstance(handle, UnfinishedHandle):
            size = handle.size
        else:
            size = len(_load(fs, serial).content)
        return Attributes(size, fs.committer.clock(), entry_timeout=0.0)

    def open(self, fs: FileSystem, serial: int, opening: Opening) -> Handle:
        """Open it for a create that the kernel sends again."""
        return self.reopen(fs, serial, opening, 0)

    def reopen(self, fs: FileSystem, serial: int, opening: Opening, number: int) -> Handle:
        return _open(fs, serial, _load(fs, serial), opening)


def create(
    fs: FileSystem, slot: Slot, ccache: int, name: bytes, opening: Opening
) -> tuple[Ref, Handle]:
    """Create a file in a directory of a ccache."""
    file, number = UnfinishedFile(slot, ccache, name), fs.store.new_serial()
    fs.committer.notes.save(_KEY + b"%x" % number, _encode(file))
    return Ref(number, Slot.UNFINISHED), _open(fs, number, file, opening)


def unfinished_ref(fs: FileSystem, directory: Ref, name: bytes) -> Ref | None:
    """Return the last new file of a name that an earlier daemon noted; None for none."""
    for key, value in reversed(fs.committer.notes.items()):
        if key.startswith(_KEY):
            file = _decode(value)
            if (file.slot, file.ccache, file.name) == (directory.slot, directory.serial, name):
                return Ref(int(key.removeprefix(_KEY), 16), Slot.UNFINISHED)
    return None


def _encode(file: UnfinishedFile) -> bytes:
    """Encode a note.  Of content that is stored only the length, which `stat` still shows."""
    slot, ccache, name, complete, content = file
    head = _HEAD.pack(slot, ccache, complete, len(name), len(content))
    return head + name + (b"" if complete else content)


def _decode(value: bytes) -> UnfinishedFile:
    slot, ccache, complete, size, length = _HEAD.unpack_from(value)
    end = _HEAD.size + size
    content = bytes(length) if complete else value[end:]
    return UnfinishedFile(Slot(slot), ccache, value[_HEAD.size : end], complete, content)


def _load(fs: FileSystem, serial: int) -> UnfinishedFile:
    value = fs.committer.notes.get(_KEY + b"%x" % serial)
    if not value:
        raise GoneError("a removed file")
    return _decode(value)


def _open(fs: FileSystem, number: int, file: UnfinishedFile, opening: Opening) -> Handle:
    """Return a handle whose writes are noted until the content is complete."""
    key, client = _KEY + b"%x" % number, opening.at.client
    apply = _APPLY[file.slot](fs, file, client)

    def apply_and_note(content: bytes, now: float) -> bool:
        complete = apply(content, now)
        noted = file._replace(complete=complete, content=content)
        fs.committer.notes.save(key, _encode(noted))
        return complete

    def dropped(now: float) -> None:
        ccache = fs.store.collection.by_serial(file.ccache)
        if ccache is not None:
            shown = file.name.decode("utf-8", "surrogateescape")
            fs.store.log_event(Stamp(now, client), EventKind.DROPPED, ccache, shown)

    def closed() -> None:
        fs.handles.unfinished.pop(number, None)
        fs.committer.notes.save(key, b"")

    handle = UnfinishedHandle(apply_and_note, dropped, closed, file.content, complete=file.complete)
    fs.handles.unfinished[number] = handle
    return handle


def _store_credential(fs: FileSystem, file: UnfinishedFile, client: Client) -> ApplyIfComplete:
    """Store the content once it is a whole credential; refuse bytes behind that."""
    edits, complete = fs.store.edits, file.complete

    def apply(content: bytes, now: float) -> bool:
        nonlocal complete
        if complete:
            raise BadContentError("bytes behind the credential")
        complete = edits.is_complete(content)
        if complete:
            ccache = ccache_of(fs, file.ccache)
            edits.store_complete(ccache, content, Stamp(now, client))
        return complete

    return apply


def _set_entry(fs: FileSystem, file: UnfinishedFile, client: Client) -> ApplyIfComplete:
    """Set a configuration entry to the content at each write."""
    apply_entry = records.entry_setter(fs, file.ccache, records.entry_key(file.name), client)

    def apply(content: bytes, now: float) -> bool:
        apply_entry(content, now)
        return True

    return apply


_APPLY: dict[Slot, Callable[[FileSystem, UnfinishedFile, Client], ApplyIfComplete]] = {
    Slot.CREDENTIALS: _store_credential,
    Slot.CONFIG: _set_entry,
}
