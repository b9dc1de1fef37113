# SPDX-License-Identifier: MIT
"""sudo and `systemd --user` beside a login's mount: whose KRB5CCNAME a program gets."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.login import USERS, Stage, stage
from tests.support.login_sessions import ccfsd
from tests.support.require import require

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NAMES = {user: f"FILE:/run/ccfs/{uid}/default/ccache" for user, uid in USERS.items()}
GENERATOR = "/usr/local/lib/systemd/user-environment-generators/60-ccfs"


@pytest.fixture(scope="module")
def place(installed: Path) -> Iterator[Stage]:
    require("sudo", "apt-get install sudo", ["sudo"])
    with stage(installed) as made:
        made.enable()
        yield made


def under_sudo(place: Stage, *options: str) -> str:
    """KRB5CCNAME of a program that sudo runs, with alice's in the environment of the caller."""
    command = ("sudo", *options, "/usr/bin/printenv", "KRB5CCNAME")
    return place.run(*command, check=False, KRB5CCNAME=NAMES["alice"]).stdout.strip()


@pytest.fixture
def rule(place: Stage, installed: Path) -> Iterator[None]:
    """The file for sudoers, in its place."""
    directory = place.directory / "tmp/sudoers"
    directory.mkdir()
    text = (installed / "usr/local/share/ccfs/sudoers").read_text()
    (directory / "ccfs").write_text(text)
    (directory / "ccfs").chmod(0o440)
    place.run("mount", "--bind", "/tmp/sudoers", "/etc/sudoers.d")
    try:
        place.run("visudo", "-c", "-f", "/etc/sudoers.d/ccfs")
        yield
    finally:
        place.run("umount", "/etc/sudoers.d")
        (directory / "ccfs").unlink()
        directory.rmdir()


def test_sudo_without_rule_keeps_callers_krb5ccname(place: Stage) -> None:
    """docs/admin/login.md on sudo's own env_keep: PAM's variable doesn't replace a kept one."""
    with ccfsd(place):
        assert under_sudo(place, "-iu", "bob") == NAMES["alice"]


def test_sudo_with_rule_sets_new_users_krb5ccname(place: Stage, rule: None) -> None:
    with ccfsd(place):
        assert under_sudo(place, "-iu", "bob") == NAMES["bob"]
        assert under_sudo(place, "-i") == ""  # root has none


@pytest.mark.parametrize("allowed", [True, False])
def test_root_reads_mount_only_with_allow_root(place: Stage, allowed: bool) -> None:
    service = place.service("rooted", "optional pam_ccfs.so timeout=8s")
    with ccfsd(place, *["--allow-root"] * allowed), place.session(service, "alice") as session:
        assert session.open() == NAMES["alice"]
        done = place.run("cat", f"/run/ccfs/{USERS['alice']}/info", check=False)
        assert (done.returncode == 0) is allowed
        session.close()


def test_user_services_have_krb5ccname(place: Stage) -> None:
    """The generator as systemd runs it: as the user, with nearly no environment."""
    as_alice = ("setpriv", f"--reuid={USERS['alice']}", "--clear-groups", "env", "-i", GENERATOR)
    as_bob = ("setpriv", f"--reuid={USERS['bob']}", "--clear-groups", "env", "-i", GENERATOR)
    service = place.service("generated", "optional pam_ccfs.so timeout=8s")
    with ccfsd(place), place.session(service, "alice") as session:
        session.open()
        assert place.run(*as_alice).stdout == f"KRB5CCNAME={NAMES['alice']}\n"
        assert place.run(*as_bob).stdout == ""
        session.close()
