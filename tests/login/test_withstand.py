# SPDX-License-Identifier: MIT
"""Whatever goes wrong, a login succeeds, soon, with what it brought; and nothing is left of it.

"Soon" is BOUND for one call of the module at most: its own deadline of a second, and a machine that
is busy with other things.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kdc import Kdc
from tests.support.login import BOUND, INSIDE, PATIENT, USERS, Stage, end_of, stage, wait_until
from tests.support.login_sessions import (
    TOURED,
    add_kerberos,
    answers,
    ask,
    ccfsd,
    end_all,
    is_over,
    left,
    log_in,
    shell,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ALICE, BOB = USERS["alice"], USERS["bob"]
AS_ALICE = ("setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups")
PLACE = f"/run/ccfs/{ALICE}"
DEFAULT = f"FILE:{PLACE}/default/ccache"
BROUGHT = "/tmp/krb5cc_alice"


@pytest.fixture(scope="module")
def furnished(installed: Path, kdc: Kdc) -> Iterator[Stage]:
    """A stage with all but a ccfsd."""
    with stage(installed) as made:
        made.enable()
        add_kerberos(made, kdc)
        made.service("brief", "required pam_permit.so", "optional pam_ccfs.so timeout=300")
        made.service("plain", "required pam_permit.so", "optional pam_ccfs.so")
        made.service("patient", "required pam_permit.so", f"optional pam_ccfs.so {PATIENT}")
        yield made


@pytest.fixture
def place(furnished: Stage) -> Iterator[Stage]:
    """The stage, its log and /run/ccfs empty."""
    furnished.log.lines.clear()
    (furnished.directory / "ccfsd.log").unlink(missing_ok=True)
    yield furnished
    end_all(furnished, "ccfs")
    furnished.run("sh", "-c", "rm -rf /run/ccfs /tmp/* /run/.heim_org.h5l.kcm-socket")
    assert furnished.mounts() == []


@pytest.fixture
def served(place: Stage) -> Iterator[Stage]:
    """The stage with a ccfsd, which has nothing left to do afterwards."""
    with ccfsd(place):
        yield place
        wait_until(lambda: answers(place))
        with contextlib.suppress(AssertionError):
            wait_until(lambda: is_over(place))
        assert left(place) == []
        assert ask(place, "status").endswith("daemons=0 sessions=0")


def daemon_log(place: Stage) -> str:
    """The log of ccfsd and its daemons."""
    return (place.directory / "ccfsd.log").read_text()


@contextlib.contextmanager
def stopped(place: Stage, pid: int) -> Iterator[None]:
    """A process that hangs.  nsenter, which has started it, stops as it does."""
    nsenter = int(Path(f"/proc/{pid}/status").read_text().partition("PPid:\t")[2].split()[0])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for number in (pid, nsenter):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGCONT)


def ccfsd_pid(place: Stage) -> int:
    """The pid of the ccfsd that answers, as seen from here."""
    pid = re.search(r"pid=(\d+)", ask(place, "status"))
    assert pid is not None
    return place.outside(int(pid[1]))


# ccfsd


def test_login_without_ccfsd_succeeds(place: Stage) -> None:
    assert log_in(place, "su -", "alice", "look").name == ""
    place.log.wait_for("no ccfs for this session: cannot use /run/ccfs")


def test_login_with_hanging_ccfsd_succeeds(served: Stage) -> None:
    """A session whose login has given up is not opened."""
    with stopped(served, ccfsd_pid(served)), served.session("plain", "alice") as session:
        assert session.open() is None
    served.log.wait_for("no ccfs for this session: ccfsd doesn't reply")


def test_logout_from_hanging_ccfsd_ends_session(served: Stage) -> None:
    """The end of the session's process is a close, too."""
    service = served.service("parting", "optional pam_ccfs.so timeout=2s")
    with served.session(service, "alice") as session:
        assert session.open() == DEFAULT
        with stopped(served, ccfsd_pid(served)):
            session.close()
        served.log.wait_for("is not closed: ccfsd doesn't reply")


