# SPDX-License-Identifier: MIT
"""Steps of mounting that `ccfs mount` and mount.ccfs share, before and after the daemon starts.

Knows the mount table and /dev/fuse; never how a daemon is started.
"""

from __future__ import annotations

import os
import sys

from ccfs.cli import end_mount
from ccfs.errors import AlreadyMountedError, MountError
from ccfs.linux import mountinfo
from ccfs.mounting import mountpoint
from ccfs.mounting.mountpoint import State


def check_fuse(device: str, search: str) -> None:
    """Raise MountError unless the user can open `device` and `search` (a PATH) has fusermount3."""
    try:
        status = os.stat(device)
    except OSError:
        raise MountError(
            f"there is no {device}",
            "load it with 'modprobe fuse'; give it to a container with '--device /dev/fuse'",
        ) from None
    if not mountpoint.is_fuse_device(status):
        raise MountError(f"{device} is not the FUSE device", mountpoint.WRONG_DEVICE)
    if not os.access(device, os.R_OK | os.W_OK):
        raise MountError(f"no permission to open {device}", f"as root: 'chmod 666 {device}'")
    if os.geteuid() != 0 and not _has_program("fusermount3", search):
        raise MountError("there is no fusermount3", "install it: 'apt install fuse3'")


def _has_program(program: str, search: str) -> bool:
    paths = (os.path.join(directory, program) for directory in search.split(os.pathsep))
    return any(os.access(path, os.X_OK) for path in paths)


def remove_dead_mounts(path: str, replace: bool) -> None:
    """Remove dead and hanging mounts at `path`, if `replace` or the user at the terminal agrees.

    Raises AlreadyMountedError for a mount that answers, DeadMountError, NoAnswerError.
    """
    while (mount := mountinfo.topmost(path)) and mount.is_ccfs:
        state = mountpoint.probe(mount)
        if state is State.ALIVE:
            hint = "use it: see 'ccfs env', or remove it with 'ccfs unmount'"
            raise AlreadyMountedError(f"a ccfs is mounted at {path} already", hint)
        if not (replace or _user_agrees(path, state)):
            raise (
                mountpoint.dead_error(path)
                if state is State.DEAD
                else mountpoint.no_answer_error(path)
            )
        end_mount.replace(mount)


def _user_agrees(path: str, state: State) -> bool:
    """Ask the user whether to replace the mount; False without a terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    fault = "is dead" if state is State.DEAD else "does not answer"
    print(f"the ccfs at {path} {fault}, replace it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def check_answer(path: str) -> None:
    """Raise DeadMountError or NoAnswerError unless the mount at `path` answers."""
    state = mountpoint.probe(mountpoint.find(path))
    if state is not State.ALIVE:
        raise (mountpoint.error_of(path, state))
