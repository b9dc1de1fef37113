# SPDX-License-Identifier: MIT
"""The functions of the context table of CCAPI v3, each with every result that it can have."""

import os

import pytest

from ccfs import ccapi as cc
from tests.support.ccapi import ALICE, BOB, V5, credential, refuses, servers
from tests.support.mounting import Mounted

pytest_plugins = ["tests.support.ccapi_fixtures"]

LIMIT = 1024
BAD_PRINCIPALS = ["", "alice", "a@b@c", "a\0@R"]
BAD_NAMES = ["tkt.work", "a\0b", "x" * 256, "/" * 86]


def names(context: cc.Context) -> list[str]:
    """The ccaches of a context in list order."""
    return [ccache.get_name() for ccache in context.new_ccache_iterator()]


@pytest.mark.parametrize("version", range(2, 8))
def test_initialize_takes_versions_2_to_7(version: int, served: Mounted) -> None:
    made = cc.initialize(version, served.path)
    assert made.supported_version == cc.ccapi_version_max == 7
    assert made.vendor == "ccfs"
    made.release()


@pytest.mark.parametrize("version", [-1, 0, 1, 8, 2**31 - 1])
def test_initialize_refuses_other_versions(version: int) -> None:
    refuses(cc.ccErrBadAPIVersion, cc.initialize, version)


def test_released_context_refuses_all_calls(context: cc.Context, served: Mounted) -> None:
    made = cc.initialize(mount=served.path)
    made.release()
    for call, *arguments in (
        (made.release,),
        (made.get_change_time,),
        (made.get_default_ccache_name,),
        (made.open_ccache, "tkt"),
        (made.open_default_ccache,),
        (made.create_ccache, "x", V5, ALICE),
        (made.create_default_ccache, V5, ALICE),
        (made.create_new_ccache, V5, ALICE),
        (made.new_ccache_iterator,),
        (made.lock, cc.cc_lock_read, cc.cc_lock_noblock),
        (made.unlock,),
        (made.compare, context),
        (context.compare, made),
        (made.wait_for_change,),
    ):
        refuses(cc.ccErrInvalidContext, call, *arguments)


def test_context_as_context_manager_is_released(served: Mounted) -> None:
    with cc.initialize(mount=served.path) as made:
        made.get_change_time()
    refuses(cc.ccErrInvalidContext, made.get_change_time)
    with pytest.raises(cc.CCAPIError), made:
        pass
    with cc.initialize(mount=served.path) as made:
        made.release()


def test_handles_outlive_released_context(served: Mounted) -> None:
    made = cc.initialize(mount=served.path)
    ccache = made.create_default_ccache(V5, ALICE)
    ccache.store_credentials(credential())
    ccaches, credentials = made.new_ccache_iterator(), ccache.new_credentials_iterator()
    made.release()
    assert ccache.get_principal(V5) == ALICE
    assert ccaches.next().compare(ccache)
    assert credentials.next().data == credential()
    refuses(cc.ccErrInvalidContext, ccache.lock, cc.cc_lock_read, cc.cc_lock_noblock)


def test_null_arguments_are_bad_parameters(context: cc.Context) -> None:
    for call, *arguments in (
        (context.open_ccache, None),
        (context.create_ccache, None, V5, ALICE),
        (context.create_ccache, "x", V5, None),
        (context.create_default_ccache, V5, None),
        (context.create_new_ccache, V5, None),
        (context.create_new_ccache, 1, None),
        (context.compare, None),
    ):
        refuses(cc.ccErrBadParam, call, *arguments)
    assert names(context) == []


def test_empty_collection_has_no_default(context: cc.Context) -> None:
    assert context.get_default_ccache_name() == "tkt"
    refuses(cc.ccErrCCacheNotFound, context.open_default_ccache)
    refuses(cc.ccErrCCacheNotFound, context.open_ccache, "tkt")
    refuses(cc.ccIteratorEnd, context.new_ccache_iterator().next)
    assert context.get_change_time() > 0


