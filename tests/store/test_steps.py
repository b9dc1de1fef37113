# SPDX-License-Identifier: MIT
"""Steps of the store that KCM asks for: each happens, or nothing does."""

import pytest

from ccfs.format.ccache import decode_ccache
from ccfs.store import Limits
from ccfs.store.errors import (
    BadContentError,
    BadNameError,
    CcacheLimitError,
    NotFoundError,
    StoreError,
    TotalLimitError,
)
from tests.support.storing import (
    ALICE,
    BOB,
    TGT,
    at,
    check,
    contents,
    current,
    data_of,
    fill,
    names,
    new_store,
    reader,
    record,
    said,
    serial,
    whole,
)


def test_replace_creates_ccache() -> None:
    store = new_store()
    ccache = store.replace_named(b"new", BOB, -7, [record(TGT), record()], at())
    held = decode_ccache(data_of(ccache))
    assert (held.principal, held.header.kdc_offset) == (BOB, (-7, 0))
    assert names(ccache) == ["krbtgt%2FR@R", "host%2Fwww@R"]
    check(store)


def test_replace_keeps_identity_of_ccache() -> None:
    """Its id, its place, and the bytes of who reads it."""
    store = new_store()
    ccache = fill(store, whole(record(b"old@R")))
    before, number, file = ccache.serial, current(ccache).number, reader(store, current(ccache))
    assert store.replace_named(b"tkt", ALICE, None, [record()], at(5)) is ccache
    assert ccache.serial == before
    assert current(ccache).number != number
    assert contents(store, file) == whole(record(b"old@R"))
    assert data_of(ccache) == whole(record())
    check(store, [file])
    store.close(file, 0)


@pytest.mark.parametrize(
    ("records", "error"),
    [
        ([record()[:-1]], BadContentError),
        ([record(), b"x"], BadContentError),
        ([b"\xff" * 60], BadContentError),
        ([record(ticket=b"t" * 4000)], CcacheLimitError),
        ([record(ticket=b"t" * 1500)] * 2, TotalLimitError),
    ],
)
@pytest.mark.parametrize("name", [b"tkt", b"new"])
def test_refused_replace_changes_nothing(
    records: list[bytes], error: type[StoreError], name: bytes
) -> None:
    store = new_store(Limits(ccache_bytes=3500, total_bytes=3000))
    ccache = fill(store, whole(record(b"old@R")))
    before = said(store)
    with pytest.raises(error):
        store.replace_named(name, ALICE, None, records, at())
    assert data_of(ccache) == whole(record(b"old@R"))
    assert said(store) == before
    assert [c.name for c in store.collection.all()] == [b"tkt"]
    check(store)


def test_relocate_to_new_name_renumbers() -> None:
    """No inode number that a client may hold leads to the new ccache."""
    store = new_store()
    fill(store, whole())
    ccache = fill(store, whole(record()), b"a")
    number = current(ccache).number
    store.move_outside_fuse(ccache, b"b", at())
    moved = store.collection.get(b"b")
    assert data_of(moved) == whole(record())
    assert moved.serial != ccache.serial
    assert store.collection.find(b"a") is None
    assert current(moved).number != number
    assert store.collection.default.name == b"tkt"
    assert said(store)[-4:] == ["created b", "moved b", "uninitialised a", "destroyed a"]
    check(store)


def test_relocate_over_another_ccache() -> None:
    store = new_store()
    target = fill(store, whole(record(b"old@R")))
    source = fill(store, whole(record(), principal=BOB), b"a")
    store.move_outside_fuse(source, b"tkt", at())
    assert store.collection.all() == [target]
    assert data_of(target) == whole(record(), principal=BOB)
    check(store)


def test_relocate_of_default_moves_default() -> None:
    store = new_store()
    ccache = fill(store, whole(record()))
    fill(store, whole(), b"other")
    store.move_outside_fuse(ccache, b"b", at())
    assert store.collection.default.name == b"b"
    store.move_outside_fuse(store.collection.default, b"b", at())
    assert [c.name for c in store.collection.all()] == [b"b", b"other"]
    check(store)


def test_relocate_drops_incomplete_record() -> None:
    """Its writer goes on with a file that is gone."""
    store = new_store()
    ccache = fill(store, whole(record()))
    file = store.open_files.open(current(ccache), at().client, writes=True, append=True)
    store.open_files.write(file, 0, record(b"late@R")[:50], 0)
    store.move_outside_fuse(ccache, b"b", at())
    store.open_files.write(file, 0, record(b"late@R")[50:], 0)
    assert data_of(store.collection.get(b"b")) == whole(record())
    store.close(file, 0)
    check(store)


