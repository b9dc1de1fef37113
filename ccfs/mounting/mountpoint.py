"""The place of a mount: what is mounted there, whether it lives, letting it go.

Knows the kernel's mount table; never what a mount holds beyond its `info` file, and never FUSE's
protocol. The mount table is the kernel's word: a path is a
ccfs and has an owner because the table says so, not because a file in it does.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

from ccfs.errors import DeadMountError, DeniedError, NoAnswerError, NotMountedError
from ccfs.linux import forked_call, fusermount
from ccfs.linux import mount_calls as linux_mounts

FSTYPE = "fuse.ccfs"
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


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/self/mountinfo (proc(5)), as far as it matters here.

    `connection` is the device's minor number, which names the directory in
    /sys/fs/fuse/connections; `owner` is a FUSE mount's user_id, None for others; `options` are
    those of the mount and of the file system; `id` is the kernel's number of the mount, `parent`
    of the one that it is mounted on.
    """

    path: str
    fstype: str
    connection: int
    owner: int | None
    options: frozenset[str] = field(default=frozenset(), compare=False)
    id: int = field(default=0, compare=False)
    parent: int = field(default=-1, compare=False)

    @property
    def is_ccfs(self) -> bool:
        return self.fstype == FSTYPE


def parse_mountinfo(text: str) -> list[Mount]:
    """The mounts of a mountinfo file, in its order; a line of another shape is passed over.

    Only a newline ends a line: the kernel writes other separators (a vertical tab) as they are.
    """
    mounts = (_parse_line(line) for line in text.split("\n"))
    return [mount for mount in mounts if mount is not None]


def _parse_line(line: str) -> Mount | None:
    """`ID PARENT MAJOR:MINOR ROOT PATH OPTIONS [TAG...] - FSTYPE SOURCE SUPEROPTIONS`."""
    head, separator, tail = line.partition(" - ")
    fields, super_fields = head.split(" "), tail.split(" ")
    if not separator or len(fields) < 6 or len(super_fields) < 3:
        return None
    minor = fields[2].partition(":")[2]
    return Mount(
        path=_unescape(fields[4]),
        fstype=super_fields[0],
        connection=int(minor) if minor.isdigit() else -1,
        owner=_owner(super_fields[2]),
        options=frozenset(f"{fields[5]},{super_fields[2]}".split(",")),
        id=_number(fields[0]),
        parent=_number(fields[1]),
    )


def _number(field: str) -> int:
    return int(field) if field.isdigit() else -1


def _owner(options: str) -> int | None:
    for option in options.split(","):
        name, _, value = option.partition("=")
        if name == "user_id" and value.isdigit():
            return int(value)
    return None


def _unescape(field: str) -> str:
    r"""Undo the kernel's `\ooo` for space, tab, newline and backslash."""
    first, *rest = field.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def is_fuse_device(status: os.stat_result) -> bool:
    """Whether this is the device: a file or another device in its place mounts nothing."""
    number = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return stat.S_ISCHR(status.st_mode) and number == FUSE_NUMBER


def mounts() -> list[Mount]:
    """The mounts that this process sees."""
    with open("/proc/self/mountinfo", "rb") as file:
        return parse_mountinfo(file.read().decode("utf-8", "surrogateescape"))


def topmost(path: str, among: Iterable[Mount]) -> Mount | None:
    """What one finds at `path`: of the mounts on it the one that no other is mounted on.

    None when there is none.  The table isn't in that order: a mount can be made beneath another.
    """
    piled = [mount for mount in among if mount.path == path]
    below = {mount.parent for mount in piled}
    return next((mount for mount in reversed(piled) if mount.id not in below), None)


def resolve(path: str) -> str:
    """`path` absolute and without symbolic links, touching nothing at its last component.

    The last component is followed only when it is a symlink itself: looking at a mount whose daemon
    hangs would hang, and looking at a dead one would fail.
    """
    absolute = os.path.abspath(path)
    parent, name = os.path.split(absolute)
    place = os.path.join(os.path.realpath(parent), name)
    if topmost(place, mounts()) is None and os.path.islink(place):
        return os.path.realpath(place)
    return place


def find(path: str) -> Mount:
    """The ccfs at `path` (as `resolve` gives it), dead or alive; NotMountedError without one."""
    mount = topmost(path, mounts())
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
    found = topmost(path, mounts())
    if found is None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    if os.geteuid() == 0:
        linux_mounts.umount_exactly(path, found.id, lazy=lazy)
    else:
        fusermount.unmount(path, lazy=lazy)


def abort(mount: Mount) -> None:
    """End a connection that nobody serves: whoever hangs in it goes on, with an error.

    Does nothing where fusectl is not mounted, or not ours.
    """
    with suppress(OSError), open(f"{FUSECTL}/{mount.connection}/abort", "wb") as file:
        file.write(b"1")
