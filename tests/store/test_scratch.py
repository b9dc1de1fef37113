# SPDX-License-Identifier: MIT
"""Scratch: files beside a ccache, what becomes of them, and when they go."""

from collections.abc import Callable

import pytest

from ccfs.store import Limits, Store
from ccfs.store.ccache import Ccache
from ccfs.store.errors import (
    BadContentError,
    CcacheLimitError,
    ExistsError,
    NotFoundError,
    TotalLimitError,
)
from ccfs.store.scratch import DIR, LIFETIME, MAX_LINKS
from tests.support.storing import (
    BOB,
    NOW,
    TGT,
    USER,
    appender,
    at,
    check,
    contents,
    current,
    data_of,
    fill,
    make_scratch,
    names,
    new_store,
    put,
    reader,
    record,
    said,
    serials,
    whole,
    writer,
)

TEMPORARY = b"ccache.XyZ123"


@pytest.fixture
def tkt(store: Store) -> Ccache:
    return fill(store, whole(record()))


def test_scratch_keeps_any_bytes(store: Store, tkt: Ccache) -> None:
    file = make_scratch(store, tkt.serial, b"notes", b"anything")
    store.open_files.write(file, 10, b"!", NOW)
    assert contents(store, file) == b"anything\0\0!"
    store.open_files.truncate(file.generation, 20, at())
    store.open_files.truncate(file.generation, 3, at())
    assert contents(store, file) == b"any"
    add = appender(store, file.generation)
    store.open_files.write(add, 0, b"one", NOW)
    assert contents(store, file) == b"anyone"
    assert [name for name, _ in store.scratch.names(tkt.serial)] == [b"notes"]
    assert names(tkt) == ["host%2Fwww@R"]
    check(store, [file, add])


def test_rename_of_scratch_replaces_ccache(store: Store, tkt: Ccache) -> None:
    """How libkrb5 replaces a ccache; the file may be open still."""
    ident, gone = tkt.ident, dict(serials(tkt))
    reading = reader(store, current(tkt))
    file = make_scratch(store, tkt.serial, TEMPORARY, whole(record(TGT), principal=BOB))
    number = file.generation.number
    store.replace((tkt.serial, TEMPORARY), tkt, at())
    assert (tkt.ident, current(tkt).number) == (ident, number)
    assert names(tkt) == ["krbtgt%2FR@R"]
    assert not gone.keys() & serials(tkt).keys()
    assert contents(store, reading) == whole(record())
    assert store.scratch.count == 0
    assert said(store)[-1] == "replaced tkt"
    check(store, [file, reading])
    store.open_files.write(file, len(data_of(tkt)), record(), NOW)
    assert names(tkt) == ["krbtgt%2FR@R", "host%2Fwww@R"]
    check(store, [file, reading])


@pytest.mark.parametrize(
    "data", [b"", b"\x05", b"no ccache", whole(record())[:-1], whole() + b"\0", whole()[:9]]
)
def test_rename_of_malformed_scratch_is_refused(store: Store, tkt: Ccache, data: bytes) -> None:
    before, log, count = data_of(tkt), store.events.end, len(store.collection.all())
    file = make_scratch(store, tkt.serial, TEMPORARY, data)
    steps: list[Callable[[], None]] = [
        lambda: store.replace((tkt.serial, TEMPORARY), tkt, at()),
        lambda: store.replace_named_by_scratch((tkt.serial, TEMPORARY), b"tkt", at()),
        lambda: store.replace_named_by_scratch((tkt.serial, TEMPORARY), b"new", at()),
    ]
    for step in steps:
        with pytest.raises(BadContentError):
            step()
    assert (data_of(tkt), store.events.end) == (before, log)
    assert len(store.collection.all()) == count
    assert contents(store, file) == data
    check(store, [file])