@pytest.mark.parametrize(
    ("name", "error"),
    [(b"tkt.x", BadNameError), (b"one too many", CcacheLimitError)],
)
def test_refused_relocate_changes_nothing(name: bytes, error: type[StoreError]) -> None:
    store = new_store(Limits(ccaches=1))
    ccache = fill(store, whole(record()))
    with pytest.raises(error):
        store.move_outside_fuse(ccache, name, at())
    assert store.collection.all() == [ccache]
    assert data_of(ccache) == whole(record())
    check(store)


def test_relocate_without_content_is_refused() -> None:
    store = new_store()
    with pytest.raises(NotFoundError):
        store.move_outside_fuse(store.collection.default, b"b", at())
    assert store.collection.find(b"b") is None


def test_unused_name_is_unique() -> None:
    store = new_store()
    found = {store.unused_name() for _ in range(20)}
    assert len(found) == 20
    assert all(name.startswith(b"tkt") and b"." not in name for name in found)


def test_remove_all_is_one_step() -> None:
    store = new_store()
    ccache = fill(store, whole(record(b"a@R"), record(b"b@R"), record(b"c@R")))
    number = current(ccache).number
    gone = [serial(ccache, "a@R"), serial(ccache, "c@R")]
    store.edits.remove_all(ccache, gone, at())
    assert names(ccache) == ["b@R"]
    assert current(ccache).number != number
    check(store)
    with pytest.raises(NotFoundError):
        store.edits.remove_all(ccache, [serial(ccache, "b@R"), *gone], at())
    assert names(ccache) == ["b@R"]


def test_mark_changed_outside_fuse_includes_all_changed() -> None:
    """A change made without a file handle is reported for the file's inotify watchers."""
    store = new_store()
    store.take_effects()
    store.reset_named(b"b", ALICE, at())
    store.mark_changed_outside_fuse()
    effects = store.take_effects()
    assert effects is not None
    assert effects.changed_outside_fuse == effects.changed >= {store.collection.get(b"b").serial}


def test_uninitialised_default_is_kept_while_default() -> None:
    store = new_store()
    ccache = fill(store, whole(record()))
    other = fill(store, whole(), b"other")
    store.destroy_or_reserve(ccache, at())
    assert store.collection.default is ccache
    assert not ccache.initialised
    store.set_default_name(b"to come", at())
    assert [c.name for c in store.collection.all()] == [b"to come", b"other"]
    store.set_default_name(b"to come", at())
    store.set_default_name(b"other", at())
    assert store.collection.all() == [other]
    check(store)


def test_initialised_or_created_default_is_kept() -> None:
    """A default that its user has created is kept, too, although it is empty."""
    store = new_store()
    store.set_default_name(b"to come", at())
    store.reset_named(b"to come", ALICE, at())
    store.collection.set_default(store.collection.create(b"made", at()), at())
    store.set_default_name(b"tkt", at())
    assert [c.name for c in store.collection.all()] == [b"tkt", b"made", b"to come"]
    store.destroy_or_reserve(store.collection.get(b"to come"), at())
    assert [c.name for c in store.collection.all()] == [b"tkt", b"made"]
    check(store)


def test_kinit_and_kdestroy_rounds_leave_nothing() -> None:
    """Heimdal's kinit makes a ccache of a new name each time."""
    store = new_store(Limits(ccaches=4))
    for _ in range(10):
        name = store.unused_name()
        store.reset_named(name, ALICE, at())
        store.set_default_name(name, at())
        store.destroy_or_reserve(store.collection.get(name), at())
    assert [c.name for c in store.collection.all()] == [name]
    check(store)


def test_first_ccache_made_by_name_is_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """As MIT's and SSSD's servers have it, and the CCAPI's header says."""
    for step in (
        lambda store: store.reset_named(b"x", ALICE, at()),
        lambda store: store.replace_named(b"x", ALICE, None, [record()], at()),
    ):
        store = new_store()
        step(store)
        assert [c.name for c in store.collection.all()] == [b"x"]
        store.reset_named(b"y", ALICE, at())
        assert [c.name for c in store.collection.all()] == [b"x", b"y"]
        check(store)


def test_chosen_default_is_kept() -> None:
    store = new_store()
    store.set_default_name(b"chosen", at())
    store.reset_named(b"x", ALICE, at())
    assert [c.name for c in store.collection.all()] == [b"chosen", b"tkt", b"x"]


def test_scratch_keeps_directory_of_former_default() -> None:
    store = new_store()
    store.scratch.create(store.collection.default.serial, b"mine", at())
    store.reset_named(b"x", ALICE, at())
    assert [c.name for c in store.collection.all()] == [b"x", b"tkt"]
    check(store)
