# SPDX-License-Identifier: MIT
"""`make install`: what is put where, that nothing else is touched, and that it works from there."""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.login import BOUND, PATIENT, USERS, Stage, stage, wait_until
from tests.support.login_sessions import end_all
from tests.support.paths import PROJECT
from tests.support.require import require

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LIBRARIES = "usr/local/lib/ccfs/"
FILES = {
    "usr/local/bin/ccfs": 0o755,
    "usr/local/sbin/ccfsd": 0o755,
    "usr/sbin/mount.ccfs": 0o755,
    "usr/share/pam-configs/ccfs": 0o644,
    "usr/local/lib/systemd/user-environment-generators/60-ccfs": 0o755,
    "usr/local/share/ccfs/sudoers": 0o644,
    "usr/local/lib/systemd/system/ccfsd.service": 0o644,
    "usr/local/lib/systemd/system/ccfsd.socket": 0o644,
    "usr/local/lib/sysusers.d/ccfs.conf": 0o644,
    "usr/local/lib/tmpfiles.d/ccfs.conf": 0o644,
    "usr/local/share/man/man1/ccfs.1": 0o644,
    "usr/local/share/man/man8/ccfsd.8": 0o644,
    "usr/local/share/man/man8/mount.ccfs.8": 0o644,
    "usr/local/share/man/man8/pam_ccfs.8": 0o644,
}

# What makes a mount namespace of the service's own (systemd.exec(5)): a mount made in it would be
# invisible to every other process.
HIDING = (
    "BindPaths BindReadOnlyPaths DynamicUser ExecPaths ExtensionDirectories ExtensionImages "
    "InaccessiblePaths LogNamespace MountAPIVFS MountFlags MountImages NetworkNamespacePath "
    "NoExecPaths PrivateDevices PrivateIPC PrivateMounts PrivateNetwork PrivateTmp "
    "PrivateUsers ProcSubset ProtectControlGroups ProtectHome ProtectHostname "
    "ProtectKernelLogs ProtectKernelModules ProtectKernelTunables ProtectProc ProtectSystem "
    "ReadOnlyPaths ReadWritePaths RootDirectory RootImage TemporaryFileSystem"
)


CONTROL = "/run/ccfs/control"
CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7}
CAPABILITIES |= {"SETPCAP": 8, "IPC_LOCK": 14, "SYS_PTRACE": 19, "SYS_ADMIN": 21}
CAPABILITIES |= {"SYS_RESOURCE": 24}
"""Their numbers (capabilities(7))."""


@pytest.fixture(scope="module")
def place(installed: Path) -> Iterator[Stage]:
    with stage(installed) as made:
        yield made


def files(top: Path) -> dict[str, int]:
    """The files below a directory, and their modes."""
    found = (path for path in top.rglob("*") if not path.is_dir())
    return {str(path.relative_to(top)): path.lstat().st_mode & 0o7777 for path in found}


