# SPDX-License-Identifier: MIT
"""Which mount a command is about that names none, and what `ccfs export NAME -` writes."""

import os
import pty
import subprocess
from pathlib import Path

from ccfs.errors import Exit
from tests.support.dated_ccaches import FUTURE, ccache
from tests.support.mounting import Mounted, ccfs_command, run_ccfs

BARE = {k: v for k, v in os.environ.items() if k not in ("XDG_RUNTIME_DIR", "KRB5CCNAME")}


def test_mountpoint_is_found_by_krb5ccname(mount: Mounted) -> None:
    for name in ("FILE:{}/default/ccache", "{}/default/ccache", "DIR:{}/dir", "DIR::{}/dir/tkt"):
        environment = {**BARE, "KRB5CCNAME": name.format(mount.path)}
        done = run_ccfs("status", env=environment)
        assert f"mountpoint: {mount.path}" in done.stdout, done.stderr


def test_mountpoint_is_found_by_working_directory(mount: Mounted) -> None:
    for where in (mount.path, mount.path / "caches"):
        done = run_ccfs("status", env=BARE, cwd=where)
        assert f"mountpoint: {mount.path}" in done.stdout, done.stderr


def test_mountpoint_of_other_ccaches_is_unknown(mount: Mounted, tmp_path: Path) -> None:
    for name in (f"FILE:{mount.path}-other/x", "KCM:", f"FILE:{tmp_path}/x", ""):
        done = run_ccfs("status", env={**BARE, "KRB5CCNAME": name}, cwd=tmp_path)
        assert done.returncode == Exit.USAGE


def test_export_writes_to_stdout(mount: Mounted, tmp_path: Path) -> None:
    (mount.path / "default/ccache").write_bytes(ccache("alice", FUTURE))
    command = [*ccfs_command(), "export", "-m", str(mount.path), "tkt", "-"]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (mount.path / "default/ccache").read_bytes()
    assert [*tmp_path.iterdir()] == []


def test_export_refuses_terminal(mount: Mounted) -> None:
    (mount.path / "default/ccache").write_bytes(ccache("alice", FUTURE))
    command = [*ccfs_command(), "export", "-m", str(mount.path), "tkt", "-"]
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            command, stdout=theirs, stderr=subprocess.PIPE, timeout=60, check=False
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == Exit.USAGE
    assert done.stderr.startswith(b"ccfs: error: a ccache is not for a terminal")
