# SPDX-License-Identifier: MIT
"""Checks of a mount's journal: private to its owner, and in memory.

Knows the journal's file and its directory; never what a journal holds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from ccfs.cli.doctor.finding import Finding
from ccfs.journal import location


def check(path: str, *, empty: bool = False) -> Iterator[Finding]:
    """Yield findings for the journal at `path`, "" for none.

    `empty`: the mount holds nothing.  A mount of ccfsd has no journal until it holds something.
    """
    if not path:
        yield Finding("journal", "none: if the daemon dies, all credentials are lost")
        return
    if empty and not os.path.lexists(path) and os.path.isdir(os.path.dirname(path)):
        yield Finding("journal", f"{path} is made when there is something to keep")
        return
    try:
        yield _is_private(path)
        yield _is_in_memory(path)
    except OSError as error:
        hint = "mount it anew: if the daemon died, all credentials would be lost"
        yield Finding("journal", f"cannot see {path}: {error.strerror}", hint)


def _is_private(path: str) -> Finding:
    file, directory = os.lstat(path), os.lstat(os.path.dirname(path))
    unexpected = "find out what made it, and mount it anew"
    if not stat.S_ISREG(file.st_mode):
        return Finding("journal", f"{path} is no regular file", unexpected)
    if stat.S_IMODE(file.st_mode) != 0o600 or stat.S_IMODE(directory.st_mode) & 0o077:
        hint = "'chmod 600' the file and 'chmod 700' its directory"
        return Finding("journal", f"other users can reach {path}", hint)
    if file.st_uid != directory.st_uid:
        return Finding("journal", f"{path} belongs to uid {file.st_uid}", unexpected)
    return Finding("journal", f"only uid {file.st_uid} can reach {path}")


def _is_in_memory(path: str) -> Finding:
    if location.in_memory(path):
        return Finding("journal-place", "in memory")
    hint = "mount it anew without '--journal-on-disk'"
    return Finding("journal-place", f"{path} is on a disk, where secrets stay", hint)
