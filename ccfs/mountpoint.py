"""The place of a mount: what is mounted there, whether it lives, making it ready, letting it go.

Knows the kernel's mount table and a directory's fitness to be mounted on; never what a mount holds
beyond its `info` file, and never FUSE's protocol. The mount table is the kernel's word: a path is a
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

from ccfs import bounded
from ccfs.errors import DeadMountError, DeniedError, MountpointError, NoAnswerError, NotMountedError

FSTYPE = "fuse.ccfs"
FUSE_DEVICE = "/dev/fuse"
FUSE_NUMBER = (10, 229)
"""The device's major and minor number (Documentation/admin-guide/devices.txt)."""
WRONG_DEVICE = "see what it is with 'ls -l', take it away, then 'modprobe fuse'"
FUSECTL = "/sys/fs/fuse/connections"
ANSWER_SECONDS = 5.0

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8


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
    those of the mount and of the file system.
    """

    path: str
    fstype: str
    connection: int
    owner: int | None
    options: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def is_ccfs(self) -> bool:
        return self.fstype == FSTYPE


def parse_mountinfo(text: str) -> list[Mount]:
    """The mounts of a mountinfo file, in its order; a line of another shape is passed over."""
    mounts = (_parse_line(line) for line in text.splitlines())
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
    )


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
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse_mountinfo(file.read())


def topmost(path: str, among: Iterable[Mount]) -> Mount | None:
    """What one finds at `path`: the last mounted of those on it, None when there is none."""
    found = None
    for mount in among:
        if mount.path == path:
            found = mount
    return found


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

    return bounded.call(work, seconds)


def ask(path: str, work: Callable[[], bytes], seconds: float = ANSWER_SECONDS) -> bytes:
    """Do `work` on the ccfs at `path` within a bound, its failures as a person would name them."""
    mount = find(path)
    try:
        return bounded.call(work, seconds)
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
        "remove it with 'ccfs unmount', which kills its daemon",
    )


def prepare(path: str) -> None:
    """Make `path` (as `resolve` gives it) a directory to mount on, or raise MountpointError."""
    other = topmost(path, mounts())
    if other is not None:
        raise MountpointError(
            f"{path} is busy: a file system of type {other.fstype} is mounted there",
            "unmount that, or name another mountpoint",
        )
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        _check(path)
    except FileNotFoundError:
        raise _without_place(path) from None
    except OSError as error:
        hint = "name a place of your own"
        raise MountpointError(f"cannot make {path}: {_strerror(error)}", hint) from None


def _without_place(path: str) -> MountpointError:
    """What to say where mkdir(2) finds nothing to make a directory in."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        return MountpointError(f"{parent} does not exist", "make it, or name another")
    return MountpointError(
        f"cannot make {path}: the file system of {parent} has no place for it",
        "name a place of your own",
    )


def _check(path: str) -> None:
    """MountpointError unless `path` is an empty directory of the caller's own."""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise MountpointError(f"{path} is not a directory", "name a directory, or a new name")
    if status.st_uid != os.geteuid():
        raise MountpointError(f"{path} belongs to uid {status.st_uid}", "name a directory of yours")
    try:
        entries = os.listdir(path)
    except OSError as error:
        raise MountpointError(f"cannot look into {path}: {_strerror(error)}") from None
    if entries:
        raise MountpointError(f"{path} is not empty", "name an empty directory, or a new name")


def detach(path: str, lazy: bool) -> None:
    """Unmount what is at `path`; `lazy` takes it out of sight even while it is in use.

    Raises OSError: EBUSY when it is in use, EPERM when it isn't the caller's. Root does it alone,
    anyone else with fusermount3, the setuid program that mounted it.
    """
    if os.geteuid() == 0:
        _umount2(path, MNT_DETACH if lazy else 0)
    else:
        _fusermount_u(path, lazy)


def _umount2(path: str, flags: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), flags | UMOUNT_NOFOLLOW) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def _fusermount_u(path: str, lazy: bool) -> None:
    import subprocess

    command = ["fusermount3", "-uz" if lazy else "-u", "--", path]
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(  # noqa: S603 - the mountpoint is one argument, behind `--`
        command,
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        timeout=30,
    )
    if done.returncode != 0:
        number = errno.EBUSY if "busy" in done.stderr else errno.EPERM
        raise OSError(number, done.stderr.strip() or os.strerror(number), path)


def abort(mount: Mount) -> None:
    """End a connection that nobody serves: whoever hangs in it goes on, with an error.

    Does nothing where fusectl is not mounted, or not ours.
    """
    with suppress(OSError), open(f"{FUSECTL}/{mount.connection}/abort", "wb") as file:
        file.write(b"1")


def _strerror(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
