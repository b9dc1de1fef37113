# SPDX-License-Identifier: MIT
"""The calls of CCAPI v2, each with every result that it can have."""

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from ccfs import ccapi as cc
from ccfs.ccapi import v2
from tests.support.ccapi import ALICE, BOB, V5, credential
from tests.support.mounting import Mounted

pytest_plugins = ["tests.support.ccapi_fixtures"]

Call = tuple[object, ...]


def refuses(code: int, call: Callable[..., object], *arguments: object) -> None:
    """Assert that a call fails with a code of v2, under v2's name for it."""
    with pytest.raises(cc.CCAPIError) as caught:
        call(*arguments)
    assert caught.value.code == code
    assert getattr(v2, caught.value.name) == code


def cred(server: str = "http/www.example.com@EXAMPLE.COM", **fields: object) -> v2.cred_union:
    """A credential as v2 has it."""
    return v2.cred_union(v2.CC_CRED_V5, credential(server, **fields).credentials_v5)


@pytest.fixture
def ctx(context: cc.Context, served: Mounted) -> Iterator[cc.Context]:
    """A context of v2 on an empty collection."""
    made = cc.initialize(v2.CC_API_VER_2, served.path)
    yield made
    v2.cc_shutdown(made)


@pytest.fixture
def work(ctx: cc.Context) -> cc.CCache:
    """A ccache of v2."""
    return v2.cc_create(ctx, "work", ALICE, v2.CC_CRED_V5, 0)


def fetched(ctx: cc.Context, ccache: cc.CCache) -> list[v2.cred_union]:
    """The credentials of a ccache by v2's iteration."""
    iterator = v2.cc_seq_fetch_creds_begin(ctx, ccache)
    found = []
    while True:
        try:
            found.append(v2.cc_seq_fetch_creds_next(ctx, iterator))
        except cc.CCAPIError as error:
            end = error.code
            break
    assert end == v2.CC_END
    v2.cc_seq_fetch_creds_end(ctx, iterator)
    return found


def test_shutdown_releases_context(served: Mounted) -> None:
    made = cc.initialize(2, served.path)
    v2.cc_shutdown(made)
    refuses(v2.CC_BAD_PARM, v2.cc_shutdown, made)
    refuses(v2.CC_BAD_PARM, v2.cc_get_change_time, made)
    refuses(v2.CC_BAD_PARM, v2.cc_open, made, "x", v2.CC_CRED_V5, 0)


def test_null_arguments_are_bad_parameters(ctx: cc.Context, work: cc.CCache) -> None:
    creds, caches = v2.cc_seq_fetch_creds_begin(ctx, work), v2.cc_seq_fetch_NCs_begin(ctx)
    v5 = v2.CC_CRED_V5
    calls: list[Call] = [
        (v2.cc_shutdown, None),
        (v2.cc_get_change_time, None),
        (v2.cc_get_NC_info, None),
        (v2.cc_open, None, "work", v5, 0),
        (v2.cc_open, ctx, None, v5, 0),
        (v2.cc_open, ctx, None, v2.CC_CRED_MAX, 0),
        (v2.cc_create, None, "x", ALICE, v5, 0),
        (v2.cc_create, ctx, None, ALICE, v5, 0),
        (v2.cc_create, ctx, "x", None, v5, 0),
        (v2.cc_set_principal, None, work, v5, ALICE),
        (v2.cc_set_principal, ctx, None, v5, ALICE),
        (v2.cc_set_principal, ctx, work, v5, None),
        (v2.cc_store, None, work, cred()),
        (v2.cc_store, ctx, None, cred()),
        (v2.cc_store, ctx, work, None),
        (v2.cc_store, ctx, work, cred(client=None)),
        (v2.cc_store, ctx, work, cred(server=None)),  # type: ignore[arg-type]
        (v2.cc_store, ctx, work, v2.cred_union(v5, None)),
        (v2.cc_remove_cred, None, work, cred()),
        (v2.cc_remove_cred, ctx, None, cred()),
        (v2.cc_remove_cred, ctx, work, None),
        (v2.cc_remove_cred, ctx, work, v2.cred_union(v5, None)),
        (v2.cc_seq_fetch_NCs_begin, None),
        (v2.cc_seq_fetch_NCs_next, None, caches),
        (v2.cc_seq_fetch_NCs_next, ctx, None),
        (v2.cc_seq_fetch_NCs_end, None, caches),
        (v2.cc_seq_fetch_NCs_end, ctx, None),
        (v2.cc_seq_fetch_creds_next, None, creds),
        (v2.cc_seq_fetch_creds_next, ctx, None),
        (v2.cc_seq_fetch_creds_end, None, creds),
        (v2.cc_seq_fetch_creds_end, ctx, None),
        (v2.cc_free_principal, None, ALICE),
        (v2.cc_free_principal, ctx, None),
        (v2.cc_free_name, None, "x"),
        (v2.cc_free_name, ctx, None),
        (v2.cc_free_creds, None, cred()),
        (v2.cc_free_creds, ctx, None),
        (v2.cc_free_NC_info, None, []),
        (v2.cc_free_NC_info, ctx, None),
        (v2.cc_lock_request, None, work, v2.CC_LOCK_READER),
        (v2.cc_lock_request, ctx, None, v2.CC_LOCK_READER),
    ]
    for function in ON_A_CCACHE:
        calls += [(function, None, work), (function, ctx, None)]
    for call, *arguments in calls:
        refuses(v2.CC_BAD_PARM, call, *arguments)  # type: ignore[arg-type]
    assert fetched(ctx, work) == []


