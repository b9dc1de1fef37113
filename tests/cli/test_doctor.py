# SPDX-License-Identifier: MIT
"""`ccfs doctor`: each finding where it is due, on made-up machines and on real mounts."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfs.cli.doctor import (
    ccfsd_checks,
    command,
    journal_checks,
    kcm_server,
    krb5ccname_check,
    machine_checks,
    mount_checks,
)
from ccfs.cli.doctor.finding import Finding
from ccfs.cli.doctor.machine import Machine
from ccfs.errors import Exit
from ccfs.linux import mountinfo
from ccfs.mounting import mountpoint
from tests.support.clients.python import records
from tests.support.mounting import Mounted, ccfs_command, run_ccfs
from tests.support.paths import PROJECT

NOW = 1_700_000_000.0
PLAIN = Machine({"PATH": "/usr/bin:/bin"}, 1000)
NO_SWAP = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def said(mounted: Mounted, **environment: str) -> dict[str, Finding]:
    """What the command says of a mount, by the name of the check."""
    mine = {**os.environ, "KRB5CCNAME": f"FILE:{mounted.path}/default/ccache", **environment}
    done = run_ccfs("doctor", "--json", mounted.path, env=mine)
    rows = json.loads(done.stdout)
    found = {row["check"]: Finding(row["check"], row["what"], row["hint"]) for row in rows}
    assert done.returncode == (Exit.OK if all(f.ok for f in found.values()) else Exit.FINDINGS)
    assert all(row["ok"] == (not row["hint"]) for row in rows)
    return found


def wrong(found: dict[str, Finding]) -> set[str]:
    """The checks of the mount that found something; the machine is what it is."""
    of_machine = {"fuse-device", "fusermount3", "kernel", "open-files", "memlock", "swap", "kcm"}
    of_machine |= {"ccfsd", "units", "pam"}
    return {name for name, finding in found.items() if not finding.ok} - of_machine


def test_healthy_mount_has_no_faults(mount: Mounted) -> None:
    found = said(mount)
    assert wrong(found) == set()
    for name in ("mount", "owner", "options", "dumpable", "locked", "krb5ccname", "ccaches"):
        assert name in found


def test_report_lines_are_aligned_text(mount: Mounted) -> None:
    done = mount.ccfs("doctor")
    lines = done.stdout.splitlines()
    (line,) = [line for line in lines if "krb5ccname" in line]
    assert line.startswith("WRONG")
    assert f"export KRB5CCNAME=FILE:{mount.path}/default/ccache" in line
    assert done.returncode == Exit.FINDINGS
    assert all(line.startswith(("ok ", "WRONG ", "unknown ")) for line in lines)


def test_missing_mount_is_a_fault(tmp_path: Path) -> None:
    done = run_ccfs("doctor", tmp_path)
    assert done.returncode == Exit.FINDINGS
    assert f"no ccfs is mounted at {tmp_path}: mount one with 'ccfs mount'" in done.stdout


def test_unknown_mountpoint_leaves_machine_checks() -> None:
    """The machine can be looked at all the same."""
    environment = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
    done = run_ccfs("doctor", env=environment)
    said = "XDG_RUNTIME_DIR is not set" if os.getuid() else "root has no mount, and needs none"
    assert said in done.stdout
    assert "fuse-device" in done.stdout


def test_dead_mount_is_a_fault(mount: Mounted) -> None:
    os.kill(mount.pid, signal.SIGKILL)
    mount.process.wait(10)
    found = said(mount)
    assert "is dead" in found["mount"].message
    assert "--replace" in found["mount"].hint
    assert "journal" not in found


def test_hanging_mount_is_a_fault(mount: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint.probe, "__defaults__", (0.3,))
    os.kill(mount.pid, signal.SIGSTOP)
    try:
        found = [*mount_checks.check(str(mount.path), PLAIN, NOW)]
    finally:
        os.kill(mount.pid, signal.SIGCONT)
    assert "doesn't answer" in found[0].message


def test_mount_of_another_user_is_a_fault(mount: Mounted) -> None:
    (_, found, *_) = mount_checks.check(str(mount.path), PLAIN, NOW)
    assert (found.check, found.ok) == ("owner", False)
    assert "you are uid 1000" in found.message


def test_expired_and_skewed_ccaches_are_reported(mount: Mounted) -> None:
    tgt = records.Record((b"krbtgt", records.REALM), times=(1, 1, 1_000_000, 0))
    for name in ("old", "new"):
        (mount.path / "caches" / name).mkdir()
    image = records.ccache([])
    (mount.path / "caches/old/ccache").write_bytes(image + tgt.encode())
    (mount.path / "caches/new/ccache").write_bytes(records.ccache(["host/one"]))
    (mount.path / "caches/new/kdc_offset").write_text("-301\n")
    found = said(mount)
    assert wrong(found) == {"expired", "clock"}
    assert found["expired"].message == "ccache old expired at 1970-01-12T13:46:40Z"
    assert "ccfs destroy old" in found["expired"].hint
    assert "-301 s" in found["clock"].message


def test_journal_permissions_are_checked(make_mount: object, tmp_path: Path) -> None:
    directory = Path("/dev/shm") / f"ccfs-doctor-{os.getpid()}"
    directory.mkdir(0o700)
    try:
        mounted: Mounted = make_mount("--journal", str(directory / "j"))  # type: ignore[operator]
        found = said(mounted)
        assert found["journal"].message == f"only uid {os.getuid()} can reach {directory}/j"
        assert found["journal-place"].ok
        (directory / "j").chmod(0o644)
        assert wrong(said(mounted)) == {"journal"}
        (directory / "j").chmod(0o600)
        directory.chmod(0o755)
        assert wrong(said(mounted)) == {"journal"}
        directory.chmod(0o700)
        assert mounted.close() == []
    finally:
        for left in directory.iterdir():
            left.unlink()
        directory.rmdir()


def test_journal_on_disk_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "j"
    path.touch(0o600)
    monkeypatch.setattr("ccfs.journal.location.in_memory", lambda _: False)
    (alone, place) = journal_checks.check(str(path))
    assert (alone.ok, place.ok) == (True, False)
    (unused,) = journal_checks.check(str(tmp_path / "absent"), empty=True)
    assert unused.ok
    assert not next(journal_checks.check(str(tmp_path / "no/absent"), empty=True)).ok
    (gone,) = journal_checks.check(str(tmp_path / "absent"))
    assert "cannot see" in gone.message
    path.unlink()
    path.symlink_to("/dev/null")
    assert not next(journal_checks.check(str(path))).ok


@pytest.mark.parametrize(
    ("name", "ok", "told"),
    [
        ("FILE:{}/default/ccache", True, ""),
        ("{}/default/ccache", True, ""),
        ("DIR:{}/dir", True, ""),
        ("DIR::{}/dir/tkt", True, ""),
        ("", False, "not set"),
        ("FILE:/tmp/krb5cc_0", False, "elsewhere"),
        ("KCM:", False, "elsewhere"),
        ("KEYRING:persistent:0", False, "elsewhere"),
        ("FILE:{}-other/default/ccache", False, "elsewhere"),
        ("FILE:{}/caches/gone/ccache", False, "stale"),
    ],
)
def test_krb5ccname_must_lead_into_the_mount(
    mount: Mounted, name: str, ok: bool, told: str
) -> None:
    path = str(mount.path)
    finding = krb5ccname_check.check(path, Machine({"KRB5CCNAME": name.format(path)}, 0))
    assert finding.ok is ok
    assert told in finding.message


def test_missing_mount_options_are_reported() -> None:
    line = "40 28 0:35 / /m rw,nosuid,nodev,relatime - fuse.ccfs ccfs rw,user_id=7,group_id=7\n"
    (mount,) = mountinfo.parse(line)
    assert mount_checks.check_options(mount).message == "mounted without noexec"
    (mount,) = mountinfo.parse(line.replace("group_id=7", "group_id=7,allow_other"))
    assert mount_checks.check_options(mount).message == "mounted without noexec,default_permissions"


def test_readable_daemon_memory_is_a_fault() -> None:
    """Any program is one, as long as it isn't root's; what isn't: mount/test_isolation.py."""
    uid = os.getuid() or 64001
    program = subprocess.Popen(["sleep", "60"], user=None if os.getuid() else uid)
    try:
        first, _ = mount_checks.check_daemon({"pid": program.pid}, PLAIN)
        assert (
            first.message
            == f"other processes of uid {uid} can read the memory of process {program.pid}"
        )
        assert not first.ok
    finally:
        program.kill()
        program.wait()
    (gone,) = mount_checks.check_daemon({"pid": 1 << 30}, PLAIN)
    assert gone.unknown


