"""What a check of `ccfs doctor` has found.  Knows words only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    `check`: its name, which scripts may rely on; `what` is so, in one line; `hint`: what to do
    about it, empty where nothing is wrong.  `unknown`: the check can't tell; that is no fault.
    """

    check: str
    what: str
    hint: str = ""
    unknown: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.hint
