# SPDX-License-Identifier: MIT
"""`ccfsd --restart`: execute a new program in place; clients and mounts notice nothing."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfs.ccfsd import passed_descriptors
from ccfs.linux import capabilities
from tests.support.ccfsd import CcfsdHost, as_user, ccfsd_host
from tests.support.ccfsd_clients import IMAGE, client, has_it, store
from tests.support.processes import children, devices
from tests.support.shell import wait_until

USER = 64121
NEWER = "import ccfs\nccfs.__version__ = '9.9'\n"
WITHOUT = ("--no-kcm",)


@pytest.fixture
def bare_host() -> Iterator[CcfsdHost]:
    """A place without a ccfsd."""
    with ccfsd_host() as made:
        (made.directory / "python").mkdir()
        yield made


@pytest.fixture
def host(bare_host: CcfsdHost) -> CcfsdHost:
    """A place with one, whose program can be changed by files in `python`."""
    start(bare_host)
    return bare_host


def start(host: CcfsdHost, *options: str) -> None:
    """Start a ccfsd whose program can be changed."""
    host.start(*WITHOUT, *options, prefix=["env", f"PYTHONPATH={host.directory}/python"])


def restart(host: CcfsdHost, *options: str) -> tuple[int, str, str]:
    """The exit status of `ccfsd --restart`, and what it says on its outputs."""
    command = [sys.executable, "-m", "ccfs.ccfsd", "--restart", *options]
    process = host.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, error = process.communicate(timeout=55)
    return process.returncode, said, error


def become_newer(host: CcfsdHost) -> None:
    """Install another version."""
    (host.directory / "python/sitecustomize.py").write_text(NEWER)


def test_restart_runs_new_version_everywhere(host: CcfsdHost) -> None:
    """The same process, sessions, mounts and clients; other daemons."""
    first = host.open(USER).values["session"]
    host.open(USER + 1)
    own = host.open(USER, scope="session").values["path"].rpartition("/")[2]
    store(host, USER)
    names = (USER, USER + 1, own)
    before = [host.daemon(name) for name in names]
    ccfsd, mounts = host.status()["pid"], host.mounts()
    become_newer(host)
    with client(host, USER) as look:
        assert restart(host) == (0, "ccfsd 9.9: 3 daemons replaced\n", "")
        after = [host.daemon(name) for name in names]
        assert look() == after[0]
    assert not {*before} & {*after}
    assert all(after)
    assert host.status() == {"pid": ccfsd, "daemons": 3, "sessions": 3}
    assert host.mounts() == mounts
    assert has_it(host, USER)
    host.close(first)
    assert host.status()["sessions"] == 2
    assert not host.lines("died")
    assert not host.lines("killing")


def test_repeated_restarts_leave_nothing_behind(host: CcfsdHost) -> None:
    """Nothing is left behind by any: no descriptor, no process, no capability less."""
    host.open(USER)
    assert restart(host)[0] == 0
    ccfsd = host.status()["pid"]
    # where clients connect, the fork server, and the two pairs that trio wakes itself by
    wait_until(lambda: held(ccfsd)[0].count("socket") == 6, "a connection is open")
    before = held(ccfsd)
    for _ in range(2):
        assert restart(host)[:2] == (0, "ccfsd 0.1.0: 1 daemons replaced\n")
    wait_until(lambda: held(ccfsd) == before, "it has more, or less")
    host.close_all()
    wait_until(host.is_empty, "something is left")


def held(pid: int) -> tuple[list[str], int, list[str]]:
    """What a process has: descriptors, how many children, and capabilities."""
    found = []
    for one in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it is closed meanwhile
            found.append(os.readlink(f"/proc/{pid}/fd/{one}"))
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    capabilities = [line for line in status if line.startswith(("Cap", "SigBlk"))]
    kinds = sorted(one.partition(":")[0] for one in found)
    return kinds, len(children(pid)), capabilities


FEW = "+" + ",+".join(name.lower() for name in capabilities.KEPT_BY_CCFSD)


@pytest.mark.parametrize(
    "prefix", [[], ["setpriv", "--no-new-privs", f"--bounding-set=-all,{FEW}"]], ids=str
)
def test_restart_keeps_capabilities(bare_host: CcfsdHost, prefix: list[str]) -> None:
    """The new program has the capabilities of the old one, and no more; systemd's unit as well."""
    ccfsd = bare_host.start(*WITHOUT, prefix=prefix).pid
    before = held(ccfsd)[2]
    for _ in range(2):
        assert restart(bare_host)[0] == 0
        assert held(ccfsd)[2] == before
    bare_host.open(USER)
    assert not has_it(bare_host, USER)


