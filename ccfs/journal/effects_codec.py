"""What a step made stale, as bytes: the next daemon tells the kernel once more.

    counts of superseded numbers, ccaches that are gone, listings, changed ccaches, those with news
    behind their file; whether events were logged; these serials; then for each ccache that lost
    records its serial, how many, and theirs      all of eight bytes, in the machine's byte order

Nothing at all where nothing of it is stale.

Knows the effects of a step; never how the log keeps them.
"""

from array import array

from ccfs.store.effects import Effects, Listing

_LISTINGS: dict[int, Listing] = {0: Listing.COLLECTION, -1: Listing.DIR}
"""Numbers that stand for directories of the collection, where others are serials of ccaches."""
_NUMBERS = {listing: number for number, listing in _LISTINGS.items()}


def _number(listing: int | Listing) -> int:
    return _NUMBERS[listing] if isinstance(listing, Listing) else listing


def encode(effects: Effects) -> bytes:
    """The bytes of what `decode` returns."""
    superseded, ccaches, listings = effects.superseded, effects.destroyed, effects.listings
    changed, behind = effects.changed, effects.changed_outside_fuse
    nothing = not (
        changed or superseded or listings or behind or ccaches or effects.removed_records
    )
    if nothing and not effects.logged:
        return b""
    values = [
        len(superseded),
        len(ccaches),
        len(listings),
        len(changed),
        len(behind),
        effects.logged,
        *superseded,
        *ccaches,
        *map(_number, listings),
        *changed,
        *behind,
    ]
    for owner, serials in effects.removed_records.items():
        values += (owner, len(serials), *serials)
    return array("q", values).tobytes()


def decode(data: bytes) -> Effects:
    """What a step made stale; nothing else of its effects.  Raises ValueError, IndexError."""
    if not data:
        return Effects()
    values = array("q", data).tolist()
    counts, logged, at = values[:5], bool(values[5]), 6
    parts = []
    for count in counts:
        parts.append(values[at : at + count])
        at += count
    records = {}
    while at < len(values):
        owner, count = values[at : at + 2]
        records[owner] = values[at + 2 : at + 2 + count]
        at += 2 + count
    superseded, ccaches, listings, changed, behind = parts
    return Effects(
        superseded,
        records,
        ccaches,
        {_LISTINGS.get(number, number) for number in listings},
        set(changed),
        changed_outside_fuse=set(behind),
        logged=logged,
    )
