"""A scope of systemd's for the daemons, beside the service that starts them.

They outlive ccfsd.  In its own control group systemd takes them for what an unclean end has left,
and says so in three lines for each daemon whenever ccfsd is started again.

Knows busctl(1) and the words of org.freedesktop.systemd1(5); never what a daemon does.
"""

import logging
import os
import shutil
import subprocess
from pathlib import Path

log = logging.getLogger(__name__)

SECONDS = 2.0
"""That systemd has to answer."""
_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
_METHOD = ("org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))")
_UNBOUNDED = ("TasksMax", "t", str(2**64 - 1))
_NO_OOM_END = ("OOMPolicy", "s", "continue")  # of scopes since systemd 253


def enter(pid: int, group: str = "/proc/self/cgroup") -> bool:
    """Have a process, and what it forks, be in a scope of its own; whether it is now.

    Nothing happens but in a service of systemd's, and where systemd doesn't do it.  `group`: which
    control group this process is in (cgroups(7)).
    """
    program = shutil.which("busctl", path="/usr/bin:/bin")
    if program is None or not _in_service(group):
        return False
    for properties in ((_UNBOUNDED, _NO_OOM_END), (_UNBOUNDED,)):
        said = _call(program, pid, properties)
        if said is None:
            return True
    log.info("the daemons are in the control group of ccfsd: %s", said)
    return False


def _in_service(group: str) -> bool:
    try:
        lines = Path(group).read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("0::") and line.endswith(".service") for line in lines)


def _call(program: str, pid: int, properties: tuple[tuple[str, ...], ...]) -> str | None:
    """Ask systemd for the scope; None where it is made, else why not."""
    given = [("PIDs", "au", "1", str(pid)), ("Description", "s", "Daemons of ccfs"), *properties]
    words = [word for one in given for word in one]
    command = [program, "--quiet", "call", *_MANAGER, *_METHOD, f"ccfsd-{pid}.scope", "fail"]
    try:
        done = subprocess.run(  # noqa: S603 - systemd's own program, with words of ours
            [*command, str(len(given)), *words, "0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            check=False,
            env={"PATH": os.defpath},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    return None if done.returncode == 0 else done.stderr.decode(errors="replace").strip()
