# SPDX-License-Identifier: MIT
"""Facts about one mount that do not change while its daemon runs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Owner:
    """The user a mount belongs to.  `root`: whether uid 0 may use the mount, too."""

    uid: int
    gid: int
    root: bool = False

    def admits(self, uid: int) -> bool:
        """Whether a process with this uid may use the mount."""
        return uid == self.uid or (uid == 0 and self.root)


@dataclass(frozen=True, slots=True)
class MountInfo:
    """One mount and its daemon.

    `ident`: a random name of this daemon.  `journal_path`, `kcm_socket`: "" for none.
    `supervisor_pid`: of the process that replaces the daemon when it dies; 0 for none.
    """

    owner: Owner
    mountpoint: str
    ident: str
    pid: int
    journal_path: str = ""
    kcm_socket: str = ""
    supervisor_pid: int = 0