def swapping(tmp_path: Path, *lines: str) -> Machine:
    """A machine with these swap areas."""
    swaps = tmp_path / "swaps"
    swaps.write_text(NO_SWAP + "".join(f"{line}\tpartition\t8\t0\t-2\n" for line in lines))
    return Machine({}, 1000, proc_swaps=str(swaps), sys_block=str(tmp_path))


def test_swap_is_a_fault_unless_encrypted(tmp_path: Path) -> None:
    (tmp_path / "dm-1/dm").mkdir(parents=True)
    (tmp_path / "dm-1/dm/uuid").write_text("CRYPT-LUKS2-0123-swap\n")
    (tmp_path / "dm-2/dm").mkdir(parents=True)
    (tmp_path / "dm-2/dm/uuid").write_text("LVM-0123\n")
    assert machine_checks.swap(swapping(tmp_path)).ok
    assert machine_checks.swap(swapping(tmp_path, "/dev/zram0", "/dev/dm-1")).ok
    found = machine_checks.swap(swapping(tmp_path, "/dev/dm-1", "/dev/dm-2", "/swapfile"))
    assert "/dev/dm-2, /swapfile may get the journal" in found.message
    assert machine_checks.swap(Machine({}, 0, proc_swaps=str(tmp_path / "none"))).ok


