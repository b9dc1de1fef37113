"""`ccfs unmount`: take a mount away and see its daemon end.

Knows how to unmount and whom to wait for; never what the mount held.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
from argparse import Namespace

from ccfs import control, mountpoint
from ccfs.cli import info, output, place
from ccfs.errors import DeniedError, Exit, NoAnswerError
from ccfs.mountpoint import Mount

END_SECONDS = 10.0
_OWN = "only its owner and root can"
_AT_LOGIN = "ccfsd has mounted it: it goes with your last session, or when nobody uses it"


def run(arguments: Namespace) -> int:
    """Unmount; returns when the daemon has ended, NoAnswerError when it doesn't."""
    path = place.of(arguments.mountpoint)
    mount = mountpoint.find(path)
    if os.geteuid() not in (0, mount.owner):
        raise DeniedError(f"the ccfs at {path} belongs to uid {mount.owner}", _OWN)
    daemon = _daemon(mount)
    try:
        if not _detach(path, lazy=False):
            output.say("notice", f"the ccfs at {path} is in use: its users lose it")
            _end_in_use(path, daemon)
        if daemon is not None and not _ended(daemon):
            raise NoAnswerError(f"{path} is unmounted, but its daemon has not ended", "see 'ps'")
    finally:
        if daemon is not None:
            os.close(daemon)
    return Exit.OK


def _end_in_use(path: str, daemon: int | None) -> None:
    """Take a mount away that is in use.

    The daemon does it best, when it is told to end: it wakes those who wait in the mount as long as
    they can be reached by a path. What it leaves is taken out of sight.
    """
    if daemon is not None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(daemon, signal.SIGTERM)
        _ended(daemon)
    found = mountpoint.topmost(path, mountpoint.mounts())
    if found is not None and found.is_ccfs:
        _detach(path, lazy=True)


def _daemon(mount: Mount) -> int | None:
    """A pidfd of the daemon, None when it is gone or the mount won't tell.

    The pid is the mount's own claim: it counts only for a process of the mount's owner, so that no
    user can have root end somebody else's process.
    """
    try:
        said = dict(info.lines(mountpoint.read(mount.path, "info")))
        pid = int(said["pid"])
        daemon = os.pidfd_open(pid)
    except (OSError, KeyError, ValueError):
        return None
    with contextlib.suppress(OSError):
        if mount.owner in (0, _owner(pid)):
            return daemon
    os.close(daemon)
    return None


def _owner(pid: int) -> int:
    """The real uid of a process (proc(5)); the owner of its directory says root for a daemon."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Uid:"))


def _detach(path: str, lazy: bool) -> bool:
    """Unmount; False when it is in use, DeniedError when it is refused."""
    try:
        mountpoint.detach(path, lazy)
    except OSError as error:
        if error.errno == errno.EBUSY and not lazy:
            return False
        hint = _AT_LOGIN if os.path.dirname(path) == control.RUNTIME else _OWN
        raise DeniedError(f"cannot unmount {path}: {error.strerror}", hint) from None
    return True


def _ended(daemon: int) -> bool:
    """Wait for the daemon to end; whether it has, within END_SECONDS."""
    poll = select.poll()
    poll.register(daemon, select.POLLIN)
    return bool(poll.poll(END_SECONDS * 1000))