def test_killed_ccfsd_keeps_mounts_for_next_ccfsd(place: Stage) -> None:
    """Mounts go on without it, and the next one goes on with them."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(ccfsd(place))
        first = stack.enter_context(shell(place, "su -", "alice"))
        assert first.tour().said == TOURED
        os.kill(ccfsd_pid(place), signal.SIGKILL)
        wait_until(lambda: not answers(place))
        assert first.tour("look").said["ticket"] == TOURED["ticket"]
        assert log_in(place, "su", "bob", "look").name == ""
        stack.enter_context(ccfsd(place))
        with shell(place, "su -", "alice") as second:
            assert second.name == DEFAULT
            assert second.tour("look").said["ticket"] == TOURED["ticket"]
            first.close()
            assert second.tour("look").said["ticket"] == TOURED["ticket"]
            second.close()
        wait_until(lambda: is_over(place))


def test_next_ccfsd_ends_sessions_closed_meanwhile(place: Stage) -> None:
    """The next one sees that the session is over."""
    with ccfsd(place), shell(place, "su -", "alice") as session:
        assert session.tour().said == TOURED
        os.kill(ccfsd_pid(place), signal.SIGKILL)
        wait_until(lambda: not answers(place))
        session.close()
        assert place.mounts()
        with ccfsd(place):
            wait_until(lambda: is_over(place))


def test_ccfsd_killed_during_login_does_not_block_it(place: Stage) -> None:
    for _ in range(2):
        with ccfsd(place), place.session("brief", "alice") as session:
            pid = ccfsd_pid(place)
            assert session.process.stdin is not None
            session.process.stdin.write(json.dumps(["open"]) + "\n")
            session.process.stdin.flush()
            wait_until(lambda: (place.run_directory / "daemons").exists() and _is_coming(place))
            os.kill(pid, signal.SIGKILL)
            assert session.process.stdout is not None
            assert session.process.stdout.readline() == "0\n"
        with ccfsd(place):
            wait_until(lambda: is_over(place))


def _is_coming(place: Stage) -> bool:
    return any((place.run_directory / "daemons").iterdir())


# What a mount is made of


def test_login_without_fuse_device_succeeds(served: Stage) -> None:
    served.run("mv", "/dev/fuse", "/dev/fuse.away")
    try:
        assert log_in(served, "su -", "alice", "look").name == ""
    finally:
        served.run("mv", "/dev/fuse.away", "/dev/fuse")
    served.log.wait_for("no ccfs for this session: ccfsd says:")
    assert log_in(served, "su -", "alice", "tour").name == DEFAULT


def test_login_with_unusable_mountpoint_succeeds(served: Stage) -> None:
    """Something is in the way of its mountpoint."""
    (served.run_directory / str(ALICE)).write_text("")
    try:
        assert log_in(served, "su -", "alice", "look").name == ""
    finally:
        (served.run_directory / str(ALICE)).unlink(missing_ok=True)
    served.log.wait_for("no ccfs for this session: ccfsd says:")
    assert "unexpected exception" not in daemon_log(served)
    assert log_in(served, "su -", "alice", "tour").name == DEFAULT


def test_login_with_hanging_daemon_succeeds_without_variable(served: Stage) -> None:
    """A second login doesn't wait for it longer than its deadline, and has no variable."""
    with shell(served, "su -", "alice") as session:
        pid = served.outside(int(session.ask(f"sed -n 's/^pid: //p' {PLACE}/info")))
        with stopped(served, pid), served.session("brief", "alice") as second:
            assert second.open() is None
            second.close()
        wait_until(lambda: log_in(served, "su", "alice", "look").name == DEFAULT)
        session.close()


@contextlib.contextmanager
def read_only(place: Stage) -> Iterator[None]:
    """No more can be written to /run."""
    place.run("mount", "--rbind", "/run", "/run")
    try:
        place.run("mount", "-o", "remount,bind,ro", "/run")
        yield
    finally:
        place.run("umount", "--recursive", "/run")


def test_login_with_read_only_run_succeeds(served: Stage) -> None:
    with read_only(served):
        assert log_in(served, "su -", "alice", "look").name == ""
    served.log.wait_for("no ccfs for this session:")
    assert "unexpected exception" not in daemon_log(served)
    assert log_in(served, "su -", "alice", "tour").name == DEFAULT


