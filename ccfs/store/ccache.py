"""One ccache: its identity is its directory, its content a sequence of generations.

Knows names and numbers of its credentials; never knows the other ccaches.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from ccfs.format.ccache import Prefix
from ccfs.format.outline import Outline
from ccfs.store.errors import NotFoundError, StoreError, TotalLimitError
from ccfs.store.generation import Generation
from ccfs.store.image import Image
from ccfs.store.record_names import Kind, cut_name, description_of
from ccfs.store.values import NAME_MAX, Limits, Stored, ident

NOTICE = 300
"""Seconds before the end of a credential at which that is announced."""

Deadline = tuple[int, int]
"""When a credential ends (seconds since the epoch), and its serial number."""


@dataclass(slots=True)
class Register:
    """Serial numbers, the ccaches by theirs, and when credentials end.

    Numbers go up from `last`; the same one is never given twice.  `records`: how many records
    there are, removed ones included; at most `most`.  `announced`: until when ends were announced,
    seconds since the epoch.
    """

    last: int
    most: int
    records: int = 0
    announced: float = 0.0
    ccaches: dict[int, "Ccache"] = field(default_factory=dict)
    _near: list[Deadline] = field(default_factory=list)  # whose end is to be announced ahead
    _here: list[Deadline] = field(default_factory=list)  # whose end is to be announced
    _prune_at: int = 64

    def room(self, more: int) -> None:
        """Refuse `more` records, removed ones included, where there would be too many."""
        if more > 0 and self.records + more > self.most:
            raise TotalLimitError(f"over {self.most} credentials in all")

    def expect(self, stored: Stored) -> None:
        """From its end time on a credential is of no more use."""
        if stored.endtime and not stored.config:
            heappush(self._near, (stored.endtime, stored.serial))

    def prune(self) -> None:
        """Leave out the deadlines of credentials that are gone, when most may be."""
        if len(self._near) + len(self._here) <= self._prune_at:
            return
        live = {s.serial for ccache in self.ccaches.values() for s in ccache.credentials.values()}
        for heap in (self._near, self._here):
            heap[:] = [deadline for deadline in heap if deadline[1] in live]
            heapify(heap)
        self._prune_at = 2 * (len(self._near) + len(self._here)) + 64

    def due(self, now: float) -> Iterator[tuple[int, bool]]:
        """The credentials whose end is near, and (True) those whose end has come, each once."""
        while self._near and self._near[0][0] - NOTICE <= now:
            end, serial = heappop(self._near)
            heappush(self._here, (end, serial))
            if end > now:
                yield serial, False
        while self._here and self._here[0][0] <= now:
            yield heappop(self._here)[1], True

    def skip(self, announced: float) -> None:
        """Announce nothing again that was announced before a restart."""
        self.announced = announced
        for _ in self.due(announced):
            pass

    def next_deadline(self) -> int | None:
        """When something is due next, in seconds since the epoch."""
        if not self._near:
            return self._here[0][0] if self._here else None
        near = self._near[0][0] - NOTICE
        return min(near, self._here[0][0]) if self._here else near

    def number(self) -> int:
        """A serial number that was never given before."""
        self.last += 1
        return self.last


class Ccache:
    """A directory of `caches/`.

    `current` is None where there is no `ccache` file; a ccache is initialised once its file has a
    complete header and principal.  `rank` is its place in the list: the smallest is the default's.
    `lineage` counts how often the file was unlinked or replaced.  `nominal`: whether it is there
    for the sake of a name that a KCM client has given the default.  `change_time` and
    `last_default_time`: whole seconds, as the CCAPI counts them; `mtime`: when an entry of the
    directory last came or went.
    """

    def __init__(self, name: bytes, now: float, register: "Register") -> None:
        self._register = register
        self.serial = register.number()
        self.rank = self.serial
        self.name = name
        self.current: Generation | None = None
        self.lineage = 0
        self.nominal = False
        self.change_time = int(now)
        self.last_default_time = 0
        self.mtime = now
        self.credentials: dict[str, Stored] = {}
        self.config: dict[str, Stored] = {}

    @property
    def ident(self) -> str:
        """The identifier that users see; never reused."""
        return ident(self.serial)

    @property
    def image(self) -> Image | None:
        """The current content, if it has any."""
        return self.current.image if self.current else None

    @property
    def prefix(self) -> Prefix | None:
        """Header and principal, once they are complete."""
        return self.image.prefix if self.image else None

    @property
    def initialised(self) -> bool:
        """Whether this ccache counts for anyone."""
        return self.prefix is not None

    @property
    def size(self) -> int:
        """Bytes of the FILE format."""
        return len(self.current.data) if self.current else 0

    def find(self, serial: int) -> Stored | None:
        """The credential or configuration entry of a serial number."""
        image = self.image
        return image.find(serial) if image else None

    def index(self, data: bytearray, limits: Limits) -> tuple[Image, tuple[Stored, ...]]:
        """An image of this ccache over `data`, and the records that it had before.

        The new records get their names here.  BadContentError: no ccache, nothing changed.
        """
        before = self.credentials, self.config
        self.credentials, self.config = {}, {}
        try:
            image = Image(limits.ccache_bytes, self, data)
        except StoreError:
            self.credentials, self.config = before
            raise
        return image, _all(*before)

    def take(self, other: "Ccache") -> tuple[Stored, ...]:
        """Have the content of another ccache, its records' identities with it.

        Returns the records that this one had; `other` has no file afterwards.
        """
        generation, image = other.current, other.image
        if generation is None or image is None:
            raise NotFoundError("nothing to take")
        gone = self.forget_all()
        self.credentials, self.config = other.credentials, other.config
        other.credentials, other.config = {}, {}
        image.serve(self)
        other.current = None
        generation.become(self, image)
        return gone

    def bump(self, now: float) -> None:
        """Move the change time: never back, never twice the same."""
        self.change_time = max(int(now), self.change_time + 1)

    def room(self, more: int) -> None:
        """Refuse `more` records where there would be too many."""
        self._register.room(more)

    def admit(self, outline: Outline) -> Stored:
        """Give a record its serial number, and the first free form of its name."""
        description = description_of(outline)
        serial = self._register.number()
        names = self.config if description.config else self.credentials
        name = stem = description.stem
        if stem in names or len(stem.encode("utf-8")) > NAME_MAX:
            name = cut_name(stem, f"~{ident(serial)}")
            while name in names:  # some KEY~PRINCIPAL looks like this KEY~ID
                serial = self._register.number()
                name = cut_name(stem, f"~{ident(serial)}")
        kind = Kind(description.config, description.tgt, description.endtime)
        return self.readmit(kind, serial, name)

    def readmit(self, kind: Kind, serial: int, name: str) -> Stored:
        """Give a record the serial number and the name that are known for it."""
        names = self.config if kind.config else self.credentials
        stored = Stored(serial, name, kind.config, kind.tgt, kind.endtime)
        names[name] = stored
        self._register.expect(stored)
        return stored

    def forget(self, stored: Stored) -> None:
        """Free the name of a record that is gone."""
        names = self.config if stored.config else self.credentials
        if names.get(stored.name) is stored:
            del names[stored.name]

    def forget_all(self) -> tuple[Stored, ...]:
        """Free all names: the content is replaced or gone."""
        gone = _all(self.credentials, self.config)
        self.credentials, self.config = {}, {}
        return gone

    def expires(self) -> int:
        """When it is of no more use: the end of its last TGT, else of its last credential.

        Seconds since the epoch; 0 where it has no credential.
        """
        live = self.credentials.values()
        tgts = [s.endtime for s in live if s.tgt]
        return max(tgts or [s.endtime for s in live], default=0)


def _all(credentials: dict[str, Stored], config: dict[str, Stored]) -> tuple[Stored, ...]:
    return (*credentials.values(), *config.values())
