"""The context: the functions of the header's context table, and the iterator over ccaches.

It knows what each call means in file operations on the mount's root, never the server's side.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Self

from ccfs.ccapi import constants as cc
from ccfs.ccapi.ccache import CCache
from ccfs.ccapi.ccache_by_id import CcacheById
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.error_codes import GONE, failures, given, gone
from ccfs.ccapi.handle import Handle, or_stop
from ccfs.ccapi.locate import Place
from ccfs.ccapi.lock_owner import Container
from ccfs.ccapi.mount_client import Info, Server
from ccfs.ccapi.names import canonical, checked_version, decoded, encoded
from ccfs.ccapi.session import Session
from ccfs.ccapi.waiting import CollectionWaiter

VENDOR = "ccfs"
INITIAL_NAME = "tkt"
"""The name of the default ccache where no server says another."""
_VERSIONS = range(cc.ccapi_version_2, cc.ccapi_version_max + 1)
_ATTEMPTS = 100
"""How often the default may change while it is opened."""


def initialize(version: int = 3, mount: "str | os.PathLike[str] | None" = None) -> "Context":
    """A context on the mount at a path, or on the user's own.

    ccErrBadAPIVersion for a version that isn't 2 to 7.  No server is asked yet.
    """
    if version not in _VERSIONS:
        raise CCAPIError(cc.ccErrBadAPIVersion)
    return Context(Place(mount))


class Context(Handle):
    """One client's view of the collection.  It outlives a server's restart.

    A context is used by one thread at a time; releasing it releases the locks that it holds.
    """

    invalid: ClassVar[int] = cc.ccErrInvalidContext
    supported_version: ClassVar[int] = cc.ccapi_version_max
    vendor: ClassVar[str] = VENDOR

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._session = Session(place)
        self._waiter = CollectionWaiter()

    def release(self) -> None:
        """Give the context back, and its locks; ccaches that it opened stay valid."""
        super().release()
        self._session.close()

    def get_change_time(self) -> int:
        """When anything last changed, in seconds; 0 where no server was ever seen.

        It goes up at each change and never back within a process, over restarts of the server too.
        """
        server = self._find()
        clock = self._session.place.time
        if server is None:
            return clock.last
        with failures({}):
            return clock.saw(server.identity, int(server.info("info")["change_time"]))

    def get_default_ccache_name(self) -> str:
        """The name of the default ccache, initialised or not."""
        server = self._find()
        if server is None:
            return INITIAL_NAME
        with failures({}):
            return decoded(server.info("info")["default"])

    def open_ccache(self, name: str | None) -> CCache:
        """The ccache of a name; ccErrCCacheNotFound."""
        path = f"caches/{encoded(given(name))}"
        with self._looking() as server:
            return self._existing(server, path)[0]

    def open_default_ccache(self) -> CCache:
        """The default ccache; ccErrCCacheNotFound where that isn't initialised."""
        with self._looking() as server:
            return self._default(server)

    def create_ccache(
        self, name: str | None, credentials_version: int, principal: str | None
    ) -> CCache:
        """Make the ccache of a name, or reset the one that has it."""
        directory, text = given(name), given(principal)
        self._valid()
        checked_version(credentials_version)
        return self._create(b"create", encoded(directory).encode("utf-8") + b"\t", text)

    def create_default_ccache(self, credentials_version: int, principal: str | None) -> CCache:
        """Reset the default ccache, or make it."""
        text = given(principal)
        self._valid()
        checked_version(credentials_version)
        return self._create(b"default", b"", text)

    def create_new_ccache(self, credentials_version: int, principal: str | None) -> CCache:
        """Make a ccache of a name that no other has."""
        text = given(principal)
        self._valid()
        checked_version(credentials_version)
        return self._create(b"new", b"", text)

    def new_ccache_iterator(self) -> "CCacheIterator":
        """An iterator over the ccaches in list order, the default first."""
        server = self._find()
        with failures({}):
            idents = server.names("by-id") if server else []
        return CCacheIterator(self._session, server, idents)

    def lock(self, lock_type: int, block: int) -> None:
        """Lock the collection, which locks no ccache."""
        with self._container() as container:
            self._session.owner.lock(container, lock_type, block)

    def unlock(self) -> None:
        """Let go of the collection, however it is held."""
        with self._container() as container:
            container.check()
            self._session.owner.unlock(container)

    def compare(self, other: "Context | None") -> bool:
        """Whether both have the same server, or none."""
        second = given(other)
        return self._server_identity() == second._server_identity()

    def wait_for_change(self) -> None:
        """Return once anything has changed since the last call; at once the first time."""
        self._valid()
        server = self._session.place.server()
        with failures({}):
            self._waiter.wait(server)

    def _find(self) -> Server | None:
        self._valid()
        return self._session.place.find()

    def _server_identity(self) -> str | None:
        server = self._find()
        if server is None:
            return None
        with failures({}):
            server.ping()
        return server.identity

    @contextmanager
    def _looking(self) -> Iterator[Server]:
        """Look for a ccache: where there is no server there is none."""
        server = self._find()
        if server is None:
            raise CCAPIError(cc.ccErrCCacheNotFound)
        with failures(gone(cc.ccErrCCacheNotFound)):
            yield server

    def _existing(self, server: Server, path: str) -> tuple[CCache, Info]:
        said = server.info(f"{path}/info")
        if said["initialised"] != "yes":
            raise CCAPIError(cc.ccErrCCacheNotFound)
        return CCache(self._session, CcacheById(server, said["id"])), said

    def _default(self, server: Server) -> CCache:
        """One path is more than one request: the default may change between them."""
        for _ in range(_ATTEMPTS):
            target = server.readlink("default")
            try:
                ccache, said = self._existing(server, target)
            except (OSError, CCAPIError) as error:
                if server.readlink("default") == target:
                    raise error from None
                continue
            if said["default"] == "yes":
                return ccache
        raise CCAPIError(cc.ccErrCCacheNotFound)

    def _create(self, word: bytes, name: bytes, principal: str) -> CCache:
        question = word + b" " + name + canonical(principal) + b"\n"
        server = self._session.place.server()
        with failures({}):
            ident = server.transact("new", question).decode("ascii").rstrip("\n")
        return CCache(self._session, CcacheById(server, ident))

    @contextmanager
    def _container(self) -> Iterator[Container]:
        self._valid()
        server = self._session.place.server()
        with failures({}):
            yield Container(server)


