# SPDX-License-Identifier: MIT
"""The functions of the ccache table of CCAPI v3, each with every result that it can have."""

import os
import struct
from collections.abc import Callable

import pytest

from ccfs import ccapi as cc
from tests.support.ccapi import ALICE, BOB, V5, credential, refuses, servers
from tests.support.mounting import Mounted

pytest_plugins = ["tests.support.ccapi_fixtures"]

Call = tuple[Callable[..., object], object]

CONFIG_SERVER = "krb5_ccache_conf_data/refresh_time@X-CACHECONF:"


@pytest.fixture
def work(context: cc.Context) -> cc.CCache:
    """A ccache that is not the default."""
    return context.create_ccache("work", V5, ALICE)


def calls(ccache: cc.CCache, other: cc.CCache, stored: cc.Credentials) -> list[tuple[object, ...]]:
    """Every call on a ccache that asks a server."""
    return [
        (ccache.destroy,),
        (ccache.set_default,),
        (ccache.get_credentials_version,),
        (ccache.get_name,),
        (ccache.get_principal, V5),
        (ccache.set_principal, V5, BOB),
        (ccache.store_credentials, credential()),
        (ccache.remove_credentials, stored),
        (ccache.new_credentials_iterator,),
        (ccache.move, other),
        (other.move, ccache),
        (ccache.lock, cc.cc_lock_read, cc.cc_lock_noblock),
        (ccache.unlock,),
        (ccache.get_last_default_time,),
        (ccache.get_change_time,),
        (ccache.get_kdc_time_offset, V5),
        (ccache.set_kdc_time_offset, V5, 1),
        (ccache.clear_kdc_time_offset, V5),
        (ccache.wait_for_change,),
    ]


def invalid(ccache: cc.CCache, other: cc.CCache) -> None:
    """Assert that every call refuses a ccache, and leaves another as it is."""
    other.store_credentials(credential("kept/x@R"))
    stored = other.new_credentials_iterator().next()
    before = other.get_change_time()
    for call, *arguments in calls(ccache, other, stored):
        refuses(cc.ccErrInvalidCCache, call, *arguments)  # type: ignore[arg-type]
    assert other.get_change_time() == before


def test_released_ccache_refuses_all_calls(context: cc.Context, work: cc.CCache) -> None:
    released = context.open_ccache("work")
    released.release()
    invalid(released, work)
    refuses(cc.ccErrInvalidCCache, released.compare, work)
    refuses(cc.ccErrInvalidCCache, work.compare, released)
    refuses(cc.ccErrInvalidCCache, released.release)
    refuses(cc.ccErrInvalidCCache, released.__enter__)
    assert context.open_ccache("work").get_principal(V5) == ALICE


def test_ccache_as_context_manager_is_released(context: cc.Context, work: cc.CCache) -> None:
    with context.open_ccache("work") as opened:
        assert opened.compare(work)
    refuses(cc.ccErrInvalidCCache, opened.get_name)
    with context.open_ccache("work") as opened:
        opened.destroy()
    refuses(cc.ccErrInvalidCCache, work.get_name)


def test_destroyed_ccache_refuses_all_calls(context: cc.Context, work: cc.CCache) -> None:
    other, again = context.create_ccache("tkt", V5, BOB), context.open_ccache("work")
    work.destroy()
    invalid(again, other)
    invalid(work, other)
    recreated = context.create_ccache("work", V5, ALICE)
    invalid(again, other)
    assert not again.compare(recreated)
    assert again.compare(again)
    again.release()


def test_ccache_without_principal_is_invalid(
    context: cc.Context, work: cc.CCache, served: Mounted
) -> None:
    (served.path / "caches/work/ccache").unlink()
    for call, *arguments in (
        (work.get_credentials_version,),
        (work.get_principal, V5),
        (work.store_credentials, credential()),
        (work.new_credentials_iterator,),
        (work.move, context.create_ccache("other", V5, BOB)),
        (work.get_kdc_time_offset, V5),
        (work.set_kdc_time_offset, V5, 1),
        (work.clear_kdc_time_offset, V5),
        (work.wait_for_change,),
    ):
        refuses(cc.ccErrInvalidCCache, call, *arguments)
    work.set_principal(V5, BOB)
    assert (work.get_principal(V5), servers(work)) == (BOB, [])


