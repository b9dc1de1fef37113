"""Everything a daemon imports, for a process that forks daemons.

Knows modules by name; never what is in them.
"""

from __future__ import annotations

import importlib

_LATE = (
    "json",
    "encodings.ascii",
    "pyfuse3",
    "trio",
    "ccfs.daemon.login_import",
    "ccfs.daemon.kcm_endpoint",
    "ccfs.daemon.control_endpoint",
    "ccfs.daemon.kernel_notifier",
    "ccfs.daemon.fuse_loop",
    "ccfs.linux.hardening",
    "ccfs.kcm.server",
    "ccfs.kcm.service",
    "ccfs.ops.operations",
    "ccfs.journal.journal",
    "ccfs.store.restore",
    "trio._core._io_epoll",
)
"""What is imported only when it is needed, by `ccfs.daemon` and what stands below it."""


def load() -> None:
    """Import it all."""
    for name in _LATE:
        importlib.import_module(name)


def warm() -> None:
    """Import it all and run what each daemon begins with, so that a fork has it from the start."""
    load()
    importlib.import_module("ccfs.daemon.warmup").rehearse()
