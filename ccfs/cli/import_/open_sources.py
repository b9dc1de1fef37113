"""What `ccfs import` may take: a file, or what libkrb5 finds in DIR:, KEYRING: and KCM:.

Knows residuals and python-krb5, which is loaded where libkrb5 has to be asked; never the mount that
the ccaches go to, beyond the device it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from ccfs.errors import SourceError
from ccfs.format.ccache import decode_ccache
from ccfs.format.errors import FormatError
from ccfs.format.names import encode_name
from ccfs.linux import foreign_file

if TYPE_CHECKING:
    import krb5

LIBRARY_TYPES = ("KEYRING", "KCM")
_HINT = "name one: FILE:/path, DIR:/path, KEYRING:name or KCM:"
_NOT_FOUND = -1765328243
"""KRB5_CC_NOTFOUND"""


class Writable(Protocol):
    """A ccache that can be written to a new file."""

    def put(self, path: str) -> None:
        """Write it to a new file in FILE format; OSError.  Called in a child process."""


class Left(Writable, Protocol):
    """One ccache to import.

    `residual`: what it is called where it is; `name`: its name in its collection, encoded as in
    `caches/`; `primary`: whether it is that collection's primary one.
    """

    residual: str
    name: str
    primary: bool

    def remove(self) -> None:
        """Remove it from where it is; SourceError where it has changed, or stays."""


def default(environment: Mapping[str, str], uid: int) -> str:
    """The residual that Kerberos programs would use: KRB5CCNAME, or libkrb5's default."""
    if named := environment.get("KRB5CCNAME"):
        return named
    with suppress(SourceError):
        return Library().default()
    return f"FILE:/tmp/krb5cc_{uid}"


def split(residual: str) -> tuple[str, str]:
    """The type of a residual, and the rest; a name without a type is a FILE's."""
    kind, separator, rest = residual.partition(":")
    return (kind, rest) if separator and kind.isalnum() else ("FILE", residual)


def of_file(kind: str, rest: str) -> str | None:
    """The file or directory that a residual names; None for one that is in no file system."""
    return os.path.abspath(rest.removeprefix(":")) if kind in ("FILE", "DIR") else None


@contextmanager
def opened(residual: str, limit: int) -> Iterator[list[Left]]:
    """The ccaches of a residual, read; at least one.  `limit`: bytes, for a FILE."""
    kind, rest = split(residual)
    with ExitStack() as stack:
        if kind == "FILE":
            path = foreign_file.path_of(os.path.abspath(rest))
            yield [FileLeft(stack.enter_context(foreign_file.opened(path, limit)))]
        elif kind == "DIR":
            whole = [
                FileLeft(stack.enter_context(foreign_file.opened(path, limit)), name, primary)
                for path, name, primary in _of_directory(rest)
            ]
            for left in whole:
                left.check()  # before the first one moves
            yield [*whole]
        elif kind in LIBRARY_TYPES:
            library = Library(kind)
            stack.callback(library.close)
            yield library.collect(f"{kind}:{rest}")
        else:
            raise SourceError(f"cannot import {foreign_file.shown(residual)}: unknown type", _HINT)


def _of_directory(rest: str) -> list[tuple[str, str, bool]]:
    """The files of a DIR: as libkrb5 finds them: path, name in `caches/`, whether it is primary.

    `rest` is a directory, or `:FILE` for one ccache of it.  libkrb5 takes the names that begin with
    "tkt", and for the primary one the name in the file `primary`, "tkt" without that file.
    """
    if rest.startswith(":"):
        path = os.path.abspath(rest[1:])
        return [(path, _names([os.fsencode(os.path.basename(path))])[0], True)]
    directory = os.path.abspath(rest)
    found: list[bytes] = []
    try:
        found = sorted(name for name in os.listdir(os.fsencode(directory)) if _is_ccache(name))
    except FileNotFoundError:
        pass
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise SourceError(
            f"cannot import {foreign_file.shown(f'DIR:{rest}')}: {why}", _HINT
        ) from None
    if not found:
        said = foreign_file.shown(f"DIR:{rest}")
        raise SourceError(f"cannot import {said}: it has no ccache", _HINT)
    primary = _primary(directory)
    return [
        (os.path.join(directory, os.fsdecode(file)), name, file == primary)
        for file, name in zip(found, _names(found), strict=True)
    ]


def _is_ccache(name: bytes) -> bool:
    return name.startswith(b"tkt")


def _primary(directory: str) -> bytes:
    """The name of the primary ccache's file."""
    with suppress(OSError), open(os.path.join(directory, "primary"), "rb") as file:
        line = file.readline(256).removesuffix(b"\n")
        return line if _is_ccache(line) and b"/" not in line else b""
    return b"tkt"


