# SPDX-License-Identifier: MIT
"""wait_for_change: no change is lost, every waiter wakes, and no waiter polls."""

import os
import time
from collections.abc import Callable, Iterator

import pytest

from ccfs import ccapi as cc
from tests.support.ccapi import (
    ALICE,
    BOB,
    V5,
    Running,
    credential,
    eventually,
    parked,
    polls,
    refuses,
)
from tests.support.mounting import Mounted

pytest_plugins = ["tests.support.ccapi_fixtures"]


@pytest.fixture
def work(context: cc.Context) -> cc.CCache:
    """A ccache."""
    return context.create_ccache("work", V5, ALICE)


@pytest.fixture
def others(served: Mounted) -> Iterator[list[cc.Context]]:
    """Ten more clients."""
    made = [cc.initialize(mount=served.path) for _ in range(10)]
    yield made
    for one in made:
        one.release()


def wait_in_vain(served: Mounted, call: Callable[[], None]) -> Running:
    """Start a wait and return once it is parked."""
    with parked(served, 1):
        waiter = Running(call)
    assert not waiter.done
    return waiter


def test_first_wait_returns_at_once(context: cc.Context, work: cc.CCache) -> None:
    context.wait_for_change()
    work.wait_for_change()
    context.open_ccache("work").wait_for_change()


def changes(context: cc.Context, work: cc.CCache, served: Mounted) -> list[Callable[[], object]]:
    """Each kind of change of a ccache that is the default."""
    ccache = served.path / "caches/work/ccache"
    return [
        lambda: work.store_credentials(credential()),
        lambda: work.remove_credentials(work.new_credentials_iterator().next()),
        lambda: work.set_principal(V5, BOB),
        lambda: work.set_kdc_time_offset(V5, 1),
        lambda: work.clear_kdc_time_offset(V5),
        lambda: context.create_ccache("other", V5, ALICE).set_default(),
        lambda: work.set_default(),
        lambda: context.create_ccache("work", V5, ALICE),
        lambda: context.open_ccache("other").move(work),
        lambda: ccache.write_bytes(ccache.read_bytes()),
    ]


def test_wait_ends_at_each_kind_of_change(
    context: cc.Context, work: cc.CCache, served: Mounted
) -> None:
    work.set_default()
    for change in changes(context, work, served):
        with cc.initialize(mount=served.path) as other:
            watched = other.open_ccache("work")
            other.wait_for_change()
            watched.wait_for_change()
            with parked(served, 2):
                waiters = [Running(other.wait_for_change), Running(watched.wait_for_change)]
            assert not any(waiter.done for waiter in waiters)
            change()
            for waiter in waiters:
                waiter.wait()


def test_wait_reports_change_between_two_calls(
    context: cc.Context, work: cc.CCache, served: Mounted
) -> None:
    context.wait_for_change()
    work.wait_for_change()
    work.set_principal(V5, ALICE)
    for change in changes(context, work, served):
        Running(context.wait_for_change).wait()
        Running(work.wait_for_change).wait()
        change()
    Running(context.wait_for_change).wait()
    Running(work.wait_for_change).wait()


def test_wait_reports_several_changes_once(
    context: cc.Context, work: cc.CCache, served: Mounted
) -> None:
    work.wait_for_change()
    for _ in range(5):
        work.store_credentials(credential())
    Running(work.wait_for_change).wait()
    waiter = wait_in_vain(served, work.wait_for_change)
    with cc.initialize(mount=served.path) as other:
        other.open_ccache("work").store_credentials(credential())
    waiter.wait()


def test_collection_wait_ends_at_create_and_destroy(context: cc.Context, served: Mounted) -> None:
    with cc.initialize(mount=served.path) as other:
        other.wait_for_change()
        waiter = wait_in_vain(served, other.wait_for_change)
        made = context.create_new_ccache(V5, ALICE)
        waiter.wait()
        waiter = wait_in_vain(served, other.wait_for_change)
        made.destroy()
        waiter.wait()


def test_ccache_wait_ignores_other_ccaches(
    context: cc.Context, work: cc.CCache, served: Mounted
) -> None:
    other = context.create_ccache("other", V5, ALICE)
    work.wait_for_change()
    waiter = wait_in_vain(served, work.wait_for_change)
    with parked(served, 1):
        other.store_credentials(credential())
    assert not waiter.done
    with cc.initialize(mount=served.path) as third:
        third.open_ccache("work").store_credentials(credential())
    waiter.wait()


