"""`ccfs mount`: make a mountpoint ready, start the daemon on it, say how to use it.

Knows what can be in the way of a mount and what to say of it; never how the daemon serves. trio and
pyfuse3 are imported by the process that serves, after the fork.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from ccfs.cli import daemonize, mountpoint_argument
from ccfs.cli.arguments import parse
from ccfs.errors import AlreadyMountedError, Exit, KcmSocketError, MountError, UsageError, UserError
from ccfs.linux import mountinfo
from ccfs.mounting import mount_directory, mountpoint
from ccfs.mounting.mountpoint import State

if TYPE_CHECKING:
    from ccfs.daemon import MountOptions
    from ccfs.kcm.listener import KcmListener
    from ccfs.mounting.mounter import Mounter
    from ccfs.supervisor.kcm_acceptor import KcmAcceptor
    from ccfs.supervisor.reimport import Plain
    from ccfs.supervisor.supervisor import Job, Life

_LIMITS = {
    "ccaches": "max_ccaches",
    "ccache_bytes": "max_ccache_size",
    "total_bytes": "max_total_size",
    "credentials": "max_credentials",
    "events": "max_events",
    "handles": "max_open",
}


def run(arguments: Namespace) -> int:
    """Mount, and return once the mount answers (or, in the foreground, once it has ended)."""
    _check(arguments)
    mount_directory.check_descriptors()
    if _is_plain(arguments) and (served := mountpoint_argument.asked()):
        check_answer(served)
        _print_export_line(served)
        return Exit.OK
    path = mount_directory.resolve(
        arguments.mountpoint or mountpoint_argument.default(os.environ, os.getuid())
    )
    _check_socket(arguments.kcm_socket, path)
    for other in (arguments.kcm_socket, arguments.journal):
        if other:
            mount_directory.check_trusted(os.path.abspath(other))
    check_fuse(mountpoint.FUSE_DEVICE, os.environ.get("PATH", os.defpath))
    clear_the_way(path, arguments.replace)
    from ccfs.mounting.mounter import Mounter

    others = arguments.allow_other or arguments.allow_root
    directory = mount_directory.prepare(path)
    mounter = Mounter(directory, os.geteuid(), os.getegid(), allow_other=others)
    journal = _journal(arguments, path)
    if arguments.foreground:
        return _serve_in_front(arguments, mounter, journal)
    _serve_behind(arguments, mounter, journal)
    check_answer(path)
    _print_export_line(path)
    return Exit.OK


def _check(arguments: Namespace) -> None:
    """Raise UsageError for options that contradict each other."""
    if not arguments.no_journal:
        return
    for option in ("journal", "journal_on_disk"):
        if getattr(arguments, option):
            said = f"--no-journal and --{option.replace('_', '-')} contradict each other"
            raise UsageError(said, "leave one of them out")


def _check_socket(socket: str | None, path: str) -> None:
    """Raise KcmSocketError for a socket that the mount at `path` would hide."""
    if not socket:
        return
    directory = mountpoint.resolve(os.path.dirname(socket))
    if os.path.join(directory, "").startswith(os.path.join(path, "")):
        raise KcmSocketError(f"the mount would hide {socket}", "name a path beside it")


def _is_plain(arguments: Namespace) -> bool:
    """Whether any mount of the user's own will do: nothing was said of where, and how."""
    said = {**vars(arguments), "command": "", "module": "", "debug": False}
    return not any(said.values())


def clear_the_way(path: str, replace: bool) -> None:
    """Take away dead mounts at `path` if that is wanted; raise UserError for what stays there."""
    from ccfs.cli import end_mount

    while (mount := mountinfo.topmost(path)) and mount.is_ccfs:
        state = mountpoint.look(mount)
        if state is State.ALIVE:
            hint = "use it: see 'ccfs env', or remove it with 'ccfs unmount'"
            raise AlreadyMountedError(f"a ccfs is mounted at {path} already", hint)
        if not (replace or _agreed(path, state)):
            raise mountpoint.dead(path) if state is State.DEAD else mountpoint.no_answer(path)
        end_mount.replace(mount)


