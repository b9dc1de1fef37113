# SPDX-License-Identifier: MIT
"""The limit on the number of credentials, at every way into the store."""

from collections.abc import Callable

import pytest

from ccfs.format.config import ConfigKey
from ccfs.store import Limits, Store
from ccfs.store.ccache import Ccache
from ccfs.store.errors import TotalLimitError
from tests.support.storing import (
    ALICE,
    NOW,
    USER,
    at,
    check,
    data_of,
    fill,
    new_store,
    owned,
    put,
    record,
    whole,
    writer,
)

MOST = 4


def _append(store: Store, ccache: Ccache) -> None:
    assert ccache.current is not None
    file = store.open_files.open(ccache.current, USER, writes=True, append=True)
    try:
        store.open_files.write(file, 0, record(b"one/more@R"), NOW)
    finally:
        store.close(file, NOW)


def _put(store: Store, ccache: Ccache) -> None:
    store.put(b"other", whole(record(b"one/more@R")), at())


def _scratch(store: Store, ccache: Ccache) -> None:
    generation = store.scratch.create(ccache.serial, b"new", at())
    file = writer(store, generation)
    put(store, file, whole(record(b"one/more@R")))
    store.close(file, NOW)
    store.replace((ccache.serial, b"new"), store.collection.create(b"x", at()), at())


WAYS: dict[str, Callable[[Store, Ccache], object]] = {
    "append": _append,
    "store": lambda store, ccache: store.edits.store(ccache, record(b"one/more@R"), at()),
    "config": lambda store, ccache: store.edits.set_config(ccache, ConfigKey(b"k"), b"v", at()),
    "put": _put,
    "replace_named": lambda store, ccache: store.replace_named(
        b"other", ALICE, None, [record(b"one/more@R")], at()
    ),
    "scratch": _scratch,
}


def full() -> tuple[Store, Ccache]:
    store = new_store(Limits(credentials=MOST))
    return store, fill(store, whole(*(record(b"host/%d@R" % n) for n in range(MOST))))


@pytest.mark.parametrize("way", WAYS)
def test_credentials_limit_holds_for_every_step(way: str) -> None:
    store, ccache = full()
    before = data_of(ccache)
    with pytest.raises(TotalLimitError, match="over 4 credentials in all"):
        WAYS[way](store, ccache)
    assert data_of(ccache) == before
    assert store.collection.find(b"other") is None
    assert len(owned(store)) == MOST
    check(store)


def test_credentials_limit_counts_removals() -> None:
    store, ccache = full()
    store.uninitialise(ccache, at())
    assert store.record_count == 0
    store.put(b"tkt", whole(*(record(b"host/%d@R" % n) for n in range(MOST))), at())
    check(store)


def test_credentials_limit_counts_dead_records() -> None:
    store, ccache = full()
    for stored in list(ccache.credentials.values())[:3]:
        store.edits.remove(ccache, stored.serial, at())
    assert ccache.image is not None
    assert store.record_count == len(ccache.image.spans)
    store.edits.store(ccache, record(b"one/more@R"), at())
    check(store)
