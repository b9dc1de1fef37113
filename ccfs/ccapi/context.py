# SPDX-License-Identifier: MIT
"""The context: the functions of the header's context table, and the iterator over ccaches.

Knows each call as file operations on the mount's root, never the store.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Self

from ccfs.ccapi import constants as cc
from ccfs.ccapi.ccache import CCache
from ccfs.ccapi.ccache_by_id import CcacheById
from ccfs.ccapi.change_waiters import CollectionWaiter
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.context_state import ContextState
from ccfs.ccapi.error_codes import MISSING, api_errors, if_missing, required
from ccfs.ccapi.handle import Handle, next_or_stop
from ccfs.ccapi.lock_target import LockTarget
from ccfs.ccapi.mount_client import Info, MountClient
from ccfs.ccapi.mount_finder import MountFinder
from ccfs.ccapi.names import canonical, check_version, from_directory, to_directory

VENDOR = "ccfs"
INITIAL_NAME = "tkt"
"""The name of the default ccache if there is no mount."""
_VERSIONS = range(cc.ccapi_version_2, cc.ccapi_version_max + 1)
_ATTEMPTS = 100
"""How often the default may change while it is opened."""


def initialize(version: int = 3, mount: "str | os.PathLike[str] | None" = None) -> "Context":
    """Return a context on the mount at a path, or on the user's own.

    ccErrBadAPIVersion for a version that isn't 2 to 7.  The mount is not looked for yet.
    """
    if version not in _VERSIONS:
        raise CCAPIError(cc.ccErrBadAPIVersion)
    return Context(MountFinder(mount))


class Context(Handle):
    """A client's view of the collection.  It stays valid when the mount is replaced.

    A context is used by one thread at a time; releasing it releases its locks.
    """

    invalid: ClassVar[int] = cc.ccErrInvalidContext
    supported_version: ClassVar[int] = cc.ccapi_version_max
    vendor: ClassVar[str] = VENDOR

    def __init__(self, finder: MountFinder) -> None:
        super().__init__()
        self._state = ContextState(finder)
        self._waiter = CollectionWaiter()

    def release(self) -> None:
        """Release the context and its locks; handles on ccaches stay valid."""
        super().release()
        self._state.release()

    def get_change_time(self) -> int:
        """Return when anything last changed, in seconds; 0 if there never was a mount.

        It grows with each change within a process, also when the mount is replaced.
        """
        mount = self._find()
        clock = self._state.finder.change_clock
        if mount is None:
            return clock.last
        with api_errors({}):
            return clock.convert(mount.identity, int(mount.info("info")["change_time"]))

    def get_default_ccache_name(self) -> str:
        """Return the name of the default ccache, initialised or not."""
        mount = self._find()
        if mount is None:
            return INITIAL_NAME
        with api_errors({}):
            return from_directory(mount.info("info")["default"])

    def open_ccache(self, name: str | None) -> CCache:
        """Return the ccache of a name; ccErrCCacheNotFound."""
        path = f"caches/{to_directory(required(name))}"
        with self._lookup() as mount:
            return self._existing(mount, path)[0]

    def open_default_ccache(self) -> CCache:
        """Return the default ccache; ccErrCCacheNotFound if it isn't initialised."""
        with self._lookup() as mount:
            return self._default(mount)

    def create_ccache(
        self, name: str | None, credentials_version: int, principal: str | None
    ) -> CCache:
        """Create the ccache of a name, or initialise the one that exists."""
        directory, text = required(name), required(principal)
        self._check_valid()
        check_version(credentials_version)
        return self._create(b"create", to_directory(directory).encode("utf-8") + b"\t", text)

    def create_default_ccache(self, credentials_version: int, principal: str | None) -> CCache:
        """Create the default ccache, or initialise the one that exists."""
        text = required(principal)
        self._check_valid()
        check_version(credentials_version)
        return self._create(b"default", b"", text)

    def create_new_ccache(self, credentials_version: int, principal: str | None) -> CCache:
        """Create a ccache with a name that no other has."""
        text = required(principal)
        self._check_valid()
        check_version(credentials_version)
        return self._create(b"new", b"", text)

    def new_ccache_iterator(self) -> "CCacheIterator":
        """Return an iterator over the ccaches in list order, the default first."""
        mount = self._find()
        with api_errors({}):
            idents = mount.names("by-id") if mount else []
        return CCacheIterator(self._state, mount, idents)

    def lock(self, lock_type: int, block: int) -> None:
        """Lock the collection; ccaches are not locked by that."""
        with self._lock_target() as target:
            self._state.locks.lock(target, lock_type, block)

    def unlock(self) -> None:
        """Release the context's lock on the collection, of either mode."""
        with self._lock_target() as target:
            target.check()
            self._state.locks.unlock(target)

    def compare(self, other: "Context | None") -> bool:
        """True if both have the same mount, or none."""
        second = required(other)
        return self._mount_identity() == second._mount_identity()

    def wait_for_change(self) -> None:
        """Return once anything has changed since the last call; the first call returns at once."""
        self._check_valid()
        mount = self._state.finder.require()
        with api_errors({}):
            self._waiter.wait(mount)

    def _find(self) -> MountClient | None:
        self._check_valid()
        return self._state.finder.find()

    def _mount_identity(self) -> str | None:
        mount = self._find()
        if mount is None:
            return None
        with api_errors({}):
            mount.ping()
        return mount.identity

    @contextmanager
    def _lookup(self) -> Iterator[MountClient]:
        """Yield the mount to look up a ccache; ccErrCCacheNotFound if there is no mount."""
        mount = self._find()
        if mount is None:
            raise CCAPIError(cc.ccErrCCacheNotFound)
        with api_errors(if_missing(cc.ccErrCCacheNotFound)):
            yield mount

    def _existing(self, mount: MountClient, path: str) -> tuple[CCache, Info]:
        info = mount.info(f"{path}/info")
        if info["initialised"] != "yes":
            raise CCAPIError(cc.ccErrCCacheNotFound)
        return CCache(self._state, CcacheById(mount, info["id"])), info

    def _default(self, mount: MountClient) -> CCache:
        """Return the default ccache.

        The kernel resolves `default/info` with several requests, and the default may change between
        two of them; so the link is compared before and after.
        """
        for _ in range(_ATTEMPTS):
            target = mount.readlink("default")
            try:
                ccache, info = self._existing(mount, target)
            except (OSError, CCAPIError) as error:
                if mount.readlink("default") == target:
                    raise error from None
                continue
            if info["default"] == "yes":
                return ccache
        raise CCAPIError(cc.ccErrCCacheNotFound)

    def _create(self, word: bytes, name: bytes, principal: str) -> CCache:
        request = word + b" " + name + canonical(principal) + b"\n"
        mount = self._state.finder.require()
        with api_errors({}):
            ident = mount.transact("new", request).decode("ascii").rstrip("\n")
        return CCache(self._state, CcacheById(mount, ident))

    @contextmanager
    def _lock_target(self) -> Iterator[LockTarget]:
        self._check_valid()
        mount = self._state.finder.require()
        with api_errors({}):
            yield LockTarget(mount)


