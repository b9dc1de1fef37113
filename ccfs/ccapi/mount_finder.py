"""The place where a user's server is: finding the mount, checking it, seeing it replaced.

It knows paths and the order in which they are tried, never what a server holds.
"""

import errno
import os
from pathlib import Path

from ccfs.ccapi import change_clock, trusted_mount
from ccfs.ccapi import constants as cc
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.error_codes import failures
from ccfs.ccapi.mount_client import Server
from ccfs.control import messages, paths
from ccfs.control.client import own_mount

ASK_SECONDS = 5.0
"""How long ccfsd may take to make a mount."""
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR)


class Place:
    """Where one context looks for its server: the mount it was given, or the user's own."""

    def __init__(self, mount: "str | os.PathLike[str] | None") -> None:
        self._paths = [os.path.abspath(mount)] if mount is not None else default_paths()
        self._path = self._paths[0]
        self._may_ask = mount is None
        self._server: Server | None = None

    @property
    def time(self) -> change_clock.Clock:
        """The change time of this place, which all of the process share."""
        return change_clock.of(self._path)

    def find(self) -> Server | None:
        """The server that is there now; None where nothing is mounted.

        ccErrServerInsecure where something else is, ccErrServerUnavailable where it is dead.
        """
        with failures({}):
            if self._server is None or not self._same(self._server):
                self._connect()
        return self._server

    def server(self) -> Server:
        """The server that is there now, started if ccfsd can do that for the caller.

        ccErrServerUnavailable where nothing is mounted.
        """
        found = self.find() or self._ask()
        if found is None:
            raise CCAPIError(cc.ccErrServerUnavailable)
        return found

    def _ask(self) -> Server | None:
        """Have ccfsd mount for the caller, whose own mount is wanted, and none is there."""
        try:
            path = own_mount(seconds=ASK_SECONDS) if self._may_ask else None
        except messages.RefusedError:
            return None
        return self.find() if path in self._paths else None

    def _same(self, server: Server) -> bool:
        """Whether a server is still what one finds here: our descriptor keeps its device alive."""
        try:
            return os.stat(self._path).st_dev == server.device
        except OSError as error:
            if error.errno in _NOTHING_THERE:
                return False
            raise

    def _connect(self) -> None:
        lost, self._server = self._server, None
        for path in self._paths:
            self._server = connect(path)
            if self._server is not None:
                self._path = path
                return
        if lost is not None:
            self.time.vanished()


def connect(path: str) -> Server | None:
    """The server mounted at a path; None where nothing is mounted.  OSError, CCAPIError."""
    try:
        root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return None
        raise
    try:
        # Without its mount a login's place is closed, so that there is no way up from it.
        if path.startswith(f"{paths.RUNTIME}/") and not trusted_mount.is_ccfs(root):
            return None
        if not trusted_mount.is_mountpoint(root):
            return None
        if not trusted_mount.is_trusted(root):
            raise CCAPIError(cc.ccErrServerInsecure)
        return Server(os.dup(root))
    finally:
        os.close(root)


def default_paths() -> list[str]:
    """Where a user's mount may be, in the order in which to look."""
    at_login = f"{paths.RUNTIME}/{os.geteuid()}"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return [str(Path(runtime) / "ccfs"), at_login] if runtime else [at_login]
