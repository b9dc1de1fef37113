"""`credentials/` and `config/`: a file for each credential and each configuration entry."""

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from ccfs.format.config import ConfigKey, config_key
from ccfs.format.credential import decode_credential, encode_credential
from ccfs.format.dialect import DIALECT_V4, Dialect
from ccfs.format.errors import FormatError
from ccfs.format.names import decode_name
from ccfs.format.text import credential_text
from ccfs.ops.file_system import Server
from ccfs.ops.handles import Commit, CommitHandle, Complete, Handle, PendingHandle, TextHandle
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.node import LONG, Attributes, Directory, Node, Opening, ccache_of
from ccfs.store import Stamp
from ccfs.store.ccache import Ccache
from ccfs.store.errors import BadContentError, BadNameError, GoneError, NotFoundError
from ccfs.store.values import EventKind, Stored, ident

_RAW = b".raw"


class Credentials(Directory):
    """The credentials of a ccache; each also answers to ID and ID.raw."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        return _listing(ccache_of(server, serial))

    def find(self, server: Server, serial: int, name: bytes, pid: int) -> Ref:
        ccache = ccache_of(server, serial)
        stored = _by_name(ccache.credentials, name)
        if stored:
            return Ref(stored.serial, Slot.TEXT)
        slot = Slot.RAW if name.endswith(_RAW) else Slot.TEXT
        return Ref(_by_ident(ccache, name.removesuffix(_RAW)).serial, slot)

    def entries(self, server: Server, serial: int) -> Iterable[tuple[bytes, Ref]]:
        for stored in ccache_of(server, serial).credentials.values():
            yield _bytes(stored.name), Ref(stored.serial, Slot.TEXT)

    def create(
        self, server: Server, serial: int, name: bytes, opening: Opening
    ) -> tuple[Ref, Handle]:
        """A new file: one marshalled credential, stored at the write that completes it."""
        ccache_of(server, serial)
        return _pending(server, Begun(Slot.CREDENTIALS, serial, name), opening)

    def unlink(self, server: Server, serial: int, name: bytes, at: Stamp) -> None:
        found = self.find(server, serial, name, 0)
        server.store.edits.remove(ccache_of(server, serial), found.serial, at)


class Config(Directory):
    """The configuration entries of a ccache: KEY, or KEY~PRINCIPAL."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        return _listing(ccache_of(server, serial))

    def find(self, server: Server, serial: int, name: bytes, pid: int) -> Ref:
        stored = _by_name(ccache_of(server, serial).config, name)
        if stored is None:
            raise NotFoundError("no such configuration entry")
        return Ref(stored.serial, Slot.VALUE)

    def entries(self, server: Server, serial: int) -> Iterable[tuple[bytes, Ref]]:
        for stored in ccache_of(server, serial).config.values():
            yield _bytes(stored.name), Ref(stored.serial, Slot.VALUE)

    def create(
        self, server: Server, serial: int, name: bytes, opening: Opening
    ) -> tuple[Ref, Handle]:
        """A new entry; its value is what is written, or nothing."""
        _setter(server, serial, _config_key(name), opening)(b"", opening.at.now)
        return _pending(server, Begun(Slot.CONFIG, serial, name), opening)

    def unlink(self, server: Server, serial: int, name: bytes, at: Stamp) -> None:
        found = self.find(server, serial, name, 0)
        server.store.edits.remove(ccache_of(server, serial), found.serial, at)


def rename_entry(server: Server, serial: int, old: bytes, new: bytes, at: Stamp) -> None:
    """Give a configuration entry another key, in place of what has that."""
    ccache, edits, key = ccache_of(server, serial), server.store.edits, _config_key(new)
    stored = _by_name(ccache.config, old)
    if stored is None:
        raise NotFoundError("no such configuration entry")
    edits.set_config(ccache, key, _value(server, stored.serial), at)
    edits.remove(ccache, stored.serial, at)


