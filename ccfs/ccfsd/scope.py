# SPDX-License-Identifier: MIT
"""A scope of systemd's for the daemons, beside the service that starts them.

Daemons outlive ccfsd.  In the control group of its service systemd takes them for left-overs of an
unclean end, and logs three lines for each daemon whenever ccfsd is started again.

Knows busctl(1) and the words of org.freedesktop.systemd1(5); never what a daemon does.
"""

import logging
import os
import shutil
import subprocess
from pathlib import Path

log = logging.getLogger(__name__)

SECONDS = 2.0
"""Seconds that systemd has to reply."""
_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
_METHOD = ("org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))")
_UNBOUNDED = ("TasksMax", "t", str(2**64 - 1))
_NO_OOM_END = ("OOMPolicy", "s", "continue")  # of scopes since systemd 253


def enter(pid: int, group: str = "/proc/self/cgroup") -> bool:
    """Move a process, and what it forks, to a scope of its own; returns whether it is there.

    Nothing is done outside of a service of systemd's.  `group`: the file that names the control
    group of this process (cgroups(7)).
    """
    program = shutil.which("busctl", path="/usr/bin:/bin")
    if program is None or not _in_service(group):
        return False
    for properties in ((_UNBOUNDED, _NO_OOM_END), (_UNBOUNDED,)):
        failure = _call(program, pid, properties)
        if failure is None:
            return True
    log.info("the daemons are in the control group of ccfsd: %s", failure)
    return False


def _in_service(group: str) -> bool:
    try:
        lines = Path(group).read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("0::") and line.endswith(".service") for line in lines)


def _call(program: str, pid: int, properties: tuple[tuple[str, ...], ...]) -> str | None:
    """Ask systemd for the scope; returns None where it is made, else why not."""
    arguments = [
        ("PIDs", "au", "1", str(pid)),
        ("Description", "s", "Daemons of ccfs"),
        *properties,
    ]
    words = [word for argument in arguments for word in argument]
    command = [program, "--quiet", "call", *_MANAGER, *_METHOD, f"ccfsd-{pid}.scope", "fail"]
    try:
        call = subprocess.run(  # noqa: S603 - systemd's own program, no words of users
            [*command, str(len(arguments)), *words, "0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            check=False,
            env={"PATH": os.defpath},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    return None if call.returncode == 0 else call.stderr.decode(errors="replace").strip()
