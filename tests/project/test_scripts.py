# SPDX-License-Identifier: MIT
"""The scripts behind `make`: in a path with spaces, and where packages can't be installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ccfs import __version__
from tests.support.paths import PROJECT

OF_SETUP = "pkg-config"
OF_TESTS = "pamtester"


def run(
    command: list[str], directory: Path, search: str = os.environ["PATH"]
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": search, "LC_ALL": "C", "HOME": str(directory)}
    return subprocess.run(
        command,
        cwd=directory,
        capture_output=True,
        text=True,
        env=environment,
        timeout=100,
        check=False,
    )


def copied(tmp_path: Path) -> Path:
    """The project's scripts and what they read, in a path with spaces."""
    there = tmp_path / "a path with spaces"
    for name in ("scripts", "mount-helper", "man", "ccfs"):
        shutil.copytree(PROJECT / name, there / name)
    for name in ("Makefile", "pyproject.toml", "README.md"):
        shutil.copy(PROJECT / name, there)
    (there / "tests").mkdir()
    shutil.copy(PROJECT / "tests/packages.txt", there / "tests")
    return there


def test_install_works_in_path_with_spaces(tmp_path: Path) -> None:
    there = copied(tmp_path)
    (there / "build/python").mkdir(parents=True)
    done = run(["make", "-C", "mount-helper"], there)
    assert done.returncode == 0, done.stderr
    command = ["env", f"DESTDIR={tmp_path}/to here", "scripts/install"]
    done = run(command, there)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "to here/usr/local/bin/ccfs").exists()
    page = (tmp_path / "to here/usr/local/share/man/man1/ccfs.1").read_text()
    assert f'"ccfs {__version__}"' in page.splitlines()[0]


def test_missing_packages_are_named_at_once(tmp_path: Path) -> None:
    """Without sudo all packages are named at once, those of set-up and those of the tests."""
    there = copied(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"dpkg-query": "exit 1", "apt-get": "exit 1", "id": "echo 1000"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    for name in ("sh", "sed", "dirname", "cat"):
        (programs / name).symlink_to(shutil.which(name) or name)
    done = run(["scripts/test-packages"], there, str(programs))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("packages: no sudo; run this as root: apt-get install")
    assert {OF_SETUP, OF_TESTS} <= {*line.split()}


@pytest.mark.parametrize(
    ("pkg_config", "said"),
    [("", "pkg-config is missing"), ("exit 1", "the headers of libfuse3 are missing")],
)
def test_setup_names_packages_for_pyfuse3(tmp_path: Path, pkg_config: str, said: str) -> None:
    """It builds pyfuse3 next, which would end in a page of output with the reason in its middle."""
    if pkg_config:
        (tmp_path / "pkg-config").write_text(f"#!/bin/sh\n{pkg_config}\n")
        (tmp_path / "pkg-config").chmod(0o755)
    (tmp_path / "sh").symlink_to("/bin/sh")
    code = "import backend; print(backend.get_requires_for_build_wheel())"
    command = [sys.executable, "-c", code]
    done = run(command, PROJECT / "scripts", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == f"ccfs: error: {said}"
    assert "libfuse3-dev" in done.stderr
    assert run(["env", "CCFS_NO_CHECK=1", *command], PROJECT / "scripts").returncode == 0
