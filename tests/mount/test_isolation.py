# SPDX-License-Identifier: MIT
"""Access of real users in real namespaces, compared with the table of docs/admin/isolation.md."""

import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfs.cli.doctor import mount_checks
from ccfs.cli.doctor.machine import Machine
from ccfs.cli.doctor.mount_checks import read_proc_status
from tests.support import isolation
from tests.support.clients.python import records
from tests.support.isolation import (
    INTRUDER,
    MOUNTS,
    OTHER,
    OWNED,
    OWNER,
    WHO,
    IsolatedMounts,
    Results,
)
from tests.support.mounting import MakeMount
from tests.support.paths import PROJECT
from tests.support.require import missing, require

IMAGE = records.ccache(["host/one", "krbtgt/KRBTEST.COM"])
FILES = {what for whats in [*isolation.COLUMNS.values()][:11] for what in whats}
PROC = {"ptrace", "mem", "maps", "environ", "fd"}
DOCUMENT = PROJECT / "docs/admin/isolation.md"


@pytest.fixture(scope="module")
def isolated() -> Iterator[IsolatedMounts]:
    if os.geteuid() != 0:
        missing("root", "run the tests as root", "only root can become another user")
    require("sudo", "apt install sudo", ["sudo", "setpriv", "unshare", "nsenter", "runuser", "sg"])
    with isolation.isolated() as made:
        image = made.directory / "image"
        image.write_bytes(IMAGE)
        image.chmod(0o644)
        for kind in MOUNTS:
            made.run([*OWNED, "cp", str(image), f"{made.top(kind)}/caches/tkt/ccache"])
        yield made


@pytest.fixture(scope="module")
def results(isolated: IsolatedMounts) -> Results:
    return isolation.everything(isolated)


def allowed(results: Results, kind: str, who: str) -> set[str]:
    return {what for what, result in results[kind, who].items() if result == "ok"}


def test_document_has_table_of_results(results: Results) -> None:
    """It is made from the results: a change of them is a change of a promise."""
    text = DOCUMENT.read_text()
    _, begin, rest = text.partition("<!-- table -->\n")
    had, end, _ = rest.partition("<!-- end of the table -->\n")
    assert begin
    assert end
    assert had == isolation.table(results)


@pytest.mark.parametrize("kind", MOUNTS)
@pytest.mark.parametrize("who", [who for who in WHO if who.startswith("the owner")])
def test_owner_may_all_but_inspect_daemon(results: Results, kind: str, who: str) -> None:
    by_newgrp = who == "the owner, after newgrp" and kind == "plain"
    assert allowed(results, kind, who) - {"signal"} == (set() if by_newgrp else FILES)


@pytest.mark.parametrize("kind", MOUNTS)
@pytest.mark.parametrize("who", [who for who in WHO if who.startswith("another")])
def test_other_user_is_refused_everything(results: Results, kind: str, who: str) -> None:
    assert allowed(results, kind, who) == set()
    assert {results[kind, who][what] for what in FILES} == {"EACCES"}


@pytest.mark.parametrize("who", ["root", "root of a container"])
def test_root_is_refused_without_allow_root(results: Results, who: str) -> None:
    """With --allow-other the kernel answers root from what it has cached: that there is a file."""
    assert allowed(results, "plain", who) & FILES == set()
    assert allowed(results, "--allow-other", who) & FILES == {"lookup", "wait"}
    assert allowed(results, "--allow-root", who) >= FILES


def test_root_with_setfsuid_is_served_as_owner(results: Results) -> None:
    """What rpc.gssd does, and sshd while it stores delegated credentials."""
    who = "root, with setfsuid to the owner"
    assert allowed(results, "plain", who) & FILES == set()
    assert allowed(results, "--allow-other", who) >= FILES


def test_refused_attempts_change_nothing(isolated: IsolatedMounts, results: Results) -> None:
    for kind in MOUNTS:
        stored = f"{isolated.top(kind)}/caches/tkt/ccache"
        isolated.run([*OWNED, "cmp", stored, str(isolated.directory / "image")])
        listed = isolated.run(
            [*OWNED, "sh", "-c", f"cd {isolated.top(kind)} && ls caches caches/tkt"]
        )
        assert "intruder" not in listed


def test_events_have_uid_and_pid_of_caller(isolated: IsolatedMounts, results: Results) -> None:
    """The kernel's word: root is root, and a pid is what it is where the daemon lives."""
    lines = isolated.run([*OWNED, "cat", f"{isolated.top('--allow-root')}/events"]).splitlines()
    made = [line.split("\t") for line in lines if line.split("\t")[2:4] == ["created", "intruder"]]
    assert {line[5] for line in made} == {f"uid={OWNER}", "uid=0"}
    assert all(int(line[6].removeprefix("pid=")) > 1 for line in made)
    assert len(made) == len([who for who in WHO if not who.startswith("another")])


def test_passed_descriptor_grants_access(isolated: IsolatedMounts, results: Results) -> None:
    """A file's descriptor reads and writes in any process; a directory's gives no access."""
    found = json.loads(
        isolated.run(
            [
                *("/usr/bin/python3", "-I", str(isolated.project / INTRUDER), "pass"),
                *(str(isolated.top("plain")), str(OWNER), str(OTHER)),
            ]
        )
    )
    assert {what for what, result in found.items() if result == "ok"} == {
        "read",
        "write",
        "read text",
    }
    assert {result for result in found.values() if result != "ok"} == {"EACCES"}


def test_daemon_is_not_dumpable(isolated: IsolatedMounts) -> None:
    """Root owns what /proc has of it, though it is a process of the user's own."""
    for pid in isolated.pids.values():
        status = read_proc_status(f"/proc/{pid}/status")
        assert status["Uid"].split() == [str(OWNER)] * 4
        assert os.stat(f"/proc/{pid}/mem").st_uid == 0
        doctor, _ = mount_checks.check_daemon({"pid": pid}, Machine({}, OWNER))
        assert doctor.message == f"process {pid} is undumpable"
        assert int(status["CapEff"], 16) == 0
        limits = Path(f"/proc/{pid}/limits").read_text()
        (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
        assert core.split()[4:6] == ["0", "0"]


def test_crashed_daemon_leaves_no_core(make_mount: MakeMount) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        mounted = make_mount()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    os.kill(mounted.pid, signal.SIGSEGV)
    _, status = os.waitpid(mounted.pid, 0)
    mounted.process.returncode = -signal.SIGKILL  # a death that this test has caused
    assert (os.WTERMSIG(status), os.WCOREDUMP(status)) == (signal.SIGSEGV, False)


def test_root_daemon_locks_memory(make_mount: MakeMount) -> None:
    """Where the limit allows it: root may always."""
    mounted = make_mount()
    status = read_proc_status(f"/proc/{mounted.pid}/status")
    assert int(status["VmLck"].split()[0]) > 0
