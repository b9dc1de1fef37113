# SPDX-License-Identifier: MIT
"""Record locks between two open file descriptions, and by process."""

import os
from pathlib import Path

import pytest

from ccfs.linux import record_locks
from ccfs.linux.record_locks import READ, WRITE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file to lock."""
    made = tmp_path / "lock"
    made.touch()
    return made


def test_second_writer_is_kept_out(path: Path) -> None:
    """READ beside READ, WRITE alone; the last close of a description ends its lock."""
    with path.open("r+b") as first, path.open("r+b") as second:
        assert record_locks.try_lock(first.fileno(), READ)
        assert record_locks.try_lock(second.fileno(), READ)
        assert not record_locks.try_lock(second.fileno(), WRITE)
        first.close()
        assert record_locks.try_lock(second.fileno(), WRITE)


def test_holder_is_the_process_that_locked(path: Path) -> None:
    """Another process finds the pid; there is none before."""
    with path.open("r+b") as file:
        assert record_locks.holder(file.fileno()) == 0
        record_locks.lock_by_process(file.fileno(), READ)
        child = os.fork()
        if child == 0:
            os._exit(record_locks.holder(file.fileno()) != os.getppid())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
