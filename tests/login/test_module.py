# SPDX-License-Identifier: MIT
"""pam_ccfs.so alone: a stand-in for ccfsd that answers as a test wants, or not at all.

Nothing is mounted but a tmpfs where a mount would be; test_login_* has the real parts.
"""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.login import (
    HEADERS,
    INSTALL,
    MODULE,
    SYSTEM_USER,
    USERS,
    Behaviour,
    FakeCcfsd,
    Stage,
    build_module,
    stage,
)
from tests.support.paths import PROJECT
from tests.support.require import require, require_file

ALICE = USERS["alice"]
PLACE = f"/run/ccfs/{ALICE}"
DEFAULT = f"FILE:{PLACE}/default/ccache"
BROUGHT = "FILE:/tmp/krb5cc_64001_x"
QUICK = "timeout=300"
"""So that a test that waits for the deadline doesn't wait long."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def place() -> Iterator[Stage]:
    """A stage with the module built."""
    require_file("Linux-PAM's headers", INSTALL, HEADERS)
    build_module()
    with stage() as made:
        yield made


@pytest.fixture
def device(place: Stage) -> Iterator[str]:
    """The device number of what is mounted where alice's ccfs would be."""
    with mounted(place, PLACE) as number:
        yield number


@contextlib.contextmanager
def mounted(place: Stage, path: str) -> Iterator[str]:
    """A tmpfs at a path on the stage; yields its device number."""
    place.run_directory.mkdir(mode=0o755, exist_ok=True)
    place.run("mkdir", "-p", path)
    place.run("mount", "-t", "tmpfs", "none", path)
    try:
        yield device_at(place, path)
    finally:
        place.run("umount", path)


def device_at(place: Stage, path: str) -> str:
    """MAJOR:MINOR of what is on top at a path."""
    table = Path(f"/proc/{place.init}/mountinfo").read_text().splitlines()
    return [line.split()[2] for line in table if line.split()[4] == path][-1]


def says(*more: str, session: str = "5") -> Behaviour:
    """A ccfsd that opens a session, `more` in its answer, and closes every one."""
    opened = " ".join(["ok", f"session={session}", *more]).encode()
    return lambda request: opened if request.startswith(b"open ") else b"ok"


def refuses(_: bytes) -> bytes:
    """A ccfsd that does nothing for anybody."""
    return b"error no"


def words(request: bytes) -> dict[str, str]:
    """What a request says, its word under ""."""
    word, *pairs = request.decode().split(" ")
    return {"": word, **dict(pair.split("=", 1) for pair in pairs)}


def test_session_sets_krb5ccname_and_closes(place: Stage, device: str) -> None:
    service = place.module_service("plain")
    answers = says(f"path={PLACE}", f"device={device}")
    with FakeCcfsd(place, answers) as ccfsd, place.session(service, "alice") as session:
        assert session.open() == DEFAULT
        session.close()
    opened, closed = map(words, ccfsd.requests)
    deadline = int(opened.pop("deadline"))
    assert opened == {
        "": "open",
        "uid": str(ALICE),
        "gid": str(ALICE),
        "user": "alice",
        "scope": "user",
        "import": "session",
        "service": "plain",
    }
    assert 0 < deadline <= 800
    assert closed == {"": "close", "session": "5"}


OWN = "ccache=session-5"


