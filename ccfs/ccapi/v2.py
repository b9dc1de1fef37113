# SPDX-License-Identifier: MIT
"""The calls of CCAPI v2, by their names, on contexts from `initialize(2)`.

Each calls v3.  Knows how arguments and results of the two differ, never a file.  Errors are
CCAPIError with the numbers and names of v2's header.  Python frees memory: the calls that free
something only check their argument.
"""
# ruff: noqa: N801, N802 - these are the header's names

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from ccfs.ccapi import constants as v3
from ccfs.ccapi.ccache import CCache
from ccfs.ccapi.constants import CCAPIError, cc_credentials_v5
from ccfs.ccapi.context import CCacheIterator, Context
from ccfs.ccapi.credentials import Credentials, CredentialsIterator
from ccfs.ccapi.error_codes import required
from ccfs.ccapi.values import cc_credentials_union, cc_credentials_v5_t

P = ParamSpec("P")
T = TypeVar("T")

CC_API_VER_2: Final = 2

CC_NOERROR: Final = 0
CC_BADNAME: Final = 1
CC_NOTFOUND: Final = 2
CC_END: Final = 3
CC_IO: Final = 4
CC_WRITE: Final = 5
CC_NOMEM: Final = 6
CC_FORMAT: Final = 7
CC_LOCKED: Final = 8
CC_BAD_API_VERSION: Final = 9
CC_NO_EXIST: Final = 10
CC_NOT_SUPP: Final = 11
CC_BAD_PARM: Final = 12
CC_ERR_CACHE_ATTACH: Final = 13
CC_ERR_CACHE_RELEASE: Final = 14
CC_ERR_CACHE_FULL: Final = 15
CC_ERR_CRED_VERSION: Final = 16

CC_CRED_UNKNOWN: Final = 0
CC_CRED_V5: Final = 1
CC_CRED_MAX: Final = 2

CC_LOCK_UNLOCK: Final = 1
CC_LOCK_READER: Final = 2
CC_LOCK_WRITER: Final = 3
CC_LOCK_NOBLOCK: Final = 16

_NAMES = {
    value: name
    for name, value in list(globals().items())
    if name.startswith("CC_") and not name.startswith(("CC_API", "CC_CRED", "CC_LOCK_"))
}

_CODES = {
    v3.ccIteratorEnd: CC_END,
    v3.ccErrNoMem: CC_NOMEM,
    v3.ccErrInvalidCCache: CC_NO_EXIST,
    v3.ccErrCCacheNotFound: CC_NO_EXIST,
    v3.ccErrCredentialsNotFound: CC_NOTFOUND,
    v3.ccErrBadName: CC_BADNAME,
    v3.ccErrBadCredentialsVersion: CC_ERR_CRED_VERSION,
    v3.ccErrBadAPIVersion: CC_BAD_API_VERSION,
    v3.ccErrContextLocked: CC_LOCKED,
    v3.ccErrContextUnlocked: CC_LOCKED,
    v3.ccErrCCacheLocked: CC_LOCKED,
    v3.ccErrCCacheUnlocked: CC_LOCKED,
    v3.ccErrServerUnavailable: CC_IO,
    v3.ccErrServerInsecure: CC_IO,
    v3.ccErrServerCantBecomeUID: CC_IO,
    v3.ccErrBadInternalMessage: CC_IO,
    v3.ccErrClientNotFound: CC_IO,
    v3.ccErrNotImplemented: CC_NOT_SUPP,
}
"""Codes of v2 by codes of v3; CC_BAD_PARM for all others."""


@dataclass(frozen=True, slots=True)
class cred_union:
    """A credential and its type: CC_CRED_V5 is the only one."""

    cred_type: int
    cred: cc_credentials_v5_t | None


@dataclass(frozen=True, slots=True)
class infoNC:
    """A ccache in the result of cc_get_NC_info."""

    name: str
    principal: str
    vers: int


def error(code: int) -> CCAPIError:
    """Return the error of a v2 code."""
    return CCAPIError(code, _NAMES[code])


def from_v3(code: int) -> int:
    """Return the v2 code of a v3 code; a v2 code is returned as it is."""
    return code if code in _NAMES else _CODES.get(code, CC_BAD_PARM)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except CCAPIError as problem:
        raise error(from_v3(problem.code)) from problem


