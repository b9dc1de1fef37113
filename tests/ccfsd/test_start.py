# SPDX-License-Identifier: MIT
"""The start of ccfsd: what it refuses, what it takes over, and who it was told to be."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfs.ccfsd import activation
from ccfs.control.messages import RefusedError
from tests.support.ccfsd import CcfsdHost, ccfsd_host
from tests.support.shell import wait_until

USER = 64106
LINE = "ccfsd: error: {}\nccfsd: hint: {}\n"


@pytest.fixture
def host() -> Iterator[CcfsdHost]:
    """A place without a ccfsd."""
    with ccfsd_host() as made:
        yield made


def refused(host: CcfsdHost, *options: str) -> tuple[int, str]:
    """The exit status of a ccfsd that doesn't start, and what it says."""
    process = host.popen(
        [sys.executable, "-m", "ccfs.ccfsd", "--no-kcm", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = process.communicate(timeout=30)
    return process.returncode, said


@pytest.mark.parametrize(
    ("script", "status", "says"),
    [
        ("ln -s /tmp /run/ccfs", 8, "/run/ccfs is not a directory"),
        ("mkdir /run/ccfs && chown 64106 /run/ccfs", 8, "/run/ccfs belongs to uid 64106"),
        ("mkdir /run/ccfs && chmod 777 /run/ccfs", 8, "/run/ccfs can be written by others"),
        ("echo x > /run/ccfs", 8, "/run/ccfs is not a directory"),
        ("mount -o remount,ro /run", 8, "cannot use the directory /run/ccfs: read-only file"),
        ("mkdir -p /run/ccfs && ln -s /tmp /run/ccfs/daemons", 8, "daemons is not a directory"),
    ],
)
def test_start_refuses_untrusted_runtime_directory(
    host: CcfsdHost, script: str, status: int, says: str
) -> None:
    host.sh(script)
    found, said = refused(host)
    assert found == status
    assert says in said
    error, hint = said.splitlines()
    assert error.startswith("ccfsd: error: ")
    assert hint.startswith("ccfsd: hint: ")


def test_start_refuses_second_ccfsd(host: CcfsdHost) -> None:
    host.start("--no-kcm")
    assert refused(host) == (
        4,
        LINE.format(
            "another ccfsd is running at /run/ccfs",
            "end that one first; 'systemctl status ccfsd' may know it",
        ),
    )
    assert host.is_listening()


@pytest.mark.parametrize(
    ("options", "status"), [(["--idle", "soon"], 2), (["--idle", "-1"], 2), (["more"], 2)]
)
def test_start_refuses_invalid_command_line(
    host: CcfsdHost, options: list[str], status: int
) -> None:
    found, said = refused(host, *options)
    assert found == status
    assert said.startswith("ccfsd: error: ")
    assert len(said.splitlines()) == 2


def test_start_refuses_users(host: CcfsdHost) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os; os.setuid(64106); from ccfs.ccfsd.main import main;"
         "raise SystemExit(main([]))"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 7
    assert done.stderr.startswith("ccfsd: error: only root can run ccfsd\n")


def test_start_creates_files_with_private_modes(host: CcfsdHost) -> None:
    """Directories and files with the modes that keep others out."""
    host.start("--no-kcm")
    host.open(USER)
    modes = {
        ".": 0o755,
        "control": 0o666,
        "state": 0o600,
        "lock": 0o600,
        "daemons": 0o700,
        "journal": 0o711,
    }
    for name, mode in modes.items():
        status = (host.run / name).lstat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, mode), name
    (journal,) = [m for m in host.mounts() if m.path == f"/run/ccfs/journal/{USER}"]
    assert journal.fstype == "tmpfs"
    assert {"mode=700", f"uid={USER}", "nosuid", "nodev", "noexec"} <= journal.options


def test_login_without_fuse_device_is_refused_until_it_exists(host: CcfsdHost) -> None:
    """Logins get the reason; they work again once the device exists."""
    host.sh("umount /dev/fuse; mount --bind /dev/null /dev/fuse")
    host.start("--no-kcm")
    with pytest.raises(RefusedError, match="cannot mount"):
        host.open(USER)
    host.sh("umount /dev/fuse; mount -t tmpfs none /dev")
    with pytest.raises(RefusedError, match="there is no /dev/fuse"):
        host.open(USER)
    wait_until(host.is_empty, "something is left")
    host.sh("mknod -m 600 /dev/fuse c 10 229; mknod -m 666 /dev/null c 1 3")
    assert host.open(USER).values["path"] == f"/run/ccfs/{USER}"


def test_read_only_run_refuses_logins_and_keeps_mounts(host: CcfsdHost) -> None:
    """Neither mountpoint nor state can be written: no client hangs, existing mounts stay."""
    host.start("--no-kcm")
    host.open(USER)
    host.sh("mount --rbind /run /run && mount -o remount,bind,ro /run")
    with pytest.raises(RefusedError, match="read-only"):
        host.open(64107)
    assert host.open(USER).values["path"] == f"/run/ccfs/{USER}"
    host.sh("umount -l /run")
    assert host.open(64107).values["path"] == "/run/ccfs/64107"


ACTIVATE = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
os.makedirs("/run/ccfs", mode=0o755)
s.bind("/run/ccfs/control")
s.listen(5)
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="control")
os.execv(sys.executable, [sys.executable, "-m", "ccfs.ccfsd", "--no-kcm"])
"""


def test_start_takes_socket_from_systemd(host: CcfsdHost) -> None:
    with host.log.open("a") as log:
        host.started.append(host.popen([sys.executable, "-c", ACTIVATE], stderr=log))
    wait_until(host.is_listening, "it does not listen")
    inode = (host.run / "control").stat().st_ino
    session = host.open(USER).values["session"]
    environ = Path(f"/proc/{host.daemon(USER)}/environ").read_bytes()
    assert b"LISTEN" not in environ
    host.close(session)
    host.started[0].terminate()
    assert host.started[0].wait(20) == 0
    assert (host.run / "control").stat().st_ino == inode


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, set()),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, set()),
        ({"LISTEN_PID": "{pid}", "LISTEN_FDS": "x"}, set()),
        ({"LISTEN_PID": "{pid}", "LISTEN_FDS": "2"}, {"control", "kcm"}),
        ({"LISTEN_PID": "{pid}", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "kcm:control"},
         {"control", "kcm"}),
        ({"LISTEN_PID": "{pid}", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "x.socket:x.socket"},
         {"control", "kcm"}),
    ],
)  # fmt: skip
def test_start_checks_passed_sockets(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], names: set[str]
) -> None:
    kinds: list[socket.SocketKind] = [socket.SOCK_SEQPACKET, socket.SOCK_STREAM]
    opened = [socket.socket(socket.AF_UNIX, kind) for kind in kinds]
    if environment.get("LISTEN_FDNAMES", "").startswith("kcm"):
        opened.reverse()
    numbers = iter([one.detach() for one in opened])
    real = socket.socket

    def numbered(fileno: int) -> socket.socket:
        assert fileno >= activation.FIRST
        return real(fileno=next(numbers))

    monkeypatch.setattr(activation.socket, "socket", numbered)  # type: ignore[attr-defined]
    given = {key: value.format(pid=os.getpid()) for key, value in environment.items()}
    given["PATH"] = "/bin"
    found = activation.inherited(given, os.getpid())
    assert given == {"PATH": "/bin"}
    assert {*found} == names
    for name, one in found.items():
        assert (one.type == socket.SOCK_SEQPACKET) == (name == "control")
        one.close()
    for left in numbers:
        os.close(left)


def test_start_keeps_live_kcm_socket_and_replaces_stale(host: CcfsdHost) -> None:
    """A socket at which another server listens stays; one without a listener is replaced."""
    path = host.root / "run/.heim_org.h5l.kcm-socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        other.listen()
        inode = path.stat().st_ino
        host.sh("ln -s /run /var/run 2>/dev/null; true")
        host.start("--kcm-socket", "/run/.heim_org.h5l.kcm-socket")
        assert path.stat().st_ino == inode
        assert host.lines("another KCM server")
        host.started[0].terminate()
        host.started[0].wait(20)
    host.start("--kcm-socket", "/run/.heim_org.h5l.kcm-socket")
    assert path.stat().st_ino != inode
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
