# SPDX-License-Identifier: MIT
"""Real logins with a real ccfsd: the variable, the tickets, what sessions share, what is left.

After every test nothing may be left of the users: no mount, process, ticket or file.
"""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfs.linux import privileges
from tests.support.kdc import Kdc
from tests.support.login import BOUND, INSIDE, PATIENT, SYSTEM_USER, USERS, Stage, stage, wait_until
from tests.support.login_sessions import (
    TOURED,
    WAYS,
    Report,
    add_kerberos,
    ask,
    ccfsd,
    delegating,
    is_over,
    left,
    log_in,
    shell,
    sshd,
)
from tests.support.mounting import first_line
from tests.support.require import require

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ALICE = USERS["alice"]
PLACE = f"/run/ccfs/{ALICE}"
DEFAULT = f"FILE:{PLACE}/default/ccache"


@pytest.fixture(scope="module")
def furnished(installed: Path, kdc: Kdc) -> Iterator[Stage]:
    """A stage with everything on it: ccfsd, sshd, Kerberos, the module where Debian puts it."""
    require("sshd", "apt-get install openssh-server", ["sshd", "ssh"])
    with stage(installed) as made:
        made.enable()
        add_kerberos(made, kdc)
        with ccfsd(made), sshd(made):
            yield made


@pytest.fixture
def place(furnished: Stage) -> Iterator[Stage]:
    """The stage; nothing is left on it."""
    yield furnished
    with contextlib.suppress(AssertionError):
        wait_until(lambda: is_over(furnished))
    assert left(furnished) == []
    assert ask(furnished, "status").endswith("daemons=0 sessions=0")


@pytest.mark.parametrize("way", WAYS)
def test_every_login_service_has_working_mount(place: Stage, way: str) -> None:
    """kinit, kvno and klist work in the session, with the mount and without any settings."""
    assert log_in(place, way, "alice", "tour") == Report(DEFAULT, "alice", TOURED)


def test_sessions_of_one_user_share_mount(place: Stage) -> None:
    """The last logout ends it, not the first."""
    with shell(place, "ssh", "alice") as first, shell(place, "su -", "alice") as second:
        assert first.name == second.name == DEFAULT
        assert first.tour().said == TOURED
        assert second.tour("look").said["ticket"] == TOURED["ticket"]
        first.close()
        assert second.tour("look").said["ticket"] == TOURED["ticket"]
        second.close()
    assert not log_in(place, "su", "alice", "look").said


def test_users_have_separate_mounts(place: Stage) -> None:
    with shell(place, "su -", "alice") as alice, shell(place, "su -", "bob") as bob:
        assert alice.tour().said == bob.tour().said == TOURED
        assert "Permission denied" in bob.ask(f"cat {PLACE}/info 2>&1")
        assert bob.tour("look").said["principal"] == "bob@KRBTEST.COM"
        alice.close()
        bob.close()


def test_logout_ends_mount_copied_to_other_namespace(place: Stage) -> None:
    """Another mount namespace, as that of a container, keeps the file system alive."""
    service = place.service("copied", "required pam_permit.so", f"optional pam_ccfs.so {PATIENT}")
    with place.session(service, "alice") as session:
        assert session.open() == DEFAULT
        copy = place.start(
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 60"),
            stdout=subprocess.PIPE,
        )
        assert first_line(copy.stdout, BOUND) == "\n"  # type: ignore[arg-type]
        session.close()
        wait_until(lambda: PLACE not in place.mounts())
        wait_until(lambda: ask(place, "status").endswith("daemons=0 sessions=0"))
        assert left(place) == []
    [sleeper] = [pid for pid, line in place.processes().items() if line.startswith("sleep 60")]
    os.kill(sleeper, signal.SIGKILL)
    copy.communicate(timeout=BOUND)


AS_USER = """
import os, sys
uid, path = int(sys.argv[1]), sys.argv[2]
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
with open(path + "/principal", "w") as file:
    file.write("big@R\\n")
print(os.stat(path).st_uid, open(path + "/info").read().count("initialised: yes"))
"""