@pytest.mark.parametrize(
    "command",
    [
        "mkdir -m 755 /tmp/evil && ln -s /tmp/evil /run/ccfs",
        "mkdir /run/ccfs && chown alice /run/ccfs",
        "mkdir -m 777 /run/ccfs",
        "touch /run/ccfs",
        "mkdir /run/ccfs && mkdir /tmp/evil && ln -s /tmp/evil /run/ccfs/daemons",
        "mkdir /run/ccfs && mkdir /run/ccfs/journal && chown alice /run/ccfs/journal",
    ],
)
def test_login_with_untrusted_run_directory_succeeds(place: Stage, command: str) -> None:
    """ccfsd doesn't start there, and says why in one line; a login believes nothing there."""
    place.run("sh", "-c", command)
    done = place.run("ccfsd", check=False)
    assert done.returncode == 8
    assert done.stderr.startswith("ccfsd: error: /run/ccfs")
    assert done.stderr.count("\n") == 2
    assert log_in(place, "su -", "alice", "look").name == ""
    place.log.wait_for("no ccfs for this session:")
    assert not [*(place.directory / "tmp").glob("evil/*")]


# What the login brought

TICKET = f"kinit -k -t {INSIDE}/krb5/users.keytab -c FILE:{BROUGHT} alice"
HOSTILE = {
    "nothing there": f"rm {BROUGHT}",
    "a symbolic link": f"mv {BROUGHT} {BROUGHT}.real && ln -s {BROUGHT}.real {BROUGHT}",
    "a hard link": f"ln {BROUGHT} {BROUGHT}.other",
    "a FIFO": f"rm {BROUGHT} && mkfifo {BROUGHT} && chown alice {BROUGHT}",
    "a directory": f"rm {BROUGHT} && mkdir {BROUGHT} && chown alice {BROUGHT}",
    "a device": f"rm {BROUGHT} && mknod {BROUGHT} c 1 5 && chown alice {BROUGHT}",
    "another owner": f"chown bob {BROUGHT}",
    "root's": f"chown root {BROUGHT}",
    "readable by others": f"chmod 644 {BROUGHT}",
    "writable by others": f"chmod 622 {BROUGHT}",
    "huge": f"truncate -s 3G {BROUGHT}",
    "no ccache": f"echo garbage >{BROUGHT}",
    "half a ccache": f"truncate -s 40 {BROUGHT}",
    "empty": f"truncate -s 0 {BROUGHT}",
}


@pytest.fixture(scope="module")
def host(furnished: Stage) -> Iterator[Stage]:
    """A ccfsd for all of the sources."""
    furnished.run("rm", "-rf", "/run/ccfs")
    with ccfsd(furnished):
        yield furnished


def brings(place: Stage) -> None:
    """Leave alice's ticket where a login leaves it."""
    place.run("sh", "-c", f"rm -rf {BROUGHT}*")
    environment = {"KRB5_CONFIG": f"{INSIDE}/krb5/krb5.conf"}
    place.run(*AS_ALICE, "sh", "-c", TICKET, **environment)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", HOSTILE)
def test_refused_ccache_stays_with_its_variable(host: Stage, what: str) -> None:
    """It stays as it is, and so does the variable; nothing of it is in the mount."""
    brings(host)
    host.run("sh", "-c", HOSTILE[what])
    before = host.run("sh", "-c", f"ls -ln --time-style=+ {BROUGHT}*", check=False).stdout
    with host.session("patient", "alice") as session:
        session.ask("putenv", f"KRB5CCNAME=FILE:{BROUGHT}")
        assert session.open() == f"FILE:{BROUGHT}"
        after = host.run("sh", "-c", f"ls -ln --time-style=+ {BROUGHT}*", check=False).stdout
        assert after == before
        assert "credentials: 0" in host.run(*AS_ALICE, "cat", f"{PLACE}/info").stdout
        session.close()
    host.log.wait_for("the ccache of the login was not imported")
    host.run("sh", "-c", f"rm -rf {BROUGHT}*")
    wait_until(lambda: is_over(host))


