"""What a frame says: entries, one after the other, each a letter and its fields.

    W  the collection: change time, last serial number
    C  a ccache: serial, rank, change time, last time as the default, mtime, its name, header and
       principal
    T  the same ccache, with another change time and mtime
    D  a ccache is gone, with its records          E  its records are gone
    R  a record at the end of a ccache: its serial, name, size and checksum; the bytes are data
    X  a record is gone
    F  a scratch file: the serial of its ccache, name, mtime, size and checksum; the bytes are data
    G  a scratch file is gone

Knows fields and their bytes; never the store, nor files.
"""

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

WHOLE, CCACHE, TOUCHED, DROPPED, EMPTIED, RECORD, REMOVED, FILE, UNLINKED = b"WCTDERXFG"

_RECORD = Struct("<BqqHII")
_FORMS = {
    WHOLE: Struct("<Bqq"),
    CCACHE: Struct("<BqqqqdHI"),
    TOUCHED: Struct("<Bqqd"),
    DROPPED: Struct("<Bq"),
    EMPTIED: Struct("<Bq"),
    RECORD: _RECORD,
    REMOVED: Struct("<Bqq"),
    FILE: Struct("<BqdHII"),
    UNLINKED: Struct("<BqH"),
}
_TEXTS = {CCACHE: (6, 7), RECORD: (3,), FILE: (3,), UNLINKED: (2,)}
"""Which fields are the sizes of the texts that follow them."""


class Entry(NamedTuple):
    """One entry: its letter, its fields without the sizes of texts, its texts."""

    kind: int
    fields: tuple[float, ...]
    texts: tuple[bytes, ...]


def encode(kind: int, *values: float, texts: tuple[bytes, ...] = ()) -> bytes:
    """The bytes of an entry.  `values`: all its fields, the sizes of the texts among them."""
    return b"".join((_FORMS[kind].pack(kind, *values), *texts))


def decode(meta: bytes) -> Iterator[Entry]:
    """The entries of a frame.  Raises struct.error, KeyError where it is none of ours."""
    at = 0
    while at < len(meta):
        if meta[at] == RECORD:  # nearly all are
            kind, owner, serial, size, room, check = _RECORD.unpack_from(meta, at)
            at += _RECORD.size + size
            yield Entry(kind, (owner, serial, room, check), (meta[at - size : at],))
            continue
        form, sizes = _FORMS[meta[at]], _TEXTS.get(meta[at], ())
        kind, *fields = form.unpack_from(meta, at)
        at += form.size
        texts = []
        for size in (int(fields[number - 1]) for number in sizes):
            texts.append(meta[at : at + size])
            at += size
        kept = tuple(f for number, f in enumerate(fields, 1) if number not in sizes)
        yield Entry(kind, kept, tuple(texts))
    if at != len(meta):
        raise KeyError(at)
