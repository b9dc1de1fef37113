"""Mount a ccfs on a directory that is held by a descriptor, and take exactly that mount away.

Knows mount(2), fusermount3 and the mount table; never the daemon.  The directory is the one that
was opened, wherever it has been moved since; a path is looked at once, when it is opened.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import socket
import stat
from array import array
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from ccfs.errors import MountError
from ccfs.linux import fusermount, mount_calls, mountinfo
from ccfs.linux.fusermount import Wait, wait_readable
from ccfs.mounting import closed_directory, mountpoint
from ccfs.mounting.held_requests import HeldRequests

log = logging.getLogger(__name__)

_HINT = "run 'ccfs mount --foreground --debug' to see why"

_WHY = {
    errno.ENODEV: ("this kernel has no FUSE", "load it with 'modprobe fuse'"),
    errno.ENXIO: ("this kernel has no FUSE", "load it with 'modprobe fuse'"),
    errno.ENOENT: (
        "there is no /dev/fuse",
        "load it with 'modprobe fuse'; give it to a container with '--device /dev/fuse'",
    ),
    errno.EPERM: ("permission denied", "it takes root with CAP_SYS_ADMIN"),
    errno.EACCES: ("permission denied", "see who may open /dev/fuse"),
}


@dataclass(frozen=True, slots=True)
class Attached:
    """A mount of ours.

    `device`: the descriptor of its FUSE connection, -1 where that is closed.  `mount`,
    `connection`: its id and the minor number of its device in the mount table.
    """

    device: int
    mount: int
    connection: int


class Mounter:
    """Mounts a ccfs on `directory`, a descriptor (O_RDONLY) of the mountpoint below all mounts.

    `uid`, `gid`: whose mount it is.  `flags`: of mount(2), beside nosuid, nodev and noexec.
    """

    def __init__(
        self, directory: int, uid: int, gid: int, *, allow_other: bool = False, flags: int = 0
    ) -> None:
        self.directory = directory
        self._uid, self._gid = uid, gid
        self._flags = mount_calls.PROTECTED | flags
        self._allow_other = allow_other

    def state(self) -> dict[str, int]:
        """What another version of this code makes the same of."""
        return {
            "directory": self.directory,
            "uid": self._uid,
            "gid": self._gid,
            "allow_other": self._allow_other,
            "flags": self._flags,
        }

    @classmethod
    def resumed(cls, state: dict[str, int]) -> Mounter:
        """One that goes on where another version of this code was."""
        uid, gid, others = state["uid"], state["gid"], bool(state["allow_other"])
        return cls(state["directory"], uid, gid, allow_other=others, flags=state["flags"])

    @property
    def covers(self) -> bool:
        """Whether a mount can be made over, or beneath, another of ours.

        fusermount3 can't: the kernel lets no setuid program look at a user's FUSE file system.
        """
        return os.geteuid() == 0

    @property
    def path(self) -> str:
        """Where the mountpoint is now."""
        return os.readlink(f"/proc/self/fd/{self.directory}")

    def attach(self, wait: Wait = wait_readable) -> Attached:
        """Mount over what is mounted there.  `wait` is how to wait for fusermount3.

        The mount answers once a process serves its descriptor.  Raises MountError.
        """
        path = self.path
        if self.covers:
            device = by_root(
                f"/proc/self/fd/{self.directory}", path, self._options(), flags=self._flags
            )
        else:
            device = self._by_fusermount(path, wait)
        there = mountinfo.topmost(path)
        if there is None or not there.is_ccfs:
            os.close(device)
            raise MountError(f"{path} was unmounted at once", "see what else is mounted there")
        return Attached(device, there.id, there.connection)

    def release(self) -> None:
        """Nothing will be mounted any more: give the directory back as it was."""
        if not self.covers:
            with suppress(OSError):  # it may be gone
                closed_directory.restore(self.directory)

    def replace(
        self, piled: list[Attached], holding: HeldRequests, wait: Wait = wait_readable
    ) -> None:
        """Put a new mount in place of the last in a list of ours, whose daemon is dead.

        Root mounts beneath it and takes it away: no path leads below.  Before Linux 6.5 root mounts
        over it; the first such mount stays until the end, and later ones are taken off it.  For a
        user it is taken away first: the directory below is closed.  Raises MountError.
        """
        dead = piled[-1]
        if not self.covers:
            closed_directory.put_obstacles(self.directory)
            self.try_detach(piled.pop(), wait)
            piled.append(self.attach(wait))
            holding.close()
        elif (beneath := self._attach_beneath(dead)) is not None:
            self.try_detach(piled.pop(), wait)
            piled.append(beneath)
            holding.close()
        else:
            holding.close()  # a request in the root directory would keep mount(2) from its lock
            piled[-1] = dataclasses.replace(dead, device=-1)
            if len(piled) > 1:
                self.try_detach(piled.pop(), wait)
            piled.append(self.attach(wait))

    def _attach_beneath(self, top: Attached) -> Attached | None:
        """Mount beneath one of ours; None where the kernel can't."""
        path = self.path
        before = {one.id for one in mountinfo.mounts()}
        device = beneath(path, top.mount, self._options(), self._flags)
        if device is None:
            return None
        made = [one for one in mountinfo.mounts() if one.path == path and one.id not in before]
        return Attached(device, made[-1].id, made[-1].connection)

    def try_detach(self, attached: Attached, wait: Wait = wait_readable) -> None:
        """Take away a mount of ours; a warning in the log where that fails."""
        try:
            self.detach(attached, wait)
        except OSError as error:
            log.warning("cannot unmount %s: %s", self.path, error.strerror)

    def is_attached(self, attached: Attached) -> bool:
        """Whether a mount of ours is still in the mount table."""
        return self._find(attached) is not None

    def detach(self, attached: Attached, wait: Wait = wait_readable) -> None:
        """Take away a mount of ours that is the topmost, in use or not.  Raises OSError."""
        there = self._find(attached)
        if there is None:
            return
        top = mountinfo.topmost(there.path)
        if top is None or top.id != there.id:
            raise OSError(errno.EBUSY, "something else is mounted over it", there.path)
        if os.geteuid() == 0:
            mount_calls.umount_exactly(there.path, there.id, lazy=True)
        else:
            fusermount.unmount(there.path, lazy=True, wait=wait)

    def abort(self, attached: Attached) -> None:
        """End the connection of a mount of ours."""
        there = self._find(attached)
        if there is not None:
            mountpoint.abort(there)

    def _find(self, attached: Attached) -> mountinfo.Mount | None:
        return next(
            (
                one
                for one in mountinfo.mounts()
                if (one.id, one.connection) == (attached.mount, attached.connection)
            ),
            None,
        )

    def _options(self) -> list[str]:
        return [
            f"rootmode={stat.S_IFDIR:o}",
            f"user_id={self._uid}",
            f"group_id={self._gid}",
            *self._shared_options(),
        ]

    def _shared_options(self) -> list[str]:
        """Where only the owner gets in the kernel need not look at modes.

        For that it would ask for a directory's attributes after each change in it; each handler
        checks the caller by itself.
        """
        return ["allow_other", "default_permissions"] if self._allow_other else []

    def _by_fusermount(self, path: str, wait: Wait) -> int:
        options = ["fsname=ccfs", "subtype=ccfs", "nosuid", "nodev", "noexec"]
        options += self._shared_options()
        closed_directory.open_for_mount(self.directory)
        try:
            return self._run_fusermount(options, path, wait)
        finally:
            closed_directory.close(self.directory)

    def _run_fusermount(self, options: list[str], path: str, wait: Wait) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, theirs:
            try:
                # The last "." has fusermount3 take the directory that the descriptor is of.
                fusermount.run(
                    ["-o", ",".join(options), "--", f"/proc/self/fd/{self.directory}/."],
                    wait,
                    (self.directory, theirs.fileno()),
                    _FUSE_COMMFD=str(theirs.fileno()),
                )
            except OSError as error:
                raise MountError(f"cannot mount on {path}: {error.strerror}", _HINT) from None
            theirs.close()
            return _receive_descriptor(ours, path)


