"""`ccfs restart`: the code that is installed now goes on with a mount, and nobody notices.

Knows the mount's word on its processes, and a signal; never how one daemon follows another.
"""

from __future__ import annotations

import os
import signal
import time
from argparse import Namespace

from ccfs.cli import info, mountpoint_argument, output
from ccfs.errors import DeniedError, Exit, NoAnswerError, UserError
from ccfs.mounting import mountpoint
from ccfs.supervisor.supervisor import RENEW

SECONDS = 30.0
"""That it may take."""
AGAIN = 0.05
_LOG = "the log (syslog) says why"


def run(arguments: Namespace) -> int:
    """Have the mount served by the code that is installed now; return when it is."""
    path = mountpoint_argument.of(arguments.mountpoint)
    before = _info(path)
    keeper = int(before["keeper"] or 0)
    if not keeper:
        raise UserError(
            f"nobody can replace the daemon of {path}",
            "unmount it and mount it again, without '--foreground'",
        )
    _tell(keeper, path)
    after = _wait(path, str(before["pid"]))
    shown = after["version"]
    if before["version"] != shown:
        shown = f"{before['version']} before, {shown} now"
    output.say(
        "notice", f"the ccfs at {path} is served by process {after['pid']} (version {shown})"
    )
    return Exit.OK


def _tell(keeper: int, path: str) -> None:
    """Tell the keeper, by a descriptor: its number may be another's before we have told it."""
    try:
        process = os.pidfd_open(keeper)
    except OSError:
        raise NoAnswerError(
            f"who keeps the ccfs at {path} has ended", "unmount it and mount it again"
        ) from None
    try:
        if str(keeper) != _info(path)["keeper"]:
            raise NoAnswerError(f"the ccfs at {path} is being replaced already", "try again")
        signal.pidfd_send_signal(process, RENEW)
    except PermissionError:
        raise DeniedError(
            f"the ccfs at {path} is kept by root", "as root: 'ccfsd --restart', or 'ccfs restart'"
        ) from None
    finally:
        os.close(process)


def _wait(path: str, old: str) -> dict[str, str]:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = _info(path)
        if found["pid"] != old:
            return found
        time.sleep(AGAIN)
    raise NoAnswerError(f"the ccfs at {path} is served by the same daemon as before", _LOG)


def _info(path: str) -> dict[str, str]:
    """The mount's `info`; NoAnswerError, DeadMountError where it doesn't answer.

    Root reads that of a user as the user: others are not let in.
    """
    owner = mountpoint.find(path).owner

    def work() -> bytes:
        if os.geteuid() == 0 and owner:
            os.setgroups([])
            os.setresuid(owner, owner, owner)
        with open(os.path.join(path, "info"), "rb") as file:
            return file.read()

    said = dict(info.lines(mountpoint.ask(path, work)))
    return {key: said.get(key, "") for key in ("pid", "keeper", "version")}