class Text(Node):
    """The text of a credential.  It never changes: another credential has another number."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        mtime, size = _owner(server, serial).mtime, server.sizes.get(serial)
        if size is None:
            size = len(_text(server, serial))
        return Attributes(size, mtime, attr_timeout=LONG)

    def open(self, server: Server, serial: int, opening: Opening) -> Handle:
        return TextHandle(_text(server, serial), direct=False)


class Raw(Node):
    """The bytes of a credential, in FILE version 4 as one is stored; kept in no page cache."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        return Attributes(len(_raw(server, serial)), _owner(server, serial).mtime)

    def open(self, server: Server, serial: int, opening: Opening) -> Handle:
        return TextHandle(_raw(server, serial))


class Value(Node):
    """The value of a configuration entry, and nothing more."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        return Attributes(len(_value(server, serial)), _owner(server, serial).mtime)

    def open(self, server: Server, serial: int, opening: Opening) -> Handle:
        ccache = _owner(server, serial)
        value = _value(server, serial)
        if not opening.writes:
            return TextHandle(value)
        key = config_key(decode_credential(*_record(server, serial))[0].server)
        if key is None:
            raise GoneError("no configuration entry")
        return CommitHandle(value, _setter(server, ccache.serial, key, opening))

    def truncate(self, server: Server, serial: int, size: int, at: Stamp) -> None:
        """Nothing happens before something is written."""
        if size:
            super().truncate(server, serial, size, at)


class Begun(NamedTuple):
    """A new file that somebody is writing: in which directory of which ccache, its name.

    `content`: what was written to it; `done`: whether that is a whole credential, which is stored.
    """

    slot: Slot
    ccache: int
    name: bytes
    done: bool = False
    content: bytes = b""


class Pending(Node):
    """A new file that somebody is writing and that is nothing yet."""

    def attributes(self, server: Server, serial: int) -> Attributes:
        handle = server.pending.get(serial)
        size = handle.size if isinstance(handle, PendingHandle) else len(_begun(server, serial)[-1])
        return Attributes(size, server.clock(), entry_timeout=0.0)

    def open(self, server: Server, serial: int, opening: Opening) -> Handle:
        """Where the kernel asks again for one that it has made."""
        return self.reopen(server, serial, opening, 0)

    def reopen(self, server: Server, serial: int, opening: Opening, number: int) -> Handle:
        return _handle(server, serial, _begun(server, serial), opening)


def pending_of(server: Server, where: Ref, name: bytes) -> Ref | None:
    """The last file of a name that was begun in a directory, and that another daemon has noted."""
    for key, value in reversed(server.store.notes.items()):
        if key.startswith(_PENDING):
            begun = _decoded(value)
            if (begun.slot, begun.ccache, begun.name) == (where.slot, where.serial, name):
                return Ref(int(key.removeprefix(_PENDING), 16), Slot.PENDING)
    return None


_PENDING = b"pending "
_BEGUN = Struct(">BQ?HI")


def _noted(begun: Begun) -> bytes:
    """Of content that is stored only its length is noted, for who asks for the file's size."""
    slot, ccache, name, done, content = begun
    head = _BEGUN.pack(slot, ccache, done, len(name), len(content))
    return head + name + (b"" if done else content)


def _decoded(value: bytes) -> Begun:
    slot, ccache, done, size, length = _BEGUN.unpack_from(value)
    end = _BEGUN.size + size
    content = bytes(length) if done else value[end:]
    return Begun(Slot(slot), ccache, value[_BEGUN.size : end], done, content)


def _begun(server: Server, serial: int) -> Begun:
    """What was noted of a file; GoneError for one that nobody knows."""
    key = _PENDING + b"%x" % serial
    value = None if key in server.unwanted else server.store.notes.get(key)
    if value is None:
        raise GoneError("a file that is gone")
    return _decoded(value)


def _pending(server: Server, begun: Begun, opening: Opening) -> tuple[Ref, Handle]:
    number = server.store.new_serial()
    server.note(_PENDING + b"%x" % number, _noted(begun))
    return Ref(number, Slot.PENDING), _handle(server, number, begun, opening)