@pytest.mark.parametrize("version", [0, 1, 3])
def test_credentials_of_other_versions_change_nothing(context: cc.Context, version: int) -> None:
    old = context.create_ccache("old", V5, ALICE)
    before = context.get_change_time()
    for call, *arguments in (
        (context.create_ccache, "new", version, BOB),
        (context.create_ccache, "old", version, BOB),
        (context.create_default_ccache, version, BOB),
        (context.create_new_ccache, version, BOB),
    ):
        refuses(cc.ccErrBadCredentialsVersion, call, *arguments)
    assert (names(context), old.get_principal(V5)) == (["old"], ALICE)
    assert context.get_change_time() == before
    old.store_credentials(credential())


@pytest.mark.parametrize("principal", BAD_PRINCIPALS)
def test_unparsable_principals_are_refused(context: cc.Context, principal: str) -> None:
    refuses(cc.ccErrBadParam, context.create_ccache, "x", V5, principal)
    refuses(cc.ccErrBadParam, context.create_default_ccache, V5, principal)
    refuses(cc.ccErrBadParam, context.create_new_ccache, V5, principal)
    assert names(context) == []


@pytest.mark.parametrize("name", BAD_NAMES)
def test_invalid_names_are_not_found(context: cc.Context, name: str) -> None:
    refuses(cc.ccErrBadName, context.create_ccache, name, V5, ALICE)
    refuses(cc.ccErrBadName, context.open_ccache, name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        "a b",
        "a\tb",
        "a\nb",
        "/",
        ".",
        "..",
        "%41",
        "~",
        "é",
        "x" * 255,
        " ",
        "tktfoo",
        b"\xff\x01".decode("utf-8", "surrogateescape"),
    ],
)
def test_valid_names_create_ccaches(context: cc.Context, name: str) -> None:
    made = context.create_ccache(name, V5, ALICE)
    assert made.get_name() == name
    assert context.open_ccache(name).compare(made)
    assert [found.get_name() for found in context.new_ccache_iterator()] == [name]


@pytest.mark.parametrize(
    "principal",
    [
        ALICE,
        "a b/c d@R",
        r"a\/b\@c\n\t@R",
        "é@R",
        "@",
        "a@",
        "/@R",
        "x" * 60000 + "@R",
        "a\x01b@R",
        b"\xff@R".decode("utf-8", "surrogateescape"),
    ],
)
def test_valid_principals_create_ccaches(context: cc.Context, principal: str) -> None:
    for made in (
        context.create_ccache("a b", V5, principal),
        context.create_default_ccache(V5, principal),
        context.create_new_ccache(V5, principal),
    ):
        assert made.get_principal(V5) == principal


def test_create_ccache_creates_and_opens(context: cc.Context) -> None:
    made = context.create_ccache("work", V5, ALICE)
    assert (made.get_name(), made.get_principal(V5), servers(made)) == ("work", ALICE, [])
    assert context.open_ccache("work").compare(made)


def test_create_ccache_resets_in_place(context: cc.Context) -> None:
    first, made = context.create_ccache("first", V5, ALICE), context.create_ccache("b", V5, ALICE)
    last = context.create_ccache("last", V5, ALICE)
    made.set_default()
    made.store_credentials(credential())
    made.set_kdc_time_offset(V5, 7)
    became = made.get_last_default_time()
    before = made.get_change_time(), context.get_change_time()
    again = context.create_ccache("b", V5, BOB)
    assert again.compare(made)
    assert (made.get_principal(V5), servers(made)) == (BOB, [])
    refuses(cc.ccErrTimeOffsetNotSet, made.get_kdc_time_offset, V5)
    assert names(context) == ["b", "first", "last"]
    assert made.get_last_default_time() == became
    assert made.get_change_time() > before[0]
    assert context.get_change_time() > before[1]
    assert (first.get_principal(V5), last.get_principal(V5)) == (ALICE, ALICE)


