# SPDX-License-Identifier: MIT
"""The user behind a uid: the owner of the subordinate uids (subuid(5)) it is among, or itself.

Knows /etc/subuid and /etc/passwd; asks no name service, since that may never answer.  A user with a
user namespace has thousands of uids, which share the limits of one user.
"""

from __future__ import annotations

import os
from contextlib import suppress

_Range = tuple[int, int, str]
"""The first uid, the last uid plus one, and their owner: a name, or a uid as text."""


class Users:
    """Which user is behind which uid; the files are read again when they have changed."""

    def __init__(self, subuid: str = "/etc/subuid", passwd: str = "/etc/passwd") -> None:  # noqa: S107
        self._paths = subuid, passwd
        self._read: tuple[object, ...] = ()
        self._ranges: list[_Range] = []
        self._uids: dict[str, int] = {}
        self._named: set[int] = set()

    def behind(self, uid: int) -> int | str:
        """Return the uid of the user behind a uid, or their name where their uid is not known."""
        self._refresh()
        for first, end, owner in self._ranges:
            if first <= uid < end:
                return int(owner) if owner.isdigit() else self._uids.get(owner, owner)
        return uid

    def has_name(self, uid: int) -> bool:
        """Return whether a uid has a login name on this host."""
        self._refresh()
        return uid in self._named

    def _refresh(self) -> None:
        state = tuple(_state(path) for path in self._paths)
        if state == self._read:
            return
        subuid, passwd = (_lines(path) for path in self._paths)
        users = [fields for fields in passwd if len(fields) == 7 and fields[2].isdigit()]
        self._uids = {fields[0]: int(fields[2]) for fields in users}
        self._named = {*self._uids.values()}
        self._ranges = [
            (int(first), int(first) + int(count), owner)
            for owner, first, count in (fields for fields in subuid if len(fields) == 3)
            if first.isdigit() and count.isdigit()
        ]
        self._read = state


def _lines(path: str) -> list[list[str]]:
    with suppress(OSError), open(path, encoding="utf-8", errors="surrogateescape") as file:
        return [line.rstrip("\n").split(":") for line in file.read().split("\n")]
    return []


def _state(path: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