def test_unlocked_memory_is_a_fault_with_swap(tmp_path: Path) -> None:
    bare = swapping(tmp_path, "/dev/sda2")
    assert not mount_checks.check_locked("0 kB", bare).ok
    assert mount_checks.check_locked("8 kB", bare).ok
    assert mount_checks.check_locked("0 kB", swapping(tmp_path)).ok


@pytest.mark.parametrize(("uid", "areas", "ok"), [(0, 1, True), (1000, 0, True), (1000, 1, False)])
def test_memlock_limit_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, areas: int, ok: bool
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65536, 8 << 20))
    here = Machine({}, uid, proc_swaps=swapping(tmp_path, *["/dev/sda2"] * areas).proc_swaps)
    assert machine_checks.memlock(here).ok is ok


def test_low_open_file_limit_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, ok in ((64, False), (1024, True), (resource.RLIM_INFINITY, True)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=limit: (soft, soft))
        assert machine_checks.open_files(PLAIN).ok is ok


@pytest.mark.parametrize(
    ("device", "uid", "told"),
    [
        ("/dev/fuse", 0, ""),
        ("/dev/absent", 0, "there is no"),
        ("/etc/passwd", 0, "is not the FUSE device"),
        ("/dev/null", 1000, "is not the FUSE device"),
    ],
)
def test_fuse_device_must_be_usable(device: str, uid: int, told: str) -> None:
    finding = machine_checks.fuse_device(Machine({}, uid, fuse_device=device))
    assert finding.ok is (not told)
    assert told in finding.message


@pytest.mark.skipif(os.getuid() != 0, reason="makes a device: run as root")
def test_fuse_device_of_root_only_is_a_fault(tmp_path: Path) -> None:
    device = tmp_path / "fuse"
    os.mknod(device, 0o020600, os.makedev(*mountpoint.FUSE_NUMBER))
    finding = machine_checks.fuse_device(Machine({}, 1000, fuse_device=str(device)))
    assert "mode 0600, uid 1000 may not open it" in finding.message
    assert "chmod 666" in finding.hint
    device.chmod(0o666)
    assert machine_checks.fuse_device(Machine({}, 1000, fuse_device=str(device))).ok


def test_fusermount3_must_be_setuid_root(tmp_path: Path) -> None:
    here = Machine({"PATH": str(tmp_path)}, 1000)
    assert "apt install" in machine_checks.fusermount(here).hint
    program = tmp_path / "fusermount3"
    program.touch(0o755)
    assert "not setuid root" in machine_checks.fusermount(here).message
    assert machine_checks.fusermount(Machine({}, 0)).ok


def test_old_kernel_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for release, ok in (("4.19.0-27-amd64", False), ("5.10.0", True), ("6.18.44-fc", True)):
        uname = os.uname_result(("Linux", "h", release, "#1", "x86_64"))
        monkeypatch.setattr(os, "uname", lambda result=uname: result)
        assert machine_checks.kernel(PLAIN).ok is ok


@contextlib.contextmanager
def listening(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield


def test_foreign_kcm_server_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "kcm"
    here = Machine({}, 1000, kcm_socket=str(path))
    assert kcm_server.check(here).ok
    with listening(path):
        assert f"process {os.getpid()} serves KCM:" in kcm_server.check(here).message
    assert path.exists()
    assert kcm_server.check(here).ok  # a socket without a listener


def test_many_ccaches_are_counted(mount: Mounted) -> None:
    for number in range(200):
        (mount.path / "caches" / str(number)).mkdir()
        (mount.path / "caches" / str(number) / "ccache").write_bytes(records.ccache(["host/x"]))
    assert said(mount)["ccaches"].message.startswith("200, ")


def doctor_with(script: str, *arguments: str) -> str:
    """What the command says in a mount namespace of its own, after a script has changed things."""
    line = f"{script}\nexec {' '.join(ccfs_command())} doctor {' '.join(arguments)}"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", line]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.stdout


NEEDS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="makes namespaces: run as root")


