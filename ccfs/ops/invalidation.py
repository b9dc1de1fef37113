"""Which inodes a step has changed the attributes of.

Knows numbers only: what the kernel holds of them is the server's to know.
"""

from collections.abc import Collection

from ccfs.ops.cached_inodes import CachedInodes
from ccfs.ops.inodes import Ref, Slot
from ccfs.store.effects import Effects, Listing

_GROUP = (
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


_RECORD = (int(Slot.TEXT), int(Slot.VALUE))


def stale_records(serials: Collection[int], held: CachedInodes) -> list[int]:
    """Those of `held` that are records': mostly there is none."""
    return list(held.among(serials, _RECORD)) if serials else []


def stale(effects: Effects) -> list[Ref]:
    """The inodes but for records whose attributes the kernel may hold and are not so any more."""
    refs = [Ref(number, Slot.BYTES) for number in effects.superseded]
    if effects.destroyed:
        refs += [Ref(serial, slot) for serial in effects.destroyed for slot in _GROUP]
    if effects.listings:
        refs += _stale_listings(effects.listings)
    return refs


def _stale_listings(listings: set[int | Listing]) -> list[Ref]:
    """Directories whose entries have changed."""
    refs = [Ref(serial, Slot.CCACHE) for serial in listings if isinstance(serial, int)]
    if Listing.COLLECTION in listings:
        refs.append(Ref(0, Slot.CACHES))
    if Listing.COLLECTION in listings or Listing.DIR in listings:
        refs.append(Ref(0, Slot.DIR))
    return refs