def make(what: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run make on a machine that can't be written to but for `directory`, which is on tmpfs."""
    script = 'mount -o remount,bind,ro / && exec make --silent -C "$0" "$1" DESTDIR="$2"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    return subprocess.run(
        [*command, str(PROJECT), what, str(directory)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_install_writes_files_with_modes(installed: Path) -> None:
    found = files(installed)
    modules = {name for name in found if name.endswith("/security/pam_ccfs.so")}
    assert len(modules) == 1
    rest = {name: mode for name, mode in found.items() if not name.startswith(LIBRARIES)}
    assert rest == {**FILES, modules.pop(): 0o644}
    assert {mode for name, mode in found.items() if name not in rest} <= {0o644, 0o755}
    assert f"{LIBRARIES}ccfs/cli/main.py" in found
    assert all(path.stat().st_mode & 0o005 == 0o005 for path in installed.rglob("*/"))


def test_install_writes_to_destdir_only_and_uninstall_leaves_nothing(installed: Path) -> None:
    """Again, where nothing but DESTDIR can be written; then uninstall."""
    there = installed / "again"
    there.mkdir()
    done = make("install", there)
    assert (done.returncode, done.stderr) == (0, "")
    assert files(there).keys() == {n for n in files(installed) if not n.startswith("again/")}
    assert make("uninstall", there).returncode == 0
    assert files(there) == {}
    subprocess.run(["rm", "-r", there], check=True)


def test_installed_programs_ignore_python_environment(place: Stage) -> None:
    """Nothing of the caller's is imported by a program that root runs."""
    trap = place.directory / "tmp/trap"
    trap.mkdir()
    for name in ("trio", "ccfs", "pwd", "sitecustomize"):
        (trap / f"{name}.py").write_text("raise SystemExit('caught')\n")
    poison = {
        "PYTHONPATH": "/tmp/trap",
        "PYTHONHOME": "/tmp/trap",
        "PYTHONSTARTUP": "/tmp/trap/pwd.py",
    }
    inside = place.enter("sh", "-c", "cd /tmp/trap && ccfs --version && mount.ccfs", where="/")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/usr/sbin:/bin", **poison}
    done = subprocess.run(inside, env=environment, capture_output=True, text=True, timeout=30)
    assert done.stdout.startswith("ccfs 0.")
    assert "wrong arguments" in done.stderr
    assert "caught" not in done.stderr


def test_pam_auth_update_accepts_profile(place: Stage) -> None:
    """Optional, interactive sessions only, between where tickets come from and logind."""
    place.enable(options="")
    stacks = place.directory / "etc/pam.d"
    lines = (stacks / "common-session").read_text().splitlines()
    ours = [re.split(r"\s+", line) for line in lines if "pam_ccfs" in line]
    assert ours == [["session", "optional", "pam_ccfs.so", ""]]
    modules = re.findall(r"^session.*(pam_\w+)\.so", "\n".join(lines), re.M)
    assert modules.index("pam_unix") < modules.index("pam_ccfs") < modules.index("pam_systemd")
    others = [path for path in stacks.glob("common-*") if path.name != "common-session"]
    assert not [path for path in others if "pam_ccfs" in path.read_text()]


def test_unit_keeps_mount_propagation(installed: Path) -> None:
    unit = (installed / "usr/local/lib/systemd/system/ccfsd.service").read_text()
    options = dict(re.findall(r"^(\w+)=(.*)$", unit, re.M))
    assert not options.keys() & {*HIDING.split()}
    assert options["ExecStart"] == "/usr/local/sbin/ccfsd"
    assert options["KillMode"] == "process"
    assert options["OOMPolicy"] == "continue"
    assert options["TasksMax"] == options["LimitMEMLOCK"] == "infinity"


def test_systemd_verifies_units(place: Stage) -> None:
    analyze = require("systemd", "apt-get install systemd", ["systemd-analyze"])["systemd-analyze"]
    units = "/usr/local/lib/systemd/system"
    names = [f"{units}/ccfsd.service", f"{units}/ccfsd.socket"]
    done = place.run(analyze, "verify", "--man=no", *names, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "ccfs" in line]) == (
        0,
        [],
    )


def bounds(place: Stage) -> set[int]:
    """The capabilities that ccfsd and its processes may ever have."""
    found = set()
    for pid, line in place.processes().items():
        with contextlib.suppress(OSError):
            if "sbin/ccfsd" in line:
                status = Path(f"/proc/{pid}/status").read_text()
                found.add(int(re.findall(r"^CapBnd:\s+(\w+)", status, re.M)[0], 16))
    return found


def test_ccfsd_starts_with_unit_settings(place: Stage, installed: Path) -> None:
    """At the first request, with the socket that systemd gives it and the capabilities it is left.

    Those of the unit that this machine has, too.  Others' processes are hidden there (proc(5)).
    """
    activate = require("systemd", "apt-get install systemd", ["systemd-socket-activate"])
    unit = (installed / "usr/local/lib/systemd/system/ccfsd.service").read_text()
    named = re.findall(r"CAP_(\w+)", unit)
    status = Path(f"/proc/{place.init}/status").read_text()
    ours = int(re.findall(r"^CapBnd:\s+(\w+)", status, re.M)[0], 16)
    left = [f"+{name.lower()}" for name in named if ours >> CAPABILITIES[name] & 1]
    socket_activate = (*activate.values(), "--seqpacket", "--fdname=control", "-l", CONTROL)
    setpriv = (
        "setpriv",
        "--no-new-privs",
        "--inh-caps=-all",
        f"--bounding-set=-all,{','.join(left)}",
    )
    place.run("mkdir", "-p", "-m", "755", "/run/ccfs")
    place.run("mount", "-t", "proc", "-o", "hidepid=2,gid=1", "proc", "/proc")
    service = place.service("units", f"optional pam_ccfs.so {PATIENT}")
    process = place.start(*socket_activate, *setpriv, "ccfsd", "--no-kcm", stderr=subprocess.PIPE)
    try:
        wait_until(lambda: (place.run_directory / "control").exists())
        with place.session(service, "alice") as session:
            assert session.open() == f"FILE:/run/ccfs/{USERS['alice']}/default/ccache"
            session.close()
        wait_until(lambda: not place.mounts())
        wanted = sum(1 << CAPABILITIES[name.lstrip("+").upper()] for name in left)
        assert bounds(place) == {wanted, 0}  # ccfsd's own, and those of what it forks daemons from
    finally:
        end_all(place, "ccfsd")
        process.communicate(timeout=BOUND)
        place.run("umount", "-l", "/proc")


def test_systemd_tmpfiles_creates_directory(place: Stage) -> None:
    require("systemd", "apt-get install systemd", ["systemd-tmpfiles"])
    place.run("rm", "-rf", "/run/ccfs")
    place.run("systemd-tmpfiles", "--create", "/usr/local/lib/tmpfiles.d/ccfs.conf")
    assert place.run("stat", "-c", "%a %u %g %F", "/run/ccfs").stdout == "755 0 0 directory\n"


def options_of(program: str, source: str, pattern: str) -> set[str]:
    """The options that a program's source names and its manual page doesn't."""
    page = (PROJECT / "man" / program).read_text().replace("\\-", "-")
    return {
        name for name in re.findall(pattern, (PROJECT / source).read_text()) if name not in page
    }


@pytest.mark.parametrize(
    ("page", "source", "pattern"),
    [
        ("pam_ccfs.8", "mount-helper/options.c", r'\{"(\w+)", set_'),
        ("ccfsd.8", "ccfs/ccfsd/arguments.py", r'"(--[\w-]+)"'),
        ("mount.ccfs.8", "ccfs/cli/mount_ccfs_arguments.py", r'^    "(\w+)": (?:True|False)'),
    ],
)
def test_manual_pages_name_every_option(page: str, source: str, pattern: str) -> None:
    assert re.findall(pattern, (PROJECT / source).read_text(), re.M)
    assert options_of(page, source, pattern) - {"--version"} == set()


@pytest.mark.parametrize("page", sorted((PROJECT / "man").glob("*.[18]")), ids=lambda p: p.name)
def test_manual_pages_have_no_warnings(page: Path) -> None:
    groff = require("groff", "apt-get install groff-base", ["groff"])["groff"]
    done = subprocess.run(
        [groff, "-man", "-Tutf8", "-ww", "-z", page],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stderr == ""
