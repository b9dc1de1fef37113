# SPDX-License-Identifier: MIT
"""Limits of one user at ccfsd, with as many uids as they like."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfs.ccfsd import arguments, quota, runtime_dir
from ccfs.ccfsd.quota import Quota
from ccfs.ccfsd.registry import Mount, Owner, Registry, Session
from ccfs.ccfsd.settings import Limits
from ccfs.ccfsd.subuids import Users
from ccfs.errors import UsageError
from ccfs.linux import mount_calls
from ccfs.linux.processes import Process
from tests.support.ccfsd import CcfsdHost, ccfsd_host
from tests.support.ccfsd_clients import KCM_DEFAULT
from tests.support.mounting import first_line
from tests.support.shell import wait_until

USER = 64113
FIRST = 700_000
MANY = """
import os, socket
replies = {}
for uid in range(700000, 700200):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect("/run/ccfs/control")
        try:
            s.send(b"mount deadline=20000")
            reply = s.recv(5000)
        except OSError:
            reply = b"cut"
        os.write(writer, reply.split(b" path")[0])
        os._exit(0)
    os.close(writer)
    os.wait()
    reply = os.read(reader, 500).decode()
    os.close(reader)
    replies[reply] = replies.get(reply, 0) + 1
print(replies)
"""


@pytest.fixture
def host() -> Iterator[CcfsdHost]:
    """A place where a user has subordinate uids."""
    with ccfsd_host() as made:
        subuid = made.directory / "subuid"
        subuid.write_text(f"ccfs{USER}:{FIRST}:65536\n")
        made.sh(f"touch /etc/subuid; mount --bind {subuid} /etc/subuid")
        made.start("--kcm-socket", "/run/kcm")
        yield made


def test_subordinate_uids_share_one_users_limit(host: CcfsdHost) -> None:
    """They have what one user may have; others are served, and the refused hear why."""
    said = host.sh(f"/usr/bin/python3 -I -c '{MANY}'")
    assert said == str({"ok": 16, "error too many mounts of one user": 184}) + "\n"
    assert host.ask_as(64114, "mount deadline=20000").startswith("ok ")
    assert host.open(USER).values["path"] == f"/run/ccfs/{USER}"


@pytest.fixture
def passwd(tmp_path: Path) -> Users:
    """One user with a login name, uid 1000, whose subordinate uids are 100000 to 165535."""
    (tmp_path / "subuid").write_text("alice:100000:65536\n")
    (tmp_path / "passwd").write_text("alice:x:1000:1000::/:/bin/sh\n")
    return Users(str(tmp_path / "subuid"), str(tmp_path / "passwd"))


def asked(*uids: int) -> Registry:
    """Mounts that were asked for without a session."""
    registry = Registry()
    for uid in uids:
        registry = registry.with_mount(Mount(str(uid), Owner(uid, uid), requested=True))
    return registry


def test_mounts_are_refused_below_memory_limit(
    passwd: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "memory_available", lambda: 1)
    said = Quota(Limits(), passwd).start(1000, Registry(), 0.0)
    assert said == "too little memory for another mount"


def test_new_mounts_per_minute_are_limited_per_user(passwd: Users) -> None:
    """However quickly they end; with all subordinate uids together, and others aren't held up."""
    made = Quota(Limits(starts=3), passwd)
    assert [made.start(uid, Registry(), 0.0) for uid in (1000, 100_000, 100_001)] == [""] * 3
    assert made.start(100_002, Registry(), 59.0) == "too many new mounts of one user in a minute"
    assert made.start(1001, Registry(), 59.0) == ""
    assert made.start(1000, Registry(), 60.0) == ""


