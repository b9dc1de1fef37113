# SPDX-License-Identifier: MIT
"""`ccfs mount`: mount a ccfs, start its daemon, and print the export line.

Knows the options and the order of the steps; never how the daemon serves.  trio and pyfuse3 are
imported only by the process that serves, after the fork.
"""

from __future__ import annotations

import os
from argparse import Namespace
from typing import TYPE_CHECKING

from ccfs.cli import daemonize, mount_job, mount_steps, mountpoint_argument
from ccfs.errors import Exit, KcmSocketError, UsageError, UserError
from ccfs.mounting import mount_directory, mountpoint

if TYPE_CHECKING:
    from ccfs.mounting.mounter import Mounter


def run(arguments: Namespace) -> int:
    """Mount; return once the mount answers (with --foreground, once the daemon has ended)."""
    _check_options(arguments)
    mount_directory.check_descriptors()
    if _has_no_options(arguments) and (path := mountpoint_argument.mount_by_ccfsd()):
        mount_steps.check_answer(path)
        _print_export_line(path)
        return Exit.OK
    path = mount_directory.resolve(
        arguments.mountpoint or mountpoint_argument.default(os.environ, os.getuid())
    )
    _check_kcm_socket(arguments.kcm_socket, path)
    for file in (arguments.kcm_socket, arguments.journal):
        if file:
            mount_directory.check_trusted(os.path.abspath(file))
    mount_steps.check_fuse(mountpoint.FUSE_DEVICE, os.environ.get("PATH", os.defpath))
    mount_steps.remove_dead_mounts(path, arguments.replace)
    return _mount(arguments, path)


def _mount(arguments: Namespace, path: str) -> int:
    from ccfs.mounting.mounter import Mounter

    allow_other = arguments.allow_other or arguments.allow_root
    directory = mount_directory.prepare(path)
    mounter = Mounter(directory, os.geteuid(), os.getegid(), allow_other=allow_other)
    journal = _choose_journal(arguments, path)
    if arguments.foreground:
        return _serve_in_foreground(arguments, mounter, journal)
    _serve_in_background(arguments, mounter, journal)
    mount_steps.check_answer(path)
    _print_export_line(path)
    return Exit.OK


def _check_options(arguments: Namespace) -> None:
    """Raise UsageError for options that contradict each other."""
    if not arguments.no_journal:
        return
    for option in ("journal", "journal_on_disk"):
        if getattr(arguments, option):
            reason = f"--no-journal and --{option.replace('_', '-')} contradict each other"
            raise UsageError(reason, "leave one of them out")


def _check_kcm_socket(socket: str | None, path: str) -> None:
    """Raise KcmSocketError if the mount at `path` would hide the socket."""
    if not socket:
        return
    directory = mountpoint.resolve(os.path.dirname(socket))
    if os.path.join(directory, "").startswith(os.path.join(path, "")):
        raise KcmSocketError(f"the mount would hide {socket}", "name a path outside of it")


def _has_no_options(arguments: Namespace) -> bool:
    """True if neither a mountpoint nor an option was given, so that ccfsd's mount is as good."""
    options = {**vars(arguments), "command": "", "module": "", "debug": False}
    return not any(options.values())


def _choose_journal(arguments: Namespace, path: str) -> str:
    """Return the path of the journal, "" for none.

    None with --foreground if its path would be random: no supervisor remembers it, so that no later
    daemon could find it.
    """
    if arguments.no_journal:
        return ""
    from ccfs.journal import location

    if arguments.foreground and not (arguments.journal or location.runtime_directory()):
        return ""
    return location.choose(path, arguments.journal, on_disk=arguments.journal_on_disk)


def _serve_in_foreground(arguments: Namespace, mounter: Mounter, journal: str) -> int:
    from ccfs.cli import logs
    from ccfs.supervisor.daemon_spec import DaemonSetup

    logs.to_stderr(arguments.debug)
    path = mounter.path
    setup = DaemonSetup(-1, mounter.mount(), path, mounter.directory)
    try:
        return mount_job.serve(arguments, path, journal, lambda: _print_export_line(path), setup)
    except UserError:
        mounter.unmount(setup.mount)
        raise
    finally:
        mounter.release()


def _serve_in_background(arguments: Namespace, mounter: Mounter, journal: str) -> None:
    from ccfs.journal import location

    is_new = bool(journal) and not os.path.lexists(journal)
    state = {"arguments": vars(arguments), "path": mounter.path, "journal": journal}
    spec = mount_job.spec_of(state)
    try:
        daemonize.start(mounter, spec)
    except UserError:
        if is_new:  # no write was acknowledged yet
            location.wipe(journal)
        raise


def _print_export_line(path: str) -> None:
    print(mountpoint_argument.export_line(path), flush=True)