@NEEDS_ROOT
def test_hidden_processes_leave_kcm_owner_unknown() -> None:
    """hidepid=2: whose the socket is can't be told, and nothing is said against its owner."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        directory = Path(name)
        directory.chmod(0o755)
        hidden(directory)


def hidden(directory: Path) -> None:
    """The check, as a user, of a KCM server of root's that listens in `directory`."""
    path = directory / "kcm"
    (directory / "krb5.conf").write_text(f"[libdefaults]\n\tkcm_socket = {path}\n")
    script = f"""mount -t proc -o hidepid=2 proc /proc
export KRB5_CONFIG={directory}/krb5.conf
set -- setpriv --reuid=64001 --regid=64001 --clear-groups"""
    with listening(path):
        path.chmod(0o666)
        code = (
            "from ccfs.cli.doctor import kcm_server, machine; import os;"
            "f = kcm_server.check(machine.Machine.of(os.environ, 64001));"
            "print(f.unknown, f.ok)"
        )
        line = f"{script}\ncd {PROJECT}; umask 022\n\"$@\" $0 -c '{code}'"
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", line]
        done = subprocess.run(
            [*command, "/usr/bin/python3"], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.stdout == "True True\n", done.stderr


@NEEDS_ROOT
def test_healthy_host_has_no_faults_for_root() -> None:
    said = doctor_with("unset XDG_RUNTIME_DIR; umount -l /run/ccfs 2>/dev/null || true")
    assert "WRONG  mount" not in said
    assert "root has no mount" in said


def test_socket_held_by_systemd_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ccfs.cli.doctor.kcm_server.listener_pid", lambda _: 1)
    monkeypatch.setattr(kcm_server, "_program", lambda pid: ("systemd", None))
    found = kcm_server.check(PLAIN)
    assert (found.unknown, found.ok) == (True, True)
    here = Machine({"KRB5CCNAME": "KCM:"}, 1000)
    assert krb5ccname_check.check("/m", here).unknown


def test_listener_in_other_pid_namespace_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccfs.cli.doctor.kcm_server.listener_pid", lambda _: 0)
    assert kcm_server.check(PLAIN).unknown


def test_locked_memory_needs_no_memlock_limit(tmp_path: Path) -> None:
    low = Finding("memlock", "the limit is 8, so it may be swapped out", "raise it")
    (left, _) = command.drop_memlock_fault(
        [low, Finding("locked", "the daemon's memory is locked")]
    )
    assert left.ok
    assert command.drop_memlock_fault([low, Finding("locked", "not", "mend it")])[0] is low


def test_krb5ccname_through_symlink_is_accepted(mount: Mounted, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(mount.path)
    here = Machine({"KRB5CCNAME": f"FILE:{tmp_path}/link/default/ccache"}, 0)
    assert krb5ccname_check.check(str(mount.path), here).ok


def test_ccfsd_socket_units_and_pam_are_checked(tmp_path: Path) -> None:
    """Its socket, its owner, its units and the line for PAM."""
    path = tmp_path / "control"
    (one,) = ccfsd_checks.check(str(path))
    assert one.ok
    path.touch()
    assert not next(ccfsd_checks.check(str(path))).ok
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(str(path))
        assert not next(ccfsd_checks.check(str(path))).ok  # bound, not listening
        server.listen()
        first, units, _ = ccfsd_checks.check(str(path), str(tmp_path), str(tmp_path))
        assert first.ok is (os.getuid() == 0)
        assert units.unknown
        if os.getuid() == 0:
            os.chown(path, 7, 7)
            assert "uid 7" in next(ccfsd_checks.check(str(path))).message
    assert ccfsd_checks.check_pam(str(tmp_path / "none")).unknown
    (tmp_path / "su").write_text("session required pam_ccfs.so\n")
    assert not ccfsd_checks.check_pam(str(tmp_path)).ok
    (tmp_path / "su").write_text("session optional pam_ccfs.so\n")
    assert ccfsd_checks.check_pam(str(tmp_path)).message == "pam_ccfs.so is in su"