@pytest.mark.parametrize("uid", [2**31, 2**32 - 2])
def test_login_of_uid_beyond_31_bits(place: Stage, uid: int) -> None:
    """User namespaces and domains have such users."""
    user, passwd = f"u{uid}", place.directory / "etc/passwd"
    before = passwd.read_text()
    passwd.write_text(f"{before}{user}:x:{uid}:{uid}::/:/bin/sh\n")
    service = place.service("big", "required pam_permit.so", f"optional pam_ccfs.so {PATIENT}")
    try:
        with place.session(service, user) as session:
            top = f"/run/ccfs/{uid}"
            assert session.open() == f"FILE:{top}/default/ccache"
            said = place.run(place.python, "-c", AS_USER, str(uid), f"{top}/default")
            assert said.stdout == f"{uid} 1\n"
            session.close()
            wait_until(lambda: top not in place.mounts())
    finally:
        passwd.write_text(before)


def test_delegated_credentials_belong_to_their_session(place: Stage) -> None:
    """A second login replaces nothing of the first's, and each takes its own along."""
    with delegating(place, "alice") as first, delegating(place, "alice") as second:
        for session in (first, second):
            number = re.fullmatch(rf"FILE:{PLACE}/caches/session-(\d+)/ccache", session.name)
            assert number is not None, session.name
            looked = session.tour("look").said
            assert looked["principal"] == "alice@KRBTEST.COM"
            assert looked["ticket"].startswith("krbtgt/")
        assert first.name != second.name
        assert not [*(place.directory / "tmp").iterdir()]
        assert second.tour().said["kvno"] == "ok"
        caches = first.ask(f"ls {PLACE}/caches").split()
        assert sorted(caches) == sorted(["tkt", *(s.name.split("/")[-2] for s in (first, second))])
        first.close()
        own = first.name.removeprefix("FILE:")
        wait_until(lambda: "No such file" in second.ask(f"ls {own} 2>&1"))
        assert second.tour("look").said["ticket"]
        second.close()


def test_scope_session_has_mount_for_each_login(place: Stage) -> None:
    service = place.service(
        "scope", "required pam_permit.so", f"optional pam_ccfs.so {PATIENT} scope=session"
    )
    with place.session(service, "alice") as first, place.session(service, "alice") as second:
        names = [first.open(), second.open()]
        tops = [re.fullmatch(rf"FILE:({PLACE}\.\d+)/default/ccache", name or "") for name in names]
        assert len({top[1] for top in tops if top}) == 2
        as_alice = ("setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups")
        for name in names:
            tour = place.run(*as_alice, f"{INSIDE}/tour", "tour", KRB5CCNAME=name or "", HOME="/")
            assert Report.of(tour.stdout).said == TOURED
        first.close()
        wait_until(lambda: tops[0] and tops[0][1] not in place.mounts())
        assert tops[1]
        assert tops[1][1] in place.mounts()
        second.close()


def test_ccname_dir_gives_collection(place: Stage) -> None:
    service = place.service(
        "dir", "required pam_permit.so", f"optional pam_ccfs.so {PATIENT} ccname=dir"
    )
    with place.session(service, "alice") as session:
        name = session.open()
        assert name == f"DIR:{PLACE}/dir"
        as_alice = ("setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups")
        tour = place.run(*as_alice, f"{INSIDE}/tour", "tour", KRB5CCNAME=name, HOME="/")
        assert Report.of(tour.stdout).said == TOURED
        session.close()


def test_eight_concurrent_logins_share_mounts(place: Stage) -> None:
    """Three users, a mount for each."""
    started = [
        place.start(*WAYS["su -"](user, f"{INSIDE}/tour look"), stdout=subprocess.PIPE)
        for user in ("alice", "bob", "alice", "carol") * 2
    ]
    reports = [Report.of(process.communicate(timeout=30)[0]) for process in started]
    named = [f"FILE:/run/ccfs/{USERS[report.user]}/default/ccache" for report in reports]
    assert [report.name for report in reports] == named


