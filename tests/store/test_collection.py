# SPDX-License-Identifier: MIT
"""The collection: default, order, names, moves, change times and identifiers."""

import pytest

from ccfs.store import Limits, Store
from ccfs.store.ccache import Ccache
from ccfs.store.dir_names import ccache_name, listed_name
from ccfs.store.errors import (
    BadNameError,
    CcacheLimitError,
    ExistsError,
    NameTooLongError,
    NotFoundError,
)
from tests.support.storing import (
    BOB,
    NOW,
    TGT,
    appender,
    at,
    check,
    contents,
    current,
    data_of,
    fill,
    names,
    new_store,
    owned,
    prefix,
    reader,
    record,
    said,
    serial,
    serials,
    start,
    whole,
)


def order(store: Store) -> list[bytes]:
    return [c.name for c in store.collection.all()]


def test_new_store_has_default_without_file(store: Store) -> None:
    tkt = store.collection.default
    assert (tkt.name, tkt.current, tkt.initialised) == (b"tkt", None, False)
    assert tkt.last_default_time == tkt.change_time
    assert said(store) == ["created tkt"]
    assert store.used_bytes == 0
    check(store)


def test_new_ccache_comes_last(store: Store) -> None:
    tkt = store.collection.default
    time = tkt.change_time
    made = [store.collection.create(name, at()) for name in (b"b", b"a", b"c")]
    assert order(store) == [b"tkt", b"b", b"a", b"c"]
    assert store.collection.default is tkt
    assert tkt.change_time == time
    assert all(c.last_default_time == 0 for c in made)
    check(store)


@pytest.mark.parametrize(
    "name", [b"", b"/", b".", b"..", b"\xff\xfe", b"new\nline", b"~", b"%41", "ü€".encode(), b"tkt"]
)
def test_ccache_name_is_any_bytes(store: Store, name: bytes) -> None:
    store.destroy(store.collection.default, at())
    if name != b"tkt":
        store.collection.create(name, at())
    assert store.collection.get(name).name == name
    check(store)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (b"tkt", ExistsError),
        (b"tkt.", BadNameError),
        (b"tkt.x", BadNameError),
        (b"a\0b", BadNameError),
        (b"x" * 256, NameTooLongError),
        (b"/" * 86, NameTooLongError),
    ],
)
def test_invalid_names_are_refused(store: Store, name: bytes, error: type[Exception]) -> None:
    other, log = store.collection.create(b"other", at()), store.events.end
    with pytest.raises(error):
        store.collection.create(name, at())
    with pytest.raises(error):
        store.collection.rename(other, name, at())
    if error is not ExistsError:
        with pytest.raises(error):
            store.move_to_name(other, name, at())
    assert order(store) == [b"tkt", b"other"]
    assert store.events.end == log
    check(store)


@pytest.mark.parametrize("name", [b"x" * 255, b"/" * 85, "€".encode() * 85])
def test_longest_names_are_accepted(store: Store, name: bytes) -> None:
    assert store.collection.create(name, at()).name == name


def test_dir_name_maps_to_ccache_name() -> None:
    pairs = {
        b"work": b"tkt.work",
        b"tkt": b"tkt",
        b"tktXyZ123": b"tktXyZ123",
        b"": b"tkt.%00",
        b"a/b": b"tkt.a%2Fb",
        b"tk": b"tkt.tk",
    }
    for name, listed in pairs.items():
        assert listed_name(name) == listed
        assert ccache_name(listed) == name
    for wrong in (b"primary", b"tkt.", b"tkt.tkt", b"tkt.a%2fb", b"tkt\xff", b"work", b""):
        assert ccache_name(wrong) is None


def test_ccaches_are_limited() -> None:
    store = new_store(Limits(ccaches=3))
    for name in (b"a", b"b"):
        store.collection.create(name, at())
    with pytest.raises(CcacheLimitError):
        store.collection.create(b"c", at())
    assert order(store) == [b"tkt", b"a", b"b"]
    for name in (b"tkt", b"a", b"b"):
        store.destroy(store.collection.get(name), at())
        check(store)
    assert order(store) == [b"tkt"]


