# SPDX-License-Identifier: MIT
"""`ccfs copy`: copy a ccache of the mount to another name.

Knows files of the mount; never the bytes of a ccache.  Only `ccache` is copied: the mount makes all
other files of a ccache's directory from it.
"""

from __future__ import annotations

import os
from argparse import Namespace

from ccfs.cli import mountpoint_argument
from ccfs.cli.ccache_directory import ccache_errors, directory_of
from ccfs.cli.ccache_files import CcacheBytes, read_file, write_ccache
from ccfs.errors import ExistsError, Exit, UsageError
from ccfs.mounting import mountpoint


def run(arguments: Namespace) -> int:
    """Copy a ccache in one step; a target that exists keeps its identifier."""
    path = mountpoint_argument.resolve(arguments.mountpoint)
    source, target = (directory_of(path, name) for name in (arguments.name, arguments.copy))
    if source == target:
        raise UsageError("a ccache can't be copied to itself", "name another one")
    with ccache_errors(arguments.name):
        file = os.path.join(source, "ccache")
        ccache = CcacheBytes(mountpoint.call(path, lambda: read_file(file)))

    def write() -> bytes:
        write_ccache(target, ccache, replace=arguments.replace)
        return b""

    try:
        with ccache_errors(arguments.copy):
            mountpoint.call(path, write)
    except FileExistsError:
        raise ExistsError(
            f'ccache "{arguments.copy}" has credentials', "add '--replace', or name another"
        ) from None
    return Exit.OK
