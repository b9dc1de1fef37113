# SPDX-License-Identifier: MIT
"""The runtime directory: where ccfsd and its daemons have their sockets, mounts and journals.

Knows paths, owners and modes; never what goes through the sockets.

    /run/ccfs/control        root 0666  where clients connect (ccfs.control)
    /run/ccfs/state          root 0600  what the next ccfsd must know (state_file)
    /run/ccfs/lock           root 0600  locked by the ccfsd that runs
    /run/ccfs/NAME           root 0000  a mountpoint: UID, or UID.SESSION; without its mount it is
                                        closed to all, so that nothing is stored beneath
    /run/ccfs/daemons/NAME   root 0700  the socket of a daemon, NAME.life: open while it lives
    /run/ccfs/journal/NAME   user 0700  a tmpfs for the daemon's journal alone
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ccfs.ccfsd import launch
from ccfs.errors import Exit, UserError
from ccfs.linux import mount_calls, mountinfo, overmounts
from ccfs.mounting import mountpoint

log = logging.getLogger(__name__)

NAME = re.compile(r"(\d{1,10})(?:\.(\d{1,19}))?")
"""The name of a mount: a uid, and the session's number where it is the session's own."""
JOURNAL_OPTIONS = ("noswap,", "")
"""Options of a tmpfs, the best first; a kernel refuses an option that it doesn't know."""
JOURNAL_SIZE = "512M"
"""Room for the largest content twice over, and the log of changes; used as it is written."""
JOURNAL_FILES = 64
_refused: set[str] = set()
"""Options that this kernel has refused: it logs an error for each try."""


class RuntimeDirectoryError(UserError):
    """The runtime directory can't be used."""

    default_status = Exit.BAD_MOUNTPOINT


class RunningError(UserError):
    """Another ccfsd is running here."""

    default_status = Exit.ALREADY_MOUNTED