def test_missing_scratch_is_not_found(store: Store, tkt: Ccache) -> None:
    missing = (tkt.serial, b"missing")
    steps: list[Callable[[], object]] = [
        lambda: store.replace(missing, tkt, at()),
        lambda: store.replace_named_by_scratch(missing, b"new", at()),
        lambda: store.scratch.rename(missing, (DIR, b"x"), at()),
        lambda: store.scratch.unlink(*missing),
    ]
    for step in steps:
        with pytest.raises(NotFoundError):
            step()
    check(store)


def test_rename_of_scratch_replaces_scratch(store: Store, tkt: Ccache) -> None:
    one = make_scratch(store, tkt.serial, b"one", b"1")
    two = make_scratch(store, DIR, b"two", b"22")
    with pytest.raises(ExistsError):
        store.scratch.create(DIR, b"two", at())
    store.scratch.rename((tkt.serial, b"one"), (DIR, b"two"), at())
    store.scratch.rename((DIR, b"two"), (DIR, b"two"), at())
    assert store.scratch.get(DIR, b"two") is one.generation
    assert contents(store, two) == b"22"
    check(store, [one, two])
    store.close(two, NOW)
    assert store.used_bytes == len(data_of(tkt)) + 1
    check(store, [one])


def test_unlinked_scratch_stays_for_open_files(store: Store, tkt: Ccache) -> None:
    file = make_scratch(store, tkt.serial, b"one", b"1")
    store.scratch.unlink(tkt.serial, b"one")
    store.open_files.write(file, 1, b"2", NOW)
    assert contents(store, file) == b"12"
    number = file.generation.number
    check(store, [file])
    store.close(file, NOW)
    assert store.generations.find(number) is None
    assert store.used_bytes == len(data_of(tkt))


# New ccaches in dir/


def test_scratch_in_dir_becomes_ccache_at_last_close(store: Store) -> None:
    one = make_scratch(store, DIR, b"tktAbC", whole(record(TGT)))
    two = appender(store, one.generation)
    store.close(one, NOW)
    assert store.collection.find(b"tktAbC") is None
    store.open_files.write(two, 0, record(), NOW)
    store.close(two, NOW)
    made = store.collection.get(b"tktAbC")
    assert data_of(made) == whole(record(TGT), record())
    assert current(made) is one.generation
    assert store.scratch.count == 0
    check(store)


@pytest.mark.parametrize(
    ("place", "name", "data"),
    [
        (DIR, b"tktAbC", whole(record())[:-1]),
        (DIR, b"tktAbC", b""),
        (DIR, b"tmp.1", whole(record())),
        (DIR, b"tkt.tktX", whole(record())),
        (None, b"tktAbC", whole(record())),
    ],
)
def test_other_scratch_stays_scratch(
    store: Store, tkt: Ccache, place: int | None, name: bytes, data: bytes
) -> None:
    where = tkt.serial if place is None else place
    store.close(make_scratch(store, where, name, data), NOW)
    assert store.scratch.get(where, name).data == data
    assert len(store.collection.all()) == 1
    check(store)


def test_scratch_stays_scratch_at_ccache_limit() -> None:
    store = new_store(Limits(ccaches=1))
    store.close(make_scratch(store, DIR, b"tktAbC", whole(record())), NOW)
    assert store.scratch.count == 1
    assert len(store.collection.all()) == 1
    check(store)


# Putting a ccache aside


def test_put_aside_keeps_number_and_writers(store: Store, tkt: Ccache) -> None:
    files = [appender(store, current(tkt)), reader(store, current(tkt))]
    number = current(tkt).number
    store.rename_to_scratch(tkt, (tkt.serial, b"old"), at())
    assert tkt.current is None
    assert said(store)[-1] == "uninitialised tkt"
    check(store, files)
    store.open_files.write(files[0], 0, record(TGT), NOW)
    assert contents(store, files[1]) == whole(record(), record(TGT))
    assert store.scratch.get(tkt.serial, b"old").number == number
    for file in files:
        store.close(file, NOW)
    store.replace((tkt.serial, b"old"), tkt, at())
    assert names(tkt) == ["host%2Fwww@R", "krbtgt%2FR@R"]
    assert current(tkt).number == number
    check(store)


