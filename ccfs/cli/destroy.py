# SPDX-License-Identifier: MIT
"""`ccfs destroy`: remove a ccache.  Knows that rmdir(2) of its directory does it."""

from __future__ import annotations

import os
from argparse import Namespace

from ccfs.cli import mountpoint_argument
from ccfs.cli.ccache_directory import directory_of, run_on_mount
from ccfs.errors import Exit


def run(arguments: Namespace) -> int:
    """Remove a ccache with everything in it."""
    path = mountpoint_argument.resolve(arguments.mountpoint)
    directory = directory_of(path, arguments.name)
    run_on_mount(path, arguments.name, lambda: os.rmdir(directory))
    return Exit.OK
