# SPDX-License-Identifier: MIT
"""Edits by the server: credentials, configuration, principal, offset; old versions; file names."""

from collections.abc import Callable

import pytest

from ccfs.format.ccache import Header, Prefix, Tag, decode_ccache, encode_prefix
from ccfs.format.config import ConfigKey
from ccfs.format.credential import Credential, decode_credential, encode_credential
from ccfs.format.dialect import DIALECT_V4, Dialect
from ccfs.format.names import decode_name
from ccfs.format.principal import Principal, unparse_name
from ccfs.store import Limits, Store
from ccfs.store.ccache import Ccache
from ccfs.store.errors import (
    BadContentError,
    CcacheLimitError,
    NotFoundError,
    StoreError,
    TotalLimitError,
)
from ccfs.store.values import NAME_MAX
from tests.support.storing import (
    ALICE,
    BOB,
    KEY,
    NOW,
    TGT,
    V3,
    appender,
    at,
    check,
    config,
    contents,
    current,
    data_of,
    decoded,
    fill,
    names,
    new_store,
    prefix,
    reader,
    record,
    removed,
    said,
    serial,
    serials,
    start,
    whole,
    writer,
)
from tests.support.vectors import vector

DIALECTS = [Dialect(1), Dialect(1, False), Dialect(2), Dialect(2, False), V3, DIALECT_V4]
PA_TYPE = ConfigKey(b"pa_type")


@pytest.fixture
def tkt(store: Store) -> Ccache:
    return fill(store, whole(record(TGT), record(), config(b"pa_type", b"2")))


def values(ccache: Ccache) -> dict[str, bytes]:
    """What the configuration entries hold, by their names."""
    image = ccache.image
    assert image is not None
    found = {name: image.record(s.serial) for name, s in ccache.config.items()}
    return {n: decode_credential(r, image.dialect)[0].ticket for n, r in found.items() if r}


# Credentials


def test_store_makes_new_generation(store: Store, tkt: Ccache) -> None:
    number, before = current(tkt).number, data_of(tkt)
    stored = store.edits.store(tkt, record(b"imap/x@R"), at())
    assert stored is not None
    assert tkt.credentials["imap%2Fx@R"] is stored
    assert data_of(tkt) == before + record(b"imap/x@R")
    assert current(tkt).number != number
    assert store.generations.find(number) is not current(tkt)
    assert said(store)[-1] == "stored tkt imap%2Fx@R"
    assert store.collection.by_record(stored.serial) is tkt
    check(store)


@pytest.mark.parametrize(
    "bad",
    [b"", record()[:-1], record() + b"\0", record() + record(), b"\xff" * 99],
)
def test_store_refuses_other_than_one_credential(store: Store, tkt: Ccache, bad: bytes) -> None:
    number, before = current(tkt).number, data_of(tkt)
    with pytest.raises(BadContentError):
        store.edits.store(tkt, bad, at())
    assert (current(tkt).number, data_of(tkt)) == (number, before)
    check(store)


def test_store_needs_last_byte_of_credential(store: Store) -> None:
    whole_one = record()
    for size in range(len(whole_one)):
        assert not store.edits.is_complete(whole_one[:size])
    assert store.edits.is_complete(whole_one)
    with pytest.raises(BadContentError):
        store.edits.is_complete(whole_one + b"\0")


def test_stored_removed_record_is_no_credential(store: Store, tkt: Ccache) -> None:
    had = names(tkt)
    assert store.edits.store(tkt, removed(record()), at()) is None
    assert names(tkt) == had
    assert data_of(tkt).endswith(removed(record()))
    check(store)


def test_remove_overwrites_secrets(store: Store, tkt: Ccache) -> None:
    gone = serial(tkt, "host%2Fwww@R")
    store.edits.remove(tkt, gone, at())
    assert names(tkt) == ["krbtgt%2FR@R"]
    assert said(store)[-1] == "removed tkt host%2Fwww@R"
    assert data_of(tkt).count(KEY) == 1
    assert store.collection.by_record(gone) is None
    check(store)
    for missing in (gone, 0, 10**15):
        with pytest.raises(NotFoundError):
            store.edits.remove(tkt, missing, at())


