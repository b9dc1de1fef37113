# SPDX-License-Identifier: MIT
"""One run of bytes under one number, and the open files that refer to it.

A generation is the current content of a ccache, or superseded: rewritten (the ccache goes on under
a newer number; writes follow it there) or replaced (the file was unlinked or renamed over; writes
reach only the generation's own bytes).  One that belongs to no ccache is a scratch file.  A number
is never reused, and a superseded generation keeps its bytes while a client has it open.

Knows bytes, records and numbers; ccaches only by their serial numbers.
"""

from __future__ import annotations

from typing import NamedTuple

from ccfs.format.dialect import DIALECT_V4, Dialect
from ccfs.store.image import Image, Span
from ccfs.store.values import Client


class ScratchName(NamedTuple):
    """Where a scratch file is: the serial number of a ccache (None: in `dir/`), and its name."""

    directory: int | None
    name: bytes


class ReaderCopy(NamedTuple):
    """The bytes and records of a generation, copied for its readers before a change."""

    data: bytearray
    spans: list[Span]
    dialect: Dialect


class OpenFile:
    """One open of a generation.

    `number`: the number that the client opened; where that isn't the current one's, the file's
    writes have to be shown to all other clients.  `opened_by`: the superseded generation of that
    number.  `incomplete`: the beginning of a record that this file is still writing, while it can't
    be at the end of the ccache.  `shredding`: whether the file has overwritten the whole ccache
    with other bytes.  `handle`: the number by which the layer above names the file, also to
    the next daemon.
    """

    __slots__ = (
        "append",
        "client",
        "generation",
        "handle",
        "incomplete",
        "number",
        "opened_by",
        "shredding",
        "writes",
    )

    def __init__(
        self,
        generation: Generation,
        opened_by: Generation | None,
        *,
        writes: bool,
        append: bool,
        client: Client,
        handle: int | None = None,
    ) -> None:
        self.generation = generation
        self.opened_by = opened_by
        self.number: int | None = opened_by.number if opened_by else generation.number
        self.writes = writes
        self.append = append
        self.client = client
        self.handle = handle
        self.incomplete = b""
        self.shredding = False


class Generation:
    """One run of bytes with a number.

    `owner`: the serial number of the ccache that it is, or was, the content of; `lineage`: that
    ccache's lineage then.  `image`: the index over the bytes of a current one.  `mtime`,
    `superseded_at`, `last_used`: seconds since the epoch.  `expires`: whether a scratch file is
    dropped some time after its last use.  `scratch_name`: that of a scratch file.

    `open_count`: how many open files refer to it; `writer_count`: how many of these may write.
    `presumed_open`: whether one of `open_count` stands for a client that may have opened it under
    an earlier daemon.  `opened_later`: open files of newer generations that were opened by this
    number.
    `incomplete_file`: the open file that writes the incomplete record at the end.

    `bytes_lost`: whether the bytes were lost with an earlier daemon.  `orphan`: whether it is open,
    no name leads to it, and the journal keeps its bytes.  `spans`, `dialect`: the records that its
    readers see.
    `counted_bytes`, `counted_records`: what it takes of the limits (`Usage`).
    """

    __slots__ = (
        "_plain",
        "bytes_lost",
        "counted_bytes",
        "counted_records",
        "dialect",
        "expires",
        "image",
        "incomplete_file",
        "last_used",
        "lineage",
        "mtime",
        "number",
        "open_count",
        "opened_later",
        "orphan",
        "owner",
        "presumed_open",
        "scratch_name",
        "spans",
        "superseded_at",
        "writer_count",
    )

    def __init__(self, number: int, mtime: float) -> None:
        self.number = number
        self.mtime = mtime
        self.last_used = mtime
        self.expires = True
        self.owner: int | None = None
        self.lineage: int | None = None
        self.image: Image | None = None
        self.dialect: Dialect = DIALECT_V4
        self.spans: list[Span] = []
        self.superseded_at: float | None = None
        self.incomplete_file: OpenFile | None = None
        self.opened_later: list[OpenFile] = []
        self.open_count = 0
        self.writer_count = 0
        self.presumed_open = False
        self.orphan = False
        self.scratch_name: ScratchName | None = None
        self.bytes_lost = False
        self.counted_bytes = 0
        self.counted_records = 0
        self._plain = bytearray()

    @property
    def data(self) -> bytearray:
        """The bytes, as a reader gets them."""
        return self.image.data if self.image is not None else self._plain

    @property
    def record_count(self) -> int:
        """How many records it has, placeholders of removed ones included."""
        return len(self.image.spans if self.image is not None else self.spans)

    @property
    def current(self) -> bool:
        """Whether this is the content of its ccache."""
        return self.owner is not None and self.superseded_at is None

    @property
    def has_name(self) -> bool:
        """Whether a path leads to it: it is current, or a scratch file with a name."""
        return self.scratch_name is not None or self.current

    def attach(self, owner: int, lineage: int, image: Image) -> None:
        """Become the content of a ccache."""
        self.image, self._plain = image, bytearray()
        self.owner, self.lineage = owner, lineage

    def reader_copy(self) -> ReaderCopy | None:
        """Copy the content for the readers; None where no client has it open."""
        image = self.image
        if image is None or not self.open_count:
            return None
        return ReaderCopy(bytearray(image.data), list(image.spans), image.dialect)

    def supersede(self, copy: ReaderCopy | None, now: float) -> None:
        """Leave the image to a newer generation; readers keep `copy`."""
        if copy is not None:
            self._plain, self.spans, self.dialect = copy
        self.image, self.incomplete_file, self.superseded_at = None, None, now

    def detach(self, now: float) -> None:
        """Become superseded with the bytes of the image: the file was unlinked or renamed over."""
        if self.image is not None:
            self._plain = self.image.data
        self.image, self.incomplete_file, self.superseded_at = None, None, now

    def become_scratch(self, now: float) -> None:
        """Belong to no ccache any more."""
        self.owner, self.superseded_at = None, None
        self.use(now)

    def use(self, now: float) -> None:
        """Note a use of a scratch file: it expires some time after the last."""
        self.last_used, self.expires = now, True

    def restore_superseded(
        self, owner: int | None, lineage: int | None, dialect: Dialect | None, now: float
    ) -> None:
        """Restore as superseded content of the ccache `owner`, or of none (None)."""
        self.owner, self.lineage = owner, lineage
        if owner is not None:
            self.superseded_at = now
            self.dialect = dialect or self.dialect

    def extend(self, offset: int, data: bytes) -> None:
        """Append bytes written at `offset` to those that readers of a superseded one have."""
        size = len(self._plain)
        if self.open_count and not self.bytes_lost and offset <= size:
            self._plain += data[size - offset :]

    def wipe(self) -> None:
        """Overwrite and drop the bytes: no client can read them any more."""
        self._plain[:] = bytes(len(self._plain))
        self._plain = bytearray()
        self.spans = []

    def span_at(self, offset: int) -> Span | None:
        """The record that held the byte at `offset` when this one was superseded."""
        return next((s for s in self.spans if s.start <= offset < s.end), None)