def test_put_aside_takes_no_more_room(store: Store) -> None:
    data = whole(record(), record(TGT))
    store = new_store(Limits(total_bytes=len(data) + 10, ccaches=1))
    tkt = fill(store, data)
    store.rename_to_scratch(tkt, (DIR, b"old"), at())
    assert store.used_bytes == len(data)
    with pytest.raises(TotalLimitError):
        store.reset(tkt, BOB, at())
    with pytest.raises(NotFoundError):
        store.rename_to_scratch(tkt, (DIR, b"other"), at())
    check(store)


def test_put_aside_counts_as_scratch_file() -> None:
    store = new_store(Limits(ccaches=1))
    tkt = fill(store, whole(record()))
    file = make_scratch(store, DIR, b"one", b"1")
    with pytest.raises(CcacheLimitError):
        store.rename_to_scratch(tkt, (DIR, b"two"), at())
    assert names(tkt) == ["host%2Fwww@R"]
    store.rename_to_scratch(tkt, (DIR, b"one"), at())
    assert contents(store, file) == b"1"
    check(store, [file])
    store.close(file, NOW)
    assert store.used_bytes == len(whole(record()))


# When scratch goes


def test_scratch_expires_ten_minutes_after_last_use(store: Store, tkt: Ccache) -> None:
    file = make_scratch(store, tkt.serial, b"one", b"1")
    store.scratch.expire(NOW + 10 * LIFETIME)
    assert store.scratch.count == 1
    store.close(file, NOW + LIFETIME)
    store.scratch.expire(NOW + 2 * LIFETIME - 1)
    assert store.scratch.count == 1
    store.scratch.rename((tkt.serial, b"one"), (tkt.serial, b"two"), at(2 * LIFETIME - 1))
    store.scratch.expire(NOW + 3 * LIFETIME - 2)
    assert store.scratch.count == 1
    store.scratch.expire(NOW + 3 * LIFETIME - 1)
    assert store.scratch.count == 0
    assert store.used_bytes == len(data_of(tkt))
    check(store)


def test_destroy_removes_scratch_of_ccache(store: Store, tkt: Ccache) -> None:
    work = fill(store, whole(record()), b"work")
    for ccache in (tkt, work):
        store.close(make_scratch(store, ccache.serial, b"one", b"1"), NOW)
    store.destroy(tkt, at())
    assert store.scratch.names(tkt.serial) == []
    store.move(work, store.collection.create(b"target", at()), at())
    assert store.scratch.count == 0
    check(store)


def test_scratch_is_limited() -> None:
    store = new_store(Limits(ccaches=3, ccache_bytes=100, total_bytes=150))
    files = [make_scratch(store, DIR, b"%d" % n, b"") for n in range(3)]
    with pytest.raises(CcacheLimitError):
        store.scratch.create(DIR, b"more", at())
    with pytest.raises(CcacheLimitError):
        store.open_files.write(files[0], 90, b"x" * 11, NOW)
    with pytest.raises(CcacheLimitError):
        store.open_files.truncate(files[0].generation, 101, at())
    store.open_files.write(files[0], 99, b"x", NOW)
    with pytest.raises(TotalLimitError):
        store.open_files.write(files[1], 0, b"x" * 51, NOW)
    with pytest.raises(TotalLimitError):
        store.open_files.truncate(files[1].generation, 51, at())
    assert [len(contents(store, file)) for file in files] == [100, 0, 0]
    store.open_files.write(files[1], 0, b"x" * 50, NOW)
    check(store, files)


# Links


def test_links_expire(store: Store) -> None:
    link = store.scratch.create_link(b"default.tmp", b"caches/x", at())
    assert store.scratch.links[b"default.tmp"] is link
    with pytest.raises(ExistsError):
        store.scratch.create_link(b"default.tmp", b"caches/y", at())
    store.scratch.expire(NOW + LIFETIME - 1)
    assert store.scratch.links
    store.scratch.expire(NOW + LIFETIME)
    assert not store.scratch.links


