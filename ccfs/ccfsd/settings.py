# SPDX-License-Identifier: MIT
"""The settings of ccfsd.  Knows numbers and paths; never what is done with them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ccfs.control import paths

KCM_SOCKET = "/var/run/.heim_org.h5l.kcm-socket"
"""Where Kerberos libraries look for a KCM server, unless krb5.conf says otherwise (kcm_socket)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What users may have without a session.  Sessions are not limited: only root opens them.

    The uid of a user and their subordinate uids share the limits of one user.  Uids that have
    neither a login name nor a session get half of `mounts` and `kcm` at most.  `mounts`,
    `mounts_of_one`: mounts of all users and of one; `starts`: new mounts of one user in a minute;
    `kcm`, `kcm_of_one`: waiting KCM clients; `memory`: MiB that must be available for a new mount.
    """

    mounts: int = 1000
    mounts_of_one: int = 16
    starts: int = 30
    kcm: int = 512
    kcm_of_one: int = 32
    memory: int = 128


@dataclass(frozen=True, slots=True)
class Settings:
    """Times are in seconds.

    `grace`: how long a mount stays after its last session.  `idle`: how long a daemon stays that
    has no request, no credential and no session.  `hang`: how long a daemon may take to reply to a
    ping before it is replaced.  `patience`: how long clients wait where no daemon comes up, before
    they get an error.  `mount_anew`: mount anew after a death, also where the kernel allows a
    take-over.  `linger`: the directory of loginctl(1) that names the users whose mounts outlive
    their sessions.  `kcm`: the path of the KCM socket, "" for none.  `allow_root`: uid 0 may use
    the mounts, too.
    """

    root: str = paths.RUNTIME
    kcm: str = KCM_SOCKET
    idle: float = 600.0
    hang: float = 5.0
    grace: float = 0.0
    linger: str = "/var/lib/systemd/linger"
    patience: float = 30.0
    mount_anew: bool = False
    allow_root: bool = False
    debug: bool = False
    limits: Limits = Limits()

    @property
    def period(self) -> float:
        """Seconds between two pings of a daemon that no client asks for."""
        return min(60.0, self.idle / 4)

    @property
    def starting(self) -> int:
        """How many daemons start at a time: more would only take the cores from each other."""
        return max(4, 2 * (os.cpu_count() or 1))
