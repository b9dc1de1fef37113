# SPDX-License-Identifier: MIT
"""What the supervisor of `ccfs mount` runs: how a daemon is started, with which options.

Knows the command line and what supervisor and daemon take; never how either works.  trio and
pyfuse3 are imported in the functions that run after the fork.
"""

from __future__ import annotations

import dataclasses
import os
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from ccfs.cli import daemonize
from ccfs.cli.arguments import parse

if TYPE_CHECKING:
    from ccfs.daemon import MountOptions
    from ccfs.kcm.listener import KcmListener
    from ccfs.supervisor.daemon_spec import DaemonSetup, DaemonSpec
    from ccfs.supervisor.kcm_acceptor import KcmAcceptor
    from ccfs.supervisor.reimport import State

_LIMITS = {
    "ccaches": "max_ccaches",
    "ccache_bytes": "max_ccache_size",
    "total_bytes": "max_total_size",
    "credentials": "max_credentials",
    "events": "max_events",
    "handles": "max_open",
}
"""Options of the command line by fields of `ccfs.store.Limits`."""


def spec_of(state: State) -> DaemonSpec:
    """Return the spec that plain values describe: `arguments`, `path` and `journal`.

    `kcm` after a restart in place: the KCM socket and its connections.
    """
    from ccfs.cli import logs
    from ccfs.supervisor.daemon_spec import DaemonSpec

    path, journal = state["path"], state["journal"]
    # Defaults first: the state may come from a version that lacks an option.
    arguments = Namespace(**{**vars(parse(["mount"])), **state["arguments"]})
    kcm = _KcmSocket(arguments.kcm_socket, state.get("kcm", {}))

    def set_up() -> None:
        logs.to_syslog(arguments.debug)
        kcm.open()

    def serve_daemon(ready: Callable[[], None], setup: DaemonSetup) -> int:
        logs.to_syslog(arguments.debug)
        return serve(arguments, path, journal, ready, setup, kcm.inherited(setup))

    def plain_state() -> State:
        return {**state, "module": __name__, "kcm": kcm.plain_state()}

    return DaemonSpec(
        daemonize.reporting(serve_daemon),
        is_compatible=lambda: can_read_journal(journal),
        preload=preload,
        set_up=set_up,
        tear_down=kcm.remove,
        open_acceptor=kcm.acceptor,
        mount_anew=arguments.mount_anew,
        state=plain_state,
    )


def can_read_journal(journal: str) -> bool:
    """True if this code can read the journal at a path, which another version wrote."""
    from ccfs.journal.log import VERSION, version_of

    return not journal or version_of(journal) <= VERSION


def preload() -> None:
    """Import all modules of a daemon, and close what that opened: for the fork server."""
    from ccfs.cli import logs
    from ccfs.daemon.preload import import_all

    os.dup2(0, 2)
    import_all()
    logs.close_syslog()


def serve(
    arguments: Namespace,
    path: str,
    journal: str,
    ready: Callable[[], None],
    setup: DaemonSetup,
    kcm: KcmListener | None = None,
) -> int:
    """Serve a mount in this process; `path` is the mountpoint that its journal names."""
    from ccfs import daemon

    options = daemon_options(arguments, journal, setup, kcm)
    return daemon.serve(dataclasses.replace(options, journal_made_for=path, unmounts=True), ready)


def daemon_options(
    arguments: Namespace, journal: str, setup: DaemonSetup, kcm: KcmListener | None = None
) -> MountOptions:
    """Convert the command line, as `arguments.parse` returns it, to the daemon's options.

    `kcm`: the socket for KCM clients, if the supervisor accepts their connections.
    """
    from ccfs.daemon import MountOptions
    from ccfs.store import Limits

    limits = {limit: getattr(arguments, option) for limit, option in _LIMITS.items()}
    return MountOptions(
        mountpoint=setup.mountpoint,
        allow_root=arguments.allow_root,
        allow_other=arguments.allow_other,
        debug=arguments.debug,
        handover=setup.handover,
        supervisor=setup.supervisor,
        takes_over=setup.takes_over,
        journal=journal,
        kcm_socket=arguments.kcm_socket or "",
        kcm_listener=kcm,
        kcm_acceptor=setup.acceptor[1] if kcm else -1,
        liveness=setup.liveness,
        device=setup.mount.device,
        mount=setup.mount.id,
        lock=setup.lock,
        limits=Limits(**{limit: value for limit, value in limits.items() if value is not None}),
    )


class _KcmSocket:
    """The KCM socket of a mount in its supervisor, from `open` to `remove`."""

    def __init__(self, path: str | None, state: State) -> None:
        """`path`: None for no KCM.  `state`: the `plain_state` before a restart, or empty."""
        self._path = path
        self._socket = self._adopt(state) if state else None
        self._connections = state["connections"] if state else []
        self._acceptor: KcmAcceptor | None = None

    def plain_state(self) -> State:
        """Return the socket and its connections as descriptors, for the code after a restart."""
        return self._acceptor.to_state() if self._acceptor else {}

    def open(self) -> None:
        """Listen, before the first daemon starts; KcmSocketError."""
        if self._path:
            from ccfs.kcm.listener import KcmListener

            self._socket = KcmListener(self._path)

    def acceptor(self) -> KcmAcceptor | None:
        """Return what accepts connections in the supervisor, and passes them to daemons."""
        from ccfs.supervisor.kcm_acceptor import KcmAcceptor

        if self._socket:
            self._acceptor = KcmAcceptor(self._socket, self._connections)
        return self._acceptor

    def _adopt(self, state: State) -> KcmListener:
        from ccfs.kcm.listener import KcmListener

        assert self._path
        file = state["file"]
        return KcmListener.adopted(self._path, state["listener"], tuple(file) if file else None)

    def inherited(self, setup: DaemonSetup) -> KcmListener | None:
        """Return the socket in a daemon."""
        return self._socket.inherited(setup.acceptor[0]) if self._socket else None

    def remove(self) -> None:
        """Remove the socket, when no daemon will follow."""
        if self._socket:
            self._socket.remove()
