"""What a mount needs of whoever has them all, and who waits for one.

Knows words between parts of ccfsd; never what any of them does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ccfs.ccfsd.loop import Loop, Timer
from ccfs.ccfsd.runtime_dir import Runtime
from ccfs.ccfsd.settings import Settings
from ccfs.takeover.fork_server import ForkServer

if TYPE_CHECKING:
    from ccfs.ccfsd.mount import Served


@dataclass(eq=False, slots=True)
class Want:
    """Somebody who waits for a mount that answers: one of the two is called, once."""

    ready: Callable[[], None]
    failed: Callable[[str], None]
    limit: Timer | None = None


class Surroundings(Protocol):
    """Where a mount is served."""

    loop: Loop
    runtime: Runtime
    settings: Settings
    nursery: ForkServer

    @property
    def period(self) -> float:
        """Seconds between two pings of a daemon."""

    def check(self, served: Served) -> None:
        """Called once a period: see whether anything still keeps the mount."""

    def queue(self, served: Served) -> None:
        """It wants to start: call `start` when there is room for it."""

    def started(self, served: Served) -> None:
        """It has started, or will not."""

    def changed(self, served: Served) -> None:
        """Its daemon is another one, or none."""

    def succeeded(self, served: Served) -> None:
        """Its daemon has taken over from another, and answers."""

    def lost(self, served: Served) -> None:
        """Its daemon has died, and none takes over from that."""

    def gone(self, served: Served) -> None:
        """Nothing is left of it."""

    def is_used(self, served: Served) -> bool:
        """Whether a session, or somebody on the way to one, keeps it."""
