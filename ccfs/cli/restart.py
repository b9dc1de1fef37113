# SPDX-License-Identifier: MIT
"""`ccfs restart`: have a mount served by the code that is installed now.

Knows the mount's `info` and the supervisor's signal; never how one daemon takes over from another.
"""

from __future__ import annotations

import os
import signal
import time
from argparse import Namespace

from ccfs.cli import info, mountpoint_argument
from ccfs.commandline import messages
from ccfs.errors import DeniedError, Exit, NoAnswerError, UserError
from ccfs.mounting import mountpoint
from ccfs.supervisor.signals import REIMPORT

RESTART_SECONDS = 30.0
POLL_SECONDS = 0.05


def run(arguments: Namespace) -> int:
    """Restart the daemon of a mount; return when the new one serves."""
    path = mountpoint_argument.resolve(arguments.mountpoint)
    old = _read_info(path)
    supervisor = int(old["keeper"] or 0)
    if not supervisor:
        raise UserError(
            f"the daemon of {path} has no supervisor that could replace it",
            "unmount it and mount it again, without '--foreground'",
        )
    _signal_supervisor(supervisor, path)
    new = _wait_for_new_daemon(path, old["pid"])
    version = new["version"]
    if old["version"] != version:
        version = f"{old['version']} before, {version} now"
    text = f"the ccfs at {path} is served by process {new['pid']} (version {version})"
    messages.say("notice", text)
    return Exit.OK


def _signal_supervisor(supervisor: int, path: str) -> None:
    """Send REIMPORT by a pidfd, after a second look at `info`: the pid may have been reused."""
    try:
        process = os.pidfd_open(supervisor)
    except OSError:
        raise NoAnswerError(
            f"the supervisor of the ccfs at {path} has ended", "unmount it and mount it again"
        ) from None
    try:
        if str(supervisor) != _read_info(path)["keeper"]:
            raise NoAnswerError(f"the ccfs at {path} is being replaced already", "try again")
        signal.pidfd_send_signal(process, REIMPORT)
    except PermissionError:
        raise DeniedError(
            f"the supervisor of the ccfs at {path} is root's",
            "as root: 'ccfsd --restart', or 'ccfs restart'",
        ) from None
    finally:
        os.close(process)


def _wait_for_new_daemon(path: str, old_pid: str) -> dict[str, str]:
    """Return the mount's `info` once it names another daemon."""
    deadline = time.monotonic() + RESTART_SECONDS
    while time.monotonic() < deadline:
        values = _read_info(path)
        if values["pid"] != old_pid:
            return values
        time.sleep(POLL_SECONDS)
    reason = f"the ccfs at {path} is served by the same daemon as before"
    raise NoAnswerError(reason, "see the log (syslog) for the reason")


def _read_info(path: str) -> dict[str, str]:
    """Return `pid`, `keeper` and `version` of the mount's `info`; NoAnswerError, DeadMountError.

    Root reads the info of a user's mount as that user: the mount refuses other users.
    """
    owner = mountpoint.find(path).owner

    def read() -> bytes:
        if os.geteuid() == 0 and owner:
            os.setgroups([])
            os.setresuid(owner, owner, owner)
        with open(os.path.join(path, "info"), "rb") as file:
            return file.read()

    values = dict(info.lines(mountpoint.call(path, read)))
    return {key: values.get(key, "") for key in ("pid", "keeper", "version")}
