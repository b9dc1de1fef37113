# SPDX-License-Identifier: MIT
"""`ccfs status`: the mount's own `info`.

Knows how to print it; never what its values mean.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ccfs.cli import info, mountpoint_argument, output
from ccfs.commandline.messages import printable
from ccfs.errors import Exit
from ccfs.mounting import mountpoint


def run(arguments: Namespace) -> int:
    """Print the mountpoint and the mount's `info`; UserError if no mount answers."""
    path = mountpoint_argument.resolve(arguments.mountpoint)
    data = mountpoint.call(path, Path(path, "info").read_bytes)
    if arguments.json:
        output.print_json({"mountpoint": path, **info.of_mount(data)})
    else:
        for key, value in [("mountpoint", path), *info.lines(data)]:
            print(f"{key}: {printable(value)}")
    return Exit.OK