@pytest.mark.parametrize(
    ("options", "brought", "more", "variable"),
    [
        ("", None, [], DEFAULT),
        ("ccname=file", None, [], DEFAULT),
        ("ccname=dir", None, [], f"DIR:{PLACE}/dir"),
        ("", BROUGHT, [OWN], f"FILE:{PLACE}/caches/session-5/ccache"),
        ("ccname=dir", BROUGHT, [OWN], f"DIR::{PLACE}/dir/tkt.session-5"),
        ("import=if-empty", BROUGHT, ["imported=default"], DEFAULT),
        ("import=if-empty", BROUGHT, [], BROUGHT),
        ("", BROUGHT, [], BROUGHT),
        ("import=never", BROUGHT, [], BROUGHT),
        ("", "KCM:", [], "KCM:"),
        ("", "DIR:/home/alice/tickets", [], "DIR:/home/alice/tickets"),
        ("", "FILE:tickets", [], "FILE:tickets"),
        ("", "", [], DEFAULT),
        ("", f"FILE:{PLACE}/caches/old/ccache", [], DEFAULT),
        ("", f"DIR::{PLACE}/dir/tkt.old", [], DEFAULT),
        ("", BROUGHT, ["ccache=session-6"], BROUGHT),
        ("", BROUGHT, ["ccache=../../x"], BROUGHT),
        ("", BROUGHT, ["ccache=session-5%2F.."], BROUGHT),
    ],
)
def test_krb5ccname_depends_on_reply_and_options(
    place: Stage, device: str, options: str, brought: str | None, more: list[str], variable: str
) -> None:
    """Which ccache a session gets; the tickets that the login brought are never hidden."""
    service = place.module_service("variable", options)
    answers = says(f"path={PLACE}", f"device={device}", *more)
    with FakeCcfsd(place, answers), place.session(service, "alice") as session:
        if brought is not None:
            session.ask("putenv", f"KRB5CCNAME={brought}")
        assert session.open() == variable
        session.close()


@pytest.mark.parametrize(
    ("options", "brought", "asked"),
    [
        ("", BROUGHT, {"import": "session", "ccache": BROUGHT}),
        ("", "/tmp/a b%", {"ccache": "/tmp/a%20b%25"}),
        ("", "FILE:/tmp/é", {"ccache": "FILE:/tmp/%C3%A9"}),
        ("import=if-empty", BROUGHT, {"import": "if-empty", "ccache": BROUGHT}),
        ("import=never", BROUGHT, {"import": "never", "ccache": None}),
        ("", "KCM:", {"ccache": None}),
        ("", f"FILE:{PLACE}/default/ccache", {"ccache": None}),
        ("scope=session", None, {"scope": "session"}),
    ],
)
def test_open_request_has_options_and_ccache(
    place: Stage, options: str, brought: str | None, asked: dict[str, str | None]
) -> None:
    service = place.module_service("asked", options)
    with FakeCcfsd(place, refuses) as ccfsd, place.session(service, "alice") as session:
        if brought is not None:
            session.ask("putenv", f"KRB5CCNAME={brought}")
        assert session.open() == brought
        session.close()
    request = words(ccfsd.requests[0])
    assert {key: request.get(key) for key in asked} == asked


def test_scope_session_requests_own_mount(place: Stage) -> None:
    service = place.module_service("scope", "scope=session")
    path = f"{PLACE}.7"
    with contextlib.ExitStack() as stack:
        number = stack.enter_context(mounted(place, path))
        answers = says(f"path={path}", f"device={number}", session="7")
        stack.enter_context(FakeCcfsd(place, answers))
        session = stack.enter_context(place.session(service, "alice"))
        assert session.open() == f"FILE:{path}/default/ccache"
        session.close()


@pytest.mark.parametrize(
    "option",
    [
        *("timeout", "timeout=", "timeout=-1", "timeout=5", "timeout=1m", "timeout=99999999999s"),
        *("ccname=keyring", "import=always", "import", "scope=", "min_uid=x", "min_uid=-1"),
        *("min_uid=4294967295", "debug=1", "colour=red", "=", "skip_services"),
    ],
)
def test_unknown_option_is_ignored(place: Stage, option: str) -> None:
    service = place.module_service("odd", option)
    with FakeCcfsd(place, refuses) as ccfsd, place.session(service, "alice") as session:
        assert session.open() is None
        place.log.wait_for(f"invalid option {option}: ignored")
    request = words(ccfsd.requests[0])
    assert (request["scope"], request["import"]) == ("user", "session")
    assert 500 < int(request["deadline"]) <= 800


