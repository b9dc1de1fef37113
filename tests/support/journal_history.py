# SPDX-License-Identifier: MIT
"""Random histories of a store in which each step has a secret of its own.

Knows all kinds of steps of the store; never what the journal makes of them.
"""

import random

from ccfs.store import Store
from ccfs.store.ccache import Ccache
from ccfs.store.generation import OpenFile
from tests.support.journals import opened
from tests.support.storing import (
    ALICE,
    NOW,
    TGT,
    USER,
    at,
    fill,
    put,
    record,
    serials,
    whole,
)


def secret(number: int) -> bytes:
    """Bytes that are in one credential only."""
    return b"<secret %06d secret>" % number


class History:
    """Random steps, each with a secret of its own."""

    def __init__(self, store: Store, chance: random.Random) -> None:
        self.store, self.chance = store, chance
        self.ccaches = [fill(store, whole(record(TGT)), name) for name in (b"tkt", b"work")]
        self.open: list[OpenFile] = []

    def live(self) -> bytes:
        """All bytes that are there."""
        files = [
            bytes(file.data)
            for file in (*self.store.scratch.all(), *self.store.generations.orphans())
        ]
        tails = [tail for _, tail in self.store.open_files.incomplete_records().values()]
        images = [c.image.data[: c.image.records_end] for c in self.ccaches if c.image]
        return b"|".join((*files, *tails, *images, *self.store.notes.values()))

    def step(self, number: int) -> None:
        steps = (
            self.add,
            self.append,
            self.go_on,
            self.remove,
            self.note,
            self.scratch,
            self.clear,
        )
        self.chance.choice(steps)(self.chance.choice(self.ccaches), number)

    def add(self, ccache: Ccache, number: int) -> None:
        self.store.edits.store(ccache, secret_record(number), at(number))

    def append(self, ccache: Ccache, number: int) -> None:
        """A record of which the last bytes are missing."""
        file = opened(self.store, ccache, number + 1)
        put(self.store, file, secret_record(number)[:-2])
        self.open.append(file)

    def go_on(self, ccache: Ccache, number: int) -> None:
        """Complete a record, or leave it."""
        if self.open:
            file = self.open.pop(self.chance.randrange(len(self.open)))
            if self.chance.random() < 0.5:
                put(self.store, file, b"\0\0")
            self.store.close(file, NOW + number)

    def remove(self, ccache: Ccache, number: int) -> None:
        found = list(serials(ccache))
        if found:
            self.store.edits.remove(ccache, self.chance.choice(found), at(number))

    def note(self, ccache: Ccache, number: int) -> None:
        value = secret(number) if self.chance.random() < 0.8 else b""
        self.store.set_note(b"%d" % self.chance.randrange(4), value)

    def scratch(self, ccache: Ccache, number: int) -> None:
        """Write anywhere to a file, which is made where there is none."""
        place = (ccache.serial, b"%d" % self.chance.randrange(3))
        found = self.store.scratch.find(*place) or self.store.scratch.create(*place, at(number))
        file = self.store.open_files.open(found, USER, writes=True, append=False)
        end = len(found.data)
        put(self.store, file, secret(number), self.chance.choice([end, end, end // 2, 0]))
        self.store.close(file, NOW)

    def clear(self, ccache: Ccache, number: int) -> None:
        """Remove or cut scratch files, or begin a ccache anew."""
        for file in self.store.scratch.all():
            if self.chance.random() < 0.3 and file.scratch_name:
                self.store.scratch.unlink(*file.scratch_name)
            elif self.chance.random() < 0.3:
                self.store.open_files.truncate(file, len(file.data) // 2, at(number))
        if self.chance.random() < 0.2:
            self.store.reset(ccache, ALICE, at(number))


def secret_record(number: int) -> bytes:
    """A record with a secret of its own."""
    return record(b"h/%d@R" % number, ticket=secret(number))