def test_remove_keeps_order(store: Store) -> None:
    services = [b"host/%d@R" % n for n in range(9)]
    tkt = fill(store, whole(*map(record, services)))
    for n in (4, 0, 8, 2):
        store.edits.remove(tkt, serial(tkt, f"host%2F{n}@R"), at())
        check(store)
    assert names(tkt) == [f"host%2F{n}@R" for n in (1, 3, 5, 6, 7)]
    live = [unparse_name(c.server) for c in decoded(tkt).credentials if c.times.endtime]
    assert live == [b"host/%d@R" % n for n in (1, 3, 5, 6, 7)]


@pytest.mark.parametrize("watched", [False, True])
def test_dead_bytes_never_exceed_live_bytes(store: Store, watched: bool) -> None:
    tkt = fill(store, whole(*(record(b"host/%d@R" % n) for n in range(9))))
    files = [reader(store, current(tkt))] if watched else []
    before = data_of(tkt)
    for name in names(tkt):
        store.edits.remove(tkt, serial(tkt, name), at())
        image = tkt.image
        assert image is not None
        assert image.removed_bytes <= image.records_end - image.records_start - image.removed_bytes
        check(store, files)
    assert data_of(tkt) == prefix()
    assert all(contents(store, file) == before for file in files)


# Configuration


def test_set_config_replaces_entry(store: Store, tkt: Ccache) -> None:
    store.edits.set_config(tkt, PA_TYPE, b"150", at())
    store.edits.set_config(tkt, ConfigKey(b"fast_avail", TGT), b"yes", at())
    assert values(tkt) == {"pa_type": b"150", "fast_avail~krbtgt%2FR@R": b"yes"}
    assert names(tkt) == ["krbtgt%2FR@R", "host%2Fwww@R"]
    store.edits.remove_config(tkt, PA_TYPE, at())
    assert values(tkt) == {"fast_avail~krbtgt%2FR@R": b"yes"}
    with pytest.raises(NotFoundError):
        store.edits.remove_config(tkt, PA_TYPE, at())
    check(store)


def test_set_config_replaces_all_entries_of_key(store: Store) -> None:
    tkt = fill(store, whole(*(config(b"pa_type", b"%d" % n) for n in range(3)), config(b"x")))
    assert len(tkt.config) == 4
    store.edits.set_config(tkt, PA_TYPE, b"150", at())
    assert values(tkt) == {"x": b"yes", "pa_type": b"150"}
    check(store)


@pytest.mark.parametrize("size", [240, 255, 256, 4_000])
def test_set_config_replaces_entry_with_long_name(store: Store, tkt: Ccache, size: int) -> None:
    key, near = b"k" * size, b"k" * size + b"2"
    store.edits.set_config(tkt, ConfigKey(near), b"near", at())
    for value in (b"1", b"2", b"3"):
        store.edits.set_config(tkt, ConfigKey(key), value, at())
    assert sorted(values(tkt).values()) == [b"2", b"3", b"near"]
    assert all(len(name.encode()) <= NAME_MAX for name in tkt.config)
    store.edits.remove_config(tkt, ConfigKey(key), at())
    assert sorted(values(tkt).values()) == [b"2", b"near"]
    check(store)


def test_config_principal_that_looks_like_id(store: Store, tkt: Ccache) -> None:
    """KEY~PRINCIPAL and KEY~ID can read the same: no entry hides another, none goes with one."""
    guesses = range(store.last_serial + 1, store.last_serial + 40)
    for guess in guesses:
        entry = ConfigKey(b"pa_type", format(guess, "x").encode())
        store.edits.set_config(tkt, entry, b"its own", at())
    file = appender(store, current(tkt))
    for value in (b"3", b"4"):
        store.open_files.write(file, 0, config(b"pa_type", value), NOW)
        check(store, [file])
    assert len(tkt.config) == len(guesses) + 3
    store.edits.set_config(tkt, PA_TYPE, b"150", at())
    assert sorted(values(tkt).values()) == [b"150"] + [b"its own"] * len(guesses)
    check(store, [file])


