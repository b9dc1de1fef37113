# SPDX-License-Identifier: MIT
"""Read the `info` files of all ccaches of a mount.

Knows the directory `caches/`; never what a key of `info` means.
"""

from __future__ import annotations

import os
from pathlib import Path

from ccfs.cli import info
from ccfs.mounting import mountpoint

SECONDS = 30.0
"""Bound for reading all of them."""
_SEPARATOR = b"\0"


def read_initialised(path: str) -> list[dict[str, info.Value]]:
    """Return the `info` of every initialised ccache of the mount at `path`, in its order.

    UserError if the mount doesn't answer.
    """
    data = mountpoint.call(path, lambda: _read_all(path), SECONDS)
    ccaches = [info.of_ccache(text) for text in data.split(_SEPARATOR) if text]
    return [ccache for ccache in ccaches if ccache.get("initialised")]


def _read_all(path: str) -> bytes:
    """Return the `info` of every ccache, joined; a ccache that is removed meanwhile is left out."""
    caches = Path(path, "caches")
    infos = []
    for name in os.listdir(os.fsencode(caches)):
        try:
            infos.append((caches / os.fsdecode(name) / "info").read_bytes())
        except FileNotFoundError:
            continue
    return _SEPARATOR.join(infos)
