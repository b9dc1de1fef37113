"""`ccfs list`: the collection as a table.

Knows the `info` of each ccache and how to show it; never the bytes of a ccache.
"""

from __future__ import annotations

import os
import time
from argparse import Namespace
from pathlib import Path

from ccfs.cli import info, mountpoint_argument, output
from ccfs.errors import Exit
from ccfs.mounting import mountpoint

SECONDS = 30.0

_HEADER = ["", "NAME", "PRINCIPAL", "CREDENTIALS", "EXPIRES"]
_BETWEEN = b"\0"


def run(arguments: Namespace) -> int:
    """Print the initialised ccaches in the collection's order."""
    path = mountpoint_argument.of(arguments.mountpoint)
    found = [info.of_ccache(one) for one in read_all(path)]
    ccaches = [ccache for ccache in found if ccache.get("initialised")]
    if arguments.json:
        _print_json(ccaches)
    else:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        print(output.table([_HEADER, *(_row(ccache, now) for ccache in ccaches)]), end="")
    return Exit.OK


def read_all(path: str) -> list[bytes]:
    """The `info` of every ccache of the mount at `path`; UserError when it doesn't answer."""
    data = mountpoint.ask(path, lambda: _read_all(path), SECONDS)
    return [one for one in data.split(_BETWEEN) if one]


def _read_all(path: str) -> bytes:
    """Every ccache's `info`, one after the other; one that goes meanwhile is left out."""
    caches = Path(path, "caches")
    infos = []
    for name in os.listdir(os.fsencode(caches)):
        try:
            infos.append((caches / os.fsdecode(name) / "info").read_bytes())
        except FileNotFoundError:
            continue
    return _BETWEEN.join(infos)


def _row(ccache: dict[str, info.Value], now: str) -> list[str]:
    """A line of the table; `now` is in the form of `expires`, in which text order is time order."""
    expires = str(ccache.get("expires") or "-")
    expired = expires != "-" and expires <= now
    return [
        "*" if ccache.get("default") else "",
        str(ccache.get("name", "")),
        str(ccache.get("principal", "")),
        str(ccache.get("credentials", "")),
        f"{expires} (expired)" if expired else expires,
    ]


def _print_json(ccaches: list[dict[str, info.Value]]) -> None:
    import json

    print(json.dumps(ccaches, indent=2))