def _handle(server: Server, number: int, begun: Begun, opening: Opening) -> Handle:
    """The handle of a file that was begun; what is written to it is noted until it is stored."""
    key, who = _PENDING + b"%x" % number, opening.at.client
    put = _COMMITS[begun.slot](server, begun, opening)

    def commit(content: bytes, now: float) -> bool:
        done = put(content, now)
        server.note(key, _noted(begun._replace(done=done, content=content)))
        return done

    def dropped(now: float) -> None:
        ccache = server.store.collection.by_serial(begun.ccache)
        if ccache is not None:
            shown = begun.name.decode("utf-8", "surrogateescape")
            server.store.log_event(Stamp(now, who), EventKind.DROPPED, ccache, shown)

    def over() -> None:
        server.pending.pop(number, None)
        server.note(key, b"")

    handle = PendingHandle(commit, dropped, over, begun.content, complete=begun.done)
    server.pending[number] = handle
    return handle


def _credential(server: Server, begun: Begun, opening: Opening) -> Complete:
    """Store what is written once it is a whole credential; nothing can come behind that."""
    edits, complete = server.store.edits, begun.done

    def commit(content: bytes, now: float) -> bool:
        nonlocal complete
        if complete:
            raise BadContentError("bytes behind the credential")
        complete = edits.complete(content)
        if complete:
            ccache = ccache_of(server, begun.ccache)
            edits.store_complete(ccache, content, Stamp(now, opening.at.client))
        return complete

    return commit


def _entry(server: Server, begun: Begun, opening: Opening) -> Complete:
    """Set a configuration entry to what is written so far."""
    put = _setter(server, begun.ccache, _config_key(begun.name), opening)

    def commit(content: bytes, now: float) -> bool:
        put(content, now)
        return True

    return commit


_COMMITS = {Slot.CREDENTIALS: _credential, Slot.CONFIG: _entry}


def _setter(server: Server, serial: int, key: ConfigKey, opening: Opening) -> Commit:
    who = opening.at.client

    def commit(content: bytes, now: float) -> None:
        server.store.edits.set_config(ccache_of(server, serial), key, content, Stamp(now, who))

    return commit


def _config_key(name: bytes) -> ConfigKey:
    key, tilde, principal = name.decode("utf-8", "surrogateescape").partition("~")
    try:
        return ConfigKey(decode_name(key), decode_name(principal) if tilde else None)
    except FormatError as error:
        raise BadNameError(str(error)) from None


def _owner(server: Server, serial: int) -> Ccache:
    ccache = server.store.owner(serial)
    if ccache is None:
        raise GoneError("a credential that is gone")
    return ccache


def _record(server: Server, serial: int) -> tuple[bytes, Dialect]:
    image = _owner(server, serial).image
    record = image.record(serial) if image else None
    if image is None or record is None:
        raise GoneError("a credential that is gone")
    return record, image.dialect


def _raw(server: Server, serial: int) -> bytes:
    record, dialect = _record(server, serial)
    if dialect == DIALECT_V4:
        return record
    return encode_credential(decode_credential(record, dialect)[0], DIALECT_V4)


def _value(server: Server, serial: int) -> bytes:
    return decode_credential(*_record(server, serial))[0].ticket


def _text(server: Server, serial: int) -> bytes:
    text = server.texts.get(serial)
    if text is None:
        credential, _ = decode_credential(*_record(server, serial))
        text = credential_text(credential, ident(serial))
        server.remember_text(serial, text)
    return text


def _listing(ccache: Ccache) -> Attributes:
    mtime = ccache.current.mtime if ccache.current else ccache.mtime
    return Attributes(mtime=mtime, nlink=2, attr_timeout=0.0)


def _by_name(names: dict[str, Stored], name: bytes) -> Stored | None:
    return names.get(name.decode("utf-8", "surrogateescape"))


def _by_ident(ccache: Ccache, text: bytes) -> Stored:
    try:
        serial = int(text, 16)
    except ValueError:
        serial = 0
    stored = ccache.find(serial)
    if stored is None or stored.ident.encode() != text:
        raise NotFoundError("no such credential")
    return stored


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
