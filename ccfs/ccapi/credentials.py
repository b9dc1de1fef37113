"""Credentials as a caller holds them, and the iterator over those of a ccache.

It knows records and their identifiers, never how they are stored.
"""

from collections.abc import Sequence
from typing import ClassVar, Self

from ccfs.ccapi import constants as cc
from ccfs.ccapi import records
from ccfs.ccapi.ccache_by_id import CcacheById
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.error_codes import GONE, failures, given, gone
from ccfs.ccapi.handle import Handle, or_stop
from ccfs.ccapi.locate import Place
from ccfs.ccapi.mount_client import Server
from ccfs.ccapi.values import cc_credentials_union


class Credentials(Handle):
    """One stored credential: what it was when it was fetched, and which one it is."""

    invalid: ClassVar[int] = cc.ccErrInvalidCredentials

    def __init__(self, server: Server, ident: str, data: cc_credentials_union) -> None:
        super().__init__()
        self._identity = (server.identity, ident)
        self._data = data

    def __repr__(self) -> str:
        return f"<credentials {self._identity[1]}>"

    @property
    def data(self) -> cc_credentials_union:
        """The record."""
        self._valid()
        return self._data

    def compare(self, other: "Credentials | None") -> bool:
        """Whether both are the same stored credential; what they hold doesn't matter."""
        second = given(other)
        self._valid()
        second._valid()
        return self._identity == second._identity

    def ident_on(self, server: Server) -> str:
        """The identifier on a server; ccErrInvalidCredentials where it isn't one of its own."""
        self._valid()
        if self._identity[0] != server.identity:
            raise CCAPIError(self.invalid)
        return self._identity[1]


class CredentialsIterator(Handle):
    """The credentials of a ccache in stored order: those that were there at the beginning.

    What is removed meanwhile is passed over; a ccache that began anew or is gone ends the
    iteration with ccErrInvalidCredentialsIterator.
    """

    invalid: ClassVar[int] = cc.ccErrInvalidCredentialsIterator

    def __init__(
        self, place: Place, residence: CcacheById, lineage: str, idents: Sequence[str]
    ) -> None:
        super().__init__()
        self._place = place
        self._residence = residence
        self._lineage = lineage
        self._idents = idents
        self._next = 0

    def next(self) -> Credentials:
        """The next credential; ccIteratorEnd behind the last."""
        self._valid()
        if self._place.server() is not self._residence.server:
            raise CCAPIError(self.invalid)
        with failures(gone(self.invalid)):
            return self._fetch()

    def clone(self) -> "CredentialsIterator":
        """An iterator of its own that stands where this one does."""
        self._valid()
        copy = CredentialsIterator(self._place, self._residence, self._lineage, self._idents)
        copy._next = self._next
        return copy

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Credentials:
        return or_stop(self.next)

    def _fetch(self) -> Credentials:
        while self._next < len(self._idents):
            ident = self._idents[self._next]
            try:
                record = self._residence.record(ident)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                self._check_lineage()
                self._next += 1
                continue
            self._next += 1
            return Credentials(self._residence.server, ident, records.decode(record))
        self._check_lineage()
        raise CCAPIError(cc.ccIteratorEnd)

    def _check_lineage(self) -> None:
        if self._residence.live()["lineage"] != self._lineage:
            raise CCAPIError(self.invalid)