@pytest.mark.parametrize("key", [ConfigKey(b"a\0b"), ConfigKey(b"a", b"b\0c"), ConfigKey(b"", b"")])
def test_set_config_with_odd_keys(store: Store, tkt: Ccache, key: ConfigKey) -> None:
    store.edits.set_config(tkt, ConfigKey(rb"a\0b"), b"another", at())
    for value in (b"1", b"2"):
        store.edits.set_config(tkt, key, value, at())
    assert sorted(values(tkt).values()) == [b"2", b"2", b"another"]
    store.edits.remove_config(tkt, key, at())
    assert sorted(values(tkt).values()) == [b"2", b"another"]
    check(store)


def test_set_config_over_limit_keeps_old_entry(store: Store) -> None:
    small = new_store(Limits(ccache_bytes=1_000, total_bytes=2_000))
    tkt = fill(small, whole(record(TGT), config(b"pa_type", b"2")))
    before = data_of(tkt)
    with pytest.raises(CcacheLimitError):
        small.edits.set_config(tkt, PA_TYPE, b"v" * 1_000, at())
    assert data_of(tkt) == before
    check(small)


def test_set_config_beside_readers_loses_nothing() -> None:
    """Generations held by readers count, too: the new entry must fit before the old is removed."""
    size = len(whole(record(TGT), config(b"pa_type", b"2")))
    store = new_store(Limits(total_bytes=3 * size))
    tkt = fill(store, whole(record(TGT), config(b"pa_type", b"2")))
    fill(store, whole(record(TGT)), b"work")
    files = [reader(store, current(tkt))]
    store.edits.set_config(tkt, PA_TYPE, b"3", at())
    assert values(tkt) == {"pa_type": b"3"}
    check(store, files)


# Principal and offset


def test_set_principal_keeps_credentials(store: Store, tkt: Ccache) -> None:
    had = dict(serials(tkt))
    store.edits.set_kdc_offset(tkt, -30, at())
    assert decoded(tkt).header.kdc_offset == (-30, 0)
    store.edits.set_principal(tkt, BOB, at())
    assert serials(tkt) == had
    assert decoded(tkt).principal == BOB
    assert decoded(tkt).header.kdc_offset is None
    assert said(store)[-2:] == ["kdc-offset tkt", "principal tkt"]
    check(store)


def test_kdc_offset_is_set_and_cleared(store: Store, tkt: Ccache) -> None:
    records = decoded(tkt).credentials
    for seconds in (0, 5, -(2**31), 2**31 - 1):
        store.edits.set_kdc_offset(tkt, seconds, at())
        assert decoded(tkt).header.kdc_offset == (seconds, 0)
        assert decoded(tkt).credentials == records
        check(store)
    for _ in range(2):
        time = tkt.change_time
        store.edits.set_kdc_offset(tkt, None, at())
        assert decoded(tkt).header.kdc_offset is None
        assert tkt.change_time > time


def test_kdc_offset_keeps_unknown_tags(store: Store) -> None:
    tags = (Tag(7, b"seven"), Tag(9, b""))
    tkt = fill(store, encode_prefix(Prefix(Header(DIALECT_V4, tags), ALICE)) + record())
    store.edits.set_kdc_offset(tkt, 1, at())
    store.edits.set_principal(tkt, BOB, at())
    assert decoded(tkt).header.tags == tags
    check(store)


@pytest.mark.parametrize("seconds", [2**31, -(2**31) - 1, 2**64])
def test_kdc_offset_over_32_bits_is_refused(store: Store, tkt: Ccache, seconds: int) -> None:
    before = data_of(tkt)
    with pytest.raises(BadContentError):
        store.edits.set_kdc_offset(tkt, seconds, at())
    assert data_of(tkt) == before


