# SPDX-License-Identifier: MIT
"""A handle on a credential, and the iterator over the credentials of a ccache.

Knows records and their identifiers, never how they are stored.
"""

from collections.abc import Sequence
from typing import ClassVar, Self

from ccfs.ccapi import constants as cc
from ccfs.ccapi import records
from ccfs.ccapi.ccache_by_id import CcacheById
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.error_codes import MISSING, api_errors, if_missing, required
from ccfs.ccapi.handle import Handle, next_or_stop
from ccfs.ccapi.mount_client import MountClient
from ccfs.ccapi.mount_finder import MountFinder
from ccfs.ccapi.values import cc_credentials_union


class Credentials(Handle):
    """One stored credential: its record when it was read, and its identifier."""

    invalid: ClassVar[int] = cc.ccErrInvalidCredentials

    def __init__(self, mount: MountClient, ident: str, data: cc_credentials_union) -> None:
        super().__init__()
        self._identity = (mount.identity, ident)
        self._data = data

    def __repr__(self) -> str:
        return f"<credentials {self._identity[1]}>"

    @property
    def data(self) -> cc_credentials_union:
        """The record."""
        self._check_valid()
        return self._data

    def compare(self, other: "Credentials | None") -> bool:
        """True if both are the same stored credential; their records are not compared."""
        second = required(other)
        self._check_valid()
        second._check_valid()
        return self._identity == second._identity

    def ident_on(self, mount: MountClient) -> str:
        """Return the identifier on a mount; ccErrInvalidCredentials if it is from another one."""
        self._check_valid()
        if self._identity[0] != mount.identity:
            raise CCAPIError(self.invalid)
        return self._identity[1]


class CredentialsIterator(Handle):
    """The credentials of a ccache in stored order, as of the iterator's creation.

    Credentials that were removed since are skipped; if the ccache was initialised anew, or is gone,
    the iteration ends with ccErrInvalidCredentialsIterator.
    """

    invalid: ClassVar[int] = cc.ccErrInvalidCredentialsIterator

    def __init__(
        self, finder: MountFinder, ccache: CcacheById, lineage: str, idents: Sequence[str]
    ) -> None:
        super().__init__()
        self._finder = finder
        self._ccache = ccache
        self._lineage = lineage
        self._idents = idents
        self._next = 0

    def next(self) -> Credentials:
        """Return the next credential; ccIteratorEnd after the last."""
        self._check_valid()
        if self._finder.require() is not self._ccache.mount:
            raise CCAPIError(self.invalid)
        with api_errors(if_missing(self.invalid)):
            return self._fetch()

    def clone(self) -> "CredentialsIterator":
        """Return another iterator at the same position."""
        self._check_valid()
        copy = CredentialsIterator(self._finder, self._ccache, self._lineage, self._idents)
        copy._next = self._next
        return copy

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Credentials:
        return next_or_stop(self.next)

    def _fetch(self) -> Credentials:
        while self._next < len(self._idents):
            ident = self._idents[self._next]
            try:
                record = self._ccache.read_credential(ident)
            except OSError as error:
                if error.errno not in MISSING:
                    raise
                self._check_lineage()
                self._next += 1
                continue
            self._next += 1
            return Credentials(self._ccache.mount, ident, records.decode(record))
        self._check_lineage()
        raise CCAPIError(cc.ccIteratorEnd)

    def _check_lineage(self) -> None:
        """Raise CCAPIError if the ccache was initialised anew since the iterator's creation."""
        if self._ccache.initialised_info()["lineage"] != self._lineage:
            raise CCAPIError(self.invalid)