def _agreed(path: str, state: State) -> bool:
    """Ask whether to replace the mount; no when there is nobody to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    fault = "is dead" if state is State.DEAD else "does not answer"
    print(f"the ccfs at {path} {fault}, replace it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def check_fuse(device: str, search: str) -> None:
    """MountError unless the caller can use `device` and finds fusermount3 in `search` (a PATH)."""
    try:
        status = os.stat(device)
    except OSError:
        raise MountError(
            f"there is no {device}",
            "load it with 'modprobe fuse'; give it to a container with '--device /dev/fuse'",
        ) from None
    if not mountpoint.is_fuse_device(status):
        raise MountError(f"{device} is not the FUSE device", mountpoint.WRONG_DEVICE)
    if not os.access(device, os.R_OK | os.W_OK):
        raise MountError(f"no permission to open {device}", f"as root: 'chmod 666 {device}'")
    if os.geteuid() != 0 and not _finds("fusermount3", search):
        raise MountError("there is no fusermount3", "install it: 'apt install fuse3'")


def _finds(program: str, search: str) -> bool:
    places = (os.path.join(directory, program) for directory in search.split(os.pathsep))
    return any(os.access(mountpoint_argument, os.X_OK) for mountpoint_argument in places)


def _journal(arguments: Namespace, path: str) -> str:
    """The path of the journal, "" for none.

    Without a parent that remembers it, a journal under a random name would help nobody.
    """
    if arguments.no_journal:
        return ""
    from ccfs.journal import location

    if arguments.foreground and not (arguments.journal or location.runtime_directory()):
        return ""
    return location.choose(path, arguments.journal, on_disk=arguments.journal_on_disk)


def _serve_in_front(arguments: Namespace, mounter: Mounter, journal: str) -> int:
    from ccfs.cli import logs
    from ccfs.supervisor.supervisor import Life

    logs.to_stderr(arguments.debug)
    path = mounter.path
    alone = Life(-1, mounter.attach(), path, mounter.directory)
    try:
        return _serve(arguments, path, journal, lambda: _print_export_line(path), alone)
    except UserError:
        mounter.detach(alone.mount)
        raise
    finally:
        mounter.release()


def _serve_behind(arguments: Namespace, mounter: Mounter, journal: str) -> None:
    from ccfs.journal import location

    is_new = bool(journal) and not os.path.lexists(journal)
    job = job_of({"arguments": vars(arguments), "path": mounter.path, "journal": journal})
    try:
        daemonize.start(mounter, job)
    except UserError:
        if is_new:  # nothing was acknowledged, so that nothing is lost
            location.wipe(journal)
        raise


def job_of(state: Plain) -> Job:
    """What a keeper of a mount does, of plain values: `arguments`, `path` and `journal`.

    `kcm`: what another version of this code has passed on of KCM.
    """
    from ccfs.cli import logs
    from ccfs.supervisor.supervisor import Job

    given, path, journal = state["arguments"], state["path"], state["journal"]
    arguments = Namespace(**{**vars(parse(["mount"])), **given})
    kcm = _Kcm(arguments.kcm_socket, state.get("kcm", {}))

    def first() -> None:
        logs.to_syslog(arguments.debug)
        kcm.open()

    def serve(ready: Callable[[], None], life: Life) -> int:
        logs.to_syslog(arguments.debug)
        return _serve(arguments, path, journal, ready, life, kcm.inherited(life))

    def to_pass_on() -> Plain:
        return {**state, "job": __name__, "kcm": kcm.to_pass_on()}

    return Job(
        daemonize.telling(serve),
        fits=lambda: fits(journal),
        warm=warm,
        first=first,
        after=kcm.remove,
        beside=kcm.keeper,
        anew=arguments.mount_anew,
        state=to_pass_on,
    )


def fits(journal: str) -> bool:
    """Whether this code reads a journal, which another version has written."""
    from ccfs.journal.log import VERSION, version_of

    return not journal or version_of(journal) <= VERSION


def warm() -> None:
    """Have all that a daemon imports, and nothing open."""
    from ccfs.cli import logs
    from ccfs.daemon.preload import load

    os.dup2(0, 2)
    load()
    logs.let_go()


class _Kcm:
    """The keeper's part in KCM: the socket where clients connect, if any, and their connections."""

    def __init__(self, path: str | None, given: Plain) -> None:
        """`given`: what another version of this code has passed on, if it was there already."""
        self._path = path
        self._socket = self._adopted(given) if given else None
        self._given = given["connections"] if given else []
        self._keeper: KcmAcceptor | None = None

    def to_pass_on(self) -> Plain:
        """What another version of this code makes the same of: descriptors of its own."""
        return self._keeper.to_pass_on() if self._keeper else {}

    def open(self) -> None:
        """Listen, before there is a daemon.  Raises KcmSocketError."""
        if self._path:
            from ccfs.kcm.listener import KcmListener

            self._socket = KcmListener(self._path)

    def keeper(self) -> KcmAcceptor | None:
        """Who accepts at it."""
        from ccfs.supervisor.kcm_acceptor import KcmAcceptor

        if self._socket:
            self._keeper = KcmAcceptor(self._socket, self._given)
        return self._keeper

    def _adopted(self, given: Plain) -> KcmListener:
        from ccfs.kcm.listener import KcmListener

        assert self._path
        file = given["file"]
        return KcmListener.adopted(self._path, given["listener"], tuple(file) if file else None)

    def inherited(self, life: Life) -> KcmListener | None:
        """The socket in a daemon."""
        return self._socket.inherited(life.given[0]) if self._socket else None

    def remove(self) -> None:
        """There will be no other daemon."""
        if self._socket:
            self._socket.remove()