# The default


def test_set_default_moves_ccache_to_head(store: Store) -> None:
    tkt = store.collection.default
    _, b, _ = (store.collection.create(n, at()) for n in (b"a", b"b", b"c"))
    times = tkt.change_time, b.change_time, tkt.last_default_time
    store.collection.set_default(b, at())
    assert order(store) == [b"b", b"tkt", b"a", b"c"]
    assert tkt.change_time > times[0]
    assert b.change_time > times[1]
    assert tkt.last_default_time == times[2]
    assert b.last_default_time == b.change_time
    assert said(store)[-1] == "default b"
    check(store)


def test_set_default_to_default_changes_nothing(store: Store) -> None:
    log, time = store.events.end, store.change_time
    store.collection.set_default(store.collection.default, at(5))
    assert (store.events.end, store.change_time) == (log, time)


def test_destroy_of_default_selects_next_initialised(store: Store) -> None:
    tkt = fill(store, whole(record()))
    store.collection.create(b"empty", at())
    for name in (b"one", b"two"):
        fill(store, whole(record()), name)
    time = store.collection.get(b"one").change_time
    store.destroy(tkt, at())
    one = store.collection.default
    assert order(store) == [b"one", b"empty", b"two"]
    assert one.last_default_time == one.change_time > time
    assert said(store)[-2:] == ["destroyed tkt", "default one"]
    check(store)


def test_empty_collection_returns_to_first_name(store: Store) -> None:
    tkt = store.collection.default
    work = fill(store, whole(record()), b"work")
    store.collection.set_default(work, at())
    store.destroy(work, at())
    assert store.collection.default is tkt
    store.collection.create(b"other", at())
    store.destroy(tkt, at())
    assert order(store) == [b"tkt", b"other"]
    assert store.collection.default.serial > tkt.serial
    check(store)


def test_unlink_keeps_default(store: Store) -> None:
    tkt = fill(store, whole(record()))
    fill(store, whole(record()), b"work")
    store.unlink_listed(tkt, at())
    assert store.collection.default is tkt
    assert not tkt.initialised
    store.unlink_listed(store.collection.get(b"work"), at())
    assert order(store) == [b"tkt"]
    with pytest.raises(NotFoundError):
        store.uninitialise(tkt, at())
    check(store)


# Identity


def test_unlinked_ccache_keeps_identity_when_recreated(store: Store) -> None:
    """What every kinit does."""
    tkt = fill(store, whole(record()))
    ident, time, gone = tkt.ident, tkt.change_time, serial(tkt, "host%2Fwww@R")
    lineage = tkt.lineage
    assert fill(store, whole(record())) is tkt
    assert (tkt.ident, tkt.lineage) == (ident, lineage + 1)
    assert tkt.change_time > time
    assert serial(tkt, "host%2Fwww@R") > gone
    assert store.collection.by_record(gone) is None


def test_serial_numbers_are_never_reused(store: Store) -> None:
    seen: set[int] = set()
    for turn in range(20):
        work = fill(store, whole(record(TGT), record()), b"work")
        store.edits.store(work, record(), at())
        new = {work.serial, current(work).number, *serials(work)}
        assert not new & seen
        seen |= new
        store.destroy(work, at(turn))
    later = new_store()
    again = Store(Limits(), at(0.5))
    assert again.collection.default.serial > later.collection.default.serial
    check(store)


