# SPDX-License-Identifier: MIT
"""The machine as one user sees it: environment, krb5.conf, and the paths that checks read.

Knows names and paths; never whether something is wrong with them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from ccfs.cli.doctor import krb5_conf
from ccfs.mounting import mountpoint

KCM_SOCKET = "/var/run/.heim_org.h5l.kcm-socket"
"""The default of libkrb5's setting `kcm_socket`."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine as one user sees it.

    `kcm_socket`: where libkrb5 connects for `KCM:`.  `default_ccache`: the ccache of programs
    without KRB5CCNAME, "" if krb5.conf names none.
    """

    environment: Mapping[str, str]
    uid: int
    fuse_device: str = mountpoint.FUSE_DEVICE
    proc_swaps: str = "/proc/swaps"
    sys_block: str = "/sys/class/block"
    kcm_socket: str = KCM_SOCKET
    default_ccache: str = ""

    @classmethod
    def of(cls, environment: Mapping[str, str], uid: int) -> Machine:
        """Return the machine of a user with this environment; reads krb5.conf."""
        socket = krb5_conf.libdefault("kcm_socket", environment) or KCM_SOCKET
        ccache = krb5_conf.libdefault("default_ccache_name", environment)
        return cls(environment, uid, kcm_socket=socket, default_ccache=ccache)

    @property
    def residual(self) -> str:
        """The ccache that programs use, by KRB5CCNAME or krb5.conf; "" if neither names one."""
        return self.environment.get("KRB5CCNAME") or self.default_ccache

    def find_program(self, name: str) -> str | None:
        """Return the path of a program in the user's PATH; None if there is none."""
        return shutil.which(name, path=self.environment.get("PATH", os.defpath))
