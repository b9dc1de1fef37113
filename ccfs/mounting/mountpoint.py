"""The place of a mount: what is mounted there, whether it lives, letting it go.

Knows the kernel's mount table; never what a mount holds beyond its `info` file, and never FUSE's
protocol. The mount table is the kernel's word: a path is a
ccfs and has an owner because the table says so, not because a file in it does.
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
WRONG_DEVICE = "see what it is with 'ls -l', take it away, then 'modprobe fuse'"
FUSECTL = "/sys/fs/fuse/connections"
ANSWER_SECONDS = 5.0


class State(Enum):
    """What a look at a mount found."""

    ALIVE = "alive"
    DEAD = "dead"
    HANGING = "hanging"


def is_fuse_device(status: os.stat_result) -> bool:
    """Whether this is the device: a file or another device in its place mounts nothing."""
    number = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return stat.S_ISCHR(status.st_mode) and number == FUSE_NUMBER


def resolve(path: str) -> str:
    """`path` absolute and without symbolic links, touching nothing at its last component.

    The last component is followed only when it is a symlink itself: looking at a mount whose daemon
    hangs would hang, and looking at a dead one would fail.
    """
    absolute = os.path.abspath(path)
    parent, name = os.path.split(absolute)
    place = os.path.join(os.path.realpath(parent), name)
    if topmost(place) is None and os.path.islink(place):
        return os.path.realpath(place)
    return place


def find(path: str) -> Mount:
    """The ccfs at `path` (as `resolve` gives it), dead or alive; NotMountedError without one."""
    mount = topmost(path)
    if mount is None or not mount.is_ccfs:
        raise NotMountedError(f"no ccfs is mounted at {path}", "mount one with 'ccfs mount'")
    return mount


def look(mount: Mount, seconds: float = ANSWER_SECONDS) -> State:
    """Whether the daemon answers, within `seconds`.

    A refusal is an answer. Reads `info`, since the kernel may answer a stat from what it remembers.
    """
    try:
        read(mount.path, "info", seconds)
    except TimeoutError:
        return State.HANGING
    except OSError as error:
        return State.DEAD if is_dead(error) else State.ALIVE
    return State.ALIVE


def is_dead(error: OSError) -> bool:
    """Whether `error` is what a mount without a daemon gives."""
    return error.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.ECONNREFUSED)


def read(path: str, name: str, seconds: float = ANSWER_SECONDS) -> bytes:
    """The bytes of the file `name` in the mount at `path`; OSError, or TimeoutError."""

    def work() -> bytes:
        with open(os.path.join(path, name), "rb") as file:
            return file.read()

    return forked_call.call(work, seconds)


def ask(path: str, work: Callable[[], bytes], seconds: float = ANSWER_SECONDS) -> bytes:
    """Do `work` on the ccfs at `path` within a bound, its failures as a person would name them."""
    mount = find(path)
    try:
        return forked_call.call(work, seconds)
    except TimeoutError:
        raise no_answer(path) from None
    except PermissionError:
        owner = "another user" if mount.owner is None else f"uid {mount.owner}"
        raise DeniedError(
            f"the ccfs at {path} belongs to {owner} and lets nobody else in"
        ) from None
    except OSError as error:
        if is_dead(error):
            raise dead(path) from None
        raise


def dead(path: str) -> DeadMountError:
    """What to say of a mount without a daemon."""
    return DeadMountError(
        f"the ccfs at {path} is dead: its daemon is gone",
        "replace it with 'ccfs mount --replace', or remove it with 'ccfs unmount'",
    )


def no_answer(path: str) -> NoAnswerError:
    """What to say of a daemon that doesn't answer."""
    return NoAnswerError(
        f"the ccfs at {path} doesn't answer",
        "remove it with 'ccfs unmount', which ends its daemon",
    )


def detach(path: str, lazy: bool) -> None:
    """Unmount what is at `path`; `lazy` takes it out of sight even while it is in use.

    Raises OSError: EINVAL when nothing is mounted there, EBUSY when it is in use, EPERM when it
    isn't the caller's.  Root does it alone, anyone else with fusermount3, the setuid program that
    mounted it.
    """
    found = topmost(path)
    if found is None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    if os.geteuid() == 0:
        mount_calls.umount_exactly(path, found.id, lazy=lazy)
    else:
        fusermount.unmount(path, lazy=lazy)


def abort(mount: Mount) -> None:
    """End a connection that nobody serves: whoever hangs in it goes on, with an error.

    Does nothing where fusectl is not mounted, or not ours.
    """
    with suppress(OSError), open(f"{FUSECTL}/{mount.connection}/abort", "wb") as file:
        file.write(b"1")