def test_null_arguments_are_bad_parameters(work: cc.CCache) -> None:
    for call, *arguments in (
        (work.set_principal, V5, None),
        (work.set_principal, 1, None),
        (work.store_credentials, None),
        (work.store_credentials, credential(client=None)),
        (work.store_credentials, credential(server=None)),  # type: ignore[arg-type]
        (work.store_credentials, cc.cc_credentials_union(V5, None)),
        (work.remove_credentials, None),
        (work.move, None),
        (work.compare, None),
    ):
        refuses(cc.ccErrBadParam, call, *arguments)
    assert servers(work) == []


@pytest.mark.parametrize("version", [0, 1, 3])
def test_credentials_of_other_versions_are_refused(work: cc.CCache, version: int) -> None:
    work.set_kdc_time_offset(V5, 9)
    before = work.get_change_time()
    for call, *arguments in (
        (work.get_principal, version),
        (work.set_principal, version, BOB),
        (work.store_credentials, cc.cc_credentials_union(version, credential().credentials_v5)),
        (work.get_kdc_time_offset, version),
        (work.set_kdc_time_offset, version, 1),
        (work.clear_kdc_time_offset, version),
    ):
        refuses(cc.ccErrBadCredentialsVersion, call, *arguments)
    assert (work.get_change_time(), work.get_principal(V5)) == (before, ALICE)
    assert work.get_kdc_time_offset(V5) == 9
    assert work.get_credentials_version() == V5


def test_destroy_of_default_makes_next_default(context: cc.Context) -> None:
    made = [context.create_ccache(name, V5, ALICE) for name in "abc"]
    made[2].set_default()
    before = made[0].get_change_time()
    refuses(cc.ccErrNeverDefault, made[1].get_last_default_time)
    made[2].destroy()
    assert context.open_default_ccache().compare(made[0])
    assert made[0].get_change_time() > before
    assert made[0].get_last_default_time() <= made[0].get_change_time()


def test_set_default_moves_default_and_times(context: cc.Context, work: cc.CCache) -> None:
    tkt = context.create_ccache("tkt", V5, BOB)
    tkt.set_default()
    before = tkt.get_last_default_time(), tkt.get_change_time(), work.get_change_time()
    work.set_default()
    assert context.get_default_ccache_name() == "work"
    assert before[2] < work.get_last_default_time() <= work.get_change_time()
    assert tkt.get_last_default_time() == before[0]
    assert tkt.get_change_time() > before[1]
    again = work.get_last_default_time(), work.get_change_time(), context.get_change_time()
    work.set_default()
    assert again == (
        work.get_last_default_time(),
        work.get_change_time(),
        context.get_change_time(),
    )


def test_first_created_ccache_is_default(context: cc.Context, served: Mounted) -> None:
    """Its header says so, and MIT's own test programs count on it."""
    made = context.create_ccache("x", V5, ALICE)
    assert context.open_default_ccache().compare(made)
    assert os.readlink(served.path / "default") == "caches/x"
    assert os.listdir(served.path / "caches") == ["x"]
    context.create_ccache("y", V5, ALICE)
    assert context.get_default_ccache_name() == "x"


def test_set_principal_replaces_principal(work: cc.CCache) -> None:
    work.store_credentials(credential())
    work.set_kdc_time_offset(V5, 3)
    for principal in (BOB, BOB, r"a\/b/c d@R", "x" * 60000 + "@R"):
        before = work.get_change_time()
        work.set_principal(V5, principal)
        assert work.get_principal(V5) == principal
        assert work.get_change_time() > before
    assert len(servers(work)) == 1
    refuses(cc.ccErrTimeOffsetNotSet, work.get_kdc_time_offset, V5)
    for principal in ("", "no-realm", "a@b@c"):
        refuses(cc.ccErrBadParam, work.set_principal, V5, principal)


def test_store_credentials_adds_duplicates(work: cc.CCache) -> None:
    first, second = credential(), credential("host/x@R", addresses=None, authdata=None)
    work.store_credentials(first)
    work.store_credentials(second)
    work.store_credentials(first)
    stored = list(work.new_credentials_iterator())
    assert [s.data for s in stored] == [first, second, first]
    assert not stored[0].compare(stored[2])
    assert stored[0].compare(work.new_credentials_iterator().next())


def test_credentials_of_other_client_and_empty_are_stored(work: cc.CCache) -> None:
    nothing = cc.cc_data(0, b"")
    union = credential(client=BOB, keyblock=nothing, ticket=nothing, endtime=0, starttime=0)
    work.store_credentials(union)
    assert [c.data for c in work.new_credentials_iterator()] == [union]


