# SPDX-License-Identifier: MIT
"""Whole ccaches put in place in one step: what login and the import bring."""

import pytest

from ccfs.store import Limits, Store
from ccfs.store.errors import (
    BadContentError,
    BadNameError,
    CcacheLimitError,
    NameTooLongError,
    StoreError,
    TotalLimitError,
)
from tests.support.storing import (
    BOB,
    TGT,
    V3,
    at,
    check,
    contents,
    current,
    data_of,
    fill,
    names,
    new_store,
    prefix,
    reader,
    record,
    said,
    whole,
)
from tests.support.vectors import BROKEN, GOOD, vector

NEW = whole(record(TGT), record(), principal=BOB)


def test_put_creates_ccache(store: Store) -> None:
    default = store.collection.default
    made = store.put(b"session-1", NEW, at(5))
    assert store.collection.find(b"session-1") is made
    assert store.collection.default is default
    assert data_of(made) == NEW
    assert said(store)[1:] == ["created session-1", "replaced session-1"]
    effects = store.take_effects()
    assert effects is not None
    assert effects.durable
    assert effects.changed_outside_fuse == {made.serial}
    check(store)


def test_put_keeps_identity_of_ccache(store: Store) -> None:
    """Its old number is superseded; who has it open keeps its bytes."""
    tkt = fill(store, whole(record(b"old/one@R")))
    old, file = current(tkt).number, reader(store, current(tkt))
    assert store.put(b"tkt", NEW, at()) is tkt
    assert names(tkt) == ["krbtgt%2FR@R", "host%2Fwww@R"]
    assert current(tkt).number != old
    assert contents(store, file) == whole(record(b"old/one@R"))
    check(store, [file])


@pytest.mark.parametrize("name", GOOD)
def test_put_keeps_bytes_of_vectors(store: Store, name: str) -> None:
    assert data_of(store.put(b"tkt", vector(name), at())) == vector(name)
    check(store)


REFUSED: list[tuple[bytes, bytes, type[StoreError]]] = [
    (b"tkt", b"", BadContentError),
    (b"tkt", NEW[:-1], BadContentError),
    (b"tkt", NEW + b"\0", BadContentError),
    (b"new", prefix(dialect=V3)[:3], BadContentError),
    (b"tkt.x", NEW, BadNameError),
    (b"n" * 256, NEW, NameTooLongError),
    (b"new", whole(record(ticket=b"t" * 2_000)), CcacheLimitError),
    (b"new", whole(record(ticket=b"t" * 900)), TotalLimitError),
    (b"third", NEW, CcacheLimitError),
]


@pytest.mark.parametrize(("name", "data", "error"), REFUSED)
def test_refused_put_changes_nothing(name: bytes, data: bytes, error: type[StoreError]) -> None:
    store = new_store(Limits(ccaches=2, ccache_bytes=1_500, total_bytes=1_600))
    tkt = fill(store, whole(record(ticket=b"t" * 800)))
    if name == b"third":
        store.collection.create(b"second", at())
    store.take_effects()
    before, log = data_of(tkt), said(store)
    with pytest.raises(error):
        store.put(name, data, at())
    assert (data_of(tkt), said(store)) == (before, log)
    assert store.take_effects() is None
    check(store)


@pytest.mark.parametrize("name", BROKEN)
def test_put_refuses_broken_vectors(store: Store, name: str) -> None:
    with pytest.raises(BadContentError):
        store.put(b"new", vector(name), at())
    assert store.collection.find(b"new") is None