def test_kdc_offset_without_room_in_header_is_refused(store: Store) -> None:
    full = Header(DIALECT_V4, (Tag(7, bytes(65_535 - 8)),))
    tkt = fill(store, encode_prefix(Prefix(full, ALICE)) + record())
    before = data_of(tkt)
    with pytest.raises(BadContentError):
        store.edits.set_kdc_offset(tkt, 5, at())
    assert data_of(tkt) == before
    check(store)


def test_set_principal_initialises_ccache(store: Store) -> None:
    tkt = store.collection.default
    store.edits.set_principal(tkt, ALICE, at())
    assert data_of(tkt) == prefix()
    assert said(store)[-1] == "initialised tkt"
    start(store, work := store.collection.create(b"work", at()))
    store.edits.set_principal(work, BOB, at())
    assert data_of(work) == prefix(BOB)
    check(store)


HUGE = Principal(1, b"R", (b"x",) * 65_535)
OVER = Principal(1, b"R", (b"x",) * 65_536)
LONG = Principal(1, b"R", (b"x" * (8 << 20),))


@pytest.mark.parametrize(
    ("principal", "error"),
    [(HUGE, BadContentError), (OVER, BadContentError), (LONG, StoreError)],
    ids=["huge", "over", "long"],
)
@pytest.mark.parametrize("initialised", [False, True])
def test_invalid_principal_is_refused(
    store: Store, principal: Principal, error: type[Exception], initialised: bool
) -> None:
    tkt = store.collection.default
    if initialised:
        fill(store, whole(record()))
    had, log = tkt.current, store.events.end
    for step in (store.edits.set_principal, store.reset):
        with pytest.raises(error):
            step(tkt, principal, at())
    assert tkt.current is had
    with pytest.raises(error):
        store.reset_named(b"new", principal, at())
    assert store.collection.find(b"new") is None
    assert store.events.end == log
    check(store)


def test_reset_keeps_ccache_without_content(store: Store, tkt: Ccache) -> None:
    store.edits.set_kdc_offset(tkt, 5, at())
    work = fill(store, whole(record()), b"work")
    file = appender(store, current(work))
    ident, time = work.ident, work.change_time
    assert store.reset_named(b"work", BOB, at()) is work
    assert (work.ident, data_of(work)) == (ident, prefix(BOB))
    assert work.change_time > time
    store.open_files.write(file, 0, record(b"imap/x@R"), NOW)
    assert data_of(work) == prefix(BOB)
    check(store, [file])


def test_edits_need_initialised_ccache(store: Store) -> None:
    work = store.collection.create(b"work", at())
    steps: list[Callable[[], object]] = [
        lambda: store.edits.store(work, record(), at()),
        lambda: store.edits.remove(work, 1, at()),
        lambda: store.edits.set_config(work, PA_TYPE, b"", at()),
        lambda: store.edits.remove_config(work, PA_TYPE, at()),
        lambda: store.edits.set_kdc_offset(work, 5, at()),
    ]
    for begun in (False, True):
        if begun:
            start(store, work)
        for step in steps:
            with pytest.raises(NotFoundError):
                step()
        check(store)


# Limits


def test_full_ccache_refuses_growth_only() -> None:
    data = whole(record(TGT), record())
    store = new_store(Limits(ccache_bytes=len(data) + 5))
    tkt = fill(store, data)
    number = current(tkt).number
    growing: list[Callable[[], object]] = [
        lambda: store.edits.store(tkt, record(b"imap/x@R"), at()),
        lambda: store.edits.set_config(tkt, PA_TYPE, b"", at()),
        lambda: store.edits.set_kdc_offset(tkt, 5, at()),
        lambda: store.edits.set_principal(tkt, Principal(1, b"REALM", (b"alice", b"x")), at()),
    ]
    for step in growing:
        with pytest.raises(CcacheLimitError):
            step()
    assert (data_of(tkt), current(tkt).number) == (data, number)
    store.edits.set_principal(tkt, BOB, at())
    store.edits.remove(tkt, serial(tkt, "host%2Fwww@R"), at())
    check(store)


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_size_limit_counts_version_4_bytes(dialect: Dialect) -> None:
    """A refusal leaves the old version, under its number."""
    data = whole(*(record(dialect=dialect) for _ in range(9)), dialect=dialect)
    as_4 = whole(*[record()] * 9)
    store = new_store(Limits(ccache_bytes=max(len(data), len(as_4) + len(record()) - 1)))
    tkt = fill(store, data)
    number = current(tkt).number
    if len(data) < len(as_4) + len(record()):
        with pytest.raises(CcacheLimitError):
            store.edits.store(tkt, record(), at())
        assert (data_of(tkt), current(tkt).number) == (data, number)
    store.edits.set_kdc_offset(tkt, None, at())
    assert len(data_of(tkt)) == len(as_4)
    check(store)


