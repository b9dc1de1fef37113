# SPDX-License-Identifier: MIT
"""Mount a ccfs on a directory that is held open, and unmount exactly that mount.

The directory is the one that was opened, wherever it has been moved since; a path is looked up
once, when the directory is opened.

Knows mount(2), fusermount3 and the mount table; never the daemon.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass

from ccfs.errors import MountError
from ccfs.linux import descriptors, fusermount, mount_calls, mountinfo
from ccfs.linux.descriptors import wait_readable
from ccfs.linux.fusermount import Wait
from ccfs.mounting import closed_directory, mount_by_root, mountpoint
from ccfs.mounting.held_requests import HeldRequests

log = logging.getLogger(__name__)

_HINT = "run 'ccfs mount --foreground --debug' to see why"


@dataclass(frozen=True, slots=True)
class FuseMount:
    """A mount that this process has made.

    `device`: the descriptor of its FUSE connection, -1 where that is closed.  `id`, `connection`:
    its id and the minor number of its device in the mount table.
    """

    device: int
    id: int
    connection: int


class Mounter:
    """Mounts a ccfs on `directory`, a descriptor (O_RDONLY) of the mountpoint below all mounts.

    `uid`, `gid`: the mount's owner.  `flags`: of mount(2), beside nosuid, nodev and noexec.
    """

    def __init__(
        self, directory: int, uid: int, gid: int, *, allow_other: bool = False, flags: int = 0
    ) -> None:
        self.directory = directory
        self._uid, self._gid = uid, gid
        self._flags = mount_calls.PROTECTED | flags
        self._allow_other = allow_other

    def to_state(self) -> dict[str, int]:
        """Return values of which another version of this code makes the same."""
        return {
            "directory": self.directory,
            "uid": self._uid,
            "gid": self._gid,
            "allow_other": self._allow_other,
            "flags": self._flags,
        }

    @classmethod
    def from_state(cls, state: dict[str, int]) -> Mounter:
        """Undo `to_state`."""
        uid, gid, others = state["uid"], state["gid"], bool(state["allow_other"])
        return cls(state["directory"], uid, gid, allow_other=others, flags=state["flags"])

    @property
    def can_cover(self) -> bool:
        """True if a mount can be made over, or beneath, another of this process.

        fusermount3 can't: the kernel lets no setuid program look at a user's FUSE file system.
        """
        return os.geteuid() == 0

    @property
    def path(self) -> str:
        """Where the mountpoint is now."""
        return os.readlink(f"/proc/self/fd/{self.directory}")

    def mount(self, wait: Wait = wait_readable) -> FuseMount:
        """Mount, over what is mounted there.  `wait` is how to wait for fusermount3.

        The mount answers once a process serves its descriptor.  Raises MountError.
        """
        path = self.path
        if self.can_cover:
            target = f"/proc/self/fd/{self.directory}"
            device = mount_by_root.mount(target, path, self._root_options(), flags=self._flags)
        else:
            device = self._mount_by_fusermount(path, wait)
        found = mountinfo.topmost(path)
        if found is None or not found.is_ccfs:
            os.close(device)
            raise MountError(f"{path} was unmounted at once", "see what else is mounted there")
        return FuseMount(device, found.id, found.connection)

    def release(self) -> None:
        """Give the directory back as it was: nothing will be mounted any more."""
        if not self.can_cover:
            with suppress(OSError):  # it may be removed
                closed_directory.restore(self.directory)

    def replace(
        self, mounts: list[FuseMount], requests: HeldRequests, wait: Wait = wait_readable
    ) -> None:
        """Put a new mount in place of the last of `mounts`, whose daemon is dead.

        Root mounts beneath it and unmounts it: no path leads below.  Before Linux 6.5 root mounts
        over it; the first such mount stays until the end, and later ones are unmounted.  For a user
        it is unmounted first: the directory below is closed.  Raises MountError.
        """
        dead = mounts[-1]
        if not self.can_cover:
            closed_directory.block(self.directory)
            self.try_unmount(mounts.pop(), wait)
            mounts.append(self.mount(wait))
            requests.close()
        elif (beneath := self._mount_beneath(dead)) is not None:
            self.try_unmount(mounts.pop(), wait)
            mounts.append(beneath)
            requests.close()
        else:
            # Not after the mount: mount(2) takes the lock of the root directory, which a client may
            # hold that waits for a reply.
            requests.close()
            mounts[-1] = dataclasses.replace(dead, device=-1)
            if len(mounts) > 1:
                self.try_unmount(mounts.pop(), wait)
            mounts.append(self.mount(wait))

    def try_unmount(self, mount: FuseMount, wait: Wait = wait_readable) -> None:
        """As `unmount`; a warning in the log where that fails."""
        try:
            self.unmount(mount, wait)
        except OSError as error:
            log.warning("cannot unmount %s: %s", self.path, error.strerror)

    def is_mounted(self, mount: FuseMount) -> bool:
        """True if a mount is still in the mount table."""
        return _find(mount) is not None

    def unmount(self, mount: FuseMount, wait: Wait = wait_readable) -> None:
        """Unmount a mount that is the topmost, in use or not.  Raises OSError."""
        found = _find(mount)
        if found is None:
            return
        top = mountinfo.topmost(found.path)
        if top is None or top.id != found.id:
            raise OSError(errno.EBUSY, "something else is mounted over it", found.path)
        if os.geteuid() == 0:
            mount_calls.umount_exactly(found.path, found.id, lazy=True)
        else:
            fusermount.unmount(found.path, lazy=True, wait=wait)

    def abort(self, mount: FuseMount) -> None:
        """End the connection of a mount."""
        found = _find(mount)
        if found is not None:
            mountpoint.abort(found)

    def _mount_beneath(self, top: FuseMount) -> FuseMount | None:
        """Mount beneath a mount of this process; None where the kernel can't."""
        path = self.path
        before = {mount.id for mount in mountinfo.mounts()}
        device = mount_by_root.mount_beneath(path, top.id, self._root_options(), self._flags)
        if device is None:
            return None
        new = [m for m in mountinfo.mounts() if m.path == path and m.id not in before][-1]
        return FuseMount(device, new.id, new.connection)

    def _root_options(self) -> list[str]:
        return [
            f"rootmode={stat.S_IFDIR:o}",
            f"user_id={self._uid}",
            f"group_id={self._gid}",
            *self._sharing_options(),
        ]

    def _sharing_options(self) -> list[str]:
        """Have the kernel check modes only where others than the owner get in.

        For that it asks for a directory's attributes after each change in it; each handler checks
        the caller by itself.
        """
        return ["allow_other", "default_permissions"] if self._allow_other else []

    def _mount_by_fusermount(self, path: str, wait: Wait) -> int:
        options = ["fsname=ccfs", "subtype=ccfs", "nosuid", "nodev", "noexec"]
        options += self._sharing_options()
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
            return _receive_device(ours, path)


def _find(mount: FuseMount) -> mountinfo.Mount | None:
    key = (mount.id, mount.connection)
    return next((m for m in mountinfo.mounts() if (m.id, m.connection) == key), None)


def _receive_device(connection: socket.socket, path: str) -> int:
    """The FUSE descriptor that fusermount3 sends over _FUSE_COMMFD before it ends."""
    with suppress(OSError):
        connection.settimeout(fusermount.SECONDS)
        _, received = descriptors.receive(connection, 1, 1)
        if received:
            return received[0]
    raise MountError(f"cannot mount on {path}: fusermount3 gave no descriptor", _HINT)
