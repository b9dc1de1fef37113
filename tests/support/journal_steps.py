# SPDX-License-Identifier: MIT
"""One step of each kind that the store can make, for tests of what a journal makes of it.

Knows the store's methods; each step is made on the two ccaches of `prepared`.
"""

from collections.abc import Callable

from ccfs.store import Store
from ccfs.store.ccache import Ccache
from ccfs.store.generation import OpenFile
from ccfs.store.scratch import DIR
from tests.support.journals import JournaledStore
from tests.support.storing import (
    TGT,
    USER,
    at,
    current,
    fill,
    record,
    removed,
    serials,
    whole,
    writer,
)

LATE = record(b"late@R", ticket=b"<late>")
STEPS: dict[str, Callable[[Store, Ccache, Ccache], object]] = {
    "store": lambda s, a, _: s.edits.store(a, record(b"new/one@R"), at(50)),
    "remove": lambda s, a, _: s.edits.remove(a, max(serials(a)), at(50)),
    "empty": lambda s, a, _: s.uninitialise(a, at(50)),
    "replace": lambda s, a, _: s.put(a.name, whole(record(b"new/one@R")), at(50)),
    "move": lambda s, a, b: s.move(a, b, at(50)),
    "destroy": lambda s, _, b: s.destroy(b, at(50)),
    "default": lambda s, _, b: s.collection.set_default(b, at(50)),
    "aside": lambda s, a, _: s.rename_to_scratch(a, (DIR, b"old"), at(50)),
    "back": lambda s, a, _: s.replace((DIR, b"kept"), a, at(50)),
    "unlink": lambda s, _, __: s.scratch.unlink(DIR, b"kept"),
    "rename": lambda s, _, b: s.scratch.rename((DIR, b"kept"), (b.serial, b"x"), at(50)),
    "scratch": lambda s, a, _: s.scratch.create(a.serial, b"new", at(50)),
    "write": lambda s, _, __: s.open_files.write(file_of(s, b"half"), 4, b"more", 50),
    "overwrite": lambda s, _, __: s.open_files.write(file_of(s, b"half"), 1, b"else", 50),
    "cut": lambda s, _, __: s.open_files.truncate(s.scratch.get(DIR, b"half"), 1, at(50)),
    "begin": lambda s, _, b: s.open_files.write(appender_as(s, b, 8), 0, LATE[:9], 50),
    "go on": lambda s, a, _: s.open_files.write(waiting(s), 0, LATE[50:60], 50),
    "complete": lambda s, a, _: s.open_files.write(waiting(s), 0, LATE[50:], 50),
    "drop": lambda s, a, _: s.close(waiting(s), 50),
    "in place": lambda s, a, _: remove_in_place(s, a),
    "link": lambda s, _, __: s.scratch.rename_link(b"default.tmp", b"default.new"),
    "note": lambda s, _, __: s.set_note(b"key", b"other"),
    "forget": lambda s, _, __: s.set_note(b"key", b""),
    "refuse": lambda s, _, __: s.log_refusal(at(50), "why"),
    "vacate": lambda s, a, _: s.destroy_or_reserve(a, at(50)),
}


def appender_as(store: Store, ccache: Ccache, handle: int) -> OpenFile:
    """An open file that appends to a ccache, and has a handle."""
    return store.open_files.open(current(ccache), USER, writes=True, append=True, handle=handle)


def waiting(store: Store) -> OpenFile:
    """The open file that has left a record incomplete."""
    return store.open_files._writing[7]


def file_of(store: Store, name: bytes) -> OpenFile:
    """An open file that writes to a scratch file in `dir/`."""
    return writer(store, store.scratch.get(DIR, name))


def remove_in_place(store: Store, ccache: Ccache) -> None:
    """As libkrb5 does."""
    assert ccache.image
    span = ccache.image.spans[0]
    old = bytes(ccache.image.data[span.start : span.end])
    store.open_files.write(writer(store, current(ccache)), span.start, removed(old), 50)


def prepared(journaled: JournaledStore) -> tuple[Ccache, Ccache]:
    """Two ccaches, scratch files, a link, a note, an incomplete record, all in the journal."""
    first, second = (fill(journaled.store, whole(record(TGT)), n) for n in (b"tkt", b"work"))
    for ccache in (first, second):
        journaled.store.edits.store(ccache, record(b"late@R"), at(9))
    file = writer(journaled.store, journaled.store.scratch.create(DIR, b"kept", at(9)))
    journaled.store.open_files.write(file, 0, whole(record(b"kept@R")), 0.0)
    journaled.store.close(file, 0.0)
    file = writer(journaled.store, journaled.store.scratch.create(DIR, b"half", at(9)))
    journaled.store.open_files.write(file, 0, b"half", 0.0)
    journaled.store.scratch.create_link(b"default.tmp", b"caches/work", at(9))
    journaled.store.set_note(b"key", b"value")
    journaled.store.open_files.write(appender_as(journaled.store, first, 7), 0, LATE[:50], 9)
    journaled.commit()
    return first, second