@pytest.mark.parametrize(
    ("options", "first", "second"),
    [
        ("", r"caches/session-\d+", r"caches/session-\d+"),
        ("import=if-empty", "default", None),
        ("import=never", None, None),
        ("scope=session", "default", "default"),
        ("ccname=dir", r"dir/tkt.session-\d+", r"dir/tkt.session-\d+"),
    ],
)
def test_imported_ccache_is_removed_only_once_stored(
    host: Stage, options: str, first: str | None, second: str | None
) -> None:
    """It goes once it is stored; where it isn't wanted it stays."""
    service = host.service(
        "taking", f"optional pam_ccfs.so {PATIENT} {options}", "required pam_permit.so"
    )
    with host.session(service, "alice") as one, host.session(service, "alice") as two:
        for session, wanted in ((one, first), (two, second)):
            brings(host)
            session.ask("putenv", f"KRB5CCNAME=FILE:{BROUGHT}")
            name = session.open() or ""
            if wanted is None:
                assert name == f"FILE:{BROUGHT}"
            else:
                kind = "DIR::" if "dir" in wanted else "FILE:"
                place = rf"{PLACE}(\.\d+)?/{wanted}"
                assert re.fullmatch(f"{kind}{place}(/ccache)?", name), name
                assert not [*(host.directory / "tmp").iterdir()]
            looked = ("env", f"KRB5CCNAME={name}", f"{INSIDE}/tour", "look")
            assert "krbtgt/" in host.run(*AS_ALICE, *looked).stdout
        one.close()
        two.close()
    host.run("sh", "-c", f"rm -rf {BROUGHT}*")
    wait_until(lambda: is_over(host))


# Which processes may talk to ccfsd


CLIENT = """
import json, socket, sys
how, number = sys.argv[1], int(sys.argv[2])
words = {"garbage": b"\\xff\\x00\\n garbage", "empty": b"", "long": b"open " + b"x" * 60000,
    "half": b"open uid=", "open": b"open uid=0 gid=0 user=root scope=user import=never service=x",
    "close": b"close session=1", "stop": b"stop", "status": b"status", "unknown": b"destroy all"}
kept, said = [], set()
for _ in range(number):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(10)
    try:
        client.connect("/run/ccfs/control")
        if how != "nothing":
            client.send(words[how])
            said.add(client.recv(4096).decode("ascii", "replace")[:5])
    except OSError as error:
        said.add(type(error).__name__)
        break
    kept.append(client)
print(json.dumps(sorted(said)), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def client(place: Stage, how: str, number: int) -> Iterator[list[str]]:
    """A process of bob's that talks to ccfsd; yields what it was told, of each reply five bytes."""
    command = ["/usr/bin/python3", "-I", "-c", CLIENT, how, str(number)]
    setpriv = ["setpriv", f"--reuid={BOB}", f"--regid={BOB}", "--clear-groups"]
    process = place.start(
        *setpriv, *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        end_of(process)


@pytest.mark.parametrize(
    ("how", "number"),
    [
        *(("garbage", 1), ("garbage", 1000), ("empty", 1), ("long", 20), ("half", 100)),
        *(("open", 100), ("close", 100), ("stop", 10), ("status", 10), ("unknown", 100)),
        *(("nothing", 1000),),
    ],
)
def test_malformed_requests_of_user_spare_other_logins(host: Stage, how: str, number: int) -> None:
    """Others' logins go on, while he holds all of his connections."""
    with client(host, how, number) as said:
        assert {*said} <= {"error", "", "BlockingIOError"}  # the last one: the queue is full
        assert log_in(host, "su -", "alice", "tour").said == TOURED
    wait_until(lambda: is_over(host))
    log = daemon_log(host)
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]


def test_malformed_requests_of_root_spare_other_logins(host: Stage) -> None:
    """Half a request of one who may ask."""
    requests = ("open", "open uid=-1", f"open uid={ALICE}", "open uid=4294967295 gid=0 user=x", "")
    for request in requests:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
            asking.settimeout(BOUND)
            asking.connect(str(host.run_directory / "control"))
            asking.send(request.encode())
            with contextlib.suppress(ConnectionError):
                assert asking.recv(4096)[:5] in (b"error", b"")
    assert log_in(host, "su -", "alice", "tour").said == TOURED
    wait_until(lambda: is_over(host))
