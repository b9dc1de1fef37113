# SPDX-License-Identifier: MIT
"""A ccfsd that the tests of a module share, with the project where every user can read it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ccfsd import CcfsdHost, as_user, ccfsd_host
from tests.support.paths import PROJECT
from tests.support.shell import wait_until

USER = 64111


KCM = "/run/.heim_org.h5l.kcm-socket"


@pytest.fixture(scope="module")
def shared_host() -> Iterator[CcfsdHost]:
    """One ccfsd for all of these, with the project where every user can read it."""
    with ccfsd_host() as made:
        (made.directory / "project").mkdir()
        made.sh(f"mount --bind {PROJECT} {made.directory}/project")
        made.start("--kcm-socket", KCM)
        yield made


@pytest.fixture
def host(shared_host: CcfsdHost) -> Iterator[CcfsdHost]:
    """The place, with nothing in it before and after."""
    wait_until(shared_host.is_empty, "something is left")
    yield shared_host
    shared_host.close_all()
    for daemon in filter(None, map(shared_host.daemon, (USER, USER + 1))):
        shared_host.sh(f"kill -TERM {daemon} || true")  # a mount that was asked for stays
    wait_until(shared_host.is_empty, "something is left")


def python_command(
    host: CcfsdHost, *arguments: str, uid: int = USER, **variables: str
) -> list[str]:
    """The command that runs our Python as a user."""
    interpreter = Path(sys.executable)
    if interpreter.is_relative_to(PROJECT):
        interpreter = host.directory / "project" / interpreter.relative_to(PROJECT)
    given = [f"{key}={value}" for key, value in variables.items()]
    clean = ["env", "-i", "PATH=/usr/bin:/bin", *given, "timeout", "60"]
    there = ["env", "-C", f"{host.directory}/project", *as_user(uid)]
    return [*there, *clean, str(interpreter), *arguments]
