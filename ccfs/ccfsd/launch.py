# SPDX-License-Identifier: MIT
"""Mount a user's ccfs as root, and fork a process with the user's rights that serves it.

Knows system calls, and the order in which privileges are dropped; never sessions, nor clients.
`mount.ccfs` uses it as ccfsd does.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress

from ccfs.linux import descriptors, inherited_state, mount_calls, mountinfo, privileges
from ccfs.mounting import mount_by_root

MOST_MOUNTS = 100_000
"""Mounts on one path: a user may mount as many as fusermount3 allows (the kernel: mount-max)."""


def mount(path: str, uid: int, gid: int) -> int:
    """Mount a user's ccfs at a path that only root can change, in place of a dead mount there.

    Returns the FUSE descriptor, which is not inherited.  The mount answers once a process serves
    the descriptor, and is dead when the last copy of the descriptor is closed.
    Raises MountError.
    """
    options = [f"rootmode={stat.S_IFDIR:o}", f"user_id={uid}", f"group_id={gid}"]
    options += ["default_permissions", "allow_other"]
    dead = mountinfo.topmost(path)
    if dead is not None:
        device = mount_by_root.mount_beneath(path, dead.id, options, mount_calls.PROTECTED)
        if device is not None:
            mount_calls.umount_exactly(path, dead.id, lazy=True)
            return device
    return mount_by_root.mount(path, path, options, mount_calls.PROTECTED)


def unmount_all(path: str) -> None:
    """Unmount all that is mounted on a path, in use or not."""
    for _ in range(MOST_MOUNTS):
        try:
            mount_calls.umount(path, lazy=True)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            raise


def fork(
    uid: int, gid: int, kept: Iterable[int], work: Callable[[], int], *, prepared: bool = False
) -> int:
    """Fork a process with the rights of a user, which does `work`; returns its pid.

    It has its own session (setsid(2)), the descriptors `kept` and the standard ones (input and
    output are /dev/null), no variable, no capability, and can't become root again.  `work` returns
    its exit status.  `prepared`: this process has called `prepare` already.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        if not prepared:
            prepare()
        _drop_rights(uid, gid, {*kept})
        status = work()
    except BaseException as error:
        _report(error)
    finally:
        os._exit(status)


def become(uid: int, gid: int, kept: set[int]) -> None:
    """Give this process the rights of a user, for good.  Raises PrivilegeError: then end it."""
    prepare()
    _drop_rights(uid, gid, kept)


def prepare() -> None:
    """Reset all that this process has inherited from its parent, still as root."""
    inherited_state.reset_signals()
    inherited_state.reset_limits()
    inherited_state.reset_scheduling()
    inherited_state.reset_process()
    os.chdir("/")
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    inherited_state.clear_environment()


def _drop_rights(uid: int, gid: int, kept: set[int]) -> None:
    if os.getpgrp() != os.getpid():  # as the child of a supervisor is already
        os.setsid()
    descriptors.close_all_but(kept)
    inherited_state.set_name("ccfs")
    inherited_state.new_session_keyring()
    privileges.drop(uid, gid)


def _report(error: BaseException) -> None:
    """Write to stderr why a process ends; only type and place of an unexpected error."""
    from ccfs.errors import UserError, redaction

    reason = error.reason if isinstance(error, UserError) else redaction.describe(error)
    with suppress(OSError):
        os.write(2, f"ccfs: error: the daemon ends: {reason}\n".encode(errors="replace"))
