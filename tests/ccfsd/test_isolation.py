# SPDX-License-Identifier: MIT
"""A user against the daemon that serves their mount: others wait for it, so nothing may work."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfs.linux import capabilities, privileges
from tests.support.ccfsd import CcfsdHost, as_user, ccfsd_host
from tests.support.paths import PROJECT
from tests.support.processes import children
from tests.support.shell import wait_until

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
    if libc.syscall(*map(ctypes.c_long, (251, 1, pid, 3 << 13))):
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
def host() -> Iterator[CcfsdHost]:
    """A place with a ccfsd."""
    with ccfsd_host() as made:
        made.start("--no-kcm")
        yield made


def attack(host: CcfsdHost, pid: int, uid: int = USER) -> dict[str, str]:
    """Attack a process as a user; the outcome of each attempt."""
    script = host.directory / "attack.py"
    script.write_text(ATTACK)
    found: dict[str, str] = json.loads(host.sh(f"/usr/bin/python3 -I {script} {pid}", uid))
    return found


@contextlib.contextmanager
def notifier_in_use(host: CcfsdHost) -> Iterator[int]:
    """Read the `changed` FIFO of USER's mount during the block; the pid of the notifier."""
    daemon = host.daemon(USER)
    waiter = host.popen([*as_user(USER), "cat", f"/run/ccfs/{USER}/changed"])
    try:
        wait_until(lambda: bool(children(daemon)), "no notifier")
        (notifier,) = children(daemon)
        yield notifier
    finally:
        waiter.kill()
        waiter.wait(20)


@pytest.mark.parametrize("uid", [USER, 64113])
def test_user_cannot_interfere_with_daemons(host: CcfsdHost, uid: int) -> None:
    """Neither one's own daemon and its notifier, nor another user's."""
    host.open(USER)
    with notifier_in_use(host) as notifier:
        for pid in (host.daemon(USER), notifier):
            found = attack(host, pid, uid)
            assert {*found.values()} <= REFUSED, found
        assert host.sh(f"touch /run/ccfs/{USER}/default/ccache && ls /run/ccfs/{USER}", USER)


def test_root_of_user_namespace_cannot_interfere_with_daemons(host: CcfsdHost) -> None:
    host.open(USER)
    script = host.directory / "attack.py"
    script.write_text(ATTACK)
    command = f"unshare --user --map-root-user /usr/bin/python3 -I {script} {host.daemon(USER)}"
    found = json.loads(host.sh(command, USER))
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
def test_service_uid_is_never_root_or_in_use(tmp_path: Path, lines: str, uid: int) -> None:
    """Never root's, never one that a user or another service has."""
    passwd = tmp_path / "passwd"
    passwd.write_text(PASSWD + lines)
    assert privileges.service_uid(str(passwd)) == uid


def test_service_uid_none_left_is_an_error(tmp_path: Path) -> None:
    passwd = tmp_path / "passwd"
    passwd.write_text("".join(f"u{uid}:x:{uid}:1::/:/bin/sh\n" for uid in privileges.FALLBACKS))
    with pytest.raises(OSError, match="there is no system user ccfs"):
        privileges.service_uid(str(passwd))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_service_uid_gets_no_mount() -> None:
    """Its owner could signal all of them."""
    code = (
        "from ccfs.linux import privileges as p\n"
        "try: p.drop(p.service_uid(), 100)\n"
        "except p.PrivilegeError as error: print(error.reason)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True
    )
    assert "is the one of the daemons themselves" in done.stdout


NASTY = (
    "ulimit -Sf 4096; ulimit -Sn 64; ulimit -St 9; ulimit -Sv 4000000; ulimit -Ss 4096; exec "
    "nice -n 5 chrt --batch 0 taskset -c 0 ionice -c 3 prlimit --rttime=1000000: setarch -R "
    "choom -n 500 -- "
)


