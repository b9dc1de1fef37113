# SPDX-License-Identifier: MIT
"""What a supervisor runs: the daemons of one mount, and what each of them is given.

Values and functions of the caller; nothing here starts anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ccfs.mounting.mounter import FuseMount
from ccfs.supervisor.reimport import State
from ccfs.takeover.handover import Handover


@dataclass(frozen=True, slots=True)
class DaemonSetup:
    """What one daemon is given.

    `liveness`: the writing end of a pipe to keep open as long as the daemon, or its notifier, runs;
    -1 for none.  `mount`: what it serves, at `mountpoint`.  `lock`: a descriptor of the directory
    below (ccfs.mounting.mount_lock).  `handover`: what the last daemon has left; None where the
    next one will be left nothing.  `takes_over`: another daemon has served this connection before.
    `supervisor`: its pid, 0 for none.  `acceptor`: descriptors of
    `Acceptor.descriptors_for_daemon`. `startup`: descriptors for the first daemon alone.
    """

    liveness: int
    mount: FuseMount
    mountpoint: str
    lock: int
    handover: Handover | None = None
    takes_over: bool = False
    supervisor: int = 0
    acceptor: Sequence[int] = ()
    startup: Sequence[int] = ()

    def to_order(self) -> tuple[dict[str, object], list[int]]:
        """Return what the fork server is sent: values, and the descriptors that go along."""
        assert self.handover is not None
        values: dict[str, object] = {
            "mount": self.mount.id,
            "connection": self.mount.connection,
            "path": self.mountpoint,
            "takes_over": self.takes_over,
            "supervisor": self.supervisor,
            "acceptor": len(self.acceptor),
        }
        passed = [self.liveness, self.mount.device, self.lock, self.handover.descriptor]
        return values, [*passed, *self.acceptor, *self.startup]

    @classmethod
    def from_order(cls, values: Mapping[str, object], passed: Sequence[int]) -> DaemonSetup:
        """Undo `to_order`, with the descriptors that this process has received."""
        liveness, device, lock, handover, *others = passed
        number = {key: int(str(values[key])) for key in ("mount", "connection", "supervisor")}
        count = int(str(values["acceptor"]))
        return cls(
            liveness,
            FuseMount(device, number["mount"], number["connection"]),
            str(values["path"]),
            lock,
            Handover(handover),
            bool(values["takes_over"]),
            number["supervisor"],
            others[:count],
            others[count:],
        )


class Acceptor(Protocol):
    """Accepts clients for as long as there are daemons, and gives each daemon their connections."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is anything to do."""

    def handle_events(self) -> None:
        """Do it, without waiting."""

    def descriptors_for_daemon(self) -> list[int]:
        """Return two: one that stays open here, and one to close once the daemon has it."""


Serve = Callable[[Callable[[], None], DaemonSetup], int]
"""Serve a mount: called with `ready()`; returns the exit status."""


@dataclass(frozen=True, slots=True)
class DaemonSpec:
    """How to run the daemons of one mount.

    `serve` is called in a process of its own; it returns 0 when the end was wanted.
    `is_compatible`: whether this code can serve what another version has left.
    `preload` is called in the fork server, `set_up` before there is a daemon, `tear_down` when
    there will be no other.  `open_acceptor` is called after `set_up`.
    `mount_anew`: replace the mount after a death, even where the kernel could resend requests.
    `state`: plain values, of which the next version of the code makes the same spec, by the
    function `spec_of` of the module that they name as `module`.
    """

    serve: Serve
    is_compatible: Callable[[], bool] = lambda: True
    preload: Callable[[], None] = lambda: None
    set_up: Callable[[], None] = lambda: None
    tear_down: Callable[[], None] = lambda: None
    open_acceptor: Callable[[], Acceptor | None] = lambda: None
    mount_anew: bool = False
    state: Callable[[], State] = dict