def test_unnamed_uids_share_half_of_the_limit(passwd: Users) -> None:
    """One of another name service, which has a session, is not among them."""
    made = Quota(Limits(mounts=4, kcm=4), passwd)
    registry = asked(2001, 2002)
    assert made.start(2003, registry, 0.0) == "too many mounts"
    assert made.start(1000, registry, 0.0) == ""
    registry = registry.with_mount(Mount("2003", Owner(2003, 2003)))
    registry = registry.with_session(Session(1, "2003", Process(1, 1)))
    assert made.start(2003, registry, 0.0) == ""
    assert made.kcm(2004, 0, 2, registry) == "too many of them wait"
    assert made.kcm(2003, 0, 2, registry) == ""
    assert made.kcm(1000, 0, 4, registry) == "too many of them wait"


def test_limit_options_are_parsed() -> None:
    given = arguments.parse(["--limit", "starts=2", "--limit", "memory=0"])
    limits = arguments.settings(given).limits
    assert (limits.starts, limits.memory, limits.mounts) == (2, 0, 1000)
    for wrong in ("start=2", "starts=-1", "starts=x", "starts"):
        with pytest.raises(UsageError):
            arguments.parse(["--limit", wrong])


def test_subordinate_uid_is_mapped_to_its_user(tmp_path: Path) -> None:
    subuid, passwd = tmp_path / "subuid", tmp_path / "passwd"
    users = Users(str(subuid), str(passwd))
    assert users.behind(100_005) == 100_005
    passwd.write_text("alice:x:1000:1000::/:/bin/sh\ngarbage\n")
    subuid.write_text("alice:100000:10\n1001:200000:10\nbob:300000:10\nx:y:z\n\n")
    assert [users.behind(uid) for uid in (100_000, 100_009, 100_010)] == [1000, 1000, 100_010]
    assert users.behind(200_000) == 1001
    assert users.behind(300_000) == "bob"
    assert users.has_name(1000)
    assert not users.has_name(1001)


def test_unsupported_mount_option_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def mount(source: str, path: str, fstype: str, flags: int, options: str) -> None:
        asked.append(options.partition(",")[0])
        if options.startswith("noswap"):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(mount_calls, "mount", mount)
    monkeypatch.setattr(runtime_dir, "_refused", set())
    made = runtime_dir.Runtime(str(tmp_path))
    (tmp_path / "journal").mkdir()
    made.mount_journal_dir("1", 1, 1)
    made.mount_journal_dir("2", 2, 2)
    assert asked == ["noswap", "mode=0700", "mode=0700"]


WAIT = """
import os, socket, sys
for uid in range(700000, 700016):
    if os.fork() == 0:
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        held = [socket.socket(socket.AF_UNIX) for _ in range(40)]
        for one in held:
            one.connect("/run/kcm")
        print("connected", flush=True)
        sys.stdin.read()
        os._exit(0)
for _ in range(16):
    os.wait()
"""


def test_waiting_kcm_clients_are_limited_per_user(host: CcfsdHost) -> None:
    """One user's waiting clients have the places of one user: those of others are served."""
    for uid in range(FIRST, FIRST + 16):
        assert host.ask_as(uid, "mount deadline=20000").startswith("ok ")
    daemons = [host.daemon(uid) for uid in range(FIRST, FIRST + 16)]
    for daemon in daemons:
        os.kill(daemon, signal.SIGSTOP)
    crowd = host.popen(
        ["/usr/bin/python3", "-I", "-c", WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert crowd.stdout is not None
        for _ in range(16):
            assert first_line(crowd.stdout, 20) == "connected\n"
        wait_until(lambda: bool(host.lines("too many of them wait")), "none is turned away")
        said = host.sh(f"timeout 20 /usr/bin/python3 -I -c '{KCM_DEFAULT}'", 64114)
        assert said == "64114:tkt\n"
        assert len(host.lines("too many of them wait")) <= 20
    finally:
        crowd.kill()
        crowd.communicate()
        for daemon in daemons:
            with contextlib.suppress(ProcessLookupError):
                os.kill(daemon, signal.SIGCONT)
