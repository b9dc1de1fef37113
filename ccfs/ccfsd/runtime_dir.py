"""The runtime directory: where ccfsd and its daemons have their sockets, mounts and journals.

Knows paths, owners and modes; never what goes through the sockets.

    /run/ccfs/control        root 0666  where clients ask (ccfs.control)
    /run/ccfs/state          root 0600  what a new ccfsd has to know (statefile)
    /run/ccfs/lock           root 0600  locked by the one ccfsd that runs
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
"""What a tmpfs may be mounted with, the best first; a kernel refuses what it doesn't know."""
JOURNAL_SIZE = "512M"
"""Room for the largest content twice over, and the log of changes; used as it is written."""
JOURNAL_FILES = 64
_unknown: set[str] = set()
"""Options that this kernel has refused: it logs an error each time it is asked for one."""


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
        """Where clients connect."""
        return f"{self.root}/control"

    @property
    def state(self) -> str:
        """What is remembered."""
        return f"{self.root}/state"

    def mountpoint(self, name: str) -> str:
        """Where a mount is."""
        return f"{self.root}/{name}"

    def socket(self, name: str) -> str:
        """Where its daemon is asked."""
        return f"{self.root}/daemons/{name}"

    def life(self, name: str) -> str:
        """The FIFO that its daemon and the helper hold open."""
        return f"{self.root}/daemons/{name}.life"

    def journals(self, name: str) -> str:
        """The tmpfs of its journal."""
        return f"{self.root}/journal/{name}"

    def journal(self, name: str) -> str:
        """Its journal."""
        return f"{self.root}/journal/{name}/journal"

    def prepare(self) -> None:
        """Make the directory and those in it, or see that they can be trusted."""
        _directory(self.root, 0o755)
        _directory(f"{self.root}/daemons", 0o700)
        _directory(f"{self.root}/journal", 0o711)

    def lock(self) -> int:
        """Be the only ccfsd here, as long as the descriptor that this returns is open.

        A lock of the process (fcntl(2)): daemons that are forked don't hold it.
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
        """The mountpoint: closed to all while nothing is mounted on it.

        A dead mount stays there, under the next one: the path must not lead below meanwhile.
        """
        path = self.mountpoint(name)
        try:
            os.mkdir(path, 0o000)
        except FileExistsError:
            if not self.device(name):
                with overmounts.directory(self.root) as root, overmounts.below(root, name) as found:
                    os.chown(f"/proc/self/fd/{found}", 0, 0)
                    os.chmod(f"/proc/self/fd/{found}", 0o000)
        return path

    def uncover(self, name: str) -> None:
        """Leave one mount at a mountpoint, the first, which only ccfsd can have made."""
        path = self.mountpoint(name)
        piled = sum(mount.path == path for mount in mountinfo.mounts())
        for _ in range(piled - 1):
            _try(lambda at: mount_calls.umount(at, lazy=True), path)

    def device(self, name: str) -> str:
        """MAJOR:MINOR of what is seen at a mountpoint; "" for nothing."""
        return mountinfo.device_at(self.mountpoint(name))

    def make_journals(self, name: str, uid: int, gid: int) -> None:
        """A tmpfs of the user's own: full, it is so for that user alone."""
        path = self.journals(name)
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        given = f"mode=0700,uid={uid},gid={gid},size={JOURNAL_SIZE},nr_inodes={JOURNAL_FILES}"
        for better in [one for one in JOURNAL_OPTIONS if one not in _unknown]:
            try:
                mount_calls.mount(
                    "ccfs-journal", path, "tmpfs", mount_calls.PROTECTED, better + given
                )
            except OSError as error:
                if error.errno != errno.EINVAL or better == JOURNAL_OPTIONS[-1]:
                    raise
                _unknown.add(better)
            else:
                return

    def remove_journals(self, name: str) -> None:
        """Take the tmpfs away, and all that is in it."""
        _unmount_and_remove(self.journals(name))

    def detach(self, name: str) -> None:
        """Take a mount away, dead or alive."""
        _try(launch.detach, self.mountpoint(name))

    def remove_mountpoint(self, name: str) -> None:
        """Take a mount away, dead or alive, and its mountpoint."""
        _unmount_and_remove(self.mountpoint(name))

    def remove_socket(self, name: str) -> None:
        """Nobody is asked there any more."""
        for path in (self.socket(name), self.life(name)):
            _try(os.unlink, path)

    def open_life(self, name: str) -> int:
        """The FIFO of a daemon that another ccfsd has started, to see it end; -1 without one."""
        try:
            return os.open(self.life(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return -1

    def has_journals(self, name: str) -> bool:
        """Whether the tmpfs of its journal is there."""
        return mountinfo.topmost(self.journals(name)) is not None

    def has_journal(self, name: str) -> bool:
        """Whether a journal is there that nobody has wiped; what a user put over it is let go."""
        path = self.journals(name)
        while (there := mountinfo.topmost(path)) and there.owner is not None:
            mountpoint.unmount(path, lazy=True)
        return overmounts.exists_on(self.journal(name), "tmpfs")

    def names(self) -> set[str]:
        """The mounts of which there is any trace."""
        found = {*os.listdir(self.root), *os.listdir(f"{self.root}/journal")}
        found |= {name.removesuffix(".life") for name in os.listdir(f"{self.root}/daemons")}
        return {name for name in found if NAME.fullmatch(name)}


def _unmount_and_remove(path: str) -> None:
    _try(launch.detach, path)
    _try(os.rmdir, path)


def _try(act: Callable[[str], object], path: str) -> None:
    """Clear something away, as far as that goes: what can't be shall keep nothing else from it."""
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
    """Nobody but root may have a say in what is there."""
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
