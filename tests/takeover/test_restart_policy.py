# SPDX-License-Identifier: MIT
"""Restarts: the pauses between them, and the end of patience.  No process, no clock."""

from ccfs.takeover.restart_policy import FIRST_PAUSE, PATIENCE, RestartPolicy


def test_first_restart_is_immediate() -> None:
    """A daemon that was ready is replaced at once, however long it has served."""
    policy = RestartPolicy(0.0)
    policy.note_ready()
    assert policy.pause(1e6) == 0.0


def test_pauses_double_up_to_a_tenth_of_the_patience() -> None:
    """0, 0.05, 0.1, 0.2 ... and no longer than 3 s."""
    policy = RestartPolicy(0.0)
    pauses = [policy.pause(0.0) for _ in range(12)]
    assert pauses[:4] == [0.0, FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == PATIENCE / 10
    assert pauses == sorted(pauses, key=lambda pause: pause or 0.0)


def test_gives_up_when_patience_ends() -> None:
    """The patience is counted from the first start of a series, not from the last."""
    policy = RestartPolicy(0.0, patience=5.0)
    assert policy.pause(100.0) == 0.0
    assert policy.pause(104.9) is not None
    assert policy.pause(105.0) is None


def test_ready_daemon_begins_a_new_series() -> None:
    """After a daemon that was ready, pauses and patience begin anew."""
    policy = RestartPolicy(0.0, patience=5.0)
    for _ in range(6):
        policy.pause(1.0)
    policy.note_ready()
    assert policy.pause(50.0) == 0.0
    assert policy.pause(50.0) == FIRST_PAUSE
    assert not policy.is_overdue(54.9)
    assert policy.is_overdue(55.0)


def test_first_daemon_is_overdue_after_the_patience() -> None:
    """The first daemon's time counts from the construction of the policy."""
    policy = RestartPolicy(10.0, patience=5.0)
    assert not policy.is_overdue(14.0)
    assert policy.is_overdue(15.0)