def _call(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function of v2: convert errors of v3 to errors of v2."""

    @wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> T:
        with _errors():
            return function(*arguments, **keywords)

    return call


def _check_type(cred_type: int) -> None:
    if cred_type != CC_CRED_V5:
        raise error(CC_ERR_CRED_VERSION)


def _mark_v2(ccache: CCache) -> CCache:
    """Mark a handle as made by v2: only such a handle has a version in v2."""
    ccache.compat_version = CC_CRED_V5
    return ccache


@_call
def cc_shutdown(ctx: Context | None) -> None:
    """Release a context."""
    required(ctx).release()


@_call
def cc_get_change_time(ctx: Context | None) -> int:
    """Return when anything last changed, in seconds."""
    return required(ctx).get_change_time()


@_call
def cc_get_NC_info(ctx: Context | None) -> list[infoNC]:
    """Return all ccaches, read one after the other."""
    infos = []
    for ccache in required(ctx).new_ccache_iterator():
        try:
            principal = ccache.get_principal(cc_credentials_v5)
            infos.append(infoNC(ccache.get_name(), principal, CC_CRED_V5))
        except CCAPIError as problem:
            if problem.code != v3.ccErrInvalidCCache:
                raise
    return infos


@_call
def cc_open(ctx: Context | None, name: str | None, version: int, flags: int) -> CCache:
    """Return the ccache of a name; CC_NO_EXIST.  `flags` are ignored."""
    context, text = required(ctx), required(name)
    _check_type(version)
    return _mark_v2(context.open_ccache(text))


@_call
def cc_create(
    ctx: Context | None, name: str | None, principal: str | None, version: int, flags: int
) -> CCache:
    """Create or initialise the ccache of a name.  `flags` are ignored."""
    context, text, client = required(ctx), required(name), required(principal)
    _check_type(version)
    return _mark_v2(context.create_ccache(text, cc_credentials_v5, client))


@_call
def cc_destroy(ctx: Context | None, ccache: CCache | None) -> None:
    """Remove a ccache and release its handle."""
    required(ctx)
    required(ccache).destroy()


@_call
def cc_close(ctx: Context | None, ccache: CCache | None) -> None:
    """Release the handle of a ccache."""
    required(ctx)
    required(ccache).release()


@_call
def cc_get_name(ctx: Context | None, ccache: CCache | None) -> str:
    """Return the name of a ccache."""
    required(ctx)
    return required(ccache).get_name()


@_call
def cc_get_cred_version(ctx: Context | None, ccache: CCache | None) -> int:
    """Return CC_CRED_V5 for a handle that v2 made; CC_ERR_CRED_VERSION for others."""
    required(ctx)
    handle = required(ccache)
    _check_type(handle.compat_version)
    return handle.compat_version


@_call
def cc_set_principal(
    ctx: Context | None, ccache: CCache | None, version: int, principal: str | None
) -> None:
    """Set the client principal of a ccache."""
    required(ctx)
    handle, text = required(ccache), required(principal)
    _check_type(version)
    _check_type(handle.compat_version)
    handle.set_principal(cc_credentials_v5, text)


@_call
def cc_get_principal(ctx: Context | None, ccache: CCache | None) -> str:
    """Return the client principal of a ccache."""
    required(ctx)
    return required(ccache).get_principal(cc_credentials_v5)


@_call
def cc_store(ctx: Context | None, ccache: CCache | None, cred: cred_union | None) -> None:
    """Add a credential."""
    required(ctx)
    handle, union = required(ccache), required(cred)
    _check_type(union.cred_type)
    handle.store_credentials(cc_credentials_union(cc_credentials_v5, union.cred))


@_call
def cc_remove_cred(ctx: Context | None, ccache: CCache | None, cred: cred_union | None) -> None:
    """Remove the first credential of the same client, server and start time; CC_NOTFOUND."""
    required(ctx)
    handle, union = required(ccache), required(cred)
    _check_type(union.cred_type)
    key = _key(required(union.cred))
    for stored in handle.new_credentials_iterator():
        if _key(required(stored.data.credentials_v5)) == key:
            handle.remove_credentials(stored)
            return
    raise error(CC_NOTFOUND)


@_call
def cc_seq_fetch_NCs_begin(ctx: Context | None) -> CCacheIterator:
    """Return an iterator over the ccaches."""
    return required(ctx).new_ccache_iterator()


@_call
def cc_seq_fetch_NCs_next(ctx: Context | None, iterator: CCacheIterator | None) -> CCache:
    """Return the next ccache; CC_END after the last."""
    required(ctx)
    return _mark_v2(required(iterator).next())


@_call
def cc_seq_fetch_NCs_end(
    ctx: Context | None, iterator: CCacheIterator | CredentialsIterator | None
) -> None:
    """Release an iterator."""
    required(ctx)
    required(iterator).release()


@_call
def cc_seq_fetch_creds_begin(ctx: Context | None, ccache: CCache | None) -> CredentialsIterator:
    """Return an iterator over the credentials of a ccache."""
    required(ctx)
    return required(ccache).new_credentials_iterator()


@_call
def cc_seq_fetch_creds_next(
    ctx: Context | None, iterator: CredentialsIterator | None
) -> cred_union:
    """Return the next credential; CC_END after the last."""
    required(ctx)
    fetched: Credentials = required(iterator).next()
    return cred_union(CC_CRED_V5, fetched.data.credentials_v5)


@_call
def cc_seq_fetch_creds_end(
    ctx: Context | None, iterator: CredentialsIterator | CCacheIterator | None
) -> None:
    """Release an iterator."""
    required(ctx)
    required(iterator).release()


@_call
def cc_lock_request(ctx: Context | None, ccache: CCache | None, lock_type: int) -> None:
    """Raise CC_NOT_SUPP: v2 has no locks here, v3 has."""
    required(ctx)
    required(ccache)
    raise error(CC_NOT_SUPP)


@_call
def cc_free_principal(ctx: Context | None, principal: str | None) -> None:
    """Check the argument; Python frees it."""
    required(ctx)
    required(principal)


@_call
def cc_free_name(ctx: Context | None, name: str | None) -> None:
    """Check the argument; Python frees it."""
    required(ctx)
    required(name)


@_call
def cc_free_creds(ctx: Context | None, creds: cred_union | None) -> None:
    """Check the argument; Python frees it."""
    required(ctx)
    required(creds)


@_call
def cc_free_NC_info(ctx: Context | None, info: list[infoNC] | None) -> None:
    """Check the argument; Python frees it."""
    required(ctx)
    required(info)


def _key(record: cc_credentials_v5_t) -> tuple[str | None, str | None, int]:
    return record.client, record.server, record.starttime
