# SPDX-License-Identifier: MIT
"""A handle on a ccache: the functions of the header's ccache table.

Knows each call as file operations on the ccache's directory, never the store.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from ccfs.ccapi import constants as cc
from ccfs.ccapi import records
from ccfs.ccapi.ccache_by_id import CcacheById
from ccfs.ccapi.change_waiters import CCacheWaiter
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.context_state import ContextState
from ccfs.ccapi.credentials import Credentials, CredentialsIterator
from ccfs.ccapi.error_codes import api_errors, if_missing, required
from ccfs.ccapi.handle import Handle
from ccfs.ccapi.lock_target import LockTarget
from ccfs.ccapi.names import canonical, check_version, from_directory
from ccfs.ccapi.values import cc_credentials_union

_UNSET = b"\n"
_STORE_ERRORS = if_missing(cc.ccErrInvalidCCache) | {errno.EINVAL: cc.ccErrNoMem}
"""EINVAL for a well-formed record: it exceeds the mount's limits for any ccache."""


class CCache(Handle):
    """A handle on a ccache, which it follows when it is renamed.

    Every call but `compare` and `release` raises ccErrInvalidCCache once the ccache is gone or has
    no principal any more, or the mount was replaced.
    """

    invalid: ClassVar[int] = cc.ccErrInvalidCCache

    def __init__(self, state: ContextState, ccache: CcacheById) -> None:
        super().__init__()
        self._state = state
        self._ccache = ccache
        self._waiter = CCacheWaiter()
        self._compat_version = 0

    @property
    def compat_version(self) -> int:
        """The type of credentials that v2 reports for the handle; 0 for a handle of v3."""
        self._check_valid()
        return self._compat_version

    @compat_version.setter
    def compat_version(self, version: int) -> None:
        self._compat_version = version

    def __repr__(self) -> str:
        return f"<ccache {self._ccache.ident}>"

    def destroy(self) -> None:
        """Remove the ccache and release this handle; other handles on it become invalid."""
        with self._current() as ccache:
            ccache.destroy()
        self._state.locks.drop(ccache.ident)
        self._released = True

    def set_default(self) -> None:
        """Make this ccache the default."""
        with self._current() as ccache:
            ccache.make_default()

    def get_credentials_version(self) -> int:
        """Return the version of its credentials: cc_credentials_v5."""
        with self._current() as ccache:
            ccache.initialised_info()
        return cc.cc_credentials_v5

    def get_name(self) -> str:
        """Return its name."""
        with self._current() as ccache:
            return from_directory(ccache.info()["name"])

    def get_principal(self, credentials_version: int) -> str:
        """Return its client principal, quoted."""
        self._check_valid()
        check_version(credentials_version)
        with self._current() as ccache:
            text = ccache.read("principal")
            if not text:
                ccache.initialised_info()
            return text.removesuffix(b"\n").decode("utf-8", "surrogateescape")

    def set_principal(self, credentials_version: int, principal: str | None) -> None:
        """Set its client principal; the credentials stay, the time offset is unset."""
        text = required(principal)
        self._check_valid()
        check_version(credentials_version)
        content = canonical(text)
        with self._current() as ccache:
            ccache.write("principal", content)

    def store_credentials(self, credentials: cc_credentials_union | None) -> None:
        """Add a credential; one for the same server stays."""
        union = required(credentials)
        self._check_valid()
        record = records.encode(union)
        with self._current() as ccache, api_errors(_STORE_ERRORS):
            ccache.add_credential(record)

    def remove_credentials(self, credentials: Credentials | None) -> None:
        """Remove the credential; ccErrInvalidCredentials if it isn't in this ccache."""
        removed = required(credentials)
        with self._current() as ccache:
            ident = removed.ident_on(ccache.mount)
            try:
                ccache.remove_credential(ident)
            except FileNotFoundError:
                ccache.directory()
                raise CCAPIError(cc.ccErrInvalidCredentials) from None

    def new_credentials_iterator(self) -> CredentialsIterator:
        """Return an iterator over its credentials in stored order, with configuration entries."""
        with self._current() as ccache:
            lineage, idents = ccache.list_credentials()
        return CredentialsIterator(self._state.finder, ccache, lineage, idents)

    def move(self, destination: "CCache | None") -> None:
        """Replace the destination's content by this ccache's, and remove this ccache.

        The destination keeps its name, identifier, place in the list and locks.
        """
        target = required(destination)
        with self._current() as source, target._current() as ccache:
            if source.mount.identity != ccache.mount.identity:
                raise CCAPIError(self.invalid)
            source.initialised_info()
            if source.ident != ccache.ident:
                ccache.move_content_from(source)
                self._state.locks.drop(source.ident)

    def lock(self, lock_type: int, block: int) -> None:
        """Lock this ccache for this handle's context."""
        with self._lock_target() as target:
            self._state.locks.lock(target, lock_type, block)

    def unlock(self) -> None:
        """Release the context's lock on this ccache, of either mode."""
        with self._lock_target() as target:
            target.check()
            self._state.locks.unlock(target)

    def get_last_default_time(self) -> int:
        """Return when it last became the default, in seconds; ccErrNeverDefault."""
        with self._current() as ccache:
            last = ccache.info()["last_default_time"]
        if not last:
            raise CCAPIError(cc.ccErrNeverDefault)
        return int(last)

    def get_change_time(self) -> int:
        """Return when it last changed, in seconds; each change has another time."""
        with self._current() as ccache:
            return int(ccache.info()["change_time"])

    def compare(self, other: "CCache | None") -> bool:
        """True if both are handles on the same ccache, which may be gone."""
        second = required(other)
        self._check_valid()
        second._check_valid()
        return self._identity() == second._identity()

    def get_kdc_time_offset(self, credentials_version: int) -> int:
        """Return the KDC's clock minus ours, unsigned 32-bit seconds; ccErrTimeOffsetNotSet."""
        self._check_valid()
        check_version(credentials_version)
        with self._current() as ccache:
            offset = ccache.initialised_info()["kdc_offset"]
            if not offset:
                raise CCAPIError(cc.ccErrTimeOffsetNotSet)
            return records.unsigned(int(offset))

    def set_kdc_time_offset(self, credentials_version: int, time_offset: int) -> None:
        """Set the KDC's clock minus ours; 0 counts as set."""
        self._check_valid()
        check_version(credentials_version)
        content = b"%d\n" % records.signed(time_offset)
        with self._current() as ccache:
            ccache.write("kdc_offset", content)

    def clear_kdc_time_offset(self, credentials_version: int) -> None:
        """Unset the time offset; no error if it is not set."""
        self._check_valid()
        check_version(credentials_version)
        with self._current() as ccache:
            ccache.write("kdc_offset", _UNSET)

    def wait_for_change(self) -> None:
        """Return once it has changed since the last call; the first call returns at once."""
        with self._current() as ccache:
            self._waiter.wait(ccache.mount, lambda: int(ccache.initialised_info()["change_time"]))

    def _identity(self) -> tuple[str, str]:
        return self._ccache.mount.identity, self._ccache.ident

    @contextmanager
    def _current(self) -> Iterator[CcacheById]:
        """Yield the ccache if its mount is current; convert errors of the body to CCAPIError."""
        self._check_valid()
        if self._state.finder.require() is not self._ccache.mount:
            raise CCAPIError(self.invalid)
        with api_errors(if_missing(self.invalid)):
            yield self._ccache

    @contextmanager
    def _lock_target(self) -> Iterator[LockTarget]:
        with self._current() as ccache:
            self._state.check()
            yield LockTarget(ccache.mount, ccache)