class FileLeft:
    """A ccache in a file, its bytes taken as they are."""

    def __init__(self, source: foreign_file.Source, name: str = "", primary: bool = True) -> None:
        self._source = source
        self.name, self.primary = name, primary
        self.residual = f"FILE:{source.path}"

    def check(self) -> None:
        """Raise SourceError unless its bytes are a ccache."""
        try:
            decode_ccache(self._source.data)
        except FormatError:
            shown = foreign_file.shown(self.residual)
            raise SourceError(f"cannot import {shown}: it is no ccache", _HINT) from None

    def put(self, path: str) -> None:
        """Write its bytes."""
        with open(path, "xb", buffering=0) as file, memoryview(self._source.data) as data:
            left = data
            while left:
                left = left[file.write(left) :]

    def remove(self) -> None:
        """Remove and overwrite it."""
        self._source.remove()


class LibraryLeft:
    """A ccache that libkrb5 has read into its own memory."""

    def __init__(self, library: Library, ccache: krb5.CCache, name: str, primary: bool) -> None:
        self._library, self._ccache = library, ccache
        self.residual = _text(str(ccache))
        self.name, self.primary = name, primary
        self._copy = library.copy(ccache)

    def put(self, path: str) -> None:
        """Have libkrb5 write it: it knows what it has."""
        try:
            self._library.write(self._copy, path)
        except self._library.error as error:
            raise OSError(*_errno(error.err_code)) from None

    def remove(self) -> None:
        """Destroy it where it is, unless it has changed since it was read."""
        try:
            if self._library.contents(self._ccache) != self._library.contents(self._copy):
                raise SourceError(f"{foreign_file.shown(self.residual)} has changed, and stays")
            self._library.destroy(self._ccache)
        except self._library.error as error:
            raise SourceError(
                f"cannot remove {foreign_file.shown(self.residual)}: {error}"
            ) from None


class Library:
    """libkrb5, by python-krb5."""

    def __init__(self, kind: str = "") -> None:
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
        """The residual that libkrb5 would use."""
        return _text(self._krb5.cc_default_name(self._context) or b"")

    def collect(self, residual: str) -> list[Left]:
        """All ccaches of a residual, which may name a collection or one of its ccaches."""
        try:
            self._krb5.cc_set_default_name(self._context, os.fsencode(residual))
            kind = residual.partition(":")[0].encode()
            found = [
                c for c in self._krb5.cccol_iter(self._context) if c.cache_type == kind and c.name
            ]
            primary = self._krb5.cc_default(self._context).name if found else b""
            names = _names([c.name or b"" for c in found])
            left: list[Left] = [
                LibraryLeft(self, ccache, name, ccache.name == primary)
                for ccache, name in zip(found, names, strict=True)
            ]
        except self.error as error:
            raise SourceError(f"cannot import {foreign_file.shown(residual)}: {error}") from None
        if not left:
            raise SourceError(
                f"cannot import {foreign_file.shown(residual)}: it has no ccache", _HINT
            )
        return left

    def has(self, kind: str, principal: str) -> bool:
        """Whether the collection of a type has a ccache of a principal."""
        try:
            self._krb5.cc_set_default_name(self._context, f"{kind}:".encode())
            wanted = self._krb5.parse_name_flags(self._context, principal.encode())
            self._krb5.cc_cache_match(self._context, wanted)
        except self.error as error:
            if error.err_code == _NOT_FOUND:
                return False
            raise SourceError(f"cannot import from {kind}: {error}") from None
        return True

    def copy(self, ccache: krb5.CCache) -> krb5.CCache:
        """A copy in this process's memory."""
        made = self._krb5.cc_new_unique(self._context, b"MEMORY")
        self._copies.append(made)
        self._fill(made, ccache)
        return made

    def contents(self, ccache: krb5.CCache) -> list[tuple[str, int, bytes]]:
        """What a ccache has, to be compared, whatever its order."""
        return sorted((str(c.server), c.times.endtime, c.ticket or b"") for c in ccache)

    def write(self, ccache: krb5.CCache, path: str) -> None:
        """Write a ccache to a new file."""
        self._fill(self._krb5.cc_resolve(self._context, b"FILE:" + os.fsencode(path)), ccache)

    def destroy(self, ccache: krb5.CCache) -> None:
        """Destroy a ccache where it is."""
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


def _names(found: list[bytes]) -> list[str]:
    """Names for the ccaches of a collection: the last part of each, where those differ."""
    short = [name.rpartition(b"/")[2].rpartition(b":")[2].removeprefix(b"tkt.") for name in found]
    return [encode_name(name) for name in (short if len({*short}) == len(short) else found)]


def _errno(code: int) -> tuple[int, str]:
    """libkrb5 passes errno values on, but has many codes of its own."""
    known = code if 0 < code < 200 else 5  # EIO
    return known, os.strerror(known)


def _text(raw: bytes | str) -> str:
    return raw if isinstance(raw, str) else os.fsdecode(raw)
