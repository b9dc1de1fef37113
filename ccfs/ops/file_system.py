"""What all nodes share: the store, the owner, the clock, and the handles that are open.

Knows no FUSE session: whoever runs one gives the `Kernel` to talk to.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from ccfs.ops.cached_inodes import CachedInodes
from ccfs.ops.errnos import LIMITS
from ccfs.ops.handle_numbers import HandleNumbers
from ccfs.ops.handles import Handle
from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.invalidation import stale, stale_records
from ccfs.ops.reissued_inodes import ReissuedInodes
from ccfs.ops.removed_names import RemovedNames
from ccfs.ops.set_times import SetTimes
from ccfs.service.caller import COMMAND_UNKNOWN, process_of
from ccfs.store import Client, Stamp, Store
from ccfs.store.effects import Effects
from ccfs.store.errors import DamagedError
from ccfs.takeover.handover import MARK_NAME, MARK_STEP, NOTIFYING, OPENED, Handover, words_of

log = logging.getLogger(__name__)

_BYTES, _CHANGED = Slot.BYTES, Slot.CHANGED
LOOKUP = 0.005
"""Seconds for which the command of a thread is known: no id is given out again so soon."""
MAX_RETRIES = 1024
"""How many tasks are remembered that look a name up again."""
MAX_TEXTS = 4096
"""How many texts of credentials are kept."""
MAX_SIZES = 65_536
"""How many sizes of such texts are kept: a listing wants nothing else of them."""


Note = Callable[[int, int], None]
"""Note a step that is about to be made, by its mark: the name of a log, and a number."""


class Kernel(Protocol):
    """How a server tells the outside that something changed."""

    def invalidate(self, inode: int) -> None:
        """The attributes of an inode are not what they were."""

    def forget_name(self, directory: int, name: bytes) -> None:
        """What a name in a directory leads to may not be what the kernel knows."""

    def kick(self, serial: int) -> None:
        """Wake those who wait at the `changed` FIFO of a ccache; 0: the collection's."""

    def learn(self, serial: int) -> None:
        """Somebody may wait at this FIFO; know the way there before the daemon can die."""

    def expect(self, due: float | None) -> None:
        """There will be something to announce at `due` (seconds), or nothing."""

    def touch(self, ident: str) -> None:
        """Show those who watch the file of a ccache that there is news of it."""

    def knows(self, inode: int) -> bool:
        """Whether the kernel has an inode; what it holds of its attributes is gone then."""

    def note_polls(self, polls: "Iterable[Poll]") -> None:
        """These are all who poll a file."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose mount it is.  `root`: whether uid 0 may use it too."""

    uid: int
    gid: int
    root: bool = False