def bash_with_a_secret(rest: str) -> list[str]:
    """A command that runs another with descriptor 900 open, and in its own limits."""
    keyring = "keyctl session - " if os.path.exists("/usr/bin/keyctl") else ""
    return ["bash", "-c", f'exec 900</etc/shadow; {rest} {keyring}"$@"', "-"]


def judge(pid: int) -> None:
    """See that nothing of a nasty parent has reached a process."""
    descriptors = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    assert "/etc/shadow" not in descriptors
    assert os.getpriority(os.PRIO_PROCESS, pid) == 0
    assert os.sched_getscheduler(pid) == os.SCHED_OTHER
    assert os.sched_getaffinity(pid) == os.sched_getaffinity(0)
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "0\n"
    assert int(Path(f"/proc/{pid}/personality").read_text(), 16) == 0
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    found = {line[:26].strip(): line[26:].split()[:2] for line in limits}
    for name in ("cpu time", "file size", "address space", "data size", "realtime timeout"):
        assert found[f"Max {name}"] == ["unlimited"] * 2, name
    assert found["Max core file size"] == ["0", "0"]
    assert found["Max nice priority"] == ["0", "0"]
    assert int(found["Max stack size"][0]) >= 8 << 20
    ionice = subprocess.run(["ionice", "-p", str(pid)], capture_output=True, text=True, check=True)
    assert ionice.stdout.startswith("none")


def test_daemon_inherits_nothing_from_its_parent() -> None:
    with ccfsd_host() as made:
        made.start("--no-kcm", prefix=bash_with_a_secret(NASTY))
        made.open(USER)
        with notifier_in_use(made) as notifier:
            for pid in (made.daemon(USER), notifier):
                judge(pid)


KEYRING = """
import ctypes, os
from ccfs.ccfsd import launch
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_long, *[ctypes.c_char_p] * 2,
                         ctypes.c_long, ctypes.c_long]
def key():  # request_key in the session keyring: what a daemon possesses
    return libc.syscall(250, 10, -3, b"user", b"ccfs-secret", 0, 0)
assert libc.syscall(250, 1, 0, None, None, 0, 0) >= 0
libc2 = ctypes.CDLL(None)
data = ctypes.create_string_buffer(b"x")
c = ctypes.c_long
assert libc2.syscall(c(248), b"user", b"ccfs-secret", data, c(1), c(-3)) > 0
assert key() > 0
pid = launch.fork(64112, 64112, [], lambda: 7 if key() < 0 else 8)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls")
def test_daemon_has_no_session_keyring_of_its_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-c", KEYRING], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout == "7\n", done.stderr


def documented(column: str) -> set[str]:
    """The capabilities that a column of docs/admin/security.md says yes to."""
    text = (PROJECT / "docs/admin/security.md").read_text()
    table = text.partition("<!-- capabilities -->\n")[2].partition("<!-- end")[0]
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
    )
    return {row[0] for row in rows if row[head.index(column)] == "yes"}


def held(pid: int, kind: str) -> int:
    """A set of capabilities of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith(f"Cap{kind}:"))


def test_ccfsd_keeps_documented_capabilities_only(host: CcfsdHost) -> None:
    """As the table says, as far as the machine gives them to root at all."""
    ccfsd = host.started[0].pid
    fork_server = children(ccfsd)[0]
    for pid, column in ((ccfsd, "ccfsd"), (fork_server, "fork server")):
        wanted = sum(1 << capabilities.NUMBERS[name] for name in documented(column))
        assert held(pid, "Prm") == held(pid, "Eff") == wanted & held(os.getpid(), "Prm"), column
        assert held(pid, "Bnd") & ~wanted == 0
        assert held(pid, "Inh") == held(pid, "Amb") == 0


def test_document_lists_capabilities_of_the_code() -> None:
    assert documented("ccfsd") == {*capabilities.KEPT_BY_CCFSD}
    assert documented("fork server") == {*capabilities.KEPT_BY_FORK_SERVER}
    assert documented("supervisor of mount.ccfs") == {*capabilities.KEPT_BY_MOUNT_CCFS}
