# SPDX-License-Identifier: MIT
"""The result of one check of `ccfs doctor`.  Knows words; never how they were found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    `check`: the check's name, which scripts may rely on.  `message`: what was found, one line.
    `hint`: what to do about it, empty if nothing is wrong.  `unknown`: the check had no result,
    which is no fault.
    """

    check: str
    message: str
    hint: str = ""
    unknown: bool = False

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        return not self.hint
