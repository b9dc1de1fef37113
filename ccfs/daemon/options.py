"""What to mount, where, and for whom.  Knows words; never how any of it is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ccfs.store.values import Limits
from ccfs.takeover.fuse_connection import FuseConnection

if TYPE_CHECKING:
    from ccfs.kcm.listener import KcmListener
    from ccfs.takeover.handover import Handover


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What to mount, where, and for whom.

    `mountpoint`: absolute, without symbolic links.  `allow_root`: uid 0 may use the mount, too;
    `allow_other`: processes of the owner that run on other terms (setfsuid) may.  `journal`: the
    path of the journal, "" for none.  `kcm_socket`: where KCM clients connect, absolute, "" for
    nowhere; `kcm_kept`: it is there already, and the supervisor keeps it; `kcm_keeper`: the
    descriptor by which connections are given.  `held`: a descriptor that the helper keeps open, -1
    for none.
    `device`: the descriptor of the FUSE connection; `mount`: the id of its mount in the mount
    table, 0 for the topmost at the mountpoint.  `unmounts`: take it away at the end.  `lock`: a
    descriptor of the directory below, to be signed (ccfs.mounting.mount_lock), -1 for none.
    `journal_of`: the mountpoint that the journal was made for, "" for this one, which it was before
    a directory above was renamed.  `control`: a listening socket at which ccfsd has things to ask;
    -1 for none.
    `handover`: what the daemon before has left, or the next one is to have; None: there is none.
    `keeper`: the pid of the supervisor, 0 where there is none.  `live`: whether the
    connection was served by another daemon before.
    """

    mountpoint: str
    allow_root: bool = False
    allow_other: bool = False
    journal: str = ""
    kcm_socket: str = ""
    kcm_kept: KcmListener | None = None
    kcm_keeper: int = -1
    held: int = -1
    device: int = -1
    mount: int = 0
    unmounts: bool = False
    lock: int = -1
    journal_of: str = ""
    control: int = -1
    debug: bool = False
    handover: Handover | None = None
    keeper: int = 0
    live: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def link(self) -> FuseConnection | None:
        """What another daemon needs to take the connection over."""
        return FuseConnection(self.device, self.handover.descriptor) if self.handover else None

    @property
    def journal_mountpoint(self) -> str:
        """The mountpoint that the journal says it is of."""
        return self.journal_of or self.mountpoint