@pytest.mark.parametrize(
    ("option", "least", "most"),
    [
        ("timeout=300", 100, 240),
        ("timeout=300ms", 100, 240),
        ("timeout=2s", 1000, 1600),
        ("timeout=60000", 30000, 48000),
    ],
)
def test_timeout_option_bounds_wait(place: Stage, option: str, least: int, most: int) -> None:
    service = place.module_service("timeout", option)
    with FakeCcfsd(place, refuses) as ccfsd, place.session(service, "alice") as session:
        session.open()
    assert least < int(words(ccfsd.requests[0])["deadline"]) <= most


@pytest.mark.parametrize(
    ("service", "user", "options", "asks"),
    [
        ("cron", "alice", "", True),
        ("cron", "alice", "skip_services=sudo,cron", False),
        ("cron", "alice", "skip_services=cronx,cro", True),
        ("systemd-user", "alice", "", False),
        ("systemd-user", "alice", "skip_services=cron", False),
        ("login", "root", "", False),
        ("login", SYSTEM_USER, "", False),
        ("login", SYSTEM_USER, "min_uid=640", True),
        ("login", SYSTEM_USER, "min_uid=641", False),
        ("login", "root", "min_uid=0", True),
        ("login", "nobody-of-that-name", "", False),
    ],
)
def test_module_asks_only_for_eligible_users(
    place: Stage, service: str, user: str, options: str, asks: bool
) -> None:
    place.module_service(service, options)
    with FakeCcfsd(place, refuses) as ccfsd, place.session(service, user) as session:
        assert session.open() is None
        session.close()
    assert bool(ccfsd.requests) == asks


def test_two_lines_of_one_stack_open_one_session(place: Stage, device: str) -> None:
    """As in su-l, which includes su."""
    line = f"optional {place.project / MODULE}"
    service = place.service("twice", "required pam_permit.so", line, line)
    answers = says(f"path={PLACE}", f"device={device}")
    with FakeCcfsd(place, answers) as ccfsd, place.session(service, "alice") as session:
        for _ in range(2):
            assert session.open() == DEFAULT
            session.close()
    assert [words(request)[""] for request in ccfsd.requests] == ["open", "close"] * 2


def test_two_lines_wait_for_one_timeout(place: Stage) -> None:
    line = f"optional {place.project / MODULE} {QUICK}"
    service = place.service("slowly", "required pam_permit.so", line, line)
    with FakeCcfsd(place, lambda _: None) as ccfsd, place.session(service, "alice") as session:
        assert session.open() is None
    assert len(ccfsd.requests) == 1


GOOD = f"session=5 path={PLACE} device={{device}}"
WRONG_ANSWERS = {
    "silence": (None, "doesn't reply"),
    "early end": (b"", "closed the connection without a reply"),
    "garbage": (b"\xff\xfe\x80garbage", "is malformed"),
    "another word": (b"okay session=5", "is malformed"),
    "a bare ok": (b"ok", "is malformed"),
    "half": (b"ok session=5 path=/run/cc", "is malformed"),
    "no device": (f"ok session=5 path={PLACE}".encode(), "is malformed"),
    "no number": (f"ok session=x path={PLACE} device={{device}}".encode(), "is malformed"),
    "a long number": (
        f"ok session={'9' * 30} path={PLACE} device={{device}}".encode(),
        "is malformed",
    ),
    "too long": (f"ok {GOOD} x=".encode().ljust(4200, b"y"), "is malformed"),
    "a zero byte": (f"ok {GOOD}\0".encode(), "is malformed"),
    "a bad escape": (f"ok session=5 path={PLACE}%2 device={{device}}".encode(), "is malformed"),
    "an escaped zero": (b"ok session=5 path=/%00 device=0:1", "is malformed"),
    "an error": (
        b"error the daemon\ndoesn't \x1b[31manswer",
        "the daemon?doesn't ?[31manswer",
    ),
    "another place": (b"ok session=5 path=/tmp device={device}", "another path"),
    "another user": (b"ok session=5 path=/run/ccfs/64002 device={device}", "another path"),
    "another mount": (f"ok session=5 path={PLACE} device=0:0".encode(), "is not visible here"),
    "no such number": (f"ok session=5 path={PLACE} device=nothing".encode(), "is not visible here"),
}


