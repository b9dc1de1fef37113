# SPDX-License-Identifier: MIT
"""An ordinary user's own mount, through fusermount3: nothing about it needs root."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.isolation import OWNED, OWNER, IsolatedMounts, isolated_namespace
from tests.support.require import missing

LIFE = """
set -e
cd "$PROJECT"
ccfs() { .venv/bin/python -m ccfs "$@"; }
ccfs mount >/dev/null
top=$XDG_RUNTIME_DIR/ccfs
mkdir "$top/caches/keep"
old=$(sed -n 's/^pid: //p' "$top/info")
kill -9 "$old"
for attempt in $(seq 400); do
    new=$(sed -n 's/^pid: //p' "$top/info" 2>/dev/null) && [ "$new" != "$old" ] && break
    sleep 0.02
done
[ "$new" != "$old" ] && ls "$top/caches"
for pid in "$new" "$(sed -n 's/^keeper: //p' "$top/info")" "$(ps -o ppid= -p "$new")"; do
    stat -c %u "/proc/${pid##* }/mem"
done
ccfs unmount
ls -A "$XDG_RUNTIME_DIR" "$top"
"""


@pytest.fixture
def alone() -> Iterator[IsolatedMounts]:
    """A place with users in it and no mount."""
    if os.geteuid() != 0:
        missing("root", "run the tests as root", "only root makes users")
    with isolated_namespace() as made:
        yield made


def test_killed_daemon_is_replaced_through_fusermount3(alone: IsolatedMounts) -> None:
    """By one of the user's own supervisor; nothing is lost.

    Root owns what /proc has of the daemon, of who keeps the connection, and of who forks daemons:
    no process of the same user can trace them, or take a descriptor of theirs.
    """
    runtime = alone.directory / "runtime"
    runtime.mkdir(mode=0o700)
    os.chown(runtime, OWNER, OWNER)
    environment = ["env", f"XDG_RUNTIME_DIR={runtime}", f"PROJECT={alone.project}"]
    said = alone.run([*environment, *OWNED, "sh", "-c", LIFE])
    assert said.split() == [
        "keep",
        "tkt",
        "0",
        "0",
        "0",
        f"{runtime}:",
        "ccfs",
        f"{runtime / 'ccfs'}:",
    ]
    assert not list(Path(runtime, "ccfs").iterdir())


IN_FRONT = """
set -e
cd "$PROJECT"
top=$XDG_RUNTIME_DIR/ccfs
.venv/bin/python -m ccfs mount --foreground >"$XDG_RUNTIME_DIR/said" &
for attempt in $(seq 400); do
    [ -s "$XDG_RUNTIME_DIR/said" ] && break
    sleep 0.02
done
kill "$!"
wait "$!"
stat -c %a "$top"
ls -A "$top"
"""


def test_mountpoint_directory_is_restored(alone: IsolatedMounts) -> None:
    """It is closed while a mount covers it."""
    runtime = alone.directory / "front"
    runtime.mkdir(mode=0o700)
    os.chown(runtime, OWNER, OWNER)
    environment = ["env", f"XDG_RUNTIME_DIR={runtime}", f"PROJECT={alone.project}"]
    assert alone.run([*environment, *OWNED, "sh", "-c", IN_FRONT]) == "700\n"