def _serve(
    arguments: Namespace,
    path: str,
    journal: str,
    ready: Callable[[], None],
    life: Life,
    kcm: KcmListener | None = None,
) -> int:
    """Serve a mount; `path` is where it was first, which its journal says."""
    from ccfs import daemon

    given = options(arguments, journal, life, kcm)
    return daemon.serve(dataclasses.replace(given, journal_of=path, unmounts=True), ready)


def options(
    arguments: Namespace, journal: str, life: Life, kcm: KcmListener | None = None
) -> MountOptions:
    """What the daemon is told, from the command line as `arguments.parse` gives it.

    `kcm`: the socket that KCM clients connect to, where another process accepts them.
    """
    from ccfs.daemon import MountOptions
    from ccfs.store import Limits

    given = {limit: getattr(arguments, option) for limit, option in _LIMITS.items()}
    return MountOptions(
        mountpoint=life.mountpoint,
        allow_root=arguments.allow_root,
        allow_other=arguments.allow_other,
        debug=arguments.debug,
        handover=life.handover,
        keeper=life.keeper,
        live=life.live,
        journal=journal,
        kcm_socket=arguments.kcm_socket or "",
        kcm_kept=kcm,
        kcm_keeper=life.given[1] if kcm else -1,
        held=life.held,
        device=life.mount.device,
        mount=life.mount.mount,
        lock=life.lock,
        limits=Limits(**{limit: value for limit, value in given.items() if value is not None}),
    )


def check_answer(path: str) -> None:
    """A daemon that says it is ready must answer, too."""
    state = mountpoint.look(mountpoint.find(path))
    if state is not State.ALIVE:
        raise mountpoint.dead(path) if state is State.DEAD else mountpoint.no_answer(path)


def _print_export_line(path: str) -> None:
    print(mountpoint_argument.export_line(path), flush=True)