def test_large_credential_is_stored(work: cc.CCache) -> None:
    union = credential(ticket=cc.cc_data(0, b"\xa5" * 3_000_000))
    work.store_credentials(union)
    assert work.new_credentials_iterator().next().data == union
    for size in (6_000_000, 9_000_000):
        too_large = credential(ticket=cc.cc_data(0, bytes(size)))
        refuses(cc.ccErrNoMem, work.store_credentials, too_large)
    assert len(servers(work)) == 1


def test_configuration_entries_are_iterated_as_credentials(
    work: cc.CCache, served: Mounted
) -> None:
    entry = credential(CONFIG_SERVER, ticket=cc.cc_data(0, b"12345"), starttime=0, endtime=0)
    work.store_credentials(credential("a/x@R"))
    work.store_credentials(entry)
    work.store_credentials(credential("b/x@R"))
    assert servers(work) == ["a/x@R", CONFIG_SERVER, "b/x@R"]
    assert (served.path / "caches/work/config/refresh_time").read_bytes() == b"12345"
    stored = list(work.new_credentials_iterator())
    assert stored[1].data == entry
    work.remove_credentials(stored[1])
    assert servers(work) == ["a/x@R", "b/x@R"]


def test_remove_credentials_removes_that_one_only(context: cc.Context, work: cc.CCache) -> None:
    other = context.create_ccache("other", V5, ALICE)
    for _ in range(3):
        work.store_credentials(credential())
    stored = list(work.new_credentials_iterator())
    before = work.get_change_time()
    work.remove_credentials(stored[1])
    assert work.get_change_time() > before
    left = list(work.new_credentials_iterator())
    assert [a.compare(b) for a, b in zip(left, (stored[0], stored[2]), strict=True)] == [True] * 2
    refuses(cc.ccErrInvalidCredentials, work.remove_credentials, stored[1])
    refuses(cc.ccErrInvalidCredentials, other.remove_credentials, stored[0])
    assert stored[1].data == credential()
    context.create_ccache("work", V5, ALICE)
    refuses(cc.ccErrInvalidCredentials, work.remove_credentials, stored[0])
    stored[0].release()
    refuses(cc.ccErrInvalidCredentials, work.remove_credentials, stored[0])


def test_credentials_of_another_mount_are_invalid(
    work: cc.CCache, make_mount: Callable[[], Mounted]
) -> None:
    with cc.initialize(mount=make_mount().path) as elsewhere:
        ccache = elsewhere.create_default_ccache(V5, ALICE)
        ccache.store_credentials(credential())
        stored = ccache.new_credentials_iterator().next()
        refuses(cc.ccErrInvalidCredentials, work.remove_credentials, stored)
        refuses(cc.ccErrInvalidCCache, work.move, ccache)
        assert not work.compare(ccache)


def test_move_replaces_target_and_ends_source(context: cc.Context, work: cc.CCache) -> None:
    target = context.create_ccache("target", V5, BOB)
    target.store_credentials(credential("old/x@R"))
    old = target.new_credentials_iterator().next()
    work.store_credentials(credential("a/x@R"))
    work.store_credentials(credential("b/x@R"))
    work.set_kdc_time_offset(V5, 11)
    stored = list(work.new_credentials_iterator())
    before = max(target.get_change_time(), work.get_change_time()), context.get_change_time()
    again = context.open_ccache("target")
    work.move(target)
    assert target.get_change_time() > before[0]
    assert context.get_change_time() > before[1]
    assert (target.get_name(), target.get_principal(V5)) == ("target", ALICE)
    assert servers(again) == ["a/x@R", "b/x@R"]
    assert again.get_kdc_time_offset(V5) == 11
    refuses(cc.ccErrCCacheNotFound, context.open_ccache, "work")
    invalid(work, context.create_ccache("other", V5, ALICE))
    work.release()
    refuses(cc.ccErrInvalidCredentials, target.remove_credentials, old)
    assert target.new_credentials_iterator().next().compare(stored[0])
    target.remove_credentials(stored[0])
    assert servers(target) == ["b/x@R"]


def test_move_onto_handle_of_another_context(
    context: cc.Context, work: cc.CCache, served: Mounted
) -> None:
    with cc.initialize(mount=served.path) as other:
        target = other.create_ccache("target", V5, BOB)
        work.move(target)
        assert target.get_principal(V5) == ALICE
        target.move(context.open_ccache("target"))