def test_change_times_strictly_increase(store: Store) -> None:
    """Whatever the clock does, a step sets its ccache's time and the collection's beyond all."""
    tkt, work = store.collection.default, store.collection.create(b"work", at())
    steps = [
        (tkt, lambda t: fill(store, whole(record()))),
        (tkt, lambda t: store.edits.store(tkt, record(TGT), at(t))),
        (tkt, lambda t: store.edits.remove(tkt, next(iter(serials(tkt))), at(t))),
        (tkt, lambda t: store.edits.set_principal(tkt, tkt.prefix.principal, at(t))),  # type: ignore[union-attr]
        (tkt, lambda t: store.edits.set_kdc_offset(tkt, None, at(t))),
        (work, lambda t: store.edits.set_principal(work, BOB, at(t))),
        (work, lambda t: store.collection.set_default(work, at(t))),
        (tkt, lambda t: store.collection.set_default(tkt, at(t))),
        (work, lambda t: store.collection.rename(work, b"other", at(t))),
        (work, lambda t: store.move(tkt, work, at(t))),
        (work, lambda t: store.uninitialise(work, at(t))),
    ]
    for clock, (ccache, step) in zip([0, 0, 100, 50, 0, -9, 0, 0, 101, 7, 0], steps, strict=True):
        seen = [c.change_time for c in store.collection.all()]
        before, collection = ccache.change_time, store.change_time
        step(clock)
        assert ccache.change_time > before
        assert ccache.change_time >= int(NOW + clock)
        assert store.change_time > max(*seen, collection)
        check(store)


# Renaming and moving


def test_rename_changes_name_only(store: Store) -> None:
    work = fill(store, whole(record()), b"work")
    had = dict(serials(work)), work.ident, current(work)
    store.move_to_name(work, b"play", at())
    assert (dict(serials(work)), work.ident, current(work)) == had
    assert order(store) == [b"tkt", b"play"]
    assert store.collection.find(b"work") is None
    assert said(store)[-1] == "renamed play"
    check(store)


def moved(store: Store) -> tuple[Ccache, Ccache]:
    source = fill(store, whole(record(TGT), principal=BOB), b"source")
    target = fill(store, whole(record(), record(b"imap/x@R")), b"target")
    store.edits.set_kdc_offset(source, 7, at())
    return source, target


def test_move_replaces_target_content(store: Store) -> None:
    source, target = moved(store)
    had, number = dict(serials(source)), current(source).number
    ident, place, gone = target.ident, order(store).index(b"target"), set(serials(target))
    data, times = data_of(source), (source.change_time, target.change_time)
    store.take_effects()
    store.move(source, target, at())
    assert (target.ident, data_of(target), dict(serials(target))) == (ident, data, had)
    assert current(target).number == number
    assert order(store) == [b"tkt", b"target"]
    assert place == 2
    assert target.change_time > max(times)
    assert target.last_default_time == 0
    assert store.collection.by_serial(source.serial) is None
    effects = store.take_effects()
    assert effects is not None
    assert set(effects.removed_serials) == gone
    assert source.serial in effects.destroyed
    check(store)


def test_move_of_default_selects_next(store: Store) -> None:
    """The next in the list follows a default that was moved away, as the CCAPI has it."""
    source, target = moved(store)
    first = fill(store, whole(record()))
    store.collection.set_default(source, at())
    store.move(source, target, at())
    assert store.collection.default is first
    check(store)


def test_move_over_default_keeps_it(store: Store) -> None:
    source, target = moved(store)
    store.collection.set_default(target, at())
    last = target.last_default_time
    store.move(source, target, at())
    assert store.collection.default is target
    assert target.last_default_time == last
    check(store)


def test_move_onto_itself_changes_nothing(store: Store) -> None:
    source, _ = moved(store)
    log = store.events.end
    store.move(source, source, at())
    store.move_to_name(source, b"source", at())
    assert store.events.end == log
    check(store)


def test_move_without_file_is_refused(store: Store) -> None:
    source, target = store.collection.default, fill(store, whole(record()), b"target")
    with pytest.raises(NotFoundError):
        store.move(source, target, at())
    assert names(target) == ["host%2Fwww@R"]
    check(store)


@pytest.mark.parametrize("name", [b"target", b"tkt"])
def test_move_to_name_without_file_leaves_none(store: Store, name: bytes) -> None:
    """Also where the default is what it is moved to."""
    empty, target = store.collection.create(b"empty", at()), fill(store, whole(record()), name)
    for _ in range(2):
        store.move_to_name(empty, name, at())
        assert store.collection.get(name) is target
        assert not target.initialised
        assert store.collection.by_serial(empty.serial) is None
        assert store.collection.default.name == b"tkt"
        check(store)
        empty = store.collection.create(b"empty", at())


