"""Make a store anew from what was saved: the same ids, numbers, names, places and bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ccfs.format.errors import FormatError
from ccfs.format.outline import outline_credential
from ccfs.store.ccache import Ccache
from ccfs.store.collection import Restored
from ccfs.store.errors import BadContentError
from ccfs.store.image import Image, Span
from ccfs.store.record_names import kind_of
from ccfs.store.scratch import KEPT, Link
from ccfs.store.snapshot import LEFT, of_left

if TYPE_CHECKING:
    from ccfs.store.generation import Generation
    from ccfs.store.snapshot import Saved, SavedCcache
    from ccfs.store.store import Store


def restore(saved: Saved, store: Store, now: float) -> Restored:
    """Fill an empty store; returns its collection, which the caller makes.

    BadContentError where the bytes are no ccache.
    """
    ledger, whole = store.ledger, saved.whole
    ledger.change_time = whole.change_time
    ledger.register.last = max(ledger.register.last, whole.last)
    if saved.events:
        ledger.events.restore(saved.events)
    ledger.notes.update(saved.notes)
    store.open_files.restore(dict(saved.tails))
    _restore_scratch(saved, store, now)
    ccaches = [_restore_ccache(one, store) for one in saved.ccaches]
    _restore_left(saved, store, {ccache.serial: ccache for ccache in ccaches}, now)
    ledger.register.skip(whole.announced)
    chosen = whole.chosen
    if chosen is None:  # what older journals say of it
        chosen = bool(ccaches) and ccaches[0].rank < 0
    return Restored(ccaches, whole.mtime or now, whole.unique, chosen)


def _restore_scratch(saved: Saved, store: Store, now: float) -> None:
    for file in saved.files:
        if file.place == LEFT:
            continue
        generation = _generation(store, file.number, file.mtime)
        generation.data.extend(file.data)
        generation.used = KEPT if file.kept else now
        store.scratch.add(file.place, file.name, generation)
        store.ledger.recount(generation)
    for link in saved.links:
        store.scratch.links[link.name] = Link(link.number, link.target, link.made)


def _restore_left(saved: Saved, store: Store, ccaches: dict[int, Ccache], now: float) -> None:
    for file in saved.files:
        if file.place == LEFT:
            serial, lineage = of_left(file.name)
            ccache = ccaches.get(serial)
            if ccache is not None or not serial:
                store.generations.restore_left(file.number, file.data, ccache, lineage, now)


def _restore_ccache(saved: SavedCcache, store: Store) -> Ccache:
    ledger = store.ledger
    ccache = Ccache(saved.name, saved.mtime, ledger.register)
    ccache.serial, ccache.rank = saved.serial, saved.rank
    ccache.lineage, ccache.nominal = saved.lineage, saved.nominal
    ccache.change_time, ccache.last_default_time = saved.change_time, saved.last_default_time
    if not saved.number or (saved.number < 0 and not saved.data):
        return ccache
    image = Image(ledger.limits.ccache_bytes, ccache, bytearray())
    if saved.data:
        _restore_image(image, ccache, saved)
    changed = saved.mtime if saved.data_mtime is None else saved.data_mtime
    generation = _generation(store, saved.number, changed)
    generation.become(ccache, image)
    ledger.recount(generation)
    for number, lineage in saved.older:
        store.generations.restore_older(ccache, number, lineage)
    return ccache


def _restore_image(image: Image, ccache: Ccache, saved: SavedCcache) -> None:
    image.restore(saved.data)
    try:
        image.fill(_spans(image, ccache, saved))
    except FormatError as error:
        raise BadContentError(str(error)) from None


def _spans(image: Image, ccache: Ccache, saved: SavedCcache) -> Iterator[Span]:
    at, data, dialect = image.body, image.data, image.dialect
    for serial, name, size in saved.records:
        stored = None
        if serial:
            stored = ccache.readmit(kind_of(outline_credential(data, at, dialect)), serial, name)
        yield Span(at, at + size, stored)
        at += size


def _generation(store: Store, number: int, mtime: float) -> Generation:
    """The generation of a number; -1: of a new one."""
    contents = store.generations
    return contents.plain(mtime) if number < 0 else contents.restored(number, mtime)
