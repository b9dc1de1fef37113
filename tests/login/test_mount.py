# SPDX-License-Identifier: MIT
"""`mount -t ccfs` and fstab: root mounts, the user's process serves, a supervisor replaces it."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfs.linux import privileges
from tests.support.login import INSIDE, USERS, Stage, stage, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ALICE = USERS["alice"]
AS_ALICE = ("setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups")
TOP = f"{INSIDE}/home/alice/tickets"


@pytest.fixture(scope="module")
def place(installed: Path) -> Iterator[Stage]:
    with stage(installed) as made:
        yield made


@pytest.fixture
def top(place: Stage) -> Iterator[str]:
    """An empty directory to mount on; afterwards neither a mount nor a daemon is left."""
    place.run("mkdir", "-p", TOP)
    yield TOP
    place.run("umount", "-l", TOP, check=False)
    wait_until(lambda: not processes(place))
    assert not [*(place.directory / "tmp").iterdir()]
    assert place.run("ls", "/dev/shm").stdout == ""


def processes(place: Stage) -> dict[int, str]:
    """The processes of mount.ccfs on the stage, by their pids as seen from here."""
    return {pid: line for pid, line in place.processes().items() if "mount.ccfs" in line}


def serving(place: Stage, top: str) -> int:
    """The daemon's pid as seen from here, by what the mount says of itself."""
    said = place.run(*AS_ALICE, "cat", f"{top}/info").stdout
    pid = re.search(r"^pid: (\d+)$", said, re.M)
    assert pid is not None
    return place.outside(int(pid[1]))


def test_mount_command_mounts_for_user(place: Stage, top: str) -> None:
    place.run("mount", "-t", "ccfs", "-o", "user=alice", "ccfs", top)
    line = place.run("findmnt", "-no", "FSTYPE,OPTIONS", top).stdout
    assert re.match(r"fuse.ccfs +rw,nosuid,nodev,noexec,relatime,", line)
    assert f"user_id={ALICE},group_id={ALICE},default_permissions,allow_other" in line
    assert "default" in place.run(*AS_ALICE, "ls", top).stdout
    assert place.run("ls", top, check=False).returncode != 0
    place.run("umount", top)


