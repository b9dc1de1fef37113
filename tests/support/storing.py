# SPDX-License-Identifier: MIT
"""Builders for tests of the store: records, ccaches, stamps; and a check of the invariants.

Knows the store from the inside; never a mount, a clock or a FUSE handle.
"""

from collections.abc import Iterable

import pytest

from ccfs.format.ccache import Ccache as Decoded
from ccfs.format.ccache import Header, Prefix, decode_ccache, encode_prefix
from ccfs.format.config import ConfigKey, make_config
from ccfs.format.credential import Credential, Keyblock, Times, encode_credential
from ccfs.format.dialect import DIALECT_V4, Dialect
from ccfs.format.principal import Principal, parse_name
from ccfs.format.removed_record import is_removed, placeholder_record
from ccfs.store import Client, Limits, Stamp, Store
from ccfs.store.ccache import Ccache
from ccfs.store.effects import Effects
from ccfs.store.errors import DamagedError
from ccfs.store.generation import Generation, OpenFile
from ccfs.store.record_names import cut_name, describe
from ccfs.store.values import Stored

NOW = 1_700_000_000.0
USER = Client(1000, 4242, "kinit")
ALICE = parse_name(b"alice@R")
BOB = parse_name(b"bob@R")
TGT = b"krbtgt/R@R"
KEY = b"a key that nobody may see"
V3 = Dialect(3)


def at(seconds: float = 0.0) -> Stamp:
    """The user's stamp, `seconds` after the store's start."""
    return Stamp(NOW + seconds, USER)


def credential(
    server: bytes | Principal = b"host/www@R", *, endtime: int = 2_000, ticket: bytes = b"ticket"
) -> Credential:
    """A credential of alice for a server."""
    return Credential(
        client=ALICE,
        server=parse_name(server) if isinstance(server, bytes) else server,
        keyblock=Keyblock(18, KEY),
        times=Times(1_000, 1_000, endtime, 0),
        is_skey=0,
        ticket_flags=0,
        addresses=(),
        authdata=(),
        ticket=ticket,
        second_ticket=b"",
    )


def record(
    server: bytes | Principal = b"host/www@R",
    *,
    endtime: int = 2_000,
    ticket: bytes = b"ticket",
    dialect: Dialect = DIALECT_V4,
) -> bytes:
    """One marshalled credential."""
    return encode_credential(credential(server, endtime=endtime, ticket=ticket), dialect)


def config(key: bytes, value: bytes = b"yes", principal: bytes | None = None) -> bytes:
    """One marshalled configuration entry."""
    return encode_credential(make_config(ALICE, ConfigKey(key, principal), value), DIALECT_V4)


def removed(marshalled: bytes) -> bytes:
    """The same record, marked as removed in its place."""
    return placeholder_record(marshalled, DIALECT_V4)


def prefix(principal: Principal = ALICE, dialect: Dialect = DIALECT_V4) -> bytes:
    """A header and a principal."""
    return encode_prefix(Prefix(Header(dialect), principal))


def whole(*records: bytes, principal: Principal = ALICE, dialect: Dialect = DIALECT_V4) -> bytes:
    """A whole ccache."""
    return prefix(principal, dialect) + b"".join(records)


def new_store(limits: Limits | None = None) -> Store:
    """A fresh store."""
    return Store(limits or Limits(), at())


@pytest.fixture
def store() -> Store:
    """A fresh store, as most tests begin with one."""
    return new_store()


def start(store: Store, ccache: Ccache) -> Generation:
    """Make the empty file `ccache`."""
    return store.contents.start(ccache, at())


def fill(store: Store, data: bytes, name: bytes = b"tkt") -> Ccache:
    """A ccache with these bytes, written as a client does who makes the file anew."""
    ccache = store.collection.find(name) or store.collection.create(name, at())
    if ccache.current is not None:
        store.uninitialise(ccache, at())
    file = writer(store, start(store, ccache))
    put(store, file, data)
    store.close(file, NOW)
    return ccache


def make_scratch(store: Store, ccache: int | None, name: bytes, data: bytes) -> OpenFile:
    """A scratch file with this content, still open; `ccache`: serial number, None for `dir/`."""
    file = writer(store, store.scratch.create(ccache, name, at()))
    put(store, file, data)
    return file


def put(store: Store, file: OpenFile, data: bytes, offset: int | None = None) -> None:
    """Write as the kernel does for a file that is at `offset`; at its end by default."""
    where = len(file.generation.data) if offset is None else offset
    assert store.open_files.write(file, where, data, NOW) == len(data)


def current(ccache: Ccache) -> Generation:
    """The current generation of a ccache that has one."""
    assert ccache.current is not None
    return ccache.current


def writer(store: Store, generation: Generation, who: Client = USER) -> OpenFile:
    """An open file that writes where it is told to."""
    return store.open_files.open(generation, who, writes=True, append=False)


def appender(store: Store, generation: Generation, who: Client = USER) -> OpenFile:
    """An open file that writes at the end."""
    return store.open_files.open(generation, who, writes=True, append=True)


