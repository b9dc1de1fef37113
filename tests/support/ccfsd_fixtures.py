"""A ccfsd that the tests of a module share, with the project where every user can read it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ccfsd import Place, as_user, place
from tests.support.paths import PROJECT
from tests.support.shell import wait_until

USER = 64111


KCM = "/run/.heim_org.h5l.kcm-socket"


@pytest.fixture(scope="module")
def shared_place() -> Iterator[Place]:
    """One ccfsd for all of these, with the project where every user can read it."""
    with place() as made:
        (made.directory / "project").mkdir()
        made.sh(f"mount --bind {PROJECT} {made.directory}/project")
        made.start("--kcm-socket", KCM)
        yield made


@pytest.fixture
def here(shared_place: Place) -> Iterator[Place]:
    """The place, with nothing in it before and after."""
    wait_until(shared_place.is_empty, "something is left")
    yield shared_place
    shared_place.close_all()
    for daemon in filter(None, map(shared_place.daemon, (USER, USER + 1))):
        shared_place.sh(f"kill -TERM {daemon} || true")  # a mount that was asked for stays
    wait_until(shared_place.is_empty, "something is left")


def python_command(where: Place, *arguments: str, uid: int = USER, **variables: str) -> list[str]:
    """The command that runs our Python as a user."""
    interpreter = Path(sys.executable)
    if interpreter.is_relative_to(PROJECT):
        interpreter = where.directory / "project" / interpreter.relative_to(PROJECT)
    given = [f"{key}={value}" for key, value in variables.items()]
    clean = ["env", "-i", "PATH=/usr/bin:/bin", *given, "timeout", "60"]
    there = ["env", "-C", f"{where.directory}/project", *as_user(uid)]
    return [*there, *clean, str(interpreter), *arguments]