def by_root(target: str, shown: str, options: Iterable[str], flags: int) -> int:
    """Mount with mount(2); returns the FUSE descriptor.  `shown`: the path in messages.

    Raises MountError.
    """
    device = _open_device()
    try:
        mount_calls.mount(
            "ccfs", target, mountinfo.FSTYPE, flags, ",".join([f"fd={device}", *options])
        )
    except OSError as error:
        os.close(device)
        raise _refused(f"cannot mount on {shown}", error) from None
    return device


def beneath(path: str, top: int, options: Iterable[str], flags: int) -> int | None:
    """Mount beneath the mount with the id `top`, the topmost at `path`, as root.

    Returns the FUSE descriptor, None where the kernel can't (before Linux 6.5).  Raises MountError.
    """
    device = _open_device()
    pairs = [option.partition("=") for option in options]
    given = {name: value if equals else None for name, equals, value in pairs}
    given |= {"source": "ccfs", "subtype": "ccfs", "fd": str(device)}
    try:
        root = mount_calls.open_root(path, top)
        try:
            mount_calls.mount_beneath(root, "fuse", given, flags)
        finally:
            os.close(root)
    except OSError as error:
        os.close(device)
        log.debug("cannot mount beneath %s: %s", path, error.strerror)
        return None
    return device


def _open_device() -> int:
    try:
        return os.open(mountpoint.FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _refused("cannot open /dev/fuse", error) from None


def _receive_descriptor(connection: socket.socket, path: str) -> int:
    """The descriptor that fusermount3 sends over _FUSE_COMMFD before it ends."""
    item = array("i")
    with suppress(OSError):
        connection.settimeout(fusermount.SECONDS)
        _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(item.itemsize))
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                item.frombytes(payload[: item.itemsize])
                os.set_inheritable(item[0], False)
                return item[0]
    raise MountError(f"cannot mount on {path}: fusermount3 gave no descriptor", _HINT)


def _refused(what: str, error: OSError) -> MountError:
    why, hint = _WHY.get(error.errno or 0, ((error.strerror or str(error)).lower(), ""))
    return MountError(f"{what}: {why}", hint)