def test_move_keeps_position_of_target(context: cc.Context) -> None:
    made = {name: context.create_ccache(name, V5, ALICE) for name in "abcd"}
    made["a"].set_default()
    since = made["a"].get_last_default_time()
    made["c"].move(made["a"])
    assert [c.get_name() for c in context.new_ccache_iterator()] == ["a", "b", "d"]
    assert made["a"].get_last_default_time() == since
    made["a"].move(made["d"])
    assert [c.get_name() for c in context.new_ccache_iterator()] == ["b", "d"]
    assert context.open_default_ccache().compare(made["b"])
    refuses(cc.ccErrNeverDefault, made["d"].get_last_default_time)


def test_move_onto_itself_changes_nothing(context: cc.Context, work: cc.CCache) -> None:
    work.store_credentials(credential())
    before = work.get_change_time(), context.get_change_time()
    work.move(work)
    work.move(context.open_ccache("work"))
    assert (work.get_change_time(), context.get_change_time()) == before
    assert servers(work) == [credential().credentials_v5.server]


def test_last_default_time_is_kept_per_ccache(context: cc.Context, work: cc.CCache) -> None:
    other = context.create_ccache("other", V5, BOB)
    refuses(cc.ccErrNeverDefault, other.get_last_default_time)
    since = work.get_last_default_time()
    assert since <= work.get_change_time()
    other.set_default()
    assert work.get_last_default_time() == since


def test_ccache_change_time_rises_with_each_change(context: cc.Context, work: cc.CCache) -> None:
    other = context.create_ccache("other", V5, BOB)
    other.set_default()
    for change in (
        lambda: work.store_credentials(credential()),
        lambda: work.remove_credentials(work.new_credentials_iterator().next()),
        lambda: work.set_principal(V5, ALICE),
        lambda: work.set_kdc_time_offset(V5, 1),
        lambda: work.clear_kdc_time_offset(V5),
        lambda: work.clear_kdc_time_offset(V5),
        lambda: work.set_default(),
        lambda: other.set_default(),
        lambda: context.create_ccache("work", V5, BOB),
        lambda: context.create_ccache("source", V5, BOB).move(work),
    ):
        before = work.get_change_time(), context.get_change_time()
        change()
        assert work.get_change_time() > before[0]
        assert context.get_change_time() > max(before[1], work.get_change_time() - 1)


def test_handles_compare_by_ccache(context: cc.Context, work: cc.CCache) -> None:
    assert work.compare(work)
    assert work.compare(context.open_ccache("work"))
    assert not work.compare(context.create_ccache("other", V5, ALICE))


@pytest.mark.parametrize("offset", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_time_offset_is_stored_in_header(work: cc.CCache, served: Mounted, offset: int) -> None:
    refuses(cc.ccErrTimeOffsetNotSet, work.get_kdc_time_offset, V5)
    work.store_credentials(credential())
    work.set_kdc_time_offset(V5, offset)
    assert work.get_kdc_time_offset(V5) == offset
    header = (served.path / "caches/work/ccache").read_bytes()[:16]
    assert header[:8] == b"\x05\x04\0\x0c\0\x01\0\x08"
    assert struct.unpack(">Ii", header[8:]) == (offset, 0)
    work.clear_kdc_time_offset(V5)
    refuses(cc.ccErrTimeOffsetNotSet, work.get_kdc_time_offset, V5)
    assert len(servers(work)) == 1


@pytest.mark.parametrize("offset", [-1, 2**32])
def test_time_offset_beyond_32_bits_is_refused(work: cc.CCache, offset: int) -> None:
    refuses(cc.ccErrBadParam, work.set_kdc_time_offset, V5, offset)
    refuses(cc.ccErrTimeOffsetNotSet, work.get_kdc_time_offset, V5)


def test_handle_follows_renamed_ccache(
    context: cc.Context, work: cc.CCache, served: Mounted
) -> None:
    caches = served.path / "caches"
    (caches / "work").rename(caches / "play")
    impostor = context.create_ccache("work", V5, BOB)
    assert (work.get_name(), work.get_principal(V5)) == ("play", ALICE)
    work.store_credentials(credential())
    work.set_kdc_time_offset(V5, 5)
    work.set_default()
    assert context.get_default_ccache_name() == "play"
    assert servers(impostor) == []
    refuses(cc.ccErrTimeOffsetNotSet, impostor.get_kdc_time_offset, V5)
    work.destroy()
    assert impostor.get_principal(V5) == BOB


def test_errors_of_calls_contain_no_secret(work: cc.CCache) -> None:
    work.store_credentials(credential(ticket=cc.cc_data(0, b"SECRET")))
    shown = [repr(c) + repr(c.data) for c in work.new_credentials_iterator()]
    assert not any("SECRET" in text for text in [*shown, repr(work)])
