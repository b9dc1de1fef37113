"""The start of ccfsd, its way round, and its end.

Knows in which order things are made ready; never what they do.  SIGTERM and SIGINT end ccfsd and no
daemon: the next ccfsd goes on with them.  `ccfsd --stop` ends everything, `ccfsd --restart` has it
all be of the version that is installed now.

Exit statuses: 0 ended as told; 1 unforeseen; 2 bad command line; 4 another ccfsd is running here;
7 not root; 8 the runtime directory can't be used; 9 (--stop, --restart) there is none that answers;
17 (--restart) not restarted, or not all of it.
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

from ccfs.ccfsd import activation, arguments, logs, passed_descriptors
from ccfs.ccfsd.loop import Loop
from ccfs.ccfsd.passed_descriptors import Passed, Program
from ccfs.ccfsd.runtime_dir import Runtime
from ccfs.ccfsd.settings import Settings
from ccfs.control import messages
from ccfs.control.client import Client, UnreachableError
from ccfs.errors import DeniedError, Exit, NoAnswerError, UserError, redaction
from ccfs.linux import capabilities, inherited_state, standard_streams

log = logging.getLogger(__name__)

STOP = 30.0
"""Seconds that `--stop` waits."""
RESTART = 60.0
"""Seconds that `--restart` waits."""


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
        if given.restart:
            return _restart(settings)
        if given.check:
            _warm_up()
            return Exit.OK
        logs.begin(debug=settings.debug)
        return _run(settings)
    except UserError as error:
        return _fail(error)
    except standard_streams.OutputError as error:
        standard_streams.discard()
        return _fail(UserError(f"cannot write the output: {error.reason.lower()}"))
    except Exception as error:
        print(f"ccfsd: error: unforeseen: {redaction.describe(error)}", file=sys.stderr)
        return int(Exit.UNEXPECTED)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; after --help and --version SystemExit, with their output written."""
    try:
        return arguments.parse(argv)
    except SystemExit:
        standard_streams.flush()
        raise


def _run(settings: Settings) -> int:
    program = Program.present()
    os.umask(0o022)
    os.chdir("/")
    given = activation.inherited(os.environ, os.getpid())
    passed = passed_descriptors.take(os.environ, os.getpid())
    given |= {k: socket.socket(fileno=passed[k][0]) for k in ("control", "kcm") if k in passed}
    runtime = Runtime(os.path.abspath(settings.root))
    runtime.prepare()
    lock = passed["lock"][0] if "lock" in passed else runtime.lock()
    listener = given.get("control") or activation.control(runtime.control)
    kcm = given.get("kcm") or (activation.kcm(settings.kcm) if settings.kcm else None)
    _warm_up()
    sockets = {"control": listener, **({"kcm": kcm} if kcm else {})}
    _serve(settings, runtime, lock, sockets, program, passed)
    os.close(lock)
    return Exit.OK


def _warm_up() -> None:
    """Have all that a daemon needs here already, where no fork has to make it anew."""
    from ccfs import daemon

    gc.disable()
    for name in ("adopt", "clients", "mounts", "kcm_handover", "requests", "restart", "spawner"):
        importlib.import_module(f"ccfs.ccfsd.{name}")
    daemon.warm_up()
    inherited_state.clear_environment()
    gc.collect()
    gc.freeze()
    gc.enable()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    log.debug("%d descriptors in place of %d", hard, soft)


def _serve(
    settings: Settings,
    runtime: Runtime,
    lock: int,
    sockets: dict[str, socket.socket],
    program: Program,
    passed: Passed,
) -> None:
    from ccfs.ccfsd.adopt import adopt
    from ccfs.ccfsd.clients import Clients
    from ccfs.ccfsd.kcm_handover import Handover
    from ccfs.ccfsd.mounts import Host
    from ccfs.ccfsd.requests import handle
    from ccfs.ccfsd.restart import Restart
    from ccfs.ccfsd.spawner import open_nursery
    from ccfs.takeover.fuse_connection import FuseConnection

    nursery = open_nursery()  # before there is anything that a daemon must not have
    capabilities.drop_all_but(capabilities.KEPT_BY_CCFSD)
    loop = Loop()
    host = Host(loop, runtime, settings, nursery)
    loop.stop_at(signal.SIGTERM, signal.SIGINT)
    adopt(
        host,
        {
            name: FuseConnection(*pair)
            for name, pair in passed_descriptors.named(passed, "link").items()
        },
    )
    clients = Clients(loop, sockets["control"], lambda who, request: handle(host, who, request))
    for number in passed.get("client", ()):
        clients.welcome(socket.socket(fileno=number))
    if "kcm" in sockets:
        host.kcm = Handover(host, sockets["kcm"], passed_descriptors.named(passed, "kcm-client"))
    listening = {name: [one.fileno()] for name, one in sockets.items()}
    host.passes.append(lambda: {"lock": [lock], **listening})
    restart = Restart(host, clients, program, [one.fileno() for one in sockets.values()])
    host.restart = restart.ask
    if "restart" in passed:
        asked = [clients.welcome(socket.socket(fileno=n), busy=True) for n in passed["restart"]]
        restart.renew(asked[0] if asked else None)

    def settle() -> None:
        host.save()
        clients.flush()
        restart.settle()

    loop.settle = settle
    loop.after(0, lambda: None)  # a first round: there may be a reply already
    log.info("listening at %s as pid %d", runtime.control, os.getpid())
    loop.run()
    host.save()
    log.info("ending, %d daemons go on", len(host.served))


def _stop(settings: Settings) -> int:
    path = Runtime(os.path.abspath(settings.root)).control
    try:
        with Client(path, STOP) as client:
            client.ask("stop")
    except (UnreachableError, messages.RefusedError) as error:
        raise NoAnswerError(f"cannot stop ccfsd: {error}", "see whether one runs") from None
    return Exit.OK


def _restart(settings: Settings) -> int:
    """Have the ccfsd that runs, and its daemons, be of the version that is installed."""
    path = Runtime(os.path.abspath(settings.root)).control
    try:
        with Client(path, RESTART) as client:
            said = client.ask("restart").values
    except UnreachableError as error:
        hint = "see whether one runs, and its log"
        raise NoAnswerError(f"cannot restart ccfsd: {error}", hint) from None
    except messages.RefusedError as error:
        hint = "what ran before goes on; see the log of ccfsd"
        raise UserError(f"ccfsd is not restarted: {error}", hint, Exit.NOT_RESTARTED) from None
    kept = f", {said['kept']} kept" if said.get("kept", "0") != "0" else ""
    print(f"ccfsd {said.get('version', '?')}: {said.get('renewed', '?')} daemons replaced{kept}")
    standard_streams.flush()
    return Exit.OK


def _fail(error: UserError) -> int:
    print(f"ccfsd: error: {error.reason}", file=sys.stderr)
    if error.hint:
        print(f"ccfsd: hint: {error.hint}", file=sys.stderr)
    return int(error.status)