def test_mounted_daemon_runs_without_privileges(place: Stage, top: str) -> None:
    place.run("mount", "-t", "ccfs", "-o", f"user={ALICE}", "ccfs", top)
    daemon = serving(place, top)
    status = Path(f"/proc/{daemon}/status").read_text()
    ids = dict(re.findall(r"^(Uid|Gid|Groups|Cap\w+|NoNewPrivs):\s*(.*?)\s*$", status, re.M))
    service = str(privileges.service_uid())
    assert (ids["Uid"].split(), ids["Gid"].split()) == (
        [service] * 3 + [str(ALICE)],
        [str(ALICE)] * 4,
    )
    assert ids["Groups"] in ("", str(ALICE))
    assert {int(ids[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert ids["NoNewPrivs"] == "1"
    opened = [os.readlink(entry) for entry in Path(f"/proc/{daemon}/fd").iterdir()]
    strange = [path for path in opened if path.startswith(("/mnt", "/etc", "/home", "/root"))]
    assert strange == [top]  # the directory below the mount, for its lock


def test_killed_daemon_is_replaced(place: Stage, top: str) -> None:
    place.run("mount", "-t", "ccfs", "-o", "user=alice", "ccfs", top)
    place.run(*AS_ALICE, "mkdir", f"{top}/caches/work")
    first = serving(place, top)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in processes(place))
    wait_until(lambda: place.run(*AS_ALICE, "cat", f"{top}/info", check=False).returncode == 0)
    second = serving(place, top)
    assert second != first
    said = place.run("ccfs", "restart", top).stderr
    assert re.match(rf"ccfs: notice: the ccfs at {top} is served by process \d+ ", said)
    assert serving(place, top) not in (first, second)
    assert place.run(*AS_ALICE, "ls", f"{top}/caches").stdout.split() == ["tkt", "work"]


def test_fstab_entry_is_mounted(place: Stage, top: str) -> None:
    options = "user=alice,noauto,nofail,_netdev,x-systemd.automount,max_ccaches=7,noatime"
    (place.directory / "etc/fstab").write_text(f"ccfs {top} ccfs {options} 0 0\n")
    mount = ("mount", "-T", f"{INSIDE}/etc/fstab", top)
    place.run(*mount)
    assert "limit_ccaches: 7\n" in place.run(*AS_ALICE, "cat", f"{top}/info").stdout
    assert "noatime" in place.run("findmnt", "-no", "OPTIONS", top).stdout
    again = place.run(*mount, check=False)
    assert again.returncode == 32
    assert "is mounted at" in again.stderr
    place.run(*AS_ALICE, "umount", top)  # the owner may: user_id= is theirs


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["ccfs", TOP], 1, "the option user= is missing"),
        (["ccfs", TOP, "-o", "user"], 1, "the option user= is missing"),
        (["ccfs", TOP, "-o", "user=nobody-of-that-name"], 1, "there is no user"),
        (["ccfs", TOP, "-o", "user=99999999999999999999"], 1, "there is no user"),
        (["ccfs", TOP, "-o", "user=alice,strange"], 1, "unknown option 'strange'"),
        (["ccfs", TOP, "-o", "user=alice,remount"], 1, "unknown option 'remount'"),
        (["ccfs", TOP, "-o", "user=alice,max_ccaches"], 1, "unknown option 'max_ccaches'"),
        (["ccfs", TOP, "-o", "user=alice,max_ccaches=-1"], 1, "not a number"),
        (["ccfs", TOP, "-o", "user=alice,allow_root=1"], 1, "unknown option 'allow_root=1'"),
        (["ccfs", "-o", "user=alice"], 1, "wrong arguments"),
        (["ccfs", TOP, "-x"], 1, "option -x not recognized"),
        (["ccfs", f"{TOP}/nothing", "-o", "user=alice"], 32, "is not a directory"),
        (["ccfs", TOP, "-sfnvo", "user=alice,strange"], 0, ""),
        (["ccfs", TOP, "-f", "-s", "-ouser=alice,strange"], 0, ""),
    ],
)
def test_mount_refuses_invalid_options(
    place: Stage, top: str, arguments: list[str], status: int, says: str
) -> None:
    done = place.run("mount.ccfs", *arguments, check=False)
    assert done.returncode == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not processes(place)


def test_mount_is_refused_to_users(place: Stage, top: str) -> None:
    done = place.run(*AS_ALICE, "mount.ccfs", "ccfs", top, "-o", "user=alice", check=False)
    assert (done.returncode, "only root can run mount.ccfs" in done.stderr) == (1, True)


def test_mount_without_fuse_device_is_refused(place: Stage, top: str) -> None:
    place.run("mv", "/dev/fuse", "/dev/fuse.away")
    try:
        done = place.run("mount", "-t", "ccfs", "-o", "user=alice", "ccfs", top, check=False)
    finally:
        place.run("mv", "/dev/fuse.away", "/dev/fuse")
    assert done.returncode == 2
    assert "there is no /dev/fuse" in done.stderr


def test_unmount_keeps_mounts_of_others(place: Stage, top: str) -> None:
    """The end of a ccfs takes away that and nothing under it."""
    place.run("mount", "-t", "tmpfs", "none", top)
    try:
        place.run("mount", "-t", "ccfs", "-o", "user=alice", "ccfs", top)
        os.kill(serving(place, top), signal.SIGTERM)
        wait_until(lambda: not processes(place))
        assert place.run("findmnt", "-no", "FSTYPE", top).stdout == "tmpfs\n"
    finally:
        place.run("umount", top)