def test_total_limit_refuses_edits() -> None:
    data = whole(record(TGT), record())
    store = new_store(Limits(total_bytes=2 * len(data) + 5))
    tkt, work = fill(store, data), fill(store, data, b"work")
    with pytest.raises(TotalLimitError):
        store.edits.store(tkt, record(), at())
    with pytest.raises(TotalLimitError):
        store.reset_named(b"third", ALICE, at())
    assert store.collection.find(b"third") is None
    store.edits.remove(work, serial(work, "host%2Fwww@R"), at())
    assert data_of(tkt) == data
    check(store)


# Old versions


def steps(store: Store, tkt: Ccache) -> dict[str, Callable[[], object]]:
    return {
        "store": lambda: store.edits.store(tkt, record(b"imap/x@R"), at()),
        "config": lambda: store.edits.set_config(tkt, PA_TYPE, b"2", at()),
        "principal": lambda: store.edits.set_principal(tkt, ALICE, at()),
        "offset": lambda: store.edits.set_kdc_offset(tkt, None, at()),
    }


@pytest.mark.parametrize("step", ["store", "config", "principal", "offset"])
@pytest.mark.parametrize("name", ["mit-v1", "mit-v2", "mit-v3", "java"])
def test_edit_converts_old_versions_to_version_4(store: Store, name: str, step: str) -> None:
    old = decode_ccache(vector(name))
    tkt = fill(store, vector(name))
    had = dict(serials(tkt))
    file = reader(store, current(tkt))
    steps(store, tkt)[step]()
    new = decoded(tkt)
    assert new.header.dialect == DIALECT_V4
    kept = [c for c in new.credentials if _plain(c) in map(_plain, old.credentials)]
    assert len(kept) >= len(old.credentials) - 1
    assert set(had).issubset(serials(tkt))
    assert contents(store, file) == vector(name)
    check(store, [file])


def _plain(c: Credential) -> bytes:
    """The bytes in version 1: what every version has a place for."""
    return encode_credential(c, Dialect(1))


@pytest.mark.parametrize("name", ["mit-v1", "mit-v3"])
def test_remove_keeps_old_version(store: Store, name: str) -> None:
    tkt = fill(store, vector(name))
    dialect = decoded(tkt).header.dialect
    store.edits.remove(tkt, serial(tkt, names(tkt)[1]), at())
    assert decoded(tkt).header.dialect == dialect
    check(store)


def test_in_place_removal_of_version_3_after_conversion(store: Store) -> None:
    tkt = fill(store, whole(record(TGT, dialect=V3), record(dialect=V3), dialect=V3))
    file = writer(store, current(tkt))
    old = data_of(tkt)
    steps(store, tkt)["offset"]()
    gone = record(dialect=V3).replace((2_000).to_bytes(4, "big"), bytes(4))
    gone = gone.replace((1_000).to_bytes(4, "big"), b"\xff" * 4, 1)
    store.open_files.write(file, old.index(record(dialect=V3)), gone, NOW)
    assert names(tkt) == ["krbtgt%2FR@R"]
    check(store, [file])


# Names of credentials


