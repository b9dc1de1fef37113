# SPDX-License-Identifier: MIT
"""What a step made stale, as bytes: the next daemon notifies the kernel once more.

    numbers of superseded generations, destroyed ccaches, listings, changed ccaches, ccaches changed
    outside FUSE; whether events were logged; these serial numbers in turn; then for each ccache
    that lost records its serial, how many, and theirs

All numbers have eight bytes in the machine's byte order; among listings 0 is the collection, and -1
`dir/` alone.  Without anything stale there are no bytes.

Knows the effects of a step; never how the log keeps them.
"""

from array import array

from ccfs.store.effects import Effects, Listing

_LISTINGS: dict[int, Listing] = {0: Listing.COLLECTION, -1: Listing.DIR}
_NUMBERS = {listing: number for number, listing in _LISTINGS.items()}


def encode(effects: Effects) -> bytes:
    """Encode what `decode` returns."""
    superseded, destroyed, listings = effects.superseded, effects.destroyed, effects.listings
    changed, outside_fuse = effects.changed, effects.changed_outside_fuse
    records = effects.removed_records
    stale = changed or superseded or listings or outside_fuse or destroyed or records
    if not stale and not effects.logged:
        return b""
    values = [
        len(superseded),
        len(destroyed),
        len(listings),
        len(changed),
        len(outside_fuse),
        effects.logged,
        *superseded,
        *destroyed,
        *map(_number, listings),
        *changed,
        *outside_fuse,
    ]
    for ccache, serials in records.items():
        values += (ccache, len(serials), *serials)
    return array("q", values).tobytes()


def decode(data: bytes) -> Effects:
    """Decode what a step made stale, and nothing else of it.  Raises ValueError, IndexError."""
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
        ccache, count = values[at : at + 2]
        records[ccache] = values[at + 2 : at + 2 + count]
        at += 2 + count
    superseded, destroyed, listings, changed, outside_fuse = parts
    return Effects(
        superseded,
        records,
        destroyed,
        {_LISTINGS.get(number, number) for number in listings},
        set(changed),
        changed_outside_fuse=set(outside_fuse),
        logged=logged,
    )


def _number(listing: int | Listing) -> int:
    return _NUMBERS[listing] if isinstance(listing, Listing) else listing