ON_A_CCACHE: list[Callable[..., object]] = [
    v2.cc_destroy,
    v2.cc_close,
    v2.cc_get_name,
    v2.cc_get_cred_version,
    v2.cc_get_principal,
    v2.cc_seq_fetch_creds_begin,
]


@pytest.mark.parametrize("cred_type", [v2.CC_CRED_UNKNOWN, v2.CC_CRED_MAX, -1])
def test_credentials_of_other_types_are_refused(
    ctx: cc.Context, work: cc.CCache, cred_type: int
) -> None:
    other = dataclasses.replace(cred(), cred_type=cred_type)
    for call in (
        (v2.cc_create, ctx, "x", ALICE, cred_type, 0),
        (v2.cc_create, ctx, "work", BOB, cred_type, 0),
        (v2.cc_open, ctx, "work", cred_type, 0),
        (v2.cc_open, ctx, "missing", cred_type, 0),
        (v2.cc_set_principal, ctx, work, cred_type, BOB),
        (v2.cc_store, ctx, work, other),
        (v2.cc_remove_cred, ctx, work, other),
    ):
        refuses(v2.CC_ERR_CRED_VERSION, *call)
    assert v2.cc_get_principal(ctx, work) == ALICE


def test_ccache_is_created_opened_closed_destroyed(ctx: cc.Context, work: cc.CCache) -> None:
    assert (v2.cc_get_name(ctx, work), v2.cc_get_principal(ctx, work)) == ("work", ALICE)
    v2.cc_store(ctx, work, cred())
    assert v2.cc_create(ctx, "work", BOB, v2.CC_CRED_V5, 0).compare(work)
    assert (v2.cc_get_principal(ctx, work), fetched(ctx, work)) == (BOB, [])
    opened = v2.cc_open(ctx, "work", v2.CC_CRED_V5, 1)
    v2.cc_close(ctx, opened)
    refuses(v2.CC_NO_EXIST, v2.cc_close, ctx, opened)
    refuses(v2.CC_NO_EXIST, v2.cc_get_cred_version, ctx, opened)
    opened = v2.cc_open(ctx, "work", v2.CC_CRED_V5, 0)
    v2.cc_destroy(ctx, opened)
    refuses(v2.CC_NO_EXIST, v2.cc_open, ctx, "work", v2.CC_CRED_V5, 0)
    dead = (
        (v2.cc_destroy, ctx, work),
        (v2.cc_get_name, ctx, work),
        (v2.cc_get_principal, ctx, work),
        (v2.cc_set_principal, ctx, work, v2.CC_CRED_V5, ALICE),
        (v2.cc_store, ctx, work, cred()),
        (v2.cc_remove_cred, ctx, work, cred()),
        (v2.cc_seq_fetch_creds_begin, ctx, work),
    )
    for call in dead:
        refuses(v2.CC_NO_EXIST, *call)
    assert v2.cc_get_cred_version(ctx, work) == v2.CC_CRED_V5


def test_invalid_names_and_principals_are_refused(ctx: cc.Context) -> None:
    refuses(v2.CC_BADNAME, v2.cc_create, ctx, "tkt.x", ALICE, v2.CC_CRED_V5, 0)
    refuses(v2.CC_BADNAME, v2.cc_open, ctx, "x" * 256, v2.CC_CRED_V5, 0)
    refuses(v2.CC_BAD_PARM, v2.cc_create, ctx, "x", "no realm", v2.CC_CRED_V5, 0)


def test_v3_handle_has_no_v2_version(ctx: cc.Context, work: cc.CCache) -> None:
    assert v2.cc_get_cred_version(ctx, work) == v2.CC_CRED_V5
    of_v3 = ctx.open_ccache("work")
    refuses(v2.CC_ERR_CRED_VERSION, v2.cc_get_cred_version, ctx, of_v3)
    refuses(v2.CC_ERR_CRED_VERSION, v2.cc_set_principal, ctx, of_v3, v2.CC_CRED_V5, BOB)
    iterator = v2.cc_seq_fetch_NCs_begin(ctx)
    assert v2.cc_get_cred_version(ctx, v2.cc_seq_fetch_NCs_next(ctx, iterator)) == v2.CC_CRED_V5


