"""One ccache as a caller holds it: the functions of the header's ccache table.

It knows what each call means in file operations on the ccache's directory, never the server's side.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from ccfs.ccapi import constants as cc
from ccfs.ccapi import records
from ccfs.ccapi.ccache_by_id import CcacheById
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.credentials import Credentials, CredentialsIterator
from ccfs.ccapi.error_codes import failures, given, gone
from ccfs.ccapi.handle import Handle
from ccfs.ccapi.lock_owner import Container
from ccfs.ccapi.names import canonical, checked_version, decoded
from ccfs.ccapi.session import Session
from ccfs.ccapi.values import cc_credentials_union
from ccfs.ccapi.waiting import CCacheWaiter

_CLEARED = b"\n"
_TOO_LARGE = gone(cc.ccErrInvalidCCache) | {errno.EINVAL: cc.ccErrNoMem}
"""Why a mount refuses a record that is one: no ccache there has room for it."""


class CCache(Handle):
    """A handle on a ccache, which it follows under every name.

    Every call but `compare` and `release` gives ccErrInvalidCCache once the ccache is gone, has no
    principal any more, or its server was replaced.
    """

    invalid: ClassVar[int] = cc.ccErrInvalidCCache

    def __init__(self, session: Session, residence: CcacheById) -> None:
        super().__init__()
        self._session = session
        self._residence = residence
        self._waiter = CCacheWaiter()
        self._compat_version = 0

    @property
    def compat_version(self) -> int:
        """Which type of credentials v2 takes the handle for: 0 for one that v3 made."""
        self._valid()
        return self._compat_version

    @compat_version.setter
    def compat_version(self, version: int) -> None:
        self._compat_version = version

    def __repr__(self) -> str:
        return f"<ccache {self._residence.ident}>"

    def destroy(self) -> None:
        """Remove the ccache; this handle is released, others are of no use any more."""
        with self._here() as residence:
            residence.destroy()
        self._session.owner.drop(residence.ident)
        self._released = True

    def set_default(self) -> None:
        """Make this ccache the default."""
        with self._here() as residence:
            residence.lead()

    def get_credentials_version(self) -> int:
        """The version of its credentials: cc_credentials_v5."""
        with self._here() as residence:
            residence.live()
        return cc.cc_credentials_v5

    def get_name(self) -> str:
        """Its name."""
        with self._here() as residence:
            return decoded(residence.info()["name"])

    def get_principal(self, credentials_version: int) -> str:
        """Its client principal, quoted."""
        self._valid()
        checked_version(credentials_version)
        with self._here() as residence:
            text = residence.read("principal")
            if not text:
                residence.live()
            return text.removesuffix(b"\n").decode("utf-8", "surrogateescape")

    def set_principal(self, credentials_version: int, principal: str | None) -> None:
        """Set its client principal; the credentials stay, the time offset is unset."""
        text = given(principal)
        self._valid()
        checked_version(credentials_version)
        content = canonical(text)
        with self._here() as residence:
            residence.write("principal", content)

    def store_credentials(self, credentials: cc_credentials_union | None) -> None:
        """Add a credential, whatever is there already."""
        union = given(credentials)
        self._valid()
        record = records.encode(union)
        with self._here() as residence, failures(_TOO_LARGE):
            residence.store(record)

    def remove_credentials(self, credentials: Credentials | None) -> None:
        """Remove this very credential; ccErrInvalidCredentials where it isn't in this ccache."""
        removed = given(credentials)
        with self._here() as residence:
            ident = removed.ident_on(residence.server)
            try:
                residence.remove(ident)
            except FileNotFoundError:
                residence.directory()
                raise CCAPIError(cc.ccErrInvalidCredentials) from None

    def new_credentials_iterator(self) -> CredentialsIterator:
        """An iterator over its credentials in stored order, configuration entries among them."""
        with self._here() as residence:
            lineage, idents = residence.contents()
        return CredentialsIterator(self._session.place, residence, lineage, idents)

    def move(self, destination: "CCache | None") -> None:
        """Make the destination what this ccache is; this one is gone then.

        The destination keeps its name, identifier, place in the list and locks.
        """
        target = given(destination)
        with self._here() as source, target._here() as residence:
            if source.server.identity != residence.server.identity:
                raise CCAPIError(self.invalid)
            source.live()
            if source.ident != residence.ident:
                residence.become(source)
                self._session.owner.drop(source.ident)

    def lock(self, lock_type: int, block: int) -> None:
        """Lock this ccache for this handle's context."""
        with self._container() as container:
            self._session.owner.lock(container, lock_type, block)

    def unlock(self) -> None:
        """Let go of it, however it is held."""
        with self._container() as container:
            container.check()
            self._session.owner.unlock(container)

    def get_last_default_time(self) -> int:
        """When it last became the default, in seconds; ccErrNeverDefault."""
        with self._here() as residence:
            last = residence.info()["last_default_time"]
        if not last:
            raise CCAPIError(cc.ccErrNeverDefault)
        return int(last)

    def get_change_time(self) -> int:
        """When it last changed, in seconds: never the same twice."""
        with self._here() as residence:
            return int(residence.info()["change_time"])

    def compare(self, other: "CCache | None") -> bool:
        """Whether both are the same ccache; they may be gone."""
        second = given(other)
        self._valid()
        second._valid()
        return self._identity() == second._identity()

    def get_kdc_time_offset(self, credentials_version: int) -> int:
        """How far the KDC's clock is ahead: unsigned 32-bit seconds; ccErrTimeOffsetNotSet."""
        self._valid()
        checked_version(credentials_version)
        with self._here() as residence:
            offset = residence.live()["kdc_offset"]
            if not offset:
                raise CCAPIError(cc.ccErrTimeOffsetNotSet)
            return records.unsigned(int(offset))

    def set_kdc_time_offset(self, credentials_version: int, time_offset: int) -> None:
        """Set how far the KDC's clock is ahead; 0 is set, too."""
        self._valid()
        checked_version(credentials_version)
        content = b"%d\n" % records.signed(time_offset)
        with self._here() as residence:
            residence.write("kdc_offset", content)

    def clear_kdc_time_offset(self, credentials_version: int) -> None:
        """Unset it, whether it is set or not."""
        self._valid()
        checked_version(credentials_version)
        with self._here() as residence:
            residence.write("kdc_offset", _CLEARED)

    def wait_for_change(self) -> None:
        """Return once it has changed since the last call; at once the first time."""
        with self._here() as residence:
            self._waiter.wait(residence.server, lambda: int(residence.live()["change_time"]))

    def _identity(self) -> tuple[str, str]:
        return self._residence.server.identity, self._residence.ident

    @contextmanager
    def _here(self) -> Iterator[CcacheById]:
        """Where the ccache is, with what can go wrong there as the CCAPI has it."""
        self._valid()
        if self._session.place.server() is not self._residence.server:
            raise CCAPIError(self.invalid)
        with failures(gone(self.invalid)):
            yield self._residence

    @contextmanager
    def _container(self) -> Iterator[Container]:
        with self._here() as residence:
            self._session.check()
            yield Container(residence.server, residence)
