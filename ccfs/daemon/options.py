# SPDX-License-Identifier: MIT
"""What to mount, where, and for whom.  Values; nothing here acts on them."""

from __future__ import annotations

from dataclasses import dataclass, field

from ccfs.kcm.listener import KcmListener
from ccfs.store.values import Limits
from ccfs.takeover.fuse_connection import FuseConnection
from ccfs.takeover.handover import Handover


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What to mount, where, and for whom.

    `mountpoint`: absolute, without symbolic links.  `device`: the descriptor of the FUSE
    connection.  `mount`: the id of its mount in the mount table, 0 for the topmost at the
    mountpoint.  `unmounts`: unmount it at the end.  `lock`: a descriptor of the directory below, on
    which the daemon takes a record lock (ccfs.mounting.mount_lock.sign), -1 for none.
    `allow_root`: uid 0 may use the mount, too.  `allow_other`: so may processes of the owner with
    another file-system uid (setfsuid(2)).
    `journal`: the path of the journal, "" for none.  `journal_made_for`: the mountpoint at which it
    was made, "" for this one: a directory above may have been renamed since.
    `kcm_socket`: the absolute path where KCM clients connect, "" for none.  `kcm_listener`: the
    socket at which the supervisor accepts clients; `kcm_acceptor`: the descriptor on which it sends
    their connections.
    `control`: a listening socket for requests of ccfsd, -1 for none.
    `liveness`: a descriptor that the notifier keeps open, -1 for none.
    `handover`: the handover page; None without take-overs.
    `takes_over`: another daemon has served the connection before.  `supervisor`: its pid, 0 for
    none.
    """

    mountpoint: str
    allow_root: bool = False
    allow_other: bool = False
    journal: str = ""
    journal_made_for: str = ""
    kcm_socket: str = ""
    kcm_listener: KcmListener | None = None
    kcm_acceptor: int = -1
    liveness: int = -1
    device: int = -1
    mount: int = 0
    unmounts: bool = False
    lock: int = -1
    control: int = -1
    debug: bool = False
    handover: Handover | None = None
    supervisor: int = 0
    takes_over: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def connection(self) -> FuseConnection | None:
        """What another daemon needs to take the connection over; None where none can."""
        return FuseConnection(self.device, self.handover.descriptor) if self.handover else None

    @property
    def journal_mountpoint(self) -> str:
        """The mountpoint that the journal is for, as its header has it."""
        return self.journal_made_for or self.mountpoint
