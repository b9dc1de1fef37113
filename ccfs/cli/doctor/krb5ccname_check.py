# SPDX-License-Identifier: MIT
"""Check that Kerberos programs started from this shell use the mount.

Knows KRB5CCNAME, krb5.conf and the forms of FILE, DIR and KCM residuals; never a ccache.
"""

from __future__ import annotations

import os

from ccfs.cli import mountpoint_argument
from ccfs.cli.doctor import kcm_server
from ccfs.cli.doctor.finding import Finding
from ccfs.cli.doctor.machine import Machine

_CHECK = "krb5ccname"


def check(path: str, machine: Machine, socket: str = "") -> Finding:
    """Check the residual against the mount at `path`.

    `socket`: where this mount itself serves KCM clients, "" if it doesn't.
    """
    hint = f"run '{mountpoint_argument.export_line(path)}'"
    if not machine.residual:
        return Finding(_CHECK, "KRB5CCNAME is not set", hint)
    text = _source(machine)
    if not machine.residual.startswith("KCM:"):
        fault = _path_fault(path, machine.residual)
        return Finding(_CHECK, text + fault, hint if fault else "")
    if kcm_server.is_ccfs(machine) is None:
        return Finding(_CHECK, f"{text}; unknown which process serves it", unknown=True)
    if socket and not _is_same(socket, machine.kcm_socket):
        hint += f", or set kcm_socket = {socket} in krb5.conf"
    if fault := _kcm_fault(machine, socket):
        return Finding(_CHECK, text + fault, hint)
    return Finding(_CHECK, f"{text}, which ccfs serves")


def _source(machine: Machine) -> str:
    """Return where the residual comes from, and what it is."""
    if name := machine.environment.get("KRB5CCNAME"):
        return f"KRB5CCNAME={name}"
    return f"KRB5CCNAME is not set: krb5.conf's {machine.default_ccache}"


def _kcm_fault(machine: Machine, socket: str) -> str:
    """Return what is wrong with a KCM residual, "" if nothing is."""
    if not kcm_server.is_ccfs(machine) or (socket and not _is_same(socket, machine.kcm_socket)):
        return " points elsewhere"
    uid, separator, _ = machine.residual.removeprefix("KCM:").partition(":")
    is_own = uid == str(machine.uid) or not (uid or separator)
    return "" if is_own else f" is no name for uid {machine.uid}"


def _path_fault(path: str, residual: str) -> str:
    """Return what is wrong with a FILE or DIR residual, "" if nothing is."""
    file, directory = _paths(residual)
    if not os.path.realpath(file).startswith(os.path.realpath(path) + "/"):
        return " points elsewhere"
    return "" if os.path.isdir(directory) else f" is stale: there is no {directory}"


def _paths(residual: str) -> tuple[str, str]:
    """Return the file or directory of a FILE or DIR residual, and the directory that must exist.

    `DIR:DIRECTORY` is a collection, `DIR::FILE` one ccache of it.
    """
    kind, separator, rest = residual.partition(":")
    if not separator or kind not in ("FILE", "DIR"):
        return residual, os.path.dirname(residual)
    if kind == "DIR" and not rest.startswith(":"):
        return rest, rest
    file = rest.removeprefix(":")
    return file, os.path.dirname(file)


def _is_same(path: str, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)