def test_create_default_ccache_creates_then_resets(context: cc.Context) -> None:
    made = context.create_default_ccache(V5, ALICE)
    assert made.get_name() == context.get_default_ccache_name() == "tkt"
    assert made.get_last_default_time() > 0
    made.store_credentials(credential())
    work = context.create_ccache("work", V5, ALICE)
    assert context.create_default_ccache(V5, BOB).compare(made)
    assert (made.get_principal(V5), servers(made)) == (BOB, [])
    work.set_default()
    assert context.create_default_ccache(V5, BOB).compare(work)
    assert (work.get_principal(V5), names(context)) == (BOB, ["work", "tkt"])


def test_create_new_ccache_takes_unused_name(context: cc.Context) -> None:
    first = context.create_new_ccache(V5, ALICE)
    assert first.get_name() == "tkt"
    assert context.open_default_ccache().compare(first)
    made = [context.create_new_ccache(V5, BOB) for _ in range(5)]
    assert context.open_default_ccache().compare(first)
    found = names(context)
    assert len(set(found)) == 6
    assert all(name.isdecimal() for name in found[1:])
    taken = str(int(made[-1].get_name()) + 1)
    context.create_ccache(taken, V5, ALICE)
    assert context.create_new_ccache(V5, ALICE).get_name() not in [*found, taken]


def test_open_ccache_finds_by_name(context: cc.Context) -> None:
    made = context.create_ccache("work", V5, ALICE)
    before = context.get_change_time()
    assert context.open_ccache("work").get_principal(V5) == ALICE
    refuses(cc.ccErrCCacheNotFound, context.open_ccache, "Work")
    assert context.get_change_time() == before
    made.destroy()
    refuses(cc.ccErrCCacheNotFound, context.open_ccache, "work")


def test_default_ccache_name_follows_default(context: cc.Context) -> None:
    tkt, work = context.create_default_ccache(V5, ALICE), context.create_ccache("work", V5, BOB)
    assert context.open_default_ccache().compare(tkt)
    work.set_default()
    assert context.open_default_ccache().compare(work)
    assert context.get_default_ccache_name() == "work"
    work.destroy()
    assert context.open_default_ccache().compare(tkt)
    tkt.destroy()
    refuses(cc.ccErrCCacheNotFound, context.open_default_ccache)
    assert context.get_default_ccache_name() == "tkt"


def test_uninitialised_default_is_not_found(context: cc.Context, served: Mounted) -> None:
    work = context.create_ccache("work", V5, ALICE)
    work.set_default()
    (served.path / "caches/work/ccache").unlink()
    refuses(cc.ccErrCCacheNotFound, context.open_default_ccache)
    refuses(cc.ccErrCCacheNotFound, context.open_ccache, "work")
    assert names(context) == []
    assert context.create_default_ccache(V5, BOB).compare(work)
    assert work.get_principal(V5) == BOB


def test_ccache_iterator_starts_with_default(context: cc.Context) -> None:
    for name in "abcd":
        context.create_ccache(name, V5, ALICE)
    assert names(context) == ["a", "b", "c", "d"]
    context.open_ccache("c").set_default()
    assert names(context) == ["c", "a", "b", "d"]
    context.open_ccache("a").destroy()
    context.create_ccache("a", V5, ALICE)
    assert names(context) == ["c", "b", "d", "a"]


def test_ccache_iterator_neither_repeats_nor_skips(context: cc.Context) -> None:
    made = {name: context.create_ccache(name, V5, ALICE) for name in "abcdef"}
    iterator = context.new_ccache_iterator()
    seen = [iterator.next().get_name()]
    made["a"].destroy()
    made["b"].destroy()
    seen.append(iterator.next().get_name())
    made["f"].set_default()
    made["c"].destroy()
    context.create_ccache("new", V5, ALICE)
    seen += [ccache.get_name() for ccache in iterator]
    assert seen == ["a", "c", "d", "e", "f"]
    for _ in range(3):
        refuses(cc.ccIteratorEnd, iterator.next)


