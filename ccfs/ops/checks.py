# SPDX-License-Identifier: MIT
"""Checks of a request's arguments, before a node is asked."""

import os
import stat

from pyfuse3 import EntryAttributes, SetattrFields

from ccfs.ops import tree
from ccfs.ops.errnos import AccessError
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.node import Opening
from ccfs.store import Stamp
from ccfs.store.errors import ExistsError, NotPermittedError


def opening_of(flags: int, at: Stamp, task: int) -> Opening:
    """Return what the flags of open(2) ask for."""
    return Opening(
        at=at,
        task=task,
        writes=flags & os.O_ACCMODE != os.O_RDONLY,
        append=bool(flags & os.O_APPEND),
        truncate=bool(flags & os.O_TRUNC),
    )


def refuse_changes(now: EntryAttributes, attr: EntryAttributes, fields: SetattrFields) -> None:
    """Accept a mode and an owner that the inode has already; refuse any other."""
    if (
        (fields.update_mode and stat.S_IMODE(attr.st_mode) != stat.S_IMODE(now.st_mode))
        or (fields.update_uid and attr.st_uid != now.st_uid)
        or (fields.update_gid and attr.st_gid != now.st_gid)
    ):
        raise NotPermittedError("modes and owners can't be changed")


def check_mode(mode: int, opening: Opening) -> None:
    """Refuse to write to a file without write permission, also for uid 0, which may own a mount."""
    if (opening.writes or opening.truncate) and not mode & stat.S_IWUSR:
        raise AccessError


def check_created(ref: Ref, flags: int) -> None:
    """Refuse a create whose name exists, unless it is a file and O_EXCL is not set.

    The kernel sends CREATE for a name that it found absent; the file may have come through another
    name since.
    """
    if flags & os.O_EXCL or not stat.S_ISREG(tree.ROWS[ref.slot].mode):
        raise ExistsError("the name is taken")


def removable_fixed_name(parent: Ref, name: bytes) -> Ref | None:
    """Return a fixed name whose removal is accepted and has no effect; None for other names.

    `rm -r` of a ccache must succeed, and so must `rm default && ln -s caches/NAME default`.  Other
    fixed names are refused.
    """
    fixed = tree.fixed(parent, name)
    if fixed is not None and parent.slot is not Slot.CCACHE and fixed.slot is not Slot.DEFAULT:
        raise NotPermittedError("part of the mount itself")
    return fixed