class CCacheIterator(Handle):
    """The ccaches that were there at the beginning, in list order; what is gone is passed over."""

    invalid: ClassVar[int] = cc.ccErrInvalidCCacheIterator

    def __init__(self, session: Session, server: Server | None, idents: Sequence[str]) -> None:
        super().__init__()
        self._session = session
        self._server = server
        self._idents = idents
        self._next = 0

    def next(self) -> CCache:
        """The next ccache; ccIteratorEnd behind the last."""
        self._valid()
        if self._server is not None and self._session.place.server() is not self._server:
            raise CCAPIError(self.invalid)
        with failures({}):
            while self._next < len(self._idents):
                self._next += 1
                found = self._at(self._idents[self._next - 1])
                if found is not None:
                    return found
        raise CCAPIError(cc.ccIteratorEnd)

    def clone(self) -> "CCacheIterator":
        """An iterator of its own that stands where this one does."""
        self._valid()
        copy = CCacheIterator(self._session, self._server, self._idents)
        copy._next = self._next
        return copy

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> CCache:
        return or_stop(self.next)

    def _at(self, ident: str) -> CCache | None:
        assert self._server is not None
        residence = CcacheById(self._server, ident)
        try:
            said = residence.info()
        except OSError as error:
            if error.errno in GONE:
                return None
            raise
        return CCache(self._session, residence) if said["initialised"] == "yes" else None