def reader(store: Store, generation: Generation) -> OpenFile:
    """An open file that only reads."""
    return store.open_files.open(generation, USER, writes=False, append=False)


def contents(store: Store, file: OpenFile) -> bytes:
    """Everything that an open file reads."""
    return store.open_files.read(file, 0, 1 << 30)


def data_of(ccache: Ccache) -> bytes:
    """The current bytes of a ccache."""
    return bytes(current(ccache).data)


def decoded(ccache: Ccache) -> Decoded:
    """The current bytes of a ccache, its incomplete tail left out."""
    assert ccache.image is not None
    return decode_ccache(bytes(ccache.image.data[: ccache.image.records_end]))


def names(ccache: Ccache) -> list[str]:
    """The names in `credentials/`, in their order."""
    return list(ccache.credentials)


def serial(ccache: Ccache, name: str) -> int:
    """The serial number of a credential or configuration entry."""
    return (ccache.credentials.get(name) or ccache.config[name]).serial


def said(store: Store) -> list[str]:
    """The events of the log: word, ccache and detail, without client and time."""
    text = store.events.read(store.events.edition, 0, 1 << 30).decode()
    fields = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return [" ".join(line[2:5]).removesuffix(" -") for line in fields]


def serials(ccache: Ccache) -> dict[int, Stored]:
    """The credentials and configuration entries by their serial numbers, in their order."""
    return {s.serial: s for s in ccache.image.stored()} if ccache.image else {}


def owned(store: Store) -> set[int]:
    """The serial numbers of all credentials and configuration entries."""
    return {serial for ccache in store.collection.all() for serial in serials(ccache)}


def check(store: Store, files: Iterable[OpenFile] = ()) -> None:
    """Every invariant of the store.  `files`: all that are open."""
    ccaches = store.collection.all()
    assert len({c.name for c in ccaches}) == len({c.serial for c in ccaches}) == len(ccaches)
    for ccache in ccaches:
        assert store.collection.find(ccache.name) is ccache
        assert store.collection.by_serial(ccache.serial) is ccache
        assert ccache.last_default_time <= ccache.change_time <= store.change_time
        _check_ccache(ccache)
    assert all(store.collection.by_record(s) is c for c in ccaches for s in serials(c))
    _check_memory(store, list(files))


def _check_ccache(ccache: Ccache) -> None:
    stored = [*ccache.credentials.items(), *ccache.config.items()]
    assert all(name == s.name for name, s in stored)
    assert {s.serial: s for _, s in stored} == serials(ccache)
    if ccache.current is None:
        assert not stored
        return
    assert ccache.current.owner == ccache.serial
    assert ccache.current.current
    _check_image(ccache)


def _check_image(ccache: Ccache) -> None:
    image = ccache.image
    assert image is not None
    assert bool(image.incomplete_bytes) == (current(ccache).incomplete_file is not None)
    if image.prefix is None:
        assert (image.spans, image.records_end, image.removed_bytes) == ([], 0, 0)
        return
    cc = decoded(ccache)
    assert image.prefix == Prefix(cc.header, cc.principal)
    assert len(image.spans) == len(cc.credentials)
    position = image.records_start
    for span, held in zip(image.spans, cc.credentials, strict=True):
        assert span.start == position
        position = span.end
        if span.stored is None:
            assert is_removed(held) or held.times.endtime == 0
        else:
            assert not is_removed(held)
            assert ccache.find(span.stored.serial) is span.stored
            written = bytes(image.data[span.start : span.end])
            assert image.record(span.stored.serial) == written
            wanted = describe(written, image.dialect)
            had = span.stored
            assert (had.config, had.tgt, had.endtime) == (
                wanted.config,
                wanted.tgt,
                wanted.endtime,
            )
            assert had.name in (wanted.stem, cut_name(wanted.stem, f"~{had.ident}"))
    assert position == image.records_end
    assert len(image.stored()) == len(serials(ccache))
    assert image.removed_bytes == sum(s.end - s.start for s in image.spans if s.stored is None)


def _check_memory(store: Store, files: list[OpenFile]) -> None:
    known = {id(g): g for g in _generations(store, files)}
    held = sum(len(g.data) for g in known.values()) + sum(len(f.incomplete) for f in files)
    held += sum(len(tail) for _, tail in store.open_files._restored.values())
    assert store.used_bytes == held
    for generation in known.values():
        opened = [f for f in files if f.generation is generation]
        assert generation.open_count == len(opened)
        assert generation.writer_count == sum(f.writes for f in opened)


def _generations(store: Store, files: list[OpenFile]) -> Iterable[Generation]:
    yield from (f.generation for f in files)
    yield from (c.current for c in store.collection.all() if c.current)
    yield from store.generations.orphans()
    yield from store.scratch.all()


class Refusing:
    """A journal without room, at first."""

    mark = (1, 1)
    last = Effects()

    def has_made(self, mark: tuple[int, int]) -> bool:
        return False

    def __init__(self) -> None:
        self.refuses = True
        self.kept = 0

    def commit(self, store: Store, effects: Effects) -> None:
        if self.refuses:
            raise DamagedError("full")
        self.kept += 1
