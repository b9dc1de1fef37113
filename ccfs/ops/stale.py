"""Which inodes a step has changed the attributes of.

Knows numbers only: what the kernel holds of them is the server's to know.
"""

from ccfs.ops.refs import Ref, Slot
from ccfs.store.ledger import LISTED, Effects

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


def stale(effects: Effects) -> list[Ref]:
    """The inodes whose attributes the kernel may hold and that are not so any more."""
    refs = [Ref(number, Slot.BYTES) for number in effects.superseded]
    refs += [Ref(s, slot) for s in effects.records for slot in (Slot.TEXT, Slot.VALUE)]
    refs += [Ref(serial, slot) for serial in effects.ccaches for slot in _GROUP]
    refs += [Ref(serial, Slot.CCACHE) for serial in effects.listings if serial > 0]
    refs += [Ref(0, Slot.DIR)] if LISTED in effects.listings else []
    if 0 in effects.listings:
        refs += [Ref(0, Slot.CACHES), Ref(0, Slot.DIR)]
    return refs
