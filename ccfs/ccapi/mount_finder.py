# SPDX-License-Identifier: MIT
"""Find a user's mount, check it, and notice that it was replaced.

Knows paths and the order in which they are tried, never what a mount holds.
"""

import errno
import os
from pathlib import Path

from ccfs.ccapi import change_clock, mount_trust
from ccfs.ccapi import constants as cc
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.error_codes import api_errors
from ccfs.ccapi.mount_client import MountClient
from ccfs.control.client import own_mount
from ccfs.control.messages import RefusedError
from ccfs.control.paths import RUNTIME

CCFSD_SECONDS = 5.0
"""Bound for ccfsd to make a mount."""
_MISSING = (errno.ENOENT, errno.ENOTDIR)


class MountFinder:
    """Finds the mount of one context: the one it was given, or the user's own."""

    def __init__(self, mount: "str | os.PathLike[str] | None") -> None:
        self._paths = [os.path.abspath(mount)] if mount is not None else default_paths()
        self._path = self._paths[0]
        self._may_ask_ccfsd = mount is None
        self._mount: MountClient | None = None

    @property
    def change_clock(self) -> change_clock.ChangeClock:
        """The change clock of this mountpoint, one for the whole process."""
        return change_clock.of(self._path)

    def find(self) -> MountClient | None:
        """Return the current mount; None if nothing is mounted.

        ccErrServerInsecure if another file system is mounted, ccErrServerUnavailable if the mount
        is dead.
        """
        with api_errors({}):
            if self._mount is None or not self._is_current(self._mount):
                self._connect()
        return self._mount

    def require(self) -> MountClient:
        """Return the current mount, made by ccfsd if the caller has none and ccfsd can make it.

        ccErrServerUnavailable if there is none.
        """
        mount = self.find() or self._ask_ccfsd()
        if mount is None:
            raise CCAPIError(cc.ccErrServerUnavailable)
        return mount

    def _ask_ccfsd(self) -> MountClient | None:
        """Have ccfsd make the caller's mount, unless the context was given another."""
        try:
            path = own_mount(seconds=CCFSD_SECONDS) if self._may_ask_ccfsd else None
        except RefusedError:
            return None
        return self.find() if path in self._paths else None

    def _is_current(self, mount: MountClient) -> bool:
        """True if `mount` is still the one at the path.

        The device number tells: it isn't reused while `mount` has a descriptor.
        """
        try:
            return os.stat(self._path).st_dev == mount.device
        except OSError as error:
            if error.errno in _MISSING:
                return False
            raise

    def _connect(self) -> None:
        lost, self._mount = self._mount, None
        for path in self._paths:
            self._mount = connect(path)
            if self._mount is not None:
                self._path = path
                return
        if lost is not None:
            self.change_clock.count_lost_mount()


def connect(path: str) -> MountClient | None:
    """Return the mount at a path; None if nothing is mounted.  OSError, CCAPIError."""
    try:
        root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _MISSING:
            return None
        raise
    try:
        # Without a mount, a login's mountpoint has mode 0: `..` below it can't be opened.
        if path.startswith(f"{RUNTIME}/") and not mount_trust.is_ccfs(root):
            return None
        if not mount_trust.is_mountpoint(root):
            return None
        if not mount_trust.is_trusted(root):
            raise CCAPIError(cc.ccErrServerInsecure)
        return MountClient(os.dup(root))
    finally:
        os.close(root)


def default_paths() -> list[str]:
    """Return the mountpoints of a user's own mount, in the order in which they are tried."""
    login = f"{RUNTIME}/{os.geteuid()}"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return [str(Path(runtime) / "ccfs"), login] if runtime else [login]
