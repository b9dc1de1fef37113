"""The start of ccfsd, its way round, and its end.

Knows in which order things are made ready; never what they do.  SIGTERM and SIGINT end ccfsd and no
daemon: the next ccfsd goes on with them.  `ccfsd --stop` ends everything.

Exit statuses: 0 ended as told; 1 unforeseen; 2 bad command line; 4 another ccfsd is running here;
7 not root; 8 the runtime directory can't be used; 9 (--stop) there is none that answers.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

from ccfs import control, standard_streams, unforeseen
from ccfs.ccfsd import activation, arguments, logs, privileges
from ccfs.ccfsd.loop import Loop
from ccfs.ccfsd.runtime import Runtime
from ccfs.ccfsd.settings import Settings
from ccfs.errors import DeniedError, Exit, NoAnswerError, UserError

log = logging.getLogger(__name__)

STOP = 30.0
"""Seconds that `--stop` waits."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own); returns the exit status."""
    standard_streams.prepare()
    try:
        given = _parse(argv)
        if os.geteuid() != 0:
            raise DeniedError("only root can run ccfsd", "see 'ccfs mount' for a mount of your own")
        settings = arguments.settings(given)
        if given.stop:
            return _stop(settings)
        logs.begin(debug=settings.debug)
        return _run(settings)
    except UserError as error:
        return _fail(error)
    except standard_streams.OutputError as error:
        standard_streams.give_up()
        return _fail(UserError(f"cannot write the output: {error.reason.lower()}"))
    except Exception as error:
        print(f"ccfsd: error: unforeseen: {unforeseen.describe(error)}", file=sys.stderr)
        return int(Exit.UNEXPECTED)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; after --help and --version SystemExit, with their output written."""
    try:
        return arguments.parse(argv)
    except SystemExit:
        standard_streams.finish()
        raise


def _run(settings: Settings) -> int:
    os.umask(0o022)
    os.chdir("/")
    given = activation.inherited(os.environ, os.getpid())
    runtime = Runtime(os.path.abspath(settings.root))
    runtime.prepare()
    lock = runtime.lock()
    listener = given.get("control") or activation.control(runtime.control)
    kcm = given.get("kcm") or (activation.kcm(settings.kcm) if settings.kcm else None)
    _warm_up()
    _serve(settings, runtime, listener, kcm)
    os.close(lock)
    return Exit.OK


def _warm_up() -> None:
    """Have all that a daemon needs here already, where no fork has to make it anew."""
    from ccfs import daemon

    gc.disable()
    for name in ("adopt", "clients", "host", "kcm", "requests", "spawn"):
        importlib.import_module(f"ccfs.ccfsd.{name}")
    daemon.warm()
    privileges.forget_environment()
    gc.collect()
    gc.freeze()
    gc.enable()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    log.debug("%d descriptors in place of %d", hard, soft)


def _serve(
    settings: Settings, runtime: Runtime, listener: socket.socket, kcm: socket.socket | None
) -> None:
    from ccfs.ccfsd.adopt import adopt
    from ccfs.ccfsd.clients import Clients
    from ccfs.ccfsd.host import Host
    from ccfs.ccfsd.kcm import Handover
    from ccfs.ccfsd.requests import handle
    from ccfs.ccfsd.spawn import open_nursery

    nursery = open_nursery()  # before there is anything that a daemon must not have
    privileges.keep_only(privileges.KEPT_BY_CCFSD)
    loop = Loop()
    host = Host(loop, runtime, settings, nursery)
    loop.stop_at(signal.SIGTERM, signal.SIGINT)
    adopt(host, {})
    clients = Clients(loop, listener, lambda client, request: handle(host, client, request))
    if kcm is not None:
        Handover(host, kcm)

    def settle() -> None:
        host.save()
        clients.flush()

    loop.settle = settle
    log.info("listening at %s as pid %d", runtime.control, os.getpid())
    loop.run()
    host.save()
    log.info("ending, %d daemons go on", len(host.served))


def _stop(settings: Settings) -> int:
    path = Runtime(os.path.abspath(settings.root)).control
    try:
        with control.Client(path, STOP) as client:
            client.ask("stop")
    except (control.UnreachableError, control.RefusedError) as error:
        raise NoAnswerError(f"cannot stop ccfsd: {error}", "see whether one runs") from None
    return Exit.OK


def _fail(error: UserError) -> int:
    print(f"ccfsd: error: {error.reason}", file=sys.stderr)
    if error.hint:
        print(f"ccfsd: hint: {error.hint}", file=sys.stderr)
    return int(error.status)
