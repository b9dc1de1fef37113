# SPDX-License-Identifier: MIT
"""One ccache to import: the protocol of both kinds of sources, and names for several.

Knows names; never where a ccache comes from.
"""

from __future__ import annotations

from typing import Protocol

from ccfs.cli.ccache_files import Writable
from ccfs.format.names import encode_name

TYPE_HINT = "name one: FILE:/path, DIR:/path, KEYRING:name or KCM:"


class Source(Writable, Protocol):
    """One ccache to import.

    `residual`: its name where it is.  `name`: its name in its collection, encoded as in `caches/`.
    `primary`: True for the primary ccache of that collection.
    """

    residual: str
    name: str
    primary: bool

    def remove(self) -> None:
        """Remove the ccache from its place; SourceError if it has changed, or can't be removed."""


def short_names(names: list[bytes]) -> list[str]:
    """Return encoded names for ccaches of a collection: the last part of each, if all differ."""
    short = [name.rpartition(b"/")[2].rpartition(b":")[2].removeprefix(b"tkt.") for name in names]
    return [encode_name(name) for name in (short if len({*short}) == len(short) else names)]
