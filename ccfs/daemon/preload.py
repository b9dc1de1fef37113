# SPDX-License-Identifier: MIT
"""Import everything that a daemon needs, in the process that daemons are forked from.

Knows modules by name; never what is in them.
"""

from __future__ import annotations

import importlib

_MODULES = (
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
"""What `ccfs.daemon`, and the layers below it, import only when they need it."""


def import_all() -> None:
    """Import it all."""
    for name in _MODULES:
        importlib.import_module(name)


def warm_up() -> None:
    """Import it all and run what each daemon begins with, for forks to share the result."""
    import_all()
    importlib.import_module("ccfs.daemon.warmup").run()
