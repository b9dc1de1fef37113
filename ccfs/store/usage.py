# SPDX-License-Identifier: MIT
"""How many bytes and records the store has in memory, against the limits of the mount.

Knows sizes and numbers; never what the bytes are.
"""

from ccfs.store.errors import CcacheLimitError, TotalLimitError
from ccfs.store.generation import Generation
from ccfs.store.values import Limits


class Usage:
    """Counts bytes and records.

    `used_bytes`: of all ccaches, scratch files and incomplete records.  `records`: in all ccaches,
    placeholders of removed ones included.
    """

    __slots__ = ("limits", "records", "used_bytes")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.used_bytes = 0
        self.records = 0

    def recount(self, generation: Generation) -> None:
        """Count a generation anew whose bytes or records have changed."""
        size, records = len(generation.data), generation.record_count
        self.used_bytes += size - generation.counted_bytes
        self.records += records - generation.counted_records
        generation.counted_bytes, generation.counted_records = size, records

    def check(self, size: int, more: int, records: int = 0) -> None:
        """Refuse `more` bytes for what has `size` bytes, or that many more records.

        Raises CcacheLimitError, TotalLimitError.
        """
        self.check_records(records)
        if more > 0 and size + more > self.limits.ccache_bytes:
            raise CcacheLimitError(f"over {self.limits.ccache_bytes} bytes in one ccache")
        if more > 0 and self.used_bytes + more > self.limits.total_bytes:
            raise TotalLimitError(f"over {self.limits.total_bytes} bytes in all")

    def check_records(self, more: int) -> None:
        """Raise TotalLimitError where `more` records are too many; placeholders count too."""
        if more > 0 and self.records + more > self.limits.credentials:
            raise TotalLimitError(f"over {self.limits.credentials} credentials in all")
