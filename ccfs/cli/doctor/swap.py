# SPDX-License-Identifier: MIT
"""Swap areas, and whether memory that is swapped out stays readable on a disk.

Knows /proc/swaps and /sys/class/block; never whose memory it is.
"""

from __future__ import annotations

import os
from contextlib import suppress

from ccfs.cli.doctor.machine import Machine


def unencrypted_areas(machine: Machine) -> list[str]:
    """Return the swap areas that are neither in memory (zram) nor encrypted (dm-crypt)."""
    try:
        with open(machine.proc_swaps, encoding="utf-8", errors="surrogateescape") as file:
            areas = [line.split()[0] for line in file.readlines()[1:] if line.strip()]
    except OSError:
        return []
    return [area for area in areas if not _is_safe(area, machine.sys_block)]


def _is_safe(area: str, sys_block: str) -> bool:
    device = os.path.basename(os.path.realpath(area))
    if device.startswith("zram"):
        return True
    with suppress(OSError), open(f"{sys_block}/{device}/dm/uuid", encoding="ascii") as file:
        return file.read().startswith("CRYPT-")
    return False