def test_links_are_limited(store: Store) -> None:
    for n in range(MAX_LINKS):
        store.scratch.create_link(b"%d" % n, b"caches/x", at())
    with pytest.raises(CcacheLimitError):
        store.scratch.create_link(b"more", b"caches/x", at())


def test_whole_ccache_in_scratch_outlives_other_scratch(
    store: Store,
) -> None:
    tkt = store.collection.default
    for name, data in ((b"ccache.bak", whole(record())), (b"half", whole(record())[:-1])):
        generation = store.scratch.create(tkt.serial, name, at())
        file = store.open_files.open(generation, USER, writes=True, append=False)
        store.open_files.write(file, 0, data, NOW)
        store.close(file, NOW)
    for minutes in (0, 10, 20, 30):
        store.scratch.expire(NOW + 60 * minutes)
    assert said(store)[-2:] == ["kept tkt ccache.bak", "dropped tkt half"]
    assert [name for name, _ in store.scratch.names(tkt.serial)] == [b"ccache.bak"]
    generation = store.scratch.get(tkt.serial, b"ccache.bak")
    file = store.open_files.open(generation, USER, writes=True, append=True)
    store.open_files.write(file, 0, b"torn", NOW + LIFETIME)
    store.close(file, NOW + LIFETIME)
    store.scratch.expire(NOW + 2 * LIFETIME)
    assert said(store)[-1] == "dropped tkt ccache.bak"


def test_scratch_changes_are_in_effects(store: Store) -> None:
    """Its number, and how many bytes at its beginning are as they were."""
    tkt = store.collection.default
    one, two = (tkt.serial, b"one"), (DIR, b"two")
    generation = store.scratch.create(*one, at())
    file = writer(store, generation)
    number, data = generation.number, whole(record())

    def files() -> dict[int, int]:
        effects = store.take_effects()
        return effects.scratch_files if effects else {}

    assert files() == {number: 0}
    put(store, file, data)
    assert files() == {number: 0}
    put(store, file, b"more")
    assert files() == {number: len(data)}
    store.open_files.truncate(generation, len(data) + 1, at())
    put(store, file, b"!", offset=len(data))
    assert files() == {number: len(data)}
    store.scratch.rename(one, two, at())
    assert files() == {number: len(data) + 1}
    put(store, file, b"no", offset=3)
    put(store, file, b"more")
    assert files() == {number: 3}
    store.open_files.sync(file)
    assert files() == {}
    store.close(file, NOW)
    store.scratch.unlink(*two)
    assert files() == {number: 0}
    check(store)


def test_link_changes_are_in_effects(store: Store) -> None:
    store.scratch.create_link(b"one", b"caches/x", at())
    store.scratch.rename_link(b"one", b"two")
    effects = store.take_effects()
    assert effects
    assert (effects.scratch_links, effects.durable) == ({b"one", b"two"}, True)
    assert list(store.scratch.links) == [b"two"]
    with pytest.raises(NotFoundError):
        store.scratch.remove_link(b"one")


def test_move_keeps_scratch_beside_ccache(store: Store) -> None:
    """MIT's t_crossrealm moves a ccache and copies it back from beside."""
    source, target = fill(store, whole(record()), b"a"), fill(store, whole(), b"b")
    store.scratch.create(source.serial, b"ccache.copy", at())
    store.move_file(source, target, at())
    assert store.collection.find(b"a") is source
    assert source.current is None
    assert names(target) == ["host%2Fwww@R"]
    assert [name for name, _ in store.scratch.names(source.serial)] == [b"ccache.copy"]
    check(store)


def test_destroy_names_removed_scratch_in_effects(store: Store) -> None:
    source, target = fill(store, whole(record()), b"a"), fill(store, whole(), b"b")
    for ccache, step in (
        (source, lambda: store.move(source, target, at())),
        (target, lambda: store.destroy(target, at())),
    ):
        store.scratch.create(ccache.serial, b"ccache.copy", at())
        step()
        assert f"dropped {ccache.name.decode()} ccache.copy" in said(store)
    check(store)
