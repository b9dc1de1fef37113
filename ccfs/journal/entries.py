"""What a frame says: entries, one after the other, each a letter and its fields.

    W  the whole: change time, last serial number, mtime, the next number that serves as a name,
       whether a client has chosen the default, until when ends were announced
    C  a ccache: serial, rank, change time, last time as the default, mtime, number of its content
       (0: no file) and its mtime, lineage, whether it is nominal, its name, header and principal
    T  the same ccache, with another number and other times
    O  a number that a ccache had before
    D  a ccache is gone, with its records          E  its records are gone
    R  a record at the end of a ccache: its serial, name, size and checksum; the bytes are data
    K  a record that is marked as removed, at the end of a ccache
    X  a record is gone                            P  all records marked as removed are gone
    Y  a record is marked as removed in its place
    F  a scratch file: number, place, whether it is kept, name; it is empty where it is new
    A  bytes at the end of a scratch file, its mtime
    Z  a scratch file is empty                     G  a scratch file is gone
    S  a scratch link: number (0: it is gone), when it was made, name, target
    I  an incomplete record: the ident of its open file, serial of the ccache; no bytes: none
    N  a note of the layer above: its key; no bytes: none
    B  the log of changes begins: when the store was made first, position of the first line
    V  an edition of it: number, base, how many events are lost, header; lines before it are gone
    L  lines of it: number of the last event, mtime
    M  what the step made stale (`step.py`); not in frames that only write the log anew

Bytes that are data have their size and checksum in the entry (R K Y A I N).  Knows fields and their
bytes; never the store, nor files.
"""

from collections.abc import Callable, Iterator
from functools import partial
from struct import Struct
from typing import NamedTuple

WHOLE, CCACHE, TOUCHED, OLDER, DROPPED, EMPTIED = b"WCTODE"
RECORD, BLANK, REMOVED, COMPACTED, BURIED = b"RKXPY"
FILE, APPENDED, CLEARED, UNLINKED, LINK = b"FAZGS"
TAIL, NOTE, BEGUN, EDITION, LINES, MADE = b"INBVLM"

_RECORD = Struct("<BqqHII")
_FORMS = {
    WHOLE: Struct("<BqqdqBd"),
    CCACHE: Struct("<BqqqqdqdqBHI"),
    TOUCHED: Struct("<Bqqqdd"),
    OLDER: Struct("<Bqq"),
    DROPPED: Struct("<Bq"),
    EMPTIED: Struct("<Bq"),
    RECORD: _RECORD,
    BLANK: Struct("<BqII"),
    REMOVED: Struct("<Bqq"),
    COMPACTED: Struct("<Bq"),
    BURIED: Struct("<BqqII"),
    FILE: Struct("<BqqBH"),
    APPENDED: Struct("<BqdII"),
    CLEARED: Struct("<Bq"),
    UNLINKED: Struct("<Bq"),
    LINK: Struct("<BqdHH"),
    TAIL: Struct("<BQqII"),
    NOTE: Struct("<BHII"),
    BEGUN: Struct("<Bdq"),
    EDITION: Struct("<BqqqH"),
    LINES: Struct("<BqdI"),
    MADE: Struct("<BI"),
}
_TEXTS = {
    CCACHE: (9, 10),
    RECORD: (2,),
    FILE: (3,),
    LINK: (2, 3),
    NOTE: (0,),
    EDITION: (3,),
    LINES: (2,),
    MADE: (0,),
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
"""What makes the bytes of an entry of all its fields, the sizes of its texts among them.

Its texts belong behind them.
"""


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
        for size in (int(fields[number]) for number in sizes):
            texts.append(meta[at : at + size])
            at += size
        kept = tuple(f for number, f in enumerate(fields) if number not in sizes)
        yield Entry(kind, kept, tuple(texts))
    if at != len(meta):
        raise KeyError(at)