@pytest.mark.parametrize(
    ("server", "name"),
    [
        (b"HTTP/www.example.com@EXAMPLE.COM", "HTTP%2Fwww.example.com@EXAMPLE.COM"),
        (b".hidden@R", "%2Ehidden@R"),
        (b"a%2Fb~c@R", "a%252Fb%7Ec@R"),
        (rb"new\nline@R", "new\\nline@R"),
        (b"\xc3\xa9\xff@R", "é%FF@R"),
        (b"@", "@"),
        (b"changed@", "changed@"),
    ],
)
def test_credential_name_is_encoded_server(store: Store, server: bytes, name: str) -> None:
    tkt = fill(store, whole(record(server)))
    assert names(tkt) == [name]
    assert decode_name(name) == server
    check(store)


def test_second_credential_of_server_has_id_in_name(store: Store) -> None:
    tkt = fill(store, whole(record()))
    for _ in range(2):
        store.edits.store(tkt, record(), at())
    idents = [s.ident for s in tkt.credentials.values()]
    plain = "host%2Fwww@R"
    assert names(tkt) == [plain, f"{plain}~{idents[1]}", f"{plain}~{idents[2]}"]
    store.edits.remove(tkt, serial(tkt, plain), at())
    assert names(tkt) == [f"{plain}~{idents[1]}", f"{plain}~{idents[2]}"]
    store.edits.store(tkt, record(), at())
    assert names(tkt)[-1] == plain
    check(store)


@pytest.mark.parametrize("char", ["x", "é", "€", "\U0001f511", "/", "\x01"])
def test_long_names_are_cut_to_255_bytes(store: Store, char: str) -> None:
    """At most 255 bytes, inside no character and no %XX, whatever the stem is made of."""
    tkt = fill(store, prefix())
    for shift in range(6):
        long = Principal(1, b"R", (b"s" * shift + char.encode() * 255,))
        stored = store.edits.store(tkt, record(long), at())
        assert stored is not None
        name = stored.name
        assert name.endswith(f"~{stored.ident}")
        assert NAME_MAX - 5 <= len(name.encode("utf-8")) <= NAME_MAX
        assert decode_name(name.removesuffix(f"~{stored.ident}"))
    check(store)


@pytest.mark.parametrize(("size", "plain"), [(253, True), (254, False)])
def test_longest_name_is_not_cut(store: Store, size: int, plain: bool) -> None:
    tkt = fill(store, whole(record(Principal(1, b"R", (b"x" * size,)))))
    assert ("~" in names(tkt)[0]) == (not plain)
    assert len(names(tkt)[0]) == NAME_MAX
    check(store)


def test_names_contain_no_secret(store: Store, tkt: Ccache) -> None:
    file = writer(store, current(tkt))
    shown = repr((serials(tkt), store.events.read(store.events.edition, 0, 1 << 20)))
    assert KEY.decode() not in shown
    with pytest.raises(BadContentError) as error:
        store.open_files.write(file, len(data_of(tkt)), KEY * 9, NOW)
    assert KEY.decode() not in str(error.value)


# When it expires


def test_expiry_is_end_of_last_tgt(store: Store) -> None:
    tkt = fill(store, prefix())
    assert tkt.expires() == 0
    store.edits.store(tkt, record(endtime=9_000), at())
    assert tkt.expires() == 9_000
    store.edits.set_config(tkt, PA_TYPE, b"", at())
    for endtime in (3_000, 5_000, 4_000):
        store.edits.store(tkt, record(b"krbtgt/OTHER@R", endtime=endtime), at())
    assert tkt.expires() == 5_000


def test_expiry_queue_drops_removed_credentials(store: Store, tkt: Ccache) -> None:
    expiry = store._expiry
    for _ in range(500):
        stored = store.edits.store(tkt, record(endtime=2**32 - 1), at())
        assert stored is not None
        store.edits.remove(tkt, stored.serial, at())
        store.take_effects()
    assert len(expiry) <= 4 * len(serials(tkt)) + 66
    assert store.next_deadline() == 2_000 - 300
