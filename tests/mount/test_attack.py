# SPDX-License-Identifier: MIT
"""Attacks on the way a mount is made, replaced and taken away, by a user and by chance.

The attacker is a real user; root's mounts and all that is attacked are in a mount namespace of the
test.  docs/admin/security.md lists them.  Needs root.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import PROJECT

INSIDE = "/run/project"
"""Where the project is in the namespace: its own place may be closed to users."""
SECONDS = 90
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who is attacked")
pytestmark = AS_ROOT

STAGE = """set -e
    mount -t tmpfs -o mode=755 none /run
    mkdir {inside}
    mount --bind {project} {inside}
    mount -t tmpfs -o mode=1777 none /dev/shm
    mknod -m 666 /run/fuse c 10 229
    mount --bind /run/fuse /dev/fuse
    mountpoint -q /sys/fs/fuse/connections || mount -t fusectl none /sys/fs/fuse/connections
    cd {inside}
    exec timeout -k 5 80 {python} tests/support/clients/python/attacks.py "$@" """


def attack(name: str) -> str:
    """Run one of `attacks.py` in a mount namespace; returns what it prints last."""
    python = Path(sys.executable)
    if python.is_relative_to(PROJECT):
        python = INSIDE / python.relative_to(PROJECT)
    words = {"project": PROJECT, "inside": INSIDE, "python": python}
    script = STAGE.format(**{name: shlex.quote(str(word)) for name, word in words.items()})
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += ["--propagation", "private", "sh", "-c", script, "sh", name]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": INSIDE},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().rpartition("\n")[2]


@pytest.mark.parametrize(
    "name",
    [
        "mount_ccfs_is_not_led_elsewhere_at_a_death",
        "mount_ccfs_follows_no_link_of_a_user",
        "root_mounts_in_no_directory_of_a_user",
        "root_uses_no_path_of_a_user",
        "nothing_is_stored_below_while_a_daemon_is_replaced",
        "two_mounts_of_one_place",
        "unmount_ends_a_stopped_daemon",
        "unmount_clears_what_killed_processes_left",
        "root_unmounts_a_mount_of_a_user",
        "unmount_with_a_copy_in_another_namespace",
        "a_directory_above_is_renamed",
        "descriptors_above_the_limit",
        "a_mount_that_fails_leaves_nothing",
        "umount_hits_only_the_mount_that_was_meant",
        "names_in_shared_memory_are_a_strangers",
        "the_parent_can_not_be_traced",
    ],
)
def test_attacks_have_no_effect(name: str) -> None:
    assert attack(name) == "held"
