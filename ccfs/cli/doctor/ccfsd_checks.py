# SPDX-License-Identifier: MIT
"""Checks of ccfsd: its control socket, whether it answers, its units, the line for PAM.

Knows the files that `make install` and an administrator install; never what ccfsd does.
A host without ccfsd is fine.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from ccfs.cli.doctor.finding import Finding
from ccfs.control.client import Client, UnreachableError
from ccfs.control.paths import CONTROL_SOCKET

_ENABLE_PAM = "'pam-auth-update --enable ccfs' gives logins a mount (docs/admin/login.md)"
_START = "as root: 'systemctl enable --now ccfsd.socket ccfsd.service', or run 'ccfsd'"
_UNITS = ("sockets.target.wants/ccfsd.socket", "multi-user.target.wants/ccfsd.service")


def check(
    path: str = CONTROL_SOCKET, etc: str = "/etc", systemd: str = "/run/systemd/system"
) -> Iterator[Finding]:
    """Yield the finding of each check.  `systemd`: a directory that exists if systemd runs."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        yield Finding("ccfsd", "no ccfsd runs here: mount with 'ccfs mount'")
        return
    except OSError as error:
        yield Finding("ccfsd", f"cannot see {path}: {error.strerror}", unknown=True)
        return
    yield _control_socket(path, status)
    if os.path.isdir(systemd):
        yield _units(etc)
    yield check_pam(os.path.join(etc, "pam.d"))


def _control_socket(path: str, status: os.stat_result) -> Finding:
    if not stat.S_ISSOCK(status.st_mode):
        hint = "find out what made it, and remove it"
        return Finding("ccfsd", f"{path} is no socket", hint)
    if status.st_uid != 0:
        text = f"{path} belongs to uid {status.st_uid}, not to root"
        return Finding("ccfsd", text, "stop what made it, and start ccfsd again")
    try:
        with Client(path):
            return Finding("ccfsd", f"it listens at {path}")
    except UnreachableError as error:
        return Finding("ccfsd", str(error), _START)


def _units(etc: str) -> Finding:
    missing = [
        os.path.basename(link)
        for link in _UNITS
        if not os.path.lexists(os.path.join(etc, "systemd/system", link))
    ]
    if not missing:
        return Finding("units", "ccfsd starts with the system")
    return Finding("units", f"not enabled in {etc}: {', '.join(missing)}", unknown=True)


def check_pam(directory: str) -> Finding:
    """Check that no PAM service requires the module; a host may have ccfsd for `KCM:` alone."""
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        return Finding("pam", f"cannot read {directory}: {error.strerror}", unknown=True)
    lines = {name: line for name in names for line in _module_lines(os.path.join(directory, name))}
    if required := [name for name, line in lines.items() if _is_required(line)]:
        hint = "make it 'optional': if its file is missing, no user can log in"
        return Finding("pam", f"pam_ccfs.so is required in {', '.join(required)}", hint)
    if lines:
        return Finding("pam", f"pam_ccfs.so is in {', '.join(lines)}")
    return Finding("pam", f"pam_ccfs.so is in no service: {_ENABLE_PAM}")


def _module_lines(path: str) -> list[str]:
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return [line for line in file if "pam_ccfs.so" in line.partition("#")[0]]
    return []


def _is_required(line: str) -> bool:
    return bool({"required", "requisite"} & {*line.split()[:2]})
