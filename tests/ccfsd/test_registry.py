# SPDX-License-Identifier: MIT
"""What ccfsd remembers, as values, and as the file that the next one reads."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfs.ccfsd import state_file
from ccfs.ccfsd.registry import Mount, Owner, Registry, Session
from ccfs.linux.processes import Process

OWNER = Owner(1000, 100, "alice")
LEADER = Process(77, 12345)


def test_mount_lasts_while_it_has_sessions() -> None:
    registry, first = Registry().with_mount(Mount("1000", OWNER)).take_number()
    registry, second = registry.take_number()
    for number in (first, second):
        registry = registry.with_session(Session(number, "1000", LEADER))
    assert [s.number for s in registry.sessions_of("1000")] == [1, 2]
    assert registry.sessions_of("1000.1") == []
    registry = registry.without_session(first).without_session(first)
    assert [s.number for s in registry.sessions_of("1000")] == [2]
    assert registry.without_session(second).without_mount("1000") == Registry(next_number=3)


def test_session_ccache_is_listed_until_destroyed() -> None:
    registry = Registry().with_mount(Mount("1000", OWNER))
    registry = registry.with_doomed("1000", "one").with_doomed("1000", "two")
    assert registry.without_doomed("1000", "one").mounts["1000"].doomed == ("two",)
    assert registry.without_mount("1000").without_doomed("1000", "two") == Registry()


def test_registry_is_immutable() -> None:
    before = Registry()
    before.with_mount(Mount("1000", OWNER)).with_session(Session(1, "1000", LEADER))
    assert before == Registry(1, {}, {})


texts = st.text(max_size=20)
processes = st.builds(Process, st.integers(1, 1 << 22), st.integers(0, 1 << 60))
owners = st.builds(Owner, st.integers(0, (1 << 32) - 2), st.integers(0, (1 << 32) - 2), texts)
names = st.lists(texts, max_size=3).map(tuple)
mounts = st.builds(Mount, texts, owners, st.none() | processes, texts, st.booleans(), names)
sessions = st.builds(Session, st.integers(1, 1 << 60), texts, processes, texts, texts)
registries = st.builds(
    lambda following, held, led: Registry(
        following, {m.name: m for m in held}, {s.number: s for s in led}
    ),
    st.integers(1, 1 << 60),
    st.lists(mounts, max_size=4),
    st.lists(sessions, max_size=4),
)


@given(registries)
def test_state_file_round_trips(registry: Registry) -> None:
    assert state_file.decode(state_file.encode(registry)) == registry


@given(st.binary(max_size=80) | st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["version", "following", "mounts", "sessions"]), inner, max_size=4),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_malformed_state_file_is_refused(data: bytes) -> None:
    """ValueError, whatever it is."""
    try:
        found = state_file.decode(data)
    except ValueError:
        return
    assert isinstance(found, Registry)


def test_state_file_is_replaced_atomically(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert state_file.read(str(path)) is None
    registry = Registry().with_mount(Mount("1000", OWNER, LEADER, "0:41", requested=True))
    state_file.write(str(path), registry)
    assert path.stat().st_mode & 0o7777 == 0o600
    assert state_file.read(str(path)) == registry
    before = path.stat().st_ino
    state_file.write(str(path), registry.without_mount("1000"))
    assert path.stat().st_ino != before
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_state_file_write_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("theirs")
    (tmp_path / "state.new").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic"):
        state_file.write(str(tmp_path / "state"), Registry())
    assert (tmp_path / "target").read_text() == "theirs"
