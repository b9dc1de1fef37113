# SPDX-License-Identifier: MIT
"""Which credentials of a ccache may still be of use.  Time is passed in."""

from __future__ import annotations

from ccfs.store.ccache import Ccache


def count_valid(ccache: Ccache, now: float) -> int:
    """Count the credentials that have not expired; some have no end time.

    An expired one is of no use, renewable or not: a KDC renews only valid tickets (RFC 4120,
    3.3.3).
    """
    return sum(not 0 < stored.endtime <= now for stored in ccache.credentials.values())