def test_open_files_follow_move(store: Store) -> None:
    """A writer in the middle of a record, one who knows an older number, a reader of the target."""
    source, target = moved(store)
    old = appender(store, current(source))
    store.edits.store(source, record(), at())
    new, reading = appender(store, current(source)), reader(store, current(target))
    before = data_of(target)
    imap, nfs = record(b"imap/x@R"), record(b"nfs/x@R")
    store.open_files.write(new, 0, imap[:30], NOW)
    store.open_files.write(old, 0, nfs[:30], NOW)
    store.move(source, target, at())
    files = [old, new, reading]
    check(store, files)
    store.open_files.write(new, 0, imap[30:], NOW)
    store.open_files.write(old, 0, nfs[30:], NOW)
    assert names(target) == ["krbtgt%2FR@R", "host%2Fwww@R", "imap%2Fx@R", "nfs%2Fx@R"]
    assert contents(store, reading) == before
    check(store, files)
    for file in files:
        store.close(file, NOW)
    assert not [line for line in said(store) if line.startswith("dropped")]
    check(store)


def test_incomplete_record_in_moved_ccache_is_dropped(store: Store) -> None:
    source, target = moved(store)
    old = appender(store, current(source))
    store.edits.store(source, record(), at())
    store.open_files.write(old, 0, record()[:30], NOW)
    store.move(source, target, at())
    check(store, [old])
    store.close(old, NOW)
    assert said(store)[-1] == "dropped target"
    assert current(target).image is not None
    check(store)


# Memory


def test_destroying_all_frees_all_memory(store: Store) -> None:
    files = []
    for n in range(10):
        ccache = fill(store, whole(record(TGT), record()), b"%d" % n)
        files.append(appender(store, current(ccache)))
        store.edits.store(ccache, record(), at())
        store.open_files.write(files[-1], 0, record()[:9], NOW)
        store.scratch.create(ccache.serial, b"ccache.XyZ123", at())
    for ccache in store.collection.all():
        store.destroy(ccache, at())
        check(store, files)
    for file in files:
        store.close(file, NOW)
    assert store.used_bytes == 0
    assert store.scratch.count == 0
    assert not owned(store)
    check(store)


def test_forgotten_generations_are_dropped(store: Store) -> None:
    tkt = fill(store, whole(record(TGT)))
    file = reader(store, current(tkt))
    number = current(tkt).number
    store.generations.forget(number)
    assert store.generations.find(number) is current(tkt)
    store.edits.store(tkt, record(), at())
    store.generations.forget(number)
    assert store.generations.find(number) is file.generation
    store.close(file, NOW)
    store.generations.forget(number)
    assert store.generations.find(number) is None
    check(store)


def test_superseded_generations_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccfs.store.generations.SUPERSEDED_NUMBERS", 10)
    tkt = fill(store, prefix())
    file, numbers = reader(store, current(tkt)), [current(tkt).number]
    for _ in range(30):
        store.edits.set_kdc_offset(tkt, None, at())
        numbers.append(current(tkt).number)
    known = [n for n in numbers if store.generations.find(n)]
    assert known == [numbers[0], *numbers[-11:]]
    assert contents(store, file) == prefix()
    store.close(file, NOW)
    assert store.generations.find(numbers[0]) is None
    check(store)


def test_empty_file_is_not_initialised(store: Store) -> None:
    """What `dir/tktXXXXXX` is before libkrb5 initialises it."""
    work = store.collection.create(b"tktXyZ123", at())
    start(store, work)
    assert not work.initialised
    assert work.size == 0
    assert store.collection.unique_name() == b"tkt"
    check(store)


def test_new_ccache_change_time_equals_collection() -> None:
    """Also after a time in which nothing has changed."""
    store = new_store()
    store.collection.create(b"work", at(400))
    check(store)