def test_ccache_iterator_clone_continues_from_position(context: cc.Context) -> None:
    for name in "abc":
        context.create_ccache(name, V5, ALICE)
    iterator = context.new_ccache_iterator()
    iterator.next()
    copy = iterator.clone()
    assert [ccache.get_name() for ccache in iterator] == ["b", "c"]
    assert [ccache.get_name() for ccache in copy] == ["b", "c"]
    refuses(cc.ccIteratorEnd, iterator.clone().next)
    iterator.release()
    for call in (iterator.next, iterator.clone, iterator.release):
        refuses(cc.ccErrInvalidCCacheIterator, call)
    refuses(cc.ccErrInvalidCCacheIterator, next, iterator)


def test_ccache_iterator_returns_a_thousand_ccaches(context: cc.Context) -> None:
    wanted = [f"number {n}" for n in range(1000)]
    for name in wanted:
        context.create_ccache(name, V5, ALICE)
    assert names(context) == wanted


def test_ccache_limit_is_reported_as_no_memory(context: cc.Context) -> None:
    for n in range(LIMIT):
        context.create_ccache(f"n{n}", V5, ALICE)
    refuses(cc.ccErrNoMem, context.create_ccache, "one more", V5, ALICE)
    refuses(cc.ccErrNoMem, context.create_new_ccache, V5, ALICE)
    assert len(names(context)) == LIMIT
    context.create_ccache("n1", V5, BOB)
    context.open_ccache("n0").destroy()
    context.create_new_ccache(V5, ALICE)


def test_contexts_compare_by_mount(
    context: cc.Context, served: Mounted, tmp_path: os.PathLike[str]
) -> None:
    other = cc.initialize(mount=served.path)
    assert context.compare(context)
    assert context.compare(other)
    nowhere = cc.initialize(mount=tmp_path)
    assert not context.compare(nowhere)
    assert not nowhere.compare(context)
    assert nowhere.compare(cc.initialize(mount="/nonexistent"))


def test_collection_change_time_rises_with_each_change(context: cc.Context) -> None:
    times = [context.get_change_time()]

    def changed() -> None:
        times.append(context.get_change_time())
        assert times[-1] > times[-2]

    tkt = context.create_default_ccache(V5, ALICE)
    changed()
    work = context.create_new_ccache(V5, BOB)
    changed()
    tkt.store_credentials(credential())
    changed()
    tkt.set_principal(V5, ALICE)
    changed()
    tkt.remove_credentials(tkt.new_credentials_iterator().next())
    changed()
    work.set_default()
    changed()
    tkt.set_kdc_time_offset(V5, 0)
    changed()
    tkt.clear_kdc_time_offset(V5)
    changed()
    tkt.clear_kdc_time_offset(V5)
    changed()
    tkt.move(work)
    changed()
    work.destroy()
    changed()


def test_change_time_stays_without_change(context: cc.Context) -> None:
    tkt = context.create_default_ccache(V5, ALICE)
    tkt.store_credentials(credential())
    before = context.get_change_time()
    tkt.set_default()
    tkt.move(tkt)
    refuses(cc.ccErrBadParam, tkt.set_principal, V5, "no realm")
    refuses(cc.ccErrCCacheNotFound, context.open_ccache, "none")
    context.lock(cc.cc_lock_read, cc.cc_lock_noblock)
    context.unlock()
    tkt.lock(cc.cc_lock_write, cc.cc_lock_noblock)
    tkt.unlock()
    for credentials in tkt.new_credentials_iterator():
        assert credentials.compare(credentials)
    tkt.get_change_time()
    assert context.get_change_time() == before
