# SPDX-License-Identifier: MIT
"""The scope of systemd's that daemons are in: what is asked of busctl, and when nothing is."""

import os
from pathlib import Path

import pytest

from ccfs.ccfsd import scope


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a stand-in for busctl was told, a line a call; it refuses what `refused` has."""
    program, told = tmp_path / "busctl", tmp_path / "told"
    program.write_text(
        f'#!/bin/sh\necho "$*" >> {told}\n'
        f'case "$*" in *$(cat {tmp_path}/refused 2> /dev/null || echo none)*)'
        ' echo "Unknown property" >&2; exit 1;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(scope.shutil, "which", lambda name, path: str(program))  # type: ignore[attr-defined]
    return told


def group(tmp_path: Path, text: str) -> str:
    path = tmp_path / "cgroup"
    path.write_text(text)
    return str(path)


SERVICE = "9:name=systemd:/\n0::/system.slice/ccfsd.service\n"


def test_fork_server_in_a_service_gets_scope(said: Path, tmp_path: Path) -> None:
    assert scope.enter(77, group(tmp_path, SERVICE))
    (call,) = said.read_text().splitlines()
    assert call == (
        "--quiet call org.freedesktop.systemd1 /org/freedesktop/systemd1"
        " org.freedesktop.systemd1.Manager StartTransientUnit ssa(sv)a(sa(sv))"
        " ccfsd-77.scope fail 4 PIDs au 1 77 Description s Daemons of ccfs"
        " TasksMax t 18446744073709551615 OOMPolicy s continue 0"
    )


def test_scope_without_unsupported_property(said: Path, tmp_path: Path) -> None:
    (tmp_path / "refused").write_text("OOMPolicy")
    assert scope.enter(77, group(tmp_path, SERVICE))
    assert [line.split()[9] for line in said.read_text().splitlines()] == ["4", "3"]


def test_scope_refused_by_systemd_is_ignored(
    said: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "refused").write_text("StartTransientUnit")
    caplog.set_level("INFO")
    assert not scope.enter(77, group(tmp_path, SERVICE))
    assert caplog.messages == ["the daemons are in the control group of ccfsd: Unknown property"]


@pytest.mark.parametrize("text", ["", "0::/user.slice/session-1.scope\n", "1:pids:/x.service\n"])
def test_scope_is_not_requested_outside_a_service(said: Path, tmp_path: Path, text: str) -> None:
    assert not scope.enter(os.getpid(), group(tmp_path, text))
    assert not scope.enter(os.getpid(), str(tmp_path / "absent"))
    assert not said.exists()
