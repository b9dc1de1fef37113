"""The bytes behind one number: what a reader holds open.

A generation is the current content of a ccache, or superseded: rewritten (the ccache went on under
a newer number; writes follow it there) or replaced (the file was unlinked or renamed over; writes
reach nothing but its own bytes).  One without a ccache is a scratch file.  A number is never
reused, and a superseded generation keeps its bytes while somebody has it open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ccfs.format.dialect import DIALECT_V4, Dialect
from ccfs.store.image import Image, Span

if TYPE_CHECKING:
    from ccfs.store.ccache import Ccache
    from ccfs.store.open_files import OpenFile


class Frozen(NamedTuple):
    """What readers of a generation had in front of them before it was superseded."""

    data: bytearray
    spans: list[Span]
    dialect: Dialect


class Generation:
    """One run of bytes with a number.

    `image` indexes the bytes of a current one.  `mtime`, `superseded`, `used` (when somebody last
    did anything with a scratch file): seconds.  `handles`: how
    many open files refer to it, `writers`: how many of them may write.  `tail_of`: the open file
    whose incomplete record is at the end.  `place`: where it is a scratch file: the serial of a
    ccache (0: `dir/`) and its name.  `unknown`: whether a restart has lost its bytes.
    `presumed`: whether one of `handles` is there because somebody may have it open.  `left`: that
    no name leads to it, and the journal has its bytes for those who have it open.
    `counted`, `counted_records`: how many bytes and records of the limits it takes.
    `followers`: the open files that were opened by its number when it was no longer current itself.
    """

    __slots__ = (
        "_lineage",
        "_plain",
        "ccache",
        "counted",
        "counted_records",
        "dialect",
        "followers",
        "handles",
        "image",
        "left",
        "mtime",
        "number",
        "place",
        "presumed",
        "spans",
        "superseded",
        "tail_of",
        "unknown",
        "used",
        "writers",
    )

    def __init__(self, number: int, mtime: float) -> None:
        self.number = number
        self.mtime = mtime
        self.used = mtime
        self.ccache: Ccache | None = None
        self.image: Image | None = None
        self.dialect: Dialect = DIALECT_V4
        self.spans: list[Span] = []
        self.superseded: float | None = None
        self.tail_of: OpenFile | None = None
        self.followers: list[OpenFile] = []
        self.handles = 0
        self.presumed = False
        self.left = False
        self.writers = 0
        self.place: tuple[int, bytes] | None = None
        self.unknown = False
        self.counted = 0
        self.counted_records = 0
        self._lineage = 0
        self._plain = bytearray()

    @property
    def data(self) -> bytearray:
        """The bytes, as a reader gets them."""
        return self.image.data if self.image is not None else self._plain

    @property
    def records(self) -> int:
        """How many records it has, removed ones included."""
        return len(self.image.spans if self.image is not None else self.spans)

    @property
    def named(self) -> bool:
        """Whether it is a scratch file with a name."""
        return self.place is not None

    @property
    def current(self) -> bool:
        """Whether this is what the ccache holds now."""
        return self.ccache is not None and self.ccache.current is self

    @property
    def rewritten(self) -> bool:
        """Whether the same content went on under a newer number."""
        ccache = self.ccache
        return ccache is not None and not self.current and ccache.lineage == self._lineage

    def become(self, ccache: Ccache, image: Image) -> None:
        """Be the content of `ccache`."""
        self.image, self._plain = image, bytearray()
        self.follow(ccache)
        ccache.current = self

    def follow(self, ccache: Ccache) -> None:
        """Belong to `ccache`: it has what this is, or was, a generation of."""
        self.ccache, self._lineage = ccache, ccache.lineage

    @property
    def lineage(self) -> int:
        """Which run of the ccache's content it is of: see `Ccache.lineage`."""
        return self._lineage

    def restore_left(self, ccache: Ccache | None, lineage: int, now: float) -> None:
        """Be one that was left open before a restart."""
        self.ccache, self._lineage, self.left = ccache, lineage, True
        if ccache is not None:
            self.superseded = now
            self.dialect = ccache.image.dialect if ccache.image else self.dialect

    def frozen(self) -> Frozen | None:
        """A copy of the content for its readers, if there are any."""
        image = self.image
        if image is None or not self.handles:
            return None
        return Frozen(bytearray(image.data), list(image.spans), image.dialect)

    def freeze(self, kept: Frozen | None, now: float) -> None:
        """The image goes on under another number; readers keep the bytes that they had."""
        if kept is not None:
            self._plain, self.spans, self.dialect = kept
        self.image, self.tail_of, self.superseded = None, None, now

    def become_plain(self, now: float) -> None:
        """Be a scratch file: bytes that belong to no ccache."""
        self.ccache, self.superseded, self.used = None, None, now

    def detach(self, now: float) -> None:
        """Keep the bytes, and be the content of nothing."""
        if self.image is not None:
            self._plain = self.image.data
        self.image, self.tail_of, self.superseded = None, None, now

    def extend(self, offset: int, data: bytes) -> None:
        """Let bytes at `offset` follow those that readers of a superseded one keep."""
        have = len(self._plain)
        if self.handles and not self.unknown and offset <= have:
            self._plain += data[have - offset :]

    def discard(self) -> None:
        """Overwrite the bytes of one that nobody can read any more."""
        self._plain[:] = bytes(len(self._plain))
        self._plain = bytearray()
        self.spans = []

    def span_at(self, offset: int) -> Span | None:
        """The record that held the byte at `offset` when this one was superseded."""
        return next((s for s in self.spans if s.start <= offset < s.end), None)
