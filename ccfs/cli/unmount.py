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

from ccfs import mountpoint
from ccfs.cli import info, output, place
from ccfs.errors import DeniedError, Exit, NoAnswerError
from ccfs.mountpoint import Mount

END_SECONDS = 10.0


def run(arguments: Namespace) -> int:
    """Unmount; returns when the daemon has ended, NoAnswerError when it doesn't."""
    path = place.of(arguments.mountpoint)
    mount = mountpoint.find(path)
    if os.geteuid() not in (0, mount.owner):
        raise DeniedError(f"the ccfs at {path} belongs to uid {mount.owner}")
    daemon = _daemon(mount)
    try:
        busy = _take_away(path)
        if daemon is not None:
            _see_it_end(daemon, terminate=busy, path=path)
    finally:
        if daemon is not None:
            os.close(daemon)
    return Exit.OK


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
        if mount.owner in (0, os.stat(f"/proc/{pid}").st_uid):
            return daemon
    os.close(daemon)
    return None


def _take_away(path: str) -> bool:
    """Unmount; whether it was in use, and so only taken out of sight."""
    try:
        mountpoint.detach(path, lazy=False)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise _refused(path, error) from None
    else:
        return False
    try:
        mountpoint.detach(path, lazy=True)
    except OSError as error:
        raise _refused(path, error) from None
    output.say("notice", f"the ccfs at {path} was in use: its users have lost it")
    return True


def _refused(path: str, error: OSError) -> DeniedError:
    return DeniedError(f"cannot unmount {path}: {error.strerror}")


def _see_it_end(daemon: int, terminate: bool, path: str) -> None:
    """Wait for the daemon; `terminate` asks it to end, since a busy mount keeps it serving."""
    with contextlib.suppress(ProcessLookupError):
        if terminate:
            signal.pidfd_send_signal(daemon, signal.SIGTERM)
    poll = select.poll()
    poll.register(daemon, select.POLLIN)
    if not poll.poll(END_SECONDS * 1000):
        raise NoAnswerError(f"{path} is unmounted, but its daemon has not ended", "see 'ps'")