def test_set_principal_replaces_principal(ctx: cc.Context, work: cc.CCache) -> None:
    v2.cc_store(ctx, work, cred())
    v2.cc_set_principal(ctx, work, v2.CC_CRED_V5, BOB)
    assert (v2.cc_get_principal(ctx, work), len(fetched(ctx, work))) == (BOB, 1)


def test_remove_cred_removes_first_match(ctx: cc.Context, work: cc.CCache) -> None:
    first, second = cred(endtime=1), cred(endtime=2)
    other = cred(starttime=5)
    for one in (other, first, second):
        v2.cc_store(ctx, work, one)
    v2.cc_remove_cred(ctx, work, cred())
    assert fetched(ctx, work) == [other, second]
    v2.cc_remove_cred(ctx, work, first)
    assert fetched(ctx, work) == [other]
    for absent in (first, cred("host/x@R"), cred(client=BOB, starttime=5), cred(starttime=6)):
        refuses(v2.CC_NOTFOUND, v2.cc_remove_cred, ctx, work, absent)
    v2.cc_remove_cred(ctx, work, other)
    assert fetched(ctx, work) == []


def test_fetch_next_iterates_over_ccaches(ctx: cc.Context, work: cc.CCache) -> None:
    v2.cc_create(ctx, "play", BOB, v2.CC_CRED_V5, 0)
    iterator = v2.cc_seq_fetch_NCs_begin(ctx)
    found = [v2.cc_get_name(ctx, v2.cc_seq_fetch_NCs_next(ctx, iterator)) for _ in range(2)]
    assert found == ["work", "play"]
    refuses(v2.CC_END, v2.cc_seq_fetch_NCs_next, ctx, iterator)
    v2.cc_seq_fetch_creds_end(ctx, iterator)
    refuses(v2.CC_BAD_PARM, v2.cc_seq_fetch_NCs_next, ctx, iterator)
    refuses(v2.CC_BAD_PARM, v2.cc_seq_fetch_NCs_end, ctx, iterator)


def test_iterator_of_destroyed_ccache_is_invalid(ctx: cc.Context, work: cc.CCache) -> None:
    v2.cc_store(ctx, work, cred())
    iterator = v2.cc_seq_fetch_creds_begin(ctx, work)
    v2.cc_destroy(ctx, work)
    refuses(v2.CC_BAD_PARM, v2.cc_seq_fetch_creds_next, ctx, iterator)
    v2.cc_seq_fetch_NCs_end(ctx, iterator)


def test_get_nc_info_lists_all_ccaches(ctx: cc.Context) -> None:
    assert v2.cc_get_NC_info(ctx) == []
    v2.cc_create(ctx, "work", ALICE, v2.CC_CRED_V5, 0)
    v2.cc_create(ctx, "play", BOB, v2.CC_CRED_V5, 0)
    info = v2.cc_get_NC_info(ctx)
    assert info == [v2.infoNC("work", ALICE, 1), v2.infoNC("play", BOB, 1)]
    v2.cc_free_NC_info(ctx, info)


def test_change_time_rises_with_each_change(ctx: cc.Context, work: cc.CCache) -> None:
    before = v2.cc_get_change_time(ctx)
    v2.cc_store(ctx, work, cred())
    assert v2.cc_get_change_time(ctx) > before


def test_lock_request_is_not_supported(ctx: cc.Context, work: cc.CCache) -> None:
    for lock_type in (v2.CC_LOCK_UNLOCK, v2.CC_LOCK_READER, v2.CC_LOCK_WRITER | 16):
        refuses(v2.CC_NOT_SUPP, v2.cc_lock_request, ctx, work, lock_type)


def test_free_calls_succeed(ctx: cc.Context, work: cc.CCache) -> None:
    v2.cc_free_principal(ctx, ALICE)
    v2.cc_free_name(ctx, "")
    v2.cc_free_creds(ctx, cred())
    v2.cc_free_NC_info(ctx, [])


def test_calls_without_mount_find_no_ccache() -> None:
    nowhere = cc.initialize(2, "/nonexistent/ccfs")
    assert v2.cc_get_change_time(nowhere) == 0
    assert v2.cc_get_NC_info(nowhere) == []
    refuses(v2.CC_NO_EXIST, v2.cc_open, nowhere, "x", v2.CC_CRED_V5, 0)
    refuses(v2.CC_IO, v2.cc_create, nowhere, "x", ALICE, v2.CC_CRED_V5, 0)
    assert V5 != v2.CC_CRED_V5
