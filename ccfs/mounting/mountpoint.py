# SPDX-License-Identifier: MIT
"""A mount at its path: what is mounted there, whether its daemon answers, unmounting it.

Knows the mount table and the `info` file of a mount; never its other files, nor FUSE's protocol.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from enum import Enum

from ccfs.errors import DeadMountError, DeniedError, NoAnswerError, NotMountedError
from ccfs.linux import forked_call, fusermount, mount_calls
from ccfs.linux.mountinfo import Mount, topmost

FUSE_DEVICE = "/dev/fuse"
FUSE_NUMBER = (10, 229)
"""The device's major and minor number (Documentation/admin-guide/devices.txt)."""
WRONG_DEVICE = "see what it is with 'ls -l', remove it, then 'modprobe fuse'"
FUSECTL = "/sys/fs/fuse/connections"
ANSWER_SECONDS = 5.0


class State(Enum):
    """Whether a mount's daemon answers."""

    ALIVE = "alive"
    DEAD = "dead"
    HANGING = "hanging"


def is_fuse_device(status: os.stat_result) -> bool:
    """True for the FUSE device: a file or another device in its place mounts nothing."""
    number = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return stat.S_ISCHR(status.st_mode) and number == FUSE_NUMBER


def resolve(path: str) -> str:
    """Make `path` absolute and free of symbolic links, without a system call on a mount at its end.

    The last component is followed only when it is a symlink itself: a call on a mount whose daemon
    hangs would hang, and on a dead one it would fail.
    """
    absolute = os.path.abspath(path)
    parent, name = os.path.split(absolute)
    resolved = os.path.join(os.path.realpath(parent), name)
    if topmost(resolved) is None and os.path.islink(resolved):
        return os.path.realpath(resolved)
    return resolved


def find(path: str) -> Mount:
    """Return the ccfs at `path` (of `resolve`), dead or alive; NotMountedError without one."""
    mount = topmost(path)
    if mount is None or not mount.is_ccfs:
        raise NotMountedError(f"no ccfs is mounted at {path}", "mount one with 'ccfs mount'")
    return mount


def probe(mount: Mount, seconds: float = ANSWER_SECONDS) -> State:
    """Tell if the daemon answers within `seconds`.

    A refusal is an answer.  Reads `info`, since the kernel may answer stat(2) from its cache.
    """
    try:
        read(mount.path, "info", seconds)
    except TimeoutError:
        return State.HANGING
    except OSError as error:
        return State.DEAD if is_dead(error) else State.ALIVE
    return State.ALIVE


def is_dead(error: OSError) -> bool:
    """True for the error of a mount without a daemon."""
    return error.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.ECONNREFUSED)


def read(path: str, name: str, seconds: float = ANSWER_SECONDS) -> bytes:
    """Return the bytes of the file `name` in the mount at `path`.  Raises OSError, TimeoutError."""

    def work() -> bytes:
        with open(os.path.join(path, name), "rb") as file:
            return file.read()

    return forked_call.call(work, seconds)


def call(path: str, work: Callable[[], bytes], seconds: float = ANSWER_SECONDS) -> bytes:
    """Call `work` on the ccfs at `path` within `seconds`; its failures become UserErrors."""
    mount = find(path)
    try:
        return forked_call.call(work, seconds)
    except TimeoutError:
        raise no_answer_error(path) from None
    except PermissionError:
        owner = "another user" if mount.owner is None else f"uid {mount.owner}"
        raise DeniedError(
            f"the ccfs at {path} belongs to {owner} and lets no other user in"
        ) from None
    except OSError as error:
        if is_dead(error):
            raise dead_error(path) from None
        raise


def dead_error(path: str) -> DeadMountError:
    """Return the error for a mount without a daemon."""
    return DeadMountError(
        f"the ccfs at {path} is dead: its daemon is gone",
        "replace it with 'ccfs mount --replace', or remove it with 'ccfs unmount'",
    )


def no_answer_error(path: str) -> NoAnswerError:
    """Return the error for a daemon that doesn't answer."""
    return NoAnswerError(
        f"the ccfs at {path} doesn't answer",
        "remove it with 'ccfs unmount', which ends its daemon",
    )


def error_of(path: str, state: State) -> DeadMountError | NoAnswerError:
    """Return the error for a mount that is DEAD or HANGING."""
    return dead_error(path) if state is State.DEAD else no_answer_error(path)


def unmount(path: str, lazy: bool) -> None:
    """Unmount what is at `path`, from the mount table only (MNT_DETACH) where `lazy`.

    Raises OSError: EINVAL when nothing is mounted there, EBUSY when it is in use and not `lazy`,
    EPERM when it isn't the caller's.  Root uses umount2(2), any other user fusermount3, the setuid
    program that mounted it.
    """
    found = topmost(path)
    if found is None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    if os.geteuid() == 0:
        mount_calls.umount_exactly(path, found.id, lazy=lazy)
    else:
        fusermount.unmount(path, lazy=lazy)


def abort(mount: Mount) -> None:
    """Abort a FUSE connection: clients that wait for a reply get an error.

    Does nothing where fusectl is not mounted, or the connection is another user's.
    """
    with suppress(OSError), open(f"{FUSECTL}/{mount.connection}/abort", "wb") as file:
        file.write(b"1")