@pytest.mark.parametrize("what", WRONG_ANSWERS)
def test_login_succeeds_with_any_reply(place: Stage, device: str, what: str) -> None:
    reply, reason = WRONG_ANSWERS[what]
    filled = None if reply is None else reply.replace(b"{device}", device.encode())
    place.log.lines.clear()
    service = place.module_service("wrong", QUICK)
    with FakeCcfsd(place, lambda _: filled), place.session(service, "alice") as session:
        assert session.open() is None
        place.log.wait_for(reason)
        session.close()


def test_login_without_reply_keeps_krb5ccname(place: Stage) -> None:
    service = place.module_service("kept", QUICK)
    with FakeCcfsd(place, lambda _: None), place.session(service, "alice") as session:
        session.ask("putenv", f"KRB5CCNAME={BROUGHT}")
        assert session.open() == BROUGHT


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("true", "cannot use /run/ccfs: No such file"),
        ("mkdir /run/ccfs", "cannot connect to /run/ccfs/control: No such file"),
        ("ln -s /tmp /run/ccfs", "/run/ccfs is not a directory"),
        ("mkdir /tmp/evil && ln -s evil /run/ccfs", "/run/ccfs is not a directory"),
        ("touch /run/ccfs", "/run/ccfs is not a directory"),
        ("mkdir /run/ccfs && chown alice /run/ccfs", f"/run/ccfs belongs to uid {ALICE}"),
        ("mkdir -m 775 /run/ccfs", "other users may write to /run/ccfs"),
        ("mkdir -m 1777 /run/ccfs", "other users may write to /run/ccfs"),
        ("mkdir /run/ccfs && touch /run/ccfs/control", "control: Connection refused"),
        ("mkdir /run/ccfs && mkfifo /run/ccfs/control", "control: Connection refused"),
        ("mkdir -m 000 /run/ccfs", "cannot connect to /run/ccfs/control"),
    ],
)
def test_untrusted_socket_directory_is_not_used(place: Stage, command: str, reason: str) -> None:
    place.run("rm", "-rf", "/run/ccfs")
    place.log.lines.clear()
    service = place.module_service("nowhere", QUICK)
    try:
        place.run("sh", "-c", command)
        with place.session(service, "alice") as session:
            assert session.open() is None
            session.close()
        place.log.wait_for(reason)
    finally:
        place.run("rm", "-rf", "/run/ccfs", "/tmp/evil")


SERVE_AS_ANOTHER = """
import os, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
os.setuid(int(sys.argv[2]))
listener.listen()
print("listening", flush=True)
sys.stdin.read()
"""


