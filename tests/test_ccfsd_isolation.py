"""A user against the daemon that serves their mount: others wait for it, so nothing may work."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfs.ccfsd import privileges
from tests.ccfsd import Place, place
from tests.shell import wait_until

USER = 64112
ATTACK = r"""
import ctypes, json, os, resource, signal, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4

def ptrace(pid):
    if libc.ptrace(16, pid, 0, 0):
        raise OSError(ctypes.get_errno(), "")

def ioprio(pid):
    if libc.syscall(ctypes.c_long(251), ctypes.c_long(1), ctypes.c_long(pid), ctypes.c_long(3 << 13)):
        raise OSError(ctypes.get_errno(), "")

tries = {
    **{f"kill {s.name}": lambda s=s: os.kill(pid, s)
       for s in (signal.SIGSTOP, signal.SIGKILL, signal.SIGTERM, signal.SIGCONT)},
    "pidfd": lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGSTOP),
    "killpg": lambda: os.killpg(os.getpgid(pid), signal.SIGSTOP),
    "prlimit": lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1)),
    "nice": lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
    "idle": lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)),
    "affinity": lambda: os.sched_setaffinity(pid, {0}),
    "ionice": lambda: ioprio(pid),
    "ptrace": lambda: ptrace(pid),
    "mem": lambda: open(f"/proc/{pid}/mem", "rb"),
    "fd": lambda: os.listdir(f"/proc/{pid}/fd"),
    "oom": lambda: open(f"/proc/{pid}/oom_score_adj", "w"),
}
found = {}
for name, attempt in tries.items():
    try:
        attempt()
        found[name] = "done"
    except OSError as error:
        found[name] = os.strerror(error.errno)
print(json.dumps(found))
"""
REFUSED = {"Operation not permitted", "Permission denied"}


@pytest.fixture
def here() -> Iterator[Place]:
    """A place with a ccfsd."""
    with place() as made:
        made.start("--no-kcm")
        yield made


def attack(here: Place, pid: int, uid: int = USER) -> dict[str, str]:
    """What comes of each attempt of a user at a process."""
    script = here.directory / "attack.py"
    script.write_text(ATTACK)
    found: dict[str, str] = json.loads(here.sh(f"/usr/bin/python3 -I {script} {pid}", uid))
    return found


@pytest.mark.parametrize("uid", [USER, 64113])
def test_a_user_cannot_stop_end_limit_slow_or_trace_a_daemon(here: Place, uid: int) -> None:
    """Neither one's own daemon and its helper, nor another user's."""
    here.open(USER)
    daemon = here.daemon(USER)
    waiter = here.popen(
        ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups",
         "cat", f"/run/ccfs/{USER}/changed"]
    )  # fmt: skip
    children = Path(f"/proc/{daemon}/task/{daemon}/children")
    wait_until(lambda: bool(children.read_text()), "no helper")
    for pid in (daemon, int(children.read_text())):
        found = attack(here, pid, uid)
        assert {*found.values()} <= REFUSED, found
    assert here.sh(f"touch /run/ccfs/{USER}/default/ccache && ls /run/ccfs/{USER}", USER)
    waiter.kill()
    waiter.wait(20)


def test_nor_as_root_of_a_user_namespace(here: Place) -> None:
    here.open(USER)
    script = here.directory / "attack.py"
    script.write_text(ATTACK)
    command = f"unshare --user --map-root-user /usr/bin/python3 -I {script} {here.daemon(USER)}"
    found = json.loads(here.sh(command, USER))
    assert {*found.values()} <= REFUSED, found


PASSWD = "root:x:0:0::/root:/bin/bash\n"


@pytest.mark.parametrize(
    ("lines", "uid"),
    [
        ("", 65533),
        ("ccfs:x:412:412::/:/usr/sbin/nologin\n", 412),
        ("ccfs:x:412:412::/:/bin/false\n", 412),
        ("ccfs:x:1000:1000::/home/ccfs:/bin/bash\n", 65533),
        ("ccfs:x:1000:1000::/:/usr/sbin/nologin\n", 65533),
        ("ccfs:x:412:412::/:/bin/sh\n", 65533),
        ("ccfs:x:0:0::/:/usr/sbin/nologin\n", 65533),
        ("ccfs:x:33:33::/:/usr/sbin/nologin\nwww:x:33:33::/:/usr/sbin/nologin\n", 65533),
        ("other:x:65533:65533::/:/bin/sh\n", 65532),
        ("garbage\n:::\n", 65533),
    ],
)
def test_the_uid_of_the_daemons(tmp_path: Path, lines: str, uid: int) -> None:
    """Never root's, never one that a user or another service has."""
    passwd = tmp_path / "passwd"
    passwd.write_text(PASSWD + lines)
    assert privileges.service_uid(str(passwd)) == uid


def test_all_uids_taken(tmp_path: Path) -> None:
    passwd = tmp_path / "passwd"
    passwd.write_text("".join(f"u{uid}:x:{uid}:1::/:/bin/sh\n" for uid in privileges.FALLBACKS))
    with pytest.raises(OSError, match="there is no system user ccfs"):
        privileges.service_uid(str(passwd))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_no_daemon_for_the_uid_of_the_daemons() -> None:
    """Its owner could signal all of them."""
    code = (
        "from ccfs.ccfsd import privileges as p\n"
        "try: p.drop(p.service_uid(), 100)\n"
        "except p.PrivilegeError as error: print(error.reason)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True
    )
    assert "is the one of the daemons themselves" in done.stdout
