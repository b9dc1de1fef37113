# SPDX-License-Identifier: MIT
"""`ccfs list`: the collection as a table.

Knows which keys of a ccache's `info` are shown, and how; never the bytes of a ccache.
"""

from __future__ import annotations

import time
from argparse import Namespace

from ccfs.cli import ccache_infos, info, mountpoint_argument, output
from ccfs.errors import Exit

_HEADER = ["", "NAME", "PRINCIPAL", "CREDENTIALS", "EXPIRES"]


def run(arguments: Namespace) -> int:
    """Print the initialised ccaches in the collection's order."""
    path = mountpoint_argument.resolve(arguments.mountpoint)
    ccaches = ccache_infos.read_initialised(path)
    if arguments.json:
        output.print_json(ccaches)
    else:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        print(output.table([_HEADER, *(_row(ccache, now) for ccache in ccaches)]), end="")
    return Exit.OK


def _row(ccache: dict[str, info.Value], now: str) -> list[str]:
    """Return a row of the table.

    `now` is in the format of `expires`, in which the order of texts is the order of times.
    """
    expires = str(ccache.get("expires") or "-")
    expired = expires != "-" and expires <= now
    return [
        "*" if ccache.get("default") else "",
        str(ccache.get("name", "")),
        str(ccache.get("principal", "")),
        str(ccache.get("credentials", "")),
        f"{expires} (expired)" if expired else expires,
    ]