@dataclass
class Server:
    """One user's file system, apart from the kernel's side of it.

    `helper`: pid of the child that wakes waiters, `keeper`: of who replaces us; 0 for none.
    `asking`: who asks for the present step.  `pending`: files being written that are nothing yet,
    by serial.  `armed`: FIFOs whose inodes the kernel has, so that a client may wait there.
    `known`: how often the kernel was given the number of a generation or a FIFO.  `seen`: when a
    generation's number was last looked up, `retries`: when a task was last answered with ESTALE,
    both counted in look-ups.  `polls`: who polls a growing file, by its handle.  They stay until it
    is released: epoll asks for the state of a file again without naming itself again.  `held`:
    inodes whose attributes the kernel may hold.  `unwanted`: keys of notes that go with the next
    step.  `unkept`: whether the journal lacks a step that it could not keep.

    `handover`: where the request that is being carried out is noted.  `live`: whether another
    daemon has served this connection before, so that there may be anything that we have not given;
    `told_until`: until when tasks may come that it has answered with ESTALE; `again`: whether the
    next request is one that it has carried out, and not answered.
    """

    store: Store
    owner: Owner
    mountpoint: str
    ident: str
    pid: int
    kernel: Kernel
    clock: Callable[[], float] = time.time
    helper: int = 0
    asking: Client = field(default_factory=lambda: Client(0, 0, "ccfs"))
    journal: "Keeping | None" = None
    journal_path: str = ""
    kcm_socket: str = ""
    keeper: int = 0
    handles: dict[int, Handle] = field(default_factory=dict)
    pending: dict[int, Handle] = field(default_factory=dict)
    armed: set[int] = field(default_factory=set)
    known: dict[int, int] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)
    retries: dict[int, int] = field(default_factory=dict)
    polls: dict[int, "Poll"] = field(default_factory=dict)
    texts: dict[int, bytes] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    faces: ReissuedInodes = field(init=False)
    times: SetTimes = field(init=False)
    removed: RemovedNames = field(init=False)
    unwanted: set[bytes] = field(default_factory=set)
    held: CachedInodes = field(default_factory=CachedInodes)
    handover: Handover | None = None
    live: bool = False
    told_until: float = 0.0
    again: bool = False
    requests: dict[str, int] = field(default_factory=dict)
    _tick: int = 0
    _given: int = 0
    _thread: int = 0
    _process: tuple[int, str] = (0, COMMAND_UNKNOWN)
    _looked_up: float = 0.0
    unkept: bool = False

    def __post_init__(self) -> None:
        notes = self.store.notes
        self.faces, self.times = ReissuedInodes(self.note, notes), SetTimes(self.note, notes)
        self.removed = RemovedNames(self.note, notes)
        self._air = words_of(self.handover)
        self._numbers = HandleNumbers(self.handles, self._air, OPENED)

    def stamp(self, uid: int, pid: int) -> Stamp:
        """When and by whom a step is made that a thread `pid` of a process asks for.

        A client makes several requests for one operation: its command is looked up once in LOOKUP.
        """
        now = self.clock()
        if pid != self._thread or not 0 <= now - self._looked_up < LOOKUP:
            self._process = process_of(pid)
            self._thread, self._looked_up = pid, now
        self.asking = Client(uid, *self._process)
        return Stamp(now, self.asking)

    def glance(self, uid: int, pid: int) -> Stamp:
        """The same for a step that changes nothing: its command is not looked up."""
        self.asking = Client(uid, pid, COMMAND_UNKNOWN)
        return Stamp(self.clock(), self.asking)

    def refuse(self, error: Exception) -> None:
        """Have it in the log where a limit has stopped a step; who asks still waits for us."""
        if isinstance(error, LIMITS):
            who = self.asking
            if who.command is COMMAND_UNKNOWN:
                who = Client(who.uid, *process_of(who.pid))
            self.store.log_refusal(Stamp(self.clock(), who), str(error))

    def add(self, handle: Handle, found: Ref, *, writes: bool = False, append: bool = False) -> int:
        """Keep a handle of an inode until it is released; returns its number."""
        number = self._numbers.give(
            handle.instead or found,
            writes=writes,
            append=append,
            elsewhere=handle.instead is not None,
        )
        self.handles[number] = handle
        handle.known_as(number)
        return number

    def retries_again(self, number: int, pid: int) -> bool:
        """Whether a task comes with what was found after its ESTALE, so that it can't get another.

        The kernel looks a name up again after ESTALE, but only once; under many changes what it
        got then may be superseded again.  Another task's look-up of the name serves it as well.
        False: it is to be answered with ESTALE now.  Which tasks another daemon has answered so is
        not noted: for a while any may be one of them.
        """
        told = self.retries.pop(pid, None)
        again = told is not None and self.seen.get(number, 0) > told
        again = again or self.clock() < self.told_until
        if not again:
            if len(self.retries) >= MAX_RETRIES:
                self.retries.clear()
            self.retries[pid] = self._tick
        return again

    def show(self, found: Ref, pid: int) -> None:
        """The kernel gets an inode by its name, for a process that may wait there then.

        The helper never waits, and nobody does at what a listing has shown.
        """
        slot = found.slot
        if slot is not _BYTES and slot is not _CHANGED:
            return
        self.known[found.serial] = self.known.get(found.serial, 0) + 1
        if slot is _BYTES:
            self._tick += 1
            self.seen[found.serial] = self._tick
        elif pid != self.helper and found.serial not in self.armed:
            self.armed.add(found.serial)
            self.kernel.learn(found.serial)

    def give(self, inode: int) -> None:
        """The kernel gets attributes of an inode, and may hold them until it is told."""
        self.held.add(inode)
        self._given = inode

    def forget(self, known: Ref, count: int) -> None:
        """The kernel has let go of an inode `count` times: after as many look-ups it is gone.

        A look-up may have been answered while the kernel was letting go of an earlier one.
        """
        if known.slot is not _BYTES and known.slot is not _CHANGED:
            return
        left = self.known.pop(known.serial, 0) - count
        if left > 0:
            self.known[known.serial] = left
        elif known.slot is _BYTES:
            self.seen.pop(known.serial, None)
            self.store.generations.forget(known.serial)
        else:
            self.armed.discard(known.serial)

    def revive(self, directory: Ref) -> None:
        """Show a directory anew that the kernel takes for removed."""
        self.faces.renew(directory, self.store.new_serial())

    def remember_text(self, serial: int, text: bytes) -> None:
        """Keep the text of a credential, which never changes, for the next who asks."""
        if len(self.texts) >= MAX_TEXTS:
            del self.texts[next(iter(self.texts))]
        if len(self.sizes) >= MAX_SIZES:
            self.sizes.clear()
        self.texts[serial] = text
        self.sizes[serial] = len(text)

    def note(self, key: bytes, value: bytes) -> None:
        """Note something down that the next daemon has to know, with the step that is being made.

        That something is wanted no more (b"") is kept with the next step: it is worth none itself.
        """
        if value:
            self.unwanted.discard(key)
            self.store.set_note(key, value)
        elif key in self.store.notes:
            self.unwanted.add(key)

    def made_before(self, handover: Handover) -> bool:
        """Whether the daemon before has carried out the request that it has not answered."""
        step = handover.words[MARK_STEP]
        return bool(step) and self.has_made(handover.words[MARK_NAME], step - 1)

    def has_made(self, name: int, step: int) -> bool:
        """Whether the step that was the next one at a mark was made."""
        return self.journal is not None and self.journal.has_made((name, step))

    def expect_again(self) -> None:
        """The next request is one that was carried out, and not answered."""
        self.again = True

    @property
    def unsettled(self) -> bool:
        """Whether anything has changed since the last `settle`."""
        return bool(self.store.effects)

    def settle(self, *, note: Note | None = None) -> None:
        """Keep what the last steps have changed, then tell the kernel and who waits.

        `note` is told the mark of the step before it is made: the client may have to ask the next
        daemon.  Raises DamagedError where the journal can't keep it: its client may not
        hear that it is done.
        """
        effects = self.store.take_effects()
        if effects is None:
            if self.unkept:
                self._keep(Effects())
            return
        try:
            self._keep(effects, note)
        except DamagedError:
            self._show_anew(effects)
            raise
        finally:
            self.tell(effects)
            self._air[NOTIFYING] = 0

    def _show_anew(self, effects: Effects) -> None:
        """The step was made, and its client hears that it wasn't: the kernel is to look again.

        What it has cached of the bytes is true of a number that none of its names leads to then.
        """
        for serial in effects.changed:
            ccache = self.store.collection.by_serial(serial)
            if ccache is not None:
                self.store.generations.renew(ccache, self.clock())
        more = self.store.take_effects()
        if more is not None:
            effects.superseded += more.superseded

    def tend(self) -> None:
        """Periodic maintenance: have in the journal what it had no room for."""
        try:
            self.settle()
        except DamagedError as error:
            log.warning("the journal cannot keep what has changed: %s", error)

    def note_asked(self, name: int, step: int) -> None:
        """Note the step of a request of the kernel's."""
        air = self._air
        air[MARK_STEP] = 0
        air[MARK_NAME] = name
        air[MARK_STEP] = step + 1

    def _keep(self, effects: Effects, note: Note | None = None) -> None:
        """Have a step in the journal before anybody is told of it, and what was not kept before."""
        if self.journal is None or not (effects.durable or self.unkept):
            return
        for key in self.unwanted:
            if self.store.notes.pop(key, b""):
                effects.notes[key] = b""
        self.unwanted.clear()
        self.unkept = True
        self._air[NOTIFYING] = 1
        if note:
            note(*self.journal.mark)
        self.journal.commit(self.store, effects)
        self.unkept = False

    def tell(self, effects: Effects) -> None:
        """Tell the kernel and who waits what steps have changed."""
        if effects.removed_records:
            self._forget_records(effects.removed_serials)
        for one in stale(effects):
            self._invalidate(self.faces.shown(one).inode)
        if effects.destroyed:
            self.faces.forget(effects.destroyed)
        if self.armed and effects.changed:
            self._kick({0, *effects.changed})
        if effects.changed:
            self.kernel.expect(self.store.next_deadline())
        for serial in effects.changed_outside_fuse:
            ccache = self.store.collection.by_serial(serial)
            if ccache is not None and ccache.current:
                self.kernel.touch(ccache.ident)
        if effects.logged:
            for poll in self.polls.values():
                poll.notify()

    def _forget_records(self, serials: list[int]) -> None:
        """Drop the cached texts of removed credentials, and have the kernel drop what it holds."""
        if self.sizes or self.texts:
            for serial in serials:
                self.texts.pop(serial, None)
                self.sizes.pop(serial, None)
        for inode in stale_records(serials, self.held):
            self._invalidate(inode)

    def _invalidate(self, inode: int) -> None:
        """Have the kernel drop what it holds, but for what the answer to this step brings it."""
        if inode in self.held:
            self.kernel.invalidate(inode)
            if inode != self._given:
                self.held.discard(inode)

    def _kick(self, serials: set[int]) -> None:
        for serial in serials & self.armed:
            self.kernel.kick(serial)


class Keeping(Protocol):
    """What has every step before anybody is told of it (`ccfs.journal`)."""

    @property
    def mark(self) -> tuple[int, int]:
        """What tells the next step from all others."""

    @property
    def last(self) -> Effects:
        """What the last step has changed that was read back."""

    def has_made(self, mark: tuple[int, int]) -> bool:
        """Whether the step that was the next one at a mark was made."""

    def commit(self, store: Store, effects: Effects) -> None:
        """Have one step kept, and all that was not kept before.  DamagedError where it can't be."""


class Poll(Protocol):
    """Somebody who polls and wants to hear of it."""

    def notify(self) -> None:
        """Wake them."""
