# SPDX-License-Identifier: MIT
"""Sources of KEYRING: and KCM: residuals: ccaches that libkrb5 reads, by python-krb5.

Knows python-krb5, which is optional and imported only here; never the mount that the ccaches go to.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from ccfs.cli.import_.source import TYPE_HINT, Source, short_names
from ccfs.errors import SourceError
from ccfs.linux import foreign_file

if TYPE_CHECKING:
    import krb5

LIBRARY_TYPES = ("KEYRING", "KCM")
KRB5_CC_NOTFOUND = -1765328243


class LibrarySource:
    """A ccache that libkrb5 has copied into its own memory."""

    def __init__(self, library: Library, ccache: krb5.CCache, name: str, primary: bool) -> None:
        self._library, self._ccache = library, ccache
        self.residual = _text(str(ccache))
        self.name, self.primary = name, primary
        self._copy = library.copy(ccache)

    def write_to(self, path: str) -> None:
        """Have libkrb5 write the copy to a new file."""
        try:
            self._library.write(self._copy, path)
        except self._library.error as error:
            raise OSError(*_errno(error.err_code)) from None

    def remove(self) -> None:
        """Destroy the ccache, unless it has changed since it was copied."""
        residual = foreign_file.printable(self.residual)
        try:
            if self._library.contents(self._ccache) != self._library.contents(self._copy):
                raise SourceError(f"{residual} has changed, and stays")
            self._library.destroy(self._ccache)
        except self._library.error as error:
            raise SourceError(f"cannot remove {residual}: {error}") from None


class Library:
    """libkrb5, by python-krb5.  Copies of ccaches are destroyed by `close`."""

    def __init__(self, kind: str = "") -> None:
        """`kind`: the type of ccaches that an error names; SourceError without python-krb5."""
        try:
            import krb5
        except ImportError:
            raise SourceError(
                f"cannot import from {kind}: the Python module krb5 is missing",
                "install libkrb5-dev, then 'pip install krb5' or 'make install'",
            ) from None
        self._krb5 = krb5
        self._copies: list[krb5.CCache] = []
        self.error = krb5.Krb5Error
        try:
            self._context = krb5.init_context()
        except krb5.Krb5Error as error:
            raise SourceError(f"cannot use libkrb5: {error}") from None

    def default(self) -> str:
        """Return libkrb5's default residual."""
        return _text(self._krb5.cc_default_name(self._context) or b"")

    def collect(self, residual: str) -> list[Source]:
        """Return all ccaches of a residual, which is a collection or one of its ccaches."""
        shown = foreign_file.printable(residual)
        try:
            self._krb5.cc_set_default_name(self._context, os.fsencode(residual))
            kind = residual.partition(":")[0].encode()
            ccaches = [
                c for c in self._krb5.cccol_iter(self._context) if c.cache_type == kind and c.name
            ]
            primary = self._krb5.cc_default(self._context).name if ccaches else b""
            names = short_names([ccache.name or b"" for ccache in ccaches])
            sources: list[Source] = [
                LibrarySource(self, ccache, name, ccache.name == primary)
                for ccache, name in zip(ccaches, names, strict=True)
            ]
        except self.error as error:
            raise SourceError(f"cannot import {shown}: {error}") from None
        if not sources:
            raise SourceError(f"cannot import {shown}: it has no ccache", TYPE_HINT)
        return sources

    def has_principal(self, kind: str, principal: str) -> bool:
        """True if the collection of a type has a ccache of a principal; SourceError."""
        try:
            self._krb5.cc_set_default_name(self._context, f"{kind}:".encode())
            name = self._krb5.parse_name_flags(self._context, principal.encode())
            self._krb5.cc_cache_match(self._context, name)
        except self.error as error:
            if error.err_code == KRB5_CC_NOTFOUND:
                return False
            raise SourceError(f"cannot import from {kind}: {error}") from None
        return True

    def copy(self, ccache: krb5.CCache) -> krb5.CCache:
        """Copy a ccache to a MEMORY ccache of this process."""
        copy = self._krb5.cc_new_unique(self._context, b"MEMORY")
        self._copies.append(copy)
        self._fill(copy, ccache)
        return copy

    def contents(self, ccache: krb5.CCache) -> list[tuple[str, int, bytes]]:
        """Return server, end time and ticket of each credential, sorted, to compare ccaches."""
        return sorted((str(c.server), c.times.endtime, c.ticket or b"") for c in ccache)

    def write(self, ccache: krb5.CCache, path: str) -> None:
        """Write a ccache to a new file."""
        self._fill(self._krb5.cc_resolve(self._context, b"FILE:" + os.fsencode(path)), ccache)

    def destroy(self, ccache: krb5.CCache) -> None:
        """Destroy a ccache."""
        self._krb5.cc_destroy(self._context, ccache)

    def close(self) -> None:
        """Destroy the copies."""
        while self._copies:
            self._krb5.cc_destroy(self._context, self._copies.pop())

    def _fill(self, target: krb5.CCache, source: krb5.CCache) -> None:
        principal = self._krb5.cc_get_principal(self._context, source)
        self._krb5.cc_initialize(self._context, target, principal)
        for credential in source:
            self._krb5.cc_store_cred(self._context, target, credential)


def _errno(code: int) -> tuple[int, str]:
    """Return errno and text of a libkrb5 code: an errno value, or EIO for its own codes."""
    number = code if 0 < code < 200 else errno.EIO
    return number, os.strerror(number)


def _text(raw: bytes | str) -> str:
    return raw if isinstance(raw, str) else os.fsdecode(raw)
