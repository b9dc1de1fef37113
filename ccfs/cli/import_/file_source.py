# SPDX-License-Identifier: MIT
"""Sources of FILE: and DIR: residuals: ccaches in files, whose bytes are taken as they are.

Knows files and libkrb5's layout of a DIR; never the mount that the ccaches go to.
"""

from __future__ import annotations

import os
from contextlib import suppress

from ccfs.cli.import_.source import TYPE_HINT, short_names
from ccfs.errors import SourceError
from ccfs.format.ccache import decode_ccache
from ccfs.format.errors import FormatError
from ccfs.linux import foreign_file


class FileSource:
    """A ccache in a file."""

    def __init__(self, source: foreign_file.Source, name: str = "", primary: bool = True) -> None:
        self._source = source
        self.name, self.primary = name, primary
        self.residual = f"FILE:{source.path}"

    def check(self) -> None:
        """Raise SourceError unless the file's bytes are a ccache."""
        try:
            decode_ccache(self._source.data)
        except FormatError:
            residual = foreign_file.printable(self.residual)
            raise SourceError(f"cannot import {residual}: it is no ccache", TYPE_HINT) from None

    def write_to(self, path: str) -> None:
        """Write the file's bytes to a new file."""
        with open(path, "xb", buffering=0) as file, memoryview(self._source.data) as data:
            rest = data
            while rest:
                rest = rest[file.write(rest) :]

    def remove(self) -> None:
        """Overwrite and remove the file."""
        self._source.remove()


def files_of_dir(rest: str) -> list[tuple[str, str, bool]]:
    """Return the files of `DIR:REST`: path, name in `caches/`, whether it is the primary one.

    `rest` is a directory, or `:FILE` for one ccache of it.  As in libkrb5 (cc_dir.c), ccaches have
    names that begin with "tkt"; the file `primary` names the primary one, "tkt" without that file.
    """
    if rest.startswith(":"):
        path = os.path.abspath(rest[1:])
        return [(path, short_names([os.fsencode(os.path.basename(path))])[0], True)]
    directory = os.path.abspath(rest)
    files: list[bytes] = []
    try:
        files = sorted(name for name in os.listdir(os.fsencode(directory)) if _is_ccache(name))
    except FileNotFoundError:
        pass
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        residual = foreign_file.printable(f"DIR:{rest}")
        raise SourceError(f"cannot import {residual}: {reason}", TYPE_HINT) from None
    if not files:
        residual = foreign_file.printable(f"DIR:{rest}")
        raise SourceError(f"cannot import {residual}: it has no ccache", TYPE_HINT)
    primary = _primary_file(directory)
    return [
        (os.path.join(directory, os.fsdecode(file)), name, file == primary)
        for file, name in zip(files, short_names(files), strict=True)
    ]


def _is_ccache(name: bytes) -> bool:
    return name.startswith(b"tkt")


def _primary_file(directory: str) -> bytes:
    """Return the name of the primary ccache's file, b"" if the file `primary` names none."""
    with suppress(OSError), open(os.path.join(directory, "primary"), "rb") as file:
        line = file.readline(256).removesuffix(b"\n")
        return line if _is_ccache(line) and b"/" not in line else b""
    return b"tkt"
