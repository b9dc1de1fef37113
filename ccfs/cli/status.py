"""`ccfs status`: what a mount says about itself.

Knows the mount's `info` and how to show it; never what its values mean.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ccfs.cli import info, mountpoint_argument, output
from ccfs.errors import Exit
from ccfs.mounting import mountpoint


def run(arguments: Namespace) -> int:
    """Print the mount's `info`, the mountpoint first; UserError when there is none that answers."""
    path = mountpoint_argument.of(arguments.mountpoint)
    data = mountpoint.ask(path, Path(path, "info").read_bytes)
    if arguments.json:
        _print_json({"mountpoint": path, **info.of_mount(data)})
    else:
        for key, value in [("mountpoint", path), *info.lines(data)]:
            print(f"{key}: {output.printable(value)}")
    return Exit.OK


def _print_json(values: dict[str, info.Value]) -> None:
    import json

    print(json.dumps(values, indent=2))