@dataclass(frozen=True, slots=True)
class Runtime:
    """The paths below a runtime directory."""

    root: str

    @property
    def control(self) -> str:
        """The path of the control socket."""
        return f"{self.root}/control"

    @property
    def state(self) -> str:
        """The path of the state file."""
        return f"{self.root}/state"

    def mountpoint(self, name: str) -> str:
        """The mountpoint of a mount."""
        return f"{self.root}/{name}"

    def socket(self, name: str) -> str:
        """The path of its daemon's socket."""
        return f"{self.root}/daemons/{name}"

    def liveness(self, name: str) -> str:
        """The path of the FIFO that its daemon and the notifier hold open."""
        return f"{self.root}/daemons/{name}.life"

    def journal_dir(self, name: str) -> str:
        """The mountpoint of the tmpfs of its journal."""
        return f"{self.root}/journal/{name}"

    def journal(self, name: str) -> str:
        """The path of its journal."""
        return f"{self.root}/journal/{name}/journal"

    def prepare(self) -> None:
        """Make the directory and those in it, or check that they can be trusted."""
        _directory(self.root, 0o755)
        _directory(f"{self.root}/daemons", 0o700)
        _directory(f"{self.root}/journal", 0o711)

    def lock(self) -> int:
        """Lock the directory as long as the descriptor that this returns is open.

        The lock belongs to the process (fcntl(2)): daemons that are forked don't hold it.
        """
        path = f"{self.root}/lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise RunningError(
                f"another ccfsd is running at {self.root}",
                "end that one first; 'systemctl status ccfsd' may know it",
            ) from None
        return descriptor

    def make_mountpoint(self, name: str) -> str:
        """Make the mountpoint, which is closed to all users while nothing is mounted on it.

        A dead mount stays there until the next is made: the path must never lead below it.
        """
        path = self.mountpoint(name)
        try:
            os.mkdir(path, 0o000)
        except FileExistsError:
            if not self.device(name):
                with (
                    overmounts.directory(self.root) as root,
                    overmounts.below(root, name) as fd,
                ):
                    os.chown(f"/proc/self/fd/{fd}", 0, 0)
                    os.chmod(f"/proc/self/fd/{fd}", 0o000)
        return path

    def unmount_overmounts(self, name: str) -> None:
        """Unmount all at a mountpoint but the first mount, which only ccfsd can have made."""
        path = self.mountpoint(name)
        count = sum(mount.path == path for mount in mountinfo.mounts())
        for _ in range(count - 1):
            _try(lambda at: mount_calls.umount(at, lazy=True), path)

    def device(self, name: str) -> str:
        """Return MAJOR:MINOR of the topmost mount at a mountpoint; "" where there is none."""
        return mountinfo.device_at(self.mountpoint(name))

    def mount_journal_dir(self, name: str, uid: int, gid: int) -> None:
        """Mount a tmpfs for a user's journal: when it is full, no other user is concerned."""
        path = self.journal_dir(name)
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        options = f"mode=0700,uid={uid},gid={gid},size={JOURNAL_SIZE},nr_inodes={JOURNAL_FILES}"
        for option in [option for option in JOURNAL_OPTIONS if option not in _refused]:
            try:
                mount_calls.mount(
                    "ccfs-journal", path, "tmpfs", mount_calls.PROTECTED, option + options
                )
            except OSError as error:
                if error.errno != errno.EINVAL or option == JOURNAL_OPTIONS[-1]:
                    raise
                _refused.add(option)
            else:
                return

    def remove_journal_dir(self, name: str) -> None:
        """Unmount the tmpfs, and remove its mountpoint."""
        _unmount_and_remove(self.journal_dir(name))

    def unmount(self, name: str) -> None:
        """Unmount a mount, dead or alive."""
        _try(launch.unmount_all, self.mountpoint(name))

    def remove_mountpoint(self, name: str) -> None:
        """Unmount a mount, dead or alive, and remove its mountpoint."""
        _unmount_and_remove(self.mountpoint(name))

    def remove_socket(self, name: str) -> None:
        """Remove the socket and the FIFO of a daemon."""
        for path in (self.socket(name), self.liveness(name)):
            _try(os.unlink, path)

    def open_liveness(self, name: str) -> int:
        """Open the FIFO of a daemon that another ccfsd has started; -1 where there is none."""
        try:
            return os.open(self.liveness(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return -1

    def has_journal_dir(self, name: str) -> bool:
        """Return whether the tmpfs of its journal is mounted."""
        return mountinfo.topmost(self.journal_dir(name)) is not None

    def has_journal(self, name: str) -> bool:
        """Return whether a journal is left; what a user mounted over its directory is unmounted."""
        path = self.journal_dir(name)
        while (mount := mountinfo.topmost(path)) and mount.owner is not None:
            mountpoint.unmount(path, lazy=True)
        return overmounts.exists_on(self.journal(name), "tmpfs")

    def names(self) -> set[str]:
        """Return the names of mounts of which a directory, a socket or a journal is left."""
        names = {*os.listdir(self.root), *os.listdir(f"{self.root}/journal")}
        names |= {name.removesuffix(".life") for name in os.listdir(f"{self.root}/daemons")}
        return {name for name in names if NAME.fullmatch(name)}


def _unmount_and_remove(path: str) -> None:
    _try(launch.unmount_all, path)
    _try(os.rmdir, path)


def _try(act: Callable[[str], object], path: str) -> None:
    """Remove something; a failure is logged, so that the rest is removed all the same."""
    try:
        act(path)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("cannot clear %s away: %s", path, error.strerror)


def _directory(path: str, mode: int) -> None:
    try:
        with suppress(FileExistsError):
            os.mkdir(path, mode)
        _check(path, mode)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise RuntimeDirectoryError(
            f"cannot use the directory {path}: {why}", "name another with '--runtime-directory'"
        ) from None


def _check(path: str, mode: int) -> None:
    """See that only root can change what is there."""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise RuntimeDirectoryError(f"{path} is not a directory", "see who put it there")
    if status.st_uid != 0:
        raise RuntimeDirectoryError(
            f"{path} belongs to uid {status.st_uid}", "see who made it, and remove it"
        )
    if status.st_mode & 0o022:
        raise RuntimeDirectoryError(
            f"{path} can be written by others", f"see what they put there, then 'chmod 755 {path}'"
        )
    if stat.S_IMODE(status.st_mode) != mode:
        os.chmod(path, mode)
