# SPDX-License-Identifier: MIT
"""What a frame says: entries, one after the other, each a letter and its fields.

    W  the whole: change time, last serial number, mtime, the next number that serves as a name,
       whether a client has chosen the default, until when expiry was announced
    C  a ccache: serial, rank, change time, last time as the default, mtime, number of its current
       generation (0: no file) and the mtime of that, lineage, whether it is reserved, its name,
       header and principal
    T  the same ccache, with another number and other times
    O  a superseded number of a ccache
    D  a ccache is destroyed, with its records     E  its records are gone
    R  a record at the end of a ccache: its serial, name, size and checksum; the bytes are data
    K  the placeholder of a removed record, at the end of a ccache
    X  a record is removed                         P  all placeholders are left out
    Y  a placeholder is written over a record
    F  a scratch file: number, directory (0: `dir/`), whether it stays when it isn't used, name; it
       is empty where it is new.  Directory -1: an orphan, whose name has the serial of its ccache
       (0: of none) and its lineage
    A  bytes at the end of a scratch file, its mtime
    Z  a scratch file is empty                     G  a scratch file is removed
    S  a scratch link: number (0: it is removed), when it was made, name, target
    I  an incomplete record: the handle of its open file, serial of the ccache; no bytes: none
    N  a note of the layer above: its key; no bytes: none
    B  the event log begins: when the store was first made, position of the first line
    V  an edition of it: number, base, how many events are lost, header; lines before it are dropped
    L  lines of it: number of the last event, mtime
    M  what the step made stale (`effects_codec.py`); not in frames that only write the log anew

Bytes that are data have their size and checksum in the entry (R K Y A I N).  Knows fields and their
bytes; never the store, nor files.
"""

from collections.abc import Callable, Iterator
from functools import partial
from struct import Struct
from typing import NamedTuple

WHOLE, CCACHE, METADATA, SUPERSEDED, DESTROYED, EMPTIED = b"WCTODE"
RECORD, PLACEHOLDER, REMOVED, COMPACTED, OVERWRITTEN = b"RKXPY"
FILE, APPENDED, TRUNCATED, UNLINKED, LINK = b"FAZGS"
INCOMPLETE, NOTE, EVENTS_BEGIN, EDITION, EVENTS, STALE = b"INBVLM"

DIR_NUMBER, ORPHAN_NUMBER = 0, -1
"""Directories of files (F): `dir/`, and none."""
ORPHAN_NAME = Struct(">qq")
"""The name of an orphan: the serial of its ccache (0: of none), its lineage."""

_RECORD = Struct("<BqqHII")
_FORMS = {
    WHOLE: Struct("<BqqdqBd"),
    CCACHE: Struct("<BqqqqdqdqBHI"),
    METADATA: Struct("<Bqqqdd"),
    SUPERSEDED: Struct("<Bqq"),
    DESTROYED: Struct("<Bq"),
    EMPTIED: Struct("<Bq"),
    RECORD: _RECORD,
    PLACEHOLDER: Struct("<BqII"),
    REMOVED: Struct("<Bqq"),
    COMPACTED: Struct("<Bq"),
    OVERWRITTEN: Struct("<BqqII"),
    FILE: Struct("<BqqBH"),
    APPENDED: Struct("<BqdII"),
    TRUNCATED: Struct("<Bq"),
    UNLINKED: Struct("<Bq"),
    LINK: Struct("<BqdHH"),
    INCOMPLETE: Struct("<BQqII"),
    NOTE: Struct("<BHII"),
    EVENTS_BEGIN: Struct("<Bdq"),
    EDITION: Struct("<BqqqH"),
    EVENTS: Struct("<BqdI"),
    STALE: Struct("<BI"),
}
_TEXTS = {
    CCACHE: (9, 10),
    RECORD: (2,),
    FILE: (3,),
    LINK: (2, 3),
    NOTE: (0,),
    EDITION: (3,),
    EVENTS: (2,),
    STALE: (0,),
}
"""Which fields are the sizes of the texts that follow them."""


class Entry(NamedTuple):
    """One entry: its letter, its fields without the sizes of texts, its texts."""

    kind: int
    fields: tuple[float, ...]
    texts: tuple[bytes, ...]


ENCODE: dict[int, Callable[..., bytes]] = {
    kind: partial(form.pack, kind) for kind, form in _FORMS.items()
}
"""By letter: encodes all fields of an entry, the sizes of its texts among them.

The texts have to follow.
"""


def decode(meta: bytes) -> Iterator[Entry]:
    """Decode the entries of a frame.  Raises struct.error, KeyError where it has others."""
    at = 0
    while at < len(meta):
        if meta[at] == RECORD:  # nearly all entries are
            kind, ccache, serial, size, data_size, checksum = _RECORD.unpack_from(meta, at)
            at += _RECORD.size + size
            yield Entry(kind, (ccache, serial, data_size, checksum), (meta[at - size : at],))
            continue
        form, sizes = _FORMS[meta[at]], _TEXTS.get(meta[at], ())
        kind, *fields = form.unpack_from(meta, at)
        at += form.size
        texts = []
        for size in (int(fields[number]) for number in sizes):
            texts.append(meta[at : at + size])
            at += size
        others = tuple(f for number, f in enumerate(fields) if number not in sizes)
        yield Entry(kind, others, tuple(texts))
    if at != len(meta):
        raise KeyError(at)