def test_logout_unmounts_busy_mount(place: Stage) -> None:
    """A process that outlives its session keeps no ticket alive."""
    with shell(place, "su -", "alice") as session:
        assert session.tour().said == TOURED
        session.ask(f"cd {PLACE}; (sleep 600 <default/ccache >/dev/null 2>&1 & echo $!)")
        session.ask(f"(cat {PLACE}/changed >/dev/null 2>&1 &)")
        session.close()
    wait_until(lambda: not place.mounts())
    for pid, line in place.processes().items():
        if line.startswith("sleep 600"):
            os.kill(pid, signal.SIGKILL)


def test_unmount_by_user_is_repaired_at_next_login(place: Stage) -> None:
    """Nothing can be stored underneath; the next login has a mount."""
    with shell(place, "su -", "alice") as session:
        session.ask(f"fusermount3 -u {PLACE}")
        session.ask(f"while grep -q ' {PLACE} ' /proc/self/mountinfo; do sleep 0.01; done")
        assert "Permission denied" in session.ask(f"echo secret 2>&1 >{PLACE}/secret")
        assert log_in(place, "su", "alice", "tour").said == TOURED
        session.close()


def test_killed_daemon_is_replaced_with_all_tickets(place: Stage) -> None:
    """On the same path, with every ticket."""
    with shell(place, "su -", "alice") as session:
        assert session.tour().said == TOURED
        pid = place.outside(int(session.ask(f"sed -n 's/^pid: //p' {PLACE}/info")))
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: "ticket" in session.tour("look").said)
        assert session.tour("look").said["ticket"] == TOURED["ticket"]
        session.close()


def test_killed_sshd_process_ends_its_session(place: Stage) -> None:
    """sshd's process for the session, without a word to PAM."""
    with shell(place, "ssh", "alice") as session:
        assert session.tour().said == TOURED
        leaders = [p for p, line in place.processes().items() if "alice [priv]" in line]
        assert len(leaders) == 1
        os.kill(leaders[0], signal.SIGKILL)
        wait_until(lambda: not place.mounts())


def test_login_in_other_namespace_has_no_variable(place: Stage) -> None:
    """In another mount namespace it is not there: a variable would lead nowhere."""
    service = place.service("ns", "required pam_permit.so", f"optional pam_ccfs.so {PATIENT}")
    with place.session(service, "alice", "unshare", "--mount") as session:
        session.ask("state")
        assert session.open() is None
        place.log.wait_for(f"the mount at {PLACE} is not visible here")
        session.close()


@pytest.mark.parametrize("user", ["root", SYSTEM_USER])
def test_system_accounts_get_no_mount(place: Stage, user: str) -> None:
    with shell(place, "su -", user) as session:
        assert session.name == ""
        assert ask(place, "status").endswith("daemons=0 sessions=0")
        session.close()


def test_daemon_has_only_its_users_ids(place: Stage) -> None:
    """Its user's ids and no more; no variable, no file of anybody's, nothing to come back by."""
    with shell(place, "su -", "alice") as session:
        pid = place.outside(int(session.ask(f"sed -n 's/^pid: //p' {PLACE}/info")))
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(re.findall(r"^(\w+):\s*(.*?)\s*$", status, re.M))
        service = str(privileges.service_uid())
        assert fields["Uid"].split() == [service] * 3 + [str(ALICE)]
        assert fields["Gid"].split() == [str(ALICE)] * 4
        assert fields["Groups"] in ("", str(ALICE))
        assert {int(fields[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {
            0
        }
        assert fields["NoNewPrivs"] == "1"
        assert not Path(f"/proc/{pid}/environ").read_bytes().strip(b"\0")
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        opened = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        kinds = r"socket:.*|pipe:.*|anon_inode:.*|/dev/(null|fuse)|/proc/loadavg|.*/ccfsd.log"
        kinds += r"|/memfd:ccfs-handover \(deleted\)"
        strange = {path for path in opened if not re.fullmatch(kinds, path)}
        assert {path for path in strange if not path.startswith("/run/ccfs/")} == set()
        inside = fields["NSpid"].split()[-1]
        for name in ("maps", "mem", "environ"):
            assert "denied" in session.ask(f"head -c 1 /proc/{inside}/{name} 2>&1"), name
        session.close()
