"""What can be wrong with a journal.  No message here holds anything of its content."""

from ccfs.store.errors import DamagedError, ForeignError, InUseError

__all__ = ["DamagedError", "ForeignError", "InUseError"]
