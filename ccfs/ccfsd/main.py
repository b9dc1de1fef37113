# SPDX-License-Identifier: MIT
"""The command ccfsd: its start, and its end.

Knows in which order things are made ready; never what they do.  SIGTERM and SIGINT end ccfsd and no
daemon: the next ccfsd goes on with them.  `ccfsd --stop` ends all daemons, too; `ccfsd --restart`
replaces ccfsd and all daemons by the version that is installed now.

Exit statuses: 0 ended as told; 1 unexpected failure; 2 bad command line; 4 another ccfsd is running
here; 7 not root; 8 the runtime directory can't be used; 9 (--stop, --restart) no ccfsd answers;
17 (--restart) not restarted, or not all daemons.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import logging
import os
import resource
import socket
from collections.abc import Sequence
from contextlib import suppress

from ccfs.ccfsd import activation, arguments, logs, passed_descriptors
from ccfs.ccfsd.passed_descriptors import Passed, Program
from ccfs.ccfsd.runtime_dir import Runtime
from ccfs.ccfsd.settings import Settings
from ccfs.commandline.messages import crash, fail
from ccfs.control import messages
from ccfs.control.client import Client, UnreachableError
from ccfs.errors import DeniedError, Exit, NoAnswerError, UserError
from ccfs.linux import capabilities, inherited_state, standard_streams

log = logging.getLogger(__name__)

STOP = 30.0
"""Seconds that `--stop` waits."""
RESTART = 60.0
"""Seconds that `--restart` waits."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own); returns the exit status."""
    standard_streams.prepare()
    debug = False
    try:
        given = _parse(argv)
        debug = given.debug
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
        return fail(error, "ccfsd")
    except standard_streams.OutputError as error:
        standard_streams.discard()
        return fail(UserError(f"cannot write the output: {error.reason.lower()}"), "ccfsd")
    except Exception as error:
        return crash(error, debug=debug, program="ccfsd")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line.  Raises SystemExit after --help and --version, which are written."""
    try:
        return arguments.parse(argv)
    except SystemExit:
        standard_streams.flush()
        raise


def _run(settings: Settings) -> int:
    program = Program.present()
    os.umask(0o022)
    os.chdir("/")
    orders = passed_descriptors.fork_server_socket(os.environ)
    if orders is not None:
        return _be_fork_server(orders)
    listeners = activation.inherited(os.environ, os.getpid())
    passed = passed_descriptors.take(os.environ, os.getpid())
    listeners |= {k: socket.socket(fileno=passed[k][0]) for k in ("control", "kcm") if k in passed}
    runtime = Runtime(os.path.abspath(settings.root))
    runtime.prepare()
    lock = passed["lock"][0] if "lock" in passed else runtime.lock()
    if "control" not in listeners:
        listeners["control"] = activation.control(runtime.control)
    if "kcm" not in listeners and settings.kcm and (kcm := activation.kcm(settings.kcm)):
        listeners["kcm"] = kcm
    _warm_up()
    _serve(settings, runtime, lock, listeners, program, passed)
    os.close(lock)
    return Exit.OK


def _be_fork_server(orders: socket.socket) -> int:
    """Fork daemons for a ccfsd that has executed this process for that."""
    _warm_up()
    from ccfs.ccfsd import spawner

    spawner.be_fork_server(orders)
    return Exit.OK


def _warm_up() -> None:
    """Import all that a daemon needs, and run it once, so that no fork has to do that again."""
    from ccfs import daemon

    gc.disable()
    importlib.import_module("ccfs.ccfsd.server")
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
    listeners: dict[str, socket.socket],
    program: Program,
    passed: Passed,
) -> None:
    """Serve until the end; for a restart, execute the program that is installed now.

    That is done when no coroutine runs any more.  Where it fails this program goes on, as if it had
    been executed: the descriptors are all there.
    """
    import trio

    from ccfs.ccfsd import server, spawner
    from ccfs.ccfsd.fork_client import ForkClient

    fork_server = spawner.fork_fork_server()  # before there is anything that no daemon must have
    capabilities.drop_all_but(capabilities.KEPT_BY_CCFSD)
    start = server.Start(settings, runtime, program, ForkClient(fork_server, program), listeners)
    mine = {"lock": [lock], **{name: [one.fileno()] for name, one in listeners.items()}}
    failure = ""
    while (left := trio.run(server.serve, start, passed, failure)) is not None:
        passed = left
        failure = f"the new ccfsd cannot run: {program.replace(mine | left).strerror}"


def _stop(settings: Settings) -> int:
    path = Runtime(os.path.abspath(settings.root)).control
    try:
        with Client(path, STOP) as client:
            client.ask("stop")
    except (UnreachableError, messages.RefusedError) as error:
        raise NoAnswerError(f"cannot stop ccfsd: {error}", "see whether one runs") from None
    return Exit.OK


def _restart(settings: Settings) -> int:
    """Have the ccfsd that runs, and its daemons, replaced by the version that is installed."""
    path = Runtime(os.path.abspath(settings.root)).control
    try:
        with Client(path, RESTART) as client:
            values = client.ask("restart").values
    except UnreachableError as error:
        hint = "see whether one runs, and its log"
        raise NoAnswerError(f"cannot restart ccfsd: {error}", hint) from None
    except messages.RefusedError as error:
        hint = "what ran before goes on; see the log of ccfsd"
        raise UserError(f"ccfsd is not restarted: {error}", hint, Exit.NOT_RESTARTED) from None
    kept = f", {values['kept']} kept" if values.get("kept", "0") != "0" else ""
    version, replaced = values.get("version", "?"), values.get("renewed", "?")
    print(f"ccfsd {version}: {replaced} daemons replaced{kept}")
    standard_streams.flush()
    return Exit.OK
