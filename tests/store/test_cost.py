# SPDX-License-Identifier: MIT
"""What a step costs, by counting: storing one credential is the same work in any ccache.

Every call of a function is counted, and the memory that is taken; nothing is timed.
"""

import gc
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType

import pytest

from ccfs.format import names
from ccfs.format import principal as principals
from ccfs.format.dialect import DIALECT_V4
from ccfs.format.outline import Outline
from ccfs.format.principal import Principal, encode_principal
from ccfs.store import Limits, Store, generations, record_names
from ccfs.store.ccache import Ccache
from tests.support.storing import (
    NOW,
    appender,
    at,
    current,
    data_of,
    fill,
    new_store,
    record,
    serials,
    whole,
)

FEW, MANY = 10, 10_000
NEW = record(b"new/one@R", ticket=b"t" * 500)


def filled(number: int) -> tuple[Store, Ccache]:
    store = new_store(Limits(events=100_000))
    return store, fill(store, whole(*(record(b"host/%d@R" % n) for n in range(number))))


@pytest.fixture(scope="module")
def stores() -> tuple[tuple[Store, Ccache], tuple[Store, Ccache]]:
    """A ccache with few credentials, and one with many."""
    return filled(FEW), filled(MANY)


def calls(step: Callable[[], object]) -> int:
    """How many functions a step calls, those in C included."""
    counted = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    before = sys.getprofile()
    gc.disable()  # a collection in the middle calls what other tests have registered for it
    sys.setprofile(count)
    try:
        step()
    finally:
        sys.setprofile(before)
        gc.enable()
    return counted


def taken(step: Callable[[], object]) -> int:
    """The least memory in bytes that a step takes at its peak, of a few turns.

    In one of them the ccache's own buffer may grow, which is paid for by many.
    """
    least = 1 << 40
    tracemalloc.start()
    try:
        for _ in range(4):
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            step()
            least = min(least, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return least


def client_append(store: Store, ccache: Ccache) -> Callable[[], object]:
    """One write by a client that has the ccache open."""
    file = appender(store, current(ccache))

    def step() -> None:
        store.open_files.write(file, len(data_of_length(ccache)), NEW, NOW)

    return step


def stale_append(store: Store, ccache: Ccache) -> Callable[[], object]:
    """One by a client that does not know how far others have come."""
    file = appender(store, current(ccache))
    store.edits.store(ccache, NEW, at())

    def step() -> None:
        store.open_files.write(file, 0, NEW, NOW)

    return step


def pieces(store: Store, ccache: Ccache) -> Callable[[], object]:
    """A record in two requests, as when a page of the file ends in it."""
    file = appender(store, current(ccache))

    def step() -> None:
        for piece in (NEW[:300], NEW[300:]):
            store.open_files.write(file, len(data_of_length(ccache)), piece, NOW)

    return step


def server_store(store: Store, ccache: Ccache) -> Callable[[], object]:
    """One by the server."""
    return lambda: store.edits.store(ccache, NEW, at())


def data_of_length(ccache: Ccache) -> bytearray:
    return current(ccache).data


STEPS = [client_append, stale_append, pieces, server_store]


@pytest.mark.parametrize("make", STEPS)
def test_store_cost_is_independent_of_ccache_size(
    stores: tuple[tuple[Store, Ccache], tuple[Store, Ccache]],
    make: Callable[[Store, Ccache], Callable[[], object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generations, "ORPHAN_BYTES", 0)  # what is small is kept for its readers
    few, many = (make(*pair) for pair in stores)
    few(), many()  # the first has a name that the next ones find taken
    assert calls(few) == calls(many) > 20
    had = [len(ccache.credentials) for _, ccache in stores]
    room = [taken(step) for step in (few, many)]
    assert [len(c.credentials) for _, c in stores] == [number + 4 for number in had]
    assert max(room) < 16_384 < len(data_of(stores[1][1])) // 50


def test_remove_cost_is_logarithmic(
    stores: tuple[tuple[Store, Ccache], tuple[Store, Ccache]],
) -> None:
    """Finding it in the order takes a few steps more, no more than a search by halves does."""
    counted = []
    for store, ccache in stores:
        middle = len(serials(ccache)) // 2
        some = list(serials(ccache))[middle : middle + 3]  # the first may be of a new length
        steps = [lambda s=store, c=ccache, n=n: s.edits.remove(c, n, at()) for n in some]
        counted.append(min(map(calls, steps)))
    assert counted[0] <= counted[1] <= counted[0] + 20


def test_long_names_are_not_kept_in_memory() -> None:
    """A name may be as long as a ccache, and memory is locked: names must not fill it."""
    long = b"n" * 100_000
    principal = Principal(1, b"R", (long, b"h"))
    data = encode_principal(principal, DIALECT_V4)
    remembered = [names._cached_encode, principals._decode_cached, record_names._listed_again]
    before = [cache.cache_info().currsize for cache in remembered]
    assert names.encode_name(long) == long.decode()
    assert principals.principal_of(data, DIALECT_V4) == principal
    assert record_names.description_of(Outline(principal, 7, False)).endtime == 7
    assert [cache.cache_info().currsize for cache in remembered] == before
    most = [cache.cache_info().maxsize for cache in remembered]
    assert most == [names.CACHED_NAMES] * 3


def test_credential_memory_overhead_is_small() -> None:
    """Its name, its place and its end: with small ones a full store is still a small process."""
    data = whole(*(record(b"host/%d@R" % n, endtime=2_000 + n) for n in range(MANY)))
    store = new_store()
    tracemalloc.start()
    try:
        fill(store, data)
        store.take_effects()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (held - len(data)) / MANY < 600
