# SPDX-License-Identifier: MIT
"""Which process serves `KCM:` on the machine, and whether it is ccfs.

Knows a socket and /proc; never the KCM protocol.
"""

from __future__ import annotations

import os

from ccfs.cli.doctor.finding import Finding
from ccfs.cli.doctor.machine import Machine
from ccfs.linux.socket_listener import listener_pid

CCFS_PROGRAMS = {"ccfs", "ccfsd", "ccfs.ccfsd"}
CCFS_WORDS = 3
"""Words of a command line that may name the program: behind an interpreter and `-m`."""


def check(machine: Machine) -> Finding:
    """Check that no other server gets credentials of `KCM:`, and that there is one if needed."""
    path = machine.kcm_socket
    pid = listener_pid(path)
    if pid is None and machine.residual.startswith("KCM:"):
        hint = f"start ccfsd, or 'ccfs mount --kcm-socket {path}' (docs/admin/kcm.md)"
        text = f"programs use {machine.residual}, and no process listens at {path}"
        return Finding("kcm", text, hint)
    if pid is None:
        return Finding("kcm", f"no KCM server is at {path}")
    text = f"process {pid} serves KCM: ccaches at {path}"
    name, is_ccfs = _program(pid)
    if is_ccfs is None:
        reason = f"{name} listens for a unit" if name else "the process is not visible from here"
        return Finding("kcm", f"{text}; unknown whether it is ccfs: {reason}", unknown=True)
    if is_ccfs:
        return Finding("kcm", f"{text}: {name}")
    hint = "stop it (docs/admin/kcm.md), or see that KRB5CCNAME is set wherever tickets are used"
    return Finding("kcm", f"{text}: {name}" if name else text, hint)


def is_ccfs(machine: Machine) -> bool | None:
    """True if ccfs serves `KCM:` on the machine; None if that is unknown."""
    pid = listener_pid(machine.kcm_socket)
    return False if pid is None else _program(pid)[1]


def _program(pid: int) -> tuple[str, bool | None]:
    """Return a process's name, "" if unknown, and whether it is a part of ccfs.

    That is None if /proc hides the process (hidepid=), if it is in another pid namespace (pid 0),
    or if it is systemd, which listens for a service that it starts later.
    """
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            name = file.read().strip()
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            words = file.read().split("\0")[:CCFS_WORDS]
    except OSError:
        return "", None
    if pid == 1 and name == "systemd":
        return name, None
    programs = [os.path.basename(word) for word in words]
    for program in programs:
        if program in CCFS_PROGRAMS:
            return program.partition(".")[2] or program, True
    return name, False
