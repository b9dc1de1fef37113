# SPDX-License-Identifier: MIT
"""Credentials and their iterators: order, survivors, ends, and records that others have written."""

import pytest

from ccfs import ccapi as cc
from tests.support.ccapi import ALICE, V5, credential, refuses, servers
from tests.support.mounting import Mounted
from tests.support.paths import VECTORS

pytest_plugins = ["tests.support.ccapi_fixtures"]


@pytest.fixture
def work(context: cc.Context) -> cc.CCache:
    """A ccache with three credentials."""
    ccache = context.create_ccache("work", V5, ALICE)
    for name in "abc":
        ccache.store_credentials(credential(f"{name}/x@R"))
    return ccache


def test_credentials_compare_by_record(work: cc.CCache) -> None:
    first, second = work.new_credentials_iterator(), work.new_credentials_iterator()
    one, two = first.next(), second.next()
    assert one.compare(two)
    assert one.compare(one)
    assert not one.compare(first.next())
    refuses(cc.ccErrBadParam, one.compare, None)


def test_released_credentials_refuse_all_calls(work: cc.CCache) -> None:
    kept, released = list(work.new_credentials_iterator())[:2]
    released.release()
    refuses(cc.ccErrInvalidCredentials, lambda: released.data)
    refuses(cc.ccErrInvalidCredentials, released.release)
    refuses(cc.ccErrInvalidCredentials, released.compare, kept)
    refuses(cc.ccErrInvalidCredentials, kept.compare, released)
    refuses(cc.ccErrInvalidCredentials, work.remove_credentials, released)
    with kept:
        assert kept.data.version == V5
    refuses(cc.ccErrInvalidCredentials, lambda: kept.data)


def test_credentials_iterator_stays_at_its_end(work: cc.CCache) -> None:
    iterator = work.new_credentials_iterator()
    assert len(list(iterator)) == 3
    for _ in range(3):
        refuses(cc.ccIteratorEnd, iterator.next)
    iterator.release()
    for call in (iterator.next, iterator.clone, iterator.release):
        refuses(cc.ccErrInvalidCredentialsIterator, call)


def test_credentials_iterator_neither_repeats_nor_skips(work: cc.CCache) -> None:
    iterator = work.new_credentials_iterator()
    first = iterator.next()
    stored = list(work.new_credentials_iterator())
    work.remove_credentials(first)
    work.remove_credentials(stored[1])
    work.store_credentials(credential("d/x@R"))
    work.set_principal(V5, ALICE)
    work.set_kdc_time_offset(V5, 1)
    left = list(iterator)
    assert [c.compare(stored[2]) for c in left] == [True]
    assert servers(work) == ["c/x@R", "d/x@R"]


def test_credentials_iterator_clone_continues_from_position(work: cc.CCache) -> None:
    iterator = work.new_credentials_iterator()
    iterator.next()
    copy = iterator.clone()
    assert [c.data for c in iterator] == [credential("b/x@R"), credential("c/x@R")]
    assert [c.data for c in copy] == [credential("b/x@R"), credential("c/x@R")]
    refuses(cc.ccIteratorEnd, copy.clone().next)


def test_reinitialised_ccache_ends_credentials_iterators(
    context: cc.Context, work: cc.CCache, served: Mounted
) -> None:
    source = context.create_ccache("source", V5, ALICE)
    source.store_credentials(credential())
    resets = (
        lambda: context.create_ccache("work", V5, ALICE),
        lambda: (served.path / "caches/work/ccache").unlink(),
        lambda: source.move(work),
        lambda: work.destroy(),
    )
    for reset in resets:
        work = context.create_ccache("work", V5, ALICE)
        for name in "abc":
            work.store_credentials(credential(f"{name}/x@R"))
        begun, ended, fresh = (work.new_credentials_iterator() for _ in range(3))
        begun.next()
        assert len(list(ended)) == 3
        reset()
        for iterator in (begun, ended, fresh, begun):
            refuses(cc.ccErrInvalidCredentialsIterator, iterator.next)
            refuses(cc.ccErrInvalidCredentialsIterator, next, iterator)


def test_moved_ccache_ends_credentials_iterators(context: cc.Context, work: cc.CCache) -> None:
    iterator = work.new_credentials_iterator()
    iterator.next()
    work.move(context.create_ccache("target", V5, ALICE))
    refuses(cc.ccErrInvalidCredentialsIterator, iterator.next)


def test_credentials_iterator_returns_a_thousand(context: cc.Context) -> None:
    ccache = context.create_ccache("many", V5, ALICE)
    wanted = [f"number/{n}@R" for n in range(1000)]
    for name in wanted:
        ccache.store_credentials(credential(name))
    iterator = ccache.new_credentials_iterator()
    found = list(iterator)
    assert [c.data for c in found] == [credential(name) for name in wanted]
    for stored in found[::2]:
        ccache.remove_credentials(stored)
    assert servers(ccache) == wanted[1::2]


@pytest.mark.parametrize("version", ["1", "2", "3", "4"])
def test_credentials_are_read_from_every_format_version(
    context: cc.Context, served: Mounted, version: str
) -> None:
    data = (VECTORS / f"mit-v{version}.ccache").read_bytes()
    context.create_ccache("work", V5, ALICE)
    (served.path / "caches/work/ccache").write_bytes(data)
    ccache = context.open_ccache("work")
    before = list(ccache.new_credentials_iterator())
    assert before
    assert ccache.get_principal(V5) == "user@KRBTEST.COM"
    assert "krbtgt/KRBTEST.COM@KRBTEST.COM" in servers(ccache)
    assert [c.data for c in ccache.new_credentials_iterator()] == [c.data for c in before]
    ccache.store_credentials(before[0].data)
    again = [c.data for c in ccache.new_credentials_iterator()]
    assert again == [c.data for c in before] + [before[0].data]