def test_reply_is_accepted_from_root_only(place: Stage) -> None:
    """The kernel names the caller of listen(2) as the peer."""
    place.run("rm", "-rf", "/run/ccfs")
    place.run_directory.mkdir(mode=0o755)
    service = place.module_service("impostor", QUICK)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(place.run_directory / "control"))
        number = str(listener.fileno())
        impostor = subprocess.Popen(
            ["/usr/bin/python3", "-I", "-c", SERVE_AS_ANOTHER, number, str(ALICE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
        try:
            assert impostor.stdout is not None
            assert impostor.stdout.readline() == b"listening\n"
            with place.session(service, "alice") as session:
                assert session.open() is None
            place.log.wait_for(f"uid {ALICE} listens at /run/ccfs/control")
        finally:
            impostor.communicate(timeout=10)
            place.run("rm", "-rf", "/run/ccfs")


def test_full_listen_queue_does_not_block_login(place: Stage) -> None:
    """ccfsd accepts no connection, and its listen queue is full."""
    place.run_directory.mkdir(mode=0o755, exist_ok=True)
    path = place.run_directory / "control"
    service = place.module_service("busy", QUICK)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        listener.bind(str(path))
        listener.listen(0)
        stack.callback(path.unlink)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        waiting.connect(str(path))
        session = stack.enter_context(place.session(service, "alice"))
        assert session.open() is None
        place.log.wait_for("too busy to take a request")


def test_unanswered_close_does_not_block_logout(place: Stage, device: str) -> None:
    service = place.module_service("left", QUICK)
    opened = f"ok session=5 path={PLACE} device={device}".encode()
    ccfsd = FakeCcfsd(place, lambda request: opened if request[:4] == b"open" else None)
    with ccfsd, place.session(service, "alice") as session:
        assert session.open() == DEFAULT
        session.close()
        place.log.wait_for("session 5 is not closed: ccfsd doesn't reply")
        session.close()
    assert len(ccfsd.requests) == 2


def test_close_by_user_sends_nothing(place: Stage, device: str) -> None:
    """A unit with PAMName=, and run0: the end of the process that opened it ends the session."""
    service = place.module_service("unit", QUICK)
    place.log.lines.clear()
    ccfsd = FakeCcfsd(place, says(f"path={PLACE}", f"device={device}"))
    with ccfsd, place.session(service, "alice") as session:
        assert session.open() == DEFAULT
        session.ask("become", str(ALICE))
        session.close()
    assert place.log.of("pam_ccfs") == []
    assert [words(request)[""] for request in ccfsd.requests] == ["open"]


def test_mount_of_other_namespace_is_not_used(place: Stage) -> None:
    service = place.module_service("elsewhere")
    with place.session(service, "alice", "unshare", "--mount") as session:
        session.ask("state")  # it is there: what is mounted now it doesn't see
        with contextlib.ExitStack() as stack:
            number = stack.enter_context(mounted(place, PLACE))
            answers = says(f"path={PLACE}", f"device={number}")
            stack.enter_context(FakeCcfsd(place, answers))
            assert session.open() is None
    place.log.wait_for(f"the mount at {PLACE} is not visible here")


@pytest.mark.parametrize("over", [PLACE, "/run/ccfs"])
def test_covered_mount_is_not_used(place: Stage, over: str) -> None:
    service = place.module_service("under", QUICK)
    place.log.lines.clear()
    with contextlib.ExitStack() as stack:
        number = stack.enter_context(mounted(place, PLACE))
        stack.enter_context(FakeCcfsd(place, says(f"path={PLACE}", f"device={number}")))
        place.run("mkdir", "-p", "/tmp/kept")
        place.run("mount", "--bind", "/run", "/tmp/kept")
        stack.callback(place.run, "umount", "/tmp/kept")
        place.run("mount", "-t", "tmpfs", "-o", "mode=755", "none", over)
        stack.callback(place.run, "umount", over)
        if over != PLACE:  # the socket is still to be found
            place.run("mkdir", "-p", "/run/ccfs")
            place.run("touch", "/run/ccfs/control")
            place.run("mount", "--bind", "/tmp/kept/ccfs/control", "/run/ccfs/control")
            stack.callback(place.run, "umount", "/run/ccfs/control")
        with place.session(service, "alice") as session:
            assert session.open() is None
    assert [line for line in place.log.lines if "is not visible here" in line]


def test_module_leaves_caller_process_unchanged(place: Stage, device: str) -> None:
    """Descriptors, children, threads, signals, environment; in success and in failure."""
    service = place.module_service("quiet", QUICK)
    with place.session(service, "alice") as session:
        session.ask("restless")
        before = session.ask("state")
        with FakeCcfsd(place, says(f"path={PLACE}", f"device={device}")):
            assert session.open() == DEFAULT
            assert session.ask("state") == before
            session.close()
            assert session.ask("state") == before
        with FakeCcfsd(place, refuses):
            session.open()  # libc keeps its connection to the log from now on
            before = session.ask("state")
            session.close()
            session.open()
            session.close()
            assert session.ask("state") == before


def test_module_leaves_errno_unchanged(place: Stage, tmp_path: Path) -> None:
    probe = place.directory / "pam/pam_probe.so"
    source = str(PROJECT / "tests/support/clients/pam/probe.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", probe, source, "-lpam"], check=True, timeout=60)
    inside = "required /mnt/pam/pam_probe.so"
    lines = (f"{inside} set", f"optional {place.project / MODULE}", f"{inside} tell")
    service = place.service("errno", *lines)
    with place.session(service, "alice") as session:
        assert session.open() is None
        assert session.ask("getenv", "ERRNO") == "77"
        session.close()
        assert session.ask("getenv", "ERRNO") == "77"


def test_module_survives_interrupting_signals(place: Stage, device: str) -> None:
    """Interrupted system calls are begun again; what is left of the deadline counts."""
    service = place.module_service("alarm")
    session_opened = says(f"path={PLACE}", f"device={device}")
    with FakeCcfsd(place, session_opened), place.session(service, "alice") as session:
        session.ask("interrupt", "0.0005")
        for _ in range(50):
            assert session.open() == DEFAULT
            session.close()
    silent = place.module_service("alarm", QUICK)
    with FakeCcfsd(place, lambda _: None), place.session(silent, "alice") as session:
        session.ask("interrupt", "0.0005")
        assert session.open() is None


def test_module_in_other_pam_phases_is_ignored(place: Stage) -> None:
    """An administrator's mistake locks no user out: the module is ignored in these phases."""
    require("pamtester", INSTALL, ["pamtester"])
    lines = "".join(
        f"{kind} required {place.project / MODULE}\n{kind} required pam_permit.so\n"
        for kind in ("auth", "account", "password")
    )
    (place.directory / "etc/pam.d/slip").write_text(lines)
    for what in ("authenticate", "acct_mgmt", "chauthtok", "setcred"):
        place.run("pamtester", "slip", "alice", what)


def test_pamtester_opens_and_closes_session(place: Stage, device: str) -> None:
    require("pamtester", INSTALL, ["pamtester"])
    service = place.module_service("tested", "debug")
    with FakeCcfsd(place, says(f"path={PLACE}", f"device={device}")) as ccfsd:
        place.run("pamtester", service, "alice", "open_session", "close_session")
    assert [words(request)[""] for request in ccfsd.requests] == ["open", "close"]
    place.log.wait_for(f"session 5: KRB5CCNAME={DEFAULT}")
    place.log.wait_for("session 5: closed")


def test_module_exports_pam_entry_points_only(place: Stage) -> None:
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", PROJECT / MODULE], capture_output=True, text=True, check=True
    )
    names = {line.split()[2] for line in listed.stdout.splitlines()}
    kinds = ("open_session", "close_session", "authenticate", "setcred", "acct_mgmt", "chauthtok")
    assert names == {f"pam_sm_{kind}" for kind in kinds}


def test_module_has_no_memory_errors(place: Stage, device: str) -> None:
    """Every answer there is, with the compiler's checks for memory and undefined behaviour."""
    require("pamtester", INSTALL, ["pamtester"])
    built = PROJECT / "build/mount-helper-checked"
    flags = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined"
    build_module(f"BUILD={built}", f"CFLAGS={flags}", f"LDFLAGS={flags}")
    line = f"optional {place.project}/build/mount-helper-checked/pam_ccfs.so {QUICK} ccname=dir x"
    service = place.service("checked", "required pam_permit.so", line, line)
    library = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    replies = [reply for reply, _ in WRONG_ANSWERS.values() if reply is not None]
    replies += [f"ok {GOOD} {OWN}".encode(), f"ok {GOOD}".encode(), b"ok session=" + b"%41" * 50]
    replies = [reply.replace(b"{device}", device.encode()) for reply in replies]
    answers = iter([both for reply in replies for both in (reply, b"ok")])
    with FakeCcfsd(place, lambda _: next(answers, b"ok")) as ccfsd:
        steps = ["open_session", "close_session"] * len(replies)
        done = place.run(
            *("pamtester", service, "alice", *steps),
            LD_PRELOAD=library,
            ASAN_OPTIONS="detect_leaks=0",
            check=False,
        )
    assert (done.returncode, "Sanitizer" in done.stderr) == (0, False), done.stderr
    assert len(ccfsd.requests) > len(replies)
