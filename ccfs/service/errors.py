# SPDX-License-Identifier: MIT
"""Limits of a mount whose excess the event log shows."""

from ccfs.store import errors


class HandleLimitError(Exception):
    """Too many files and directories would be open."""


LIMITS = (errors.CcacheLimitError, errors.TotalLimitError, HandleLimitError)
"""Refusals that users see in the event log: their messages consist of numbers alone."""
