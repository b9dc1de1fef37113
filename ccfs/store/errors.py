# SPDX-License-Identifier: MIT
"""The refusals of the store, and the failures of its journal.

Every refusal of a step is a `StoreError`; the layer above maps the class to an errno value or a KCM
code.  No message holds bytes of a credential.
"""


class StoreError(Exception):
    """A refused step.  Nothing was changed, unless the class says otherwise."""


class NotFoundError(StoreError):
    """There is no such ccache, credential, configuration entry or scratch file."""


class ExistsError(StoreError):
    """The name is taken."""


class GoneError(StoreError):
    """A number stands for nothing any more; look the name up again (ESTALE)."""


class BadNameError(StoreError):
    """A ccache can't have this name."""


class NameTooLongError(StoreError):
    """The encoded name is over 255 bytes."""


class BadContentError(StoreError):
    """These bytes can't become a ccache, or whatever file they were written to."""


class NotPermittedError(StoreError):
    """The files and directories of the mount can't be changed so."""


class CcacheLimitError(StoreError):
    """A ccache would become too large, or there would be too many of them."""


class TotalLimitError(StoreError):
    """All ccaches and scratch files together would become too large, or hold too many records."""


class DamagedError(Exception):
    """The journal can't be used, or can't keep a step; the message quotes nothing of it."""


class NewerError(Exception):
    """The journal is of a later version of the format; a newer ccfs can read it."""


class ForeignError(Exception):
    """The journal is that of another mountpoint."""


class InUseError(Exception):
    """Another process has the journal open."""