BROKEN = {
    "a module": ("pyfuse3.py", "raise ImportError('no such symbol')"),
    "the program": ("sitecustomize.py", "import os\nos._exit(7)"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_restart_with_broken_program_changes_nothing(host: CcfsdHost, what: str) -> None:
    host.open(USER)
    before = host.daemon(USER), host.status()
    name, text = BROKEN[what]
    (host.directory / "python" / name).write_text(text)
    status, said, error = restart(host)
    assert (status, said) == (17, "")
    assert error.startswith("ccfsd: error: ccfsd is not restarted: the new ccfsd cannot run: ")
    assert error.splitlines()[1].startswith("ccfsd: hint: what ran before goes on")
    assert (host.daemon(USER), host.status()) == before
    (host.directory / "python" / name).unlink()
    assert restart(host)[0] == 0


REFUSING = """
import os
execve = os.execve
def refuse(*arguments):
    if os.path.exists({flag!r}):
        raise OSError(12, "Cannot allocate memory")
    execve(*arguments)
os.execve = refuse
"""


def test_restart_whose_exec_fails_changes_nothing(bare_host: CcfsdHost) -> None:
    """All coroutines have ended by then; the same program goes on with what it was to pass."""
    flag = bare_host.directory / "refuse"
    (bare_host.directory / "python/sitecustomize.py").write_text(REFUSING.format(flag=str(flag)))
    start(bare_host)
    flag.touch()
    session = bare_host.open(USER).values["session"]
    leader = bare_host.leader(USER + 1)
    store(bare_host, USER)
    before = bare_host.daemon(USER), bare_host.status()
    with bare_host.client() as quiet, client(bare_host, USER) as look:
        assert restart(bare_host)[2].startswith(
            "ccfsd: error: ccfsd is not restarted: the new ccfsd cannot run: Cannot allocate memory"
        )
        assert (bare_host.daemon(USER), bare_host.status()) == before
        assert quiet.ask("status").values["sessions"] == "2"
        assert look() == before[0]
        os.kill(before[0], signal.SIGKILL)
        assert look() not in (0, before[0])
        leader.end()
        wait_until(lambda: bare_host.status()["sessions"] == 1, "the session stays")
        flag.unlink()
        assert restart(bare_host)[0] == 0
        assert has_it(bare_host, USER)
    bare_host.close(session)
    wait_until(bare_host.is_empty, "something is left")


def test_restart_without_ccfsd_is_an_error(bare_host: CcfsdHost) -> None:
    status, said, error = restart(bare_host)
    assert (status, said) == (9, "")
    assert error.startswith("ccfsd: error: cannot restart ccfsd: ")


def test_restart_is_refused_to_users(host: CcfsdHost) -> None:
    assert host.ask_as(USER, "restart") == "error only root may ask for that"


class Logins(threading.Thread):
    """Opens and closes sessions, one after the other, with the deadline of a login."""

    def __init__(self, host: CcfsdHost, uid: int) -> None:
        super().__init__()
        self.where, self.uid = host, uid
        self.count, self.failure = 0, ""
        self.stopping = False

    def run(self) -> None:
        try:
            while not self.stopping:
                with self.where.client() as asked:
                    session = asked.ask("open", uid=self.uid, gid=self.uid).values["session"]
                    asked.ask("close", session=session)
                self.count += 1
        except Exception as error:
            self.failure = repr(error)


@contextlib.contextmanager
def logins(host: CcfsdHost, *uids: int) -> Iterator[list[Logins]]:
    """Logins of users that go on meanwhile."""
    threads = [Logins(host, uid) for uid in uids]
    for one in threads:
        one.start()
    try:
        yield threads
    finally:
        for one in threads:
            one.stopping = True
            one.join(30)


LOOK = """cd /run/ccfs/{uid} || exit 1
while [ ! -e {stop} ]; do
    cat info >/dev/null && stat -L . caches >/dev/null && cmp -s default/ccache {copy} || exit 1
done"""


def test_restart_fails_no_login_and_no_client(host: CcfsdHost) -> None:
    """Logins, and a user who looks at their mount all the time, meet no error."""
    for uid in (USER, USER + 1, USER + 2):
        host.open(uid)
        store(host, uid)
    stop, copy = host.directory / "stop", host.directory / "copy"
    copy.write_bytes(IMAGE)
    copy.chmod(0o644)
    script = LOOK.format(uid=USER, stop=stop, copy=copy)
    looker = host.popen([*as_user(USER), "sh", "-c", script])
    with logins(host, USER, USER + 1, USER + 3) as threads:
        wait_until(lambda: all(one.count or one.failure for one in threads), "no logins")
        for _ in range(2):
            counts = [one.count for one in threads]
            assert restart(host)[0] == 0, host.log.read_text()
            wait_until(
                lambda counts=counts: all(
                    one.count > before or one.failure
                    for one, before in zip(threads, counts, strict=True)
                ),
                "no login afterwards",
            )
    assert [one.failure for one in threads] == [""] * 3
    assert looker.poll() is None
    stop.touch()
    assert looker.wait(20) == 0


def test_restart_keeps_control_connections(host: CcfsdHost) -> None:
    """One that has said nothing yet is heard by the new one."""
    host.open(USER)
    with host.client() as quiet:
        assert restart(host)[0] == 0
        assert quiet.ask("status").values["sessions"] == "1"


def test_restart_does_not_wait_for_users_request(host: CcfsdHost) -> None:
    """They are told to ask again; a login of theirs would have the restart refused."""
    host.open(USER)
    os.kill(host.daemon(USER), signal.SIGSTOP)
    asked = "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
    asked += "s.connect('/run/ccfs/control'); s.send(b'mount deadline=20000')\n"
    asked += "print('asked', flush=True); print(s.recv(999).decode())"
    waiting = host.popen(
        [*as_user(USER), "/usr/bin/python3", "-I", "-c", asked], stdout=subprocess.PIPE
    )
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "asked\n"
    assert restart(host)[0] == 0
    assert waiting.communicate(timeout=20)[0].startswith(("error ccfsd is restarting", "ok "))


def test_concurrent_restart_is_refused(host: CcfsdHost) -> None:
    """One of them is told so; it is one restart."""
    host.open(USER)
    with host.client() as first, host.client() as second:
        for one in (first, second):
            one._socket.send(b"restart")
        refused, done = sorted(one._socket.recv(5000) for one in (first, second))
    assert refused == b"error a restart is under way"
    assert done.startswith(b"ok renewed=1 kept=0 ")


def test_restart_leaves_daemons_without_fuse_connection(bare_host: CcfsdHost) -> None:
    """With `--mount-anew` there are no links; ccfsd itself is another."""
    start(bare_host, "--mount-anew")
    bare_host.open(USER)
    daemon = bare_host.daemon(USER)
    become_newer(bare_host)
    assert restart(bare_host) == (0, "ccfsd 9.9: 0 daemons replaced, 1 kept\n", "")
    assert bare_host.daemon(USER) == daemon
    assert not devices(bare_host.status()["pid"])


def test_restart_survives_death_of_daemon(host: CcfsdHost) -> None:
    """Between two daemons only ccfsd has the connection, and it passes it on."""
    host.open(USER)
    store(host, USER)
    with client(host, USER) as look:
        host.sh(f"mount -t tmpfs -o mode=0 none /run/ccfs/journal/{USER}")
        os.kill(host.daemon(USER), signal.SIGKILL)
        wait_until(lambda: host.lines("replacing"), "ccfsd does not see it")
        restarted = threading.Thread(target=restart, args=(host,))
        restarted.start()
        wait_until(lambda: host.lines("restarting, "), "no restart")
        host.sh(f"umount /run/ccfs/journal/{USER}")
        restarted.join(30)
        assert look() == host.daemon(USER)
        assert has_it(host, USER)


def test_restart_passes_on_kcm_socket(bare_host: CcfsdHost) -> None:
    bare_host.start("--kcm-socket", "/run/kcm")
    inode = (bare_host.root / "run/kcm").stat().st_ino
    assert restart(bare_host)[0] == 0
    assert (bare_host.root / "run/kcm").stat().st_ino == inode
    assert not bare_host.lines("another KCM server")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.settimeout(20)
        asked.connect(str(bare_host.root / "run/kcm"))
        for _ in range(2):  # the connection is the next daemon's, after a death as after a restart
            asked.sendall(bytes([0, 0, 0, 4, 2, 0, 0, 20]))
            assert asked.recv(500)[12:] == b"0:tkt\0"
            os.kill(bare_host.daemon(0), signal.SIGKILL)
            asked.sendall(bytes([0, 0, 0, 4, 2, 0, 0, 20]))
            assert asked.recv(500)[12:] == b"0:tkt\0"
            assert restart(bare_host)[0] == 0


def test_restart_state_is_used_by_its_process_only(tmp_path: Path) -> None:
    """Another that has inherited the variable takes nothing of it."""
    table = tmp_path / "table"
    table.write_text('{"pid": 1, "passed": {"link:1": [5, 6], "link": [7]}}')
    for pid, found in ((2, {}), (1, {"1": [5, 6]})):
        environment = {
            passed_descriptors.VARIABLE: str(os.open(table, os.O_RDONLY)),
            "PATH": "/bin",
        }
        numbers: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                passed_descriptors.os,  # type: ignore[attr-defined]
                "set_inheritable",
                lambda n, _, to=numbers: to.append(n),
            )
            passed = passed_descriptors.take(environment, pid)
        assert environment == {"PATH": "/bin"}
        assert passed_descriptors.named(passed, "link") == found
        assert numbers == ([5, 6, 7] if found else [])