def test_wait_ignores_locks(context: cc.Context, work: cc.CCache, served: Mounted) -> None:
    work.wait_for_change()
    waiter = wait_in_vain(served, work.wait_for_change)
    before = polls(served)
    with cc.initialize(mount=served.path) as other:
        ccache = other.open_ccache("work")
        for lockable in (other, ccache):
            lockable.lock(cc.cc_lock_read, cc.cc_lock_noblock)
            lockable.lock(cc.cc_lock_upgrade, cc.cc_lock_noblock)
            lockable.unlock()
        assert (polls(served), waiter.done) == (before, False)
        ccache.store_credentials(credential())
    waiter.wait()


def test_wait_ignores_expiry_and_refusal(
    context: cc.Context, work: cc.CCache, served: Mounted
) -> None:
    events = served.path / "events"
    with cc.initialize(mount=served.path) as other:
        ccache = other.open_ccache("work")
        ccache.store_credentials(credential("soon/x@R", endtime=int(time.time()) + 2))
        context.wait_for_change()
        work.wait_for_change()
        with parked(served, 2):
            waiters = [Running(context.wait_for_change), Running(work.wait_for_change)]
        eventually(lambda: "\texpired\twork\tsoon%2Fx@R" in events.read_text())
        too_large = credential(ticket=cc.cc_data(0, bytes(9_000_000)))
        refuses(cc.ccErrNoMem, ccache.store_credentials, too_large)
        assert not any(waiter.done for waiter in waiters)
        ccache.set_principal(V5, BOB)
        for waiter in waiters:
            waiter.wait()


def test_change_wakes_all_waiters(
    context: cc.Context, served: Mounted, others: list[cc.Context]
) -> None:
    work = context.create_ccache("work", V5, ALICE)
    ccaches = [other.open_ccache("work") for other in others]
    handles: list[cc.Context | cc.CCache] = [*others, *ccaches]
    for handle in handles:
        handle.wait_for_change()
    with parked(served, len(handles)):
        waiters = [Running(handle.wait_for_change) for handle in handles]
    work.store_credentials(credential())
    for waiter in waiters:
        waiter.wait()


def test_wait_continues_over_reinitialisation(
    context: cc.Context, work: cc.CCache, served: Mounted
) -> None:
    """As libkrb5 initializes one: the file is unlinked, then made again."""
    ccache = served.path / "caches/work/ccache"
    image = ccache.read_bytes()
    work.wait_for_change()
    for _ in range(20):
        with parked(served, 1):
            waiter = Running(work.wait_for_change)
        ccache.unlink()
        ccache.write_bytes(image)
        waiter.wait()


def test_wait_ends_where_ccache_stays_uninitialised(
    context: cc.Context, work: cc.CCache, served: Mounted
) -> None:
    work.wait_for_change()
    with parked(served, 1):
        waiter = Running(work.wait_for_change)
    (served.path / "caches/work/ccache").unlink()
    refuses(cc.ccErrInvalidCCache, waiter.wait)


def test_destroyed_ccache_answers_waiters(
    context: cc.Context, served: Mounted, others: list[cc.Context]
) -> None:
    work = context.create_ccache("work", V5, ALICE)
    ccaches = [other.open_ccache("work") for other in others]
    for handle in [*ccaches, others[0]]:
        handle.wait_for_change()  # type: ignore[attr-defined]
    with parked(served, len(ccaches) + 1):
        waiters = [Running(ccache.wait_for_change) for ccache in ccaches]
        collection = Running(others[0].wait_for_change)
    work.destroy()
    for waiter in waiters:
        refuses(cc.ccErrInvalidCCache, waiter.wait)
    collection.wait()
    refuses(cc.ccErrInvalidCCache, ccaches[0].wait_for_change)


def test_wait_makes_no_requests(context: cc.Context, work: cc.CCache, served: Mounted) -> None:
    work.wait_for_change()
    waiter = wait_in_vain(served, work.wait_for_change)
    before = os.times()
    first = polls(served)
    eventually(lambda: os.times().elapsed - before.elapsed > 0.2)
    assert polls(served) == first
    assert not waiter.done
    context.create_ccache("work", V5, BOB)
    waiter.wait()


def test_change_wakes_a_hundred_waiters(
    context: cc.Context, served: Mounted, capsys: pytest.CaptureFixture[str]
) -> None:
    clients = [cc.initialize(mount=served.path) for _ in range(100)]
    for client in clients:
        client.wait_for_change()
    woken: list[float] = []

    def wait(client: cc.Context) -> None:
        client.wait_for_change()
        woken.append(time.perf_counter())

    with parked(served, 100):
        waiters = [Running(wait, client) for client in clients]
    began = time.perf_counter()
    context.create_new_ccache(V5, ALICE)
    for waiter in waiters:
        waiter.wait()
    with capsys.disabled():
        print(f"\n100 waiters woken in {(max(woken) - began) * 1000:.1f} ms")
    for client in clients:
        client.release()
