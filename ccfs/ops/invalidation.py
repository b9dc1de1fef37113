# SPDX-License-Identifier: MIT
"""Which inodes the effects of a step make stale in the kernel.  Knows numbers only."""

from collections.abc import Collection

from ccfs.ops.cached_inodes import CachedInodes
from ccfs.ops.inodes import Ref, Slot
from ccfs.store.effects import Effects, Listing

_OF_A_CCACHE = (
    Slot.CCACHE,
    Slot.PRINCIPAL,
    Slot.CREDENTIALS,
    Slot.CONFIG,
    Slot.KDC_OFFSET,
    Slot.INFO,
    Slot.CHANGED,
    Slot.LOCK,
    Slot.IDS,
    Slot.ID_LINK,
)
_OF_A_RECORD = (int(Slot.TEXT), int(Slot.VALUE))


def stale_records(serials: Collection[int], cached: CachedInodes) -> list[int]:
    """Return the cached inodes of removed credentials and entries: mostly there is none."""
    return list(cached.among(serials, _OF_A_RECORD)) if serials else []


def stale(effects: Effects) -> list[Ref]:
    """Return the inodes, those of records excepted, whose attributes have changed."""
    refs = [Ref(number, Slot.BYTES) for number in effects.superseded]
    if effects.destroyed:
        refs += [Ref(serial, slot) for serial in effects.destroyed for slot in _OF_A_CCACHE]
    if effects.listings:
        refs += _stale_listings(effects.listings)
    return refs


def _stale_listings(listings: set[int | Listing]) -> list[Ref]:
    """Return the directories whose entries have changed."""
    refs = [Ref(serial, Slot.CCACHE) for serial in listings if isinstance(serial, int)]
    if Listing.COLLECTION in listings:
        refs.append(Ref(0, Slot.CACHES))
    if Listing.COLLECTION in listings or Listing.DIR in listings:
        refs.append(Ref(0, Slot.DIR))
    return refs
