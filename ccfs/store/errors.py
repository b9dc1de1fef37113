"""What can go wrong in the store.

Every refusal of a step is a `StoreError`; the layer above translates the class into its own
language (errno values, KCM codes).  No message here holds bytes of a credential.
"""


class StoreError(Exception):
    """A refused step.  Nothing was changed, unless the class says otherwise."""


class NotFoundError(StoreError):
    """There is no such ccache, credential, configuration entry or scratch file."""


class ExistsError(StoreError):
    """The name is taken."""


class GoneError(StoreError):
    """The thing was there and is not any more; look it up again by name."""


class BadNameError(StoreError):
    """A ccache can't have this name."""


class NameTooLongError(StoreError):
    """The encoded name is over 255 bytes."""


class BadContentError(StoreError):
    """These bytes can't become what they were written to be."""


class NotPermittedError(StoreError):
    """The mount's own nodes can't be changed so."""


class CcacheLimitError(StoreError):
    """A ccache would become too large, or there would be too many of them."""


class TotalLimitError(StoreError):
    """All ccaches and scratch files together would become too large, or hold too many records."""


class DamagedError(Exception):
    """The journal can't be used, or can't keep a step; the message holds nothing of its content."""


class NewerError(Exception):
    """The journal is of a version that is not known yet; another ccfs can read it."""


class ForeignError(Exception):
    """The journal is that of another mountpoint, and none of our business."""


class InUseError(Exception):
    """Another process has the journal open."""