class CCacheIterator(Handle):
    """The ccaches in list order, as of the iterator's creation; those gone since are skipped."""

    invalid: ClassVar[int] = cc.ccErrInvalidCCacheIterator

    def __init__(
        self, state: ContextState, mount: MountClient | None, idents: Sequence[str]
    ) -> None:
        super().__init__()
        self._state = state
        self._mount = mount
        self._idents = idents
        self._next = 0

    def next(self) -> CCache:
        """Return the next ccache; ccIteratorEnd after the last."""
        self._check_valid()
        if self._mount is not None and self._state.finder.require() is not self._mount:
            raise CCAPIError(self.invalid)
        with api_errors({}):
            while self._next < len(self._idents):
                self._next += 1
                ccache = self._initialised(self._idents[self._next - 1])
                if ccache is not None:
                    return ccache
        raise CCAPIError(cc.ccIteratorEnd)

    def clone(self) -> "CCacheIterator":
        """Return another iterator at the same position."""
        self._check_valid()
        copy = CCacheIterator(self._state, self._mount, self._idents)
        copy._next = self._next
        return copy

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> CCache:
        return next_or_stop(self.next)

    def _initialised(self, ident: str) -> CCache | None:
        """Return a handle on a ccache; None if it is gone or has no principal."""
        assert self._mount is not None
        ccache = CcacheById(self._mount, ident)
        try:
            info = ccache.info()
        except OSError as error:
            if error.errno in MISSING:
                return None
            raise
        return CCache(self._state, ccache) if info["initialised"] == "yes" else None
