"""`ccfs doctor` tells ccfs at the KCM socket from anybody else."""

import os
import socket
from pathlib import Path

from ccfs.cli import checkmount, machine
from ccfs.cli.machine import Machine
from tests.conftest import MakeMount


def test_ccfs_itself_is_fine(make_mount: MakeMount, tmp_path: Path) -> None:
    path = str(tmp_path / "kcm")
    mounted = make_mount("--kcm-socket", path, "--no-journal")
    found = machine.kcm_server(Machine({}, os.geteuid(), kcm=path))
    assert found.ok
    assert found.what == f"process {mounted.pid} serves KCM: ccaches at {path}: ccfs"
    user = Machine({"KRB5CCNAME": "KCM:"}, os.geteuid(), kcm=path)
    assert checkmount.krb5ccname(str(mounted.path), user).ok


def test_somebody_else_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "kcm")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        found = machine.kcm_server(Machine({}, os.geteuid(), kcm=path))
    name = Path("/proc/self/comm").read_text().strip()
    assert not found.ok
    assert found.what == f"process {os.getpid()} serves KCM: ccaches at {path}: {name}"
    assert "docs/kcm.md" in found.hint
