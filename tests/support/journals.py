# SPDX-License-Identifier: MIT
"""Stores with a journal, and what must survive the end of the process that has them.

Knows the store and its journal from the inside; never where a daemon keeps a journal.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ccfs.journal.journal import Journal
from ccfs.service.commit import Committer
from ccfs.store import Limits, Store
from ccfs.store import generations as generations
from ccfs.store.ccache import Ccache
from ccfs.store.generation import Generation, OpenFile
from tests.support.storing import (
    USER,
    at,
    check,
    current,
)

MOUNT = "/run/user/1000/ccfs"
UID = 1000


class JournaledStore:
    """A store with its journal, as a daemon has them."""

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.path = path
        self.limits = limits or Limits()
        fresh = not path.exists()
        self.journal = Journal(str(path), fresh=fresh)
        if fresh:
            self.store = Store(self.limits, at())
            self.journal.create(MOUNT, UID, self.store)
        else:
            self.store = Store(self.limits, at(100), self.journal.load(MOUNT, UID))
        self.committer = Committer(self.store, journal=self.journal)

    def commit(self) -> None:
        """Write the effects of the last steps to the journal, as every handler does."""
        self.committer.commit()

    def restart_after_kill(self) -> "JournaledStore":
        """Load a copy of the file, as the daemon does that follows a killed one."""
        copy = self.path.with_name("again")
        shutil.copy(self.path, copy)
        return JournaledStore(copy, self.limits)

    def close(self) -> None:
        """Close the journal's file."""
        self.journal.close()

    def bytes(self) -> bytes:
        """Return the journal's file as it is."""
        return self.path.read_bytes()


@contextlib.contextmanager
def journaled_store(limits: Limits | None = None) -> Iterator[JournaledStore]:
    """Yield a new store with a journal on tmpfs, and remove the file at the end."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ccfs-journal-test-") as directory:
        journaled = JournaledStore(Path(directory) / "journal", limits)
        try:
            yield journaled
        finally:
            journaled.close()


def durable_state(store: Store) -> list[object]:
    """Return all that a later daemon must load as it was."""
    return [
        *[ccache_state(ccache) for ccache in store.collection.all()],
        scratch_state(store),
        global_state(store),
    ]


def ccache_state(ccache: Ccache) -> list[object]:
    """Return one ccache: identity, times, principal, all bytes but an incomplete record."""
    image, current = ccache.image, ccache.current
    body = bytes(image.data[: image.records_start]) if image else None
    file = (current.number, current.mtime) if current else None
    times = (ccache.change_time, ccache.last_default_time, ccache.mtime)
    marks = (ccache.rank, ccache.lineage, ccache.reserved)
    return [ccache.name, ccache.serial, times, marks, file, body, image and image.records()]


def scratch_state(store: Store) -> list[object]:
    """Return scratch files, links, the incomplete records of open files, and notes."""
    files = [(_scratch_path(f), f.number, f.mtime, bytes(f.data)) for f in store.scratch.all()]
    links = [(n, k.number, k.target, k.made) for n, k in store.scratch.links.items()]
    incomplete = store.open_files.incomplete_records()
    return [sorted(files), sorted(links), incomplete, dict(store.notes)]


def _scratch_path(generation: Generation) -> tuple[int, bytes]:
    """Return where a scratch file is, in an order: `dir/` comes first."""
    assert generation.scratch_name
    return generation.scratch_name.directory or 0, generation.scratch_name.name


def _scratch_path(generation: Generation) -> tuple[int, bytes]:  # type: ignore[no-redef]
    """Return where a scratch file is, in an order: `dir/` comes first."""
    assert generation.scratch_name
    return generation.scratch_name.directory or 0, generation.scratch_name.name


def global_state(store: Store) -> list[object]:
    """Return the events, and what the store has once: default, times."""
    events, collection = store.events, store.collection
    text = events.read(events.edition, 0, 1 << 30)
    where = (events.sequence, events.end, events.start, events.mtime, events.editions)
    whole = (collection.default_chosen, collection.mtime, store.start_time, store.change_time)
    return [text, where, whole]


def assert_survives_kill(journaled: JournaledStore) -> None:
    """Fail unless a daemon that is started after a kill loads the same state, twice."""
    restarted = journaled.restart_after_kill()
    try:
        assert durable_state(restarted.store) == durable_state(journaled.store)
        check(restarted.store)
        assert state_reloaded(restarted) == durable_state(journaled.store)
        assert restarted.store.new_serial() > journaled.store.last_serial
    finally:
        restarted.close()


def state_reloaded(restarted: JournaledStore) -> list[object]:
    """Return the state that another load of the same log gives: loading writes nothing."""
    path = restarted.path.with_name("once-more")
    shutil.copy(restarted.path, path)
    once_more = JournaledStore(path, restarted.limits)
    try:
        return durable_state(once_more.store)
    finally:
        once_more.close()


def raise_enospc(*_: object) -> None:
    """Stand in for a write to a journal on a full file system."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def opened(store: Store, ccache: Ccache, handle: int, *, append: bool = True) -> OpenFile:
    """Open a ccache to write, with the `handle` that a daemon gives an open file."""
    return store.open_files.open(current(ccache), USER, writes=True, append=append, handle=handle)
