# SPDX-License-Identifier: MIT
"""`ccfs switch`: make a ccache the default.  Knows the symbolic link `default`."""

from __future__ import annotations

from argparse import Namespace

from ccfs.cli import mountpoint_argument
from ccfs.cli.ccache_directory import directory_of, make_default, run_on_mount
from ccfs.errors import Exit


def run(arguments: Namespace) -> int:
    """Make a ccache the default."""
    path = mountpoint_argument.resolve(arguments.mountpoint)
    directory = directory_of(path, arguments.name)
    run_on_mount(path, arguments.name, lambda: make_default(path, directory))
    return Exit.OK
