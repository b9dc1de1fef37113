"""Checks of ccfsd: its control socket, whether it answers, its units, the line for PAM.

Knows the files that `make install` and an administrator put in place; never what ccfsd does.
A host without ccfsd is a healthy one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from ccfs.cli.doctor.finding import Finding
from ccfs.control import paths
from ccfs.control.client import Client, UnreachableError

_PROFILE = "'pam-auth-update --enable ccfs' gives logins a mount (docs/admin/login.md)"
_START = "as root: 'systemctl enable --now ccfsd.socket ccfsd.service', or run 'ccfsd'"


def check(
    path: str = paths.CONTROL_SOCKET, etc: str = "/etc", running: str = "/run/systemd/system"
) -> Iterator[Finding]:
    """A finding of each check.  `running`: exists where systemd runs."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        yield Finding("ccfsd", "none runs here: 'ccfs mount' makes mounts")
        return
    except OSError as error:
        yield Finding("ccfsd", f"cannot see {path}: {error.strerror}", unknown=True)
        return
    yield _socket(path, status)
    if os.path.isdir(running):
        yield _units(etc)
    yield pam(os.path.join(etc, "pam.d"))


def _socket(path: str, status: os.stat_result) -> Finding:
    if not stat.S_ISSOCK(status.st_mode):
        return Finding("ccfsd", f"{path} is no socket", "see who put it there, and remove it")
    if status.st_uid != 0:
        said = f"{path} belongs to uid {status.st_uid}, not to root"
        return Finding("ccfsd", said, "stop what made it, and start ccfsd again")
    try:
        with Client(path):
            return Finding("ccfsd", f"it listens at {path}")
    except UnreachableError as error:
        return Finding("ccfsd", str(error), _START)


def _units(etc: str) -> Finding:
    wanted = ("sockets.target.wants/ccfsd.socket", "multi-user.target.wants/ccfsd.service")
    missing = [
        os.path.basename(link)
        for link in wanted
        if not os.path.lexists(os.path.join(etc, "systemd/system", link))
    ]
    if not missing:
        return Finding("units", "ccfsd starts with the system")
    return Finding("units", f"not enabled in {etc}: {', '.join(missing)}", unknown=True)


def pam(directory: str) -> Finding:
    """Whether a PAM service has the module; a host may have ccfsd for KCM: alone."""
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        return Finding("pam", f"cannot read {directory}: {error.strerror}", unknown=True)
    lines = {name: line for name in names for line in _lines(os.path.join(directory, name))}
    if required := [name for name, line in lines.items() if _locks_out(line)]:
        hint = "make it 'optional': where the file is missing, it locks everybody out"
        return Finding("pam", f"pam_ccfs.so is required in {', '.join(required)}", hint)
    if lines:
        return Finding("pam", f"pam_ccfs.so is in {', '.join(lines)}")
    return Finding("pam", f"pam_ccfs.so is in no service: {_PROFILE}")


def _lines(path: str) -> list[str]:
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return [line for line in file if "pam_ccfs.so" in line.partition("#")[0]]
    return []


def _locks_out(line: str) -> bool:
    return bool({"required", "requisite"} & {*line.split()[:2]})
