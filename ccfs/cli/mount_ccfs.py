# SPDX-License-Identifier: MIT
"""`mount.ccfs`, which mount(8) runs for `mount -t ccfs` and for lines of fstab(5).

Knows in which order root mounts for a user; never how the daemon serves.  This process mounts as
root, and the daemon runs as the user.  The supervisor keeps root's capabilities, because only root
can mount again where a daemon has died; it has no descriptor of the mount.
"""

from __future__ import annotations

import dataclasses
import os
import pwd
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ccfs.cli import arguments, daemonize, mount_job, mount_steps
from ccfs.cli.mount_ccfs_arguments import MountRequest, parse
from ccfs.commandline import messages
from ccfs.errors import DeniedError, Exit, UserError
from ccfs.linux import standard_streams
from ccfs.mounting import mount_directory
from ccfs.mounting.mounter import Mounter

if TYPE_CHECKING:
    from ccfs.supervisor.daemon_spec import DaemonSetup, DaemonSpec
    from ccfs.supervisor.reimport import State

EX_USAGE = 1
EX_SYSTEM = 2
EX_SOFTWARE = 4
EX_USER = 8
EX_FAILED = 32
"""The exit statuses of mount(8)."""

_STATUS = {Exit.USAGE: EX_USAGE, Exit.PERMISSION: EX_USAGE, Exit.NO_FUSE: EX_SYSTEM}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: sys.argv); return an exit status of mount(8)."""
    standard_streams.prepare()
    try:
        return _mount(parse(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        messages.fail(error)
        return _STATUS.get(error.status, EX_FAILED)
    except KeyboardInterrupt:
        return EX_USER
    except Exception as error:
        messages.crash(error, debug=False)
        return EX_SOFTWARE


def _mount(request: MountRequest) -> int:
    if os.geteuid() != 0:
        raise DeniedError("only root can run mount.ccfs", "as yourself: 'ccfs mount'")
    mount_directory.check_descriptors()
    mount_steps.remove_dead_mounts(request.path, replace=True)
    uid, gid = request.user.pw_uid, request.user.pw_gid
    directory = mount_directory.open_for_user(request.path, uid)
    if request.dry_run:
        return 0
    mounter = Mounter(directory, uid, gid, allow_other=True, flags=request.flags)
    state = {"path": request.path, "uid": uid, "given": vars(request.options)}
    daemonize.start(mounter, spec_of(state))
    mount_steps.check_answer(request.path)
    return 0


def spec_of(state: State) -> DaemonSpec:
    """Return the daemons' spec that is described by plain values.

    `path`; `uid` of the user; `given`, the options as `ccfs mount` parses them.
    """
    from ccfs.cli import logs
    from ccfs.linux import capabilities
    from ccfs.supervisor.daemon_spec import DaemonSpec

    user, path = pwd.getpwuid(state["uid"]), state["path"]
    # Defaults first: the state may come from a version that lacks an option.
    options = Namespace(**{**vars(arguments.parse(["mount"])), **state["given"]})

    def set_up() -> None:
        logs.to_syslog(options.debug)
        capabilities.drop_all_but(capabilities.KEPT_BY_MOUNT_CCFS)

    def serve(ready: Callable[[], None], setup: DaemonSetup) -> int:
        return _serve(path, user, options, ready, setup)

    return DaemonSpec(
        daemonize.reporting(serve),
        preload=mount_job.preload,
        set_up=set_up,
        mount_anew=options.mount_anew,
        state=lambda: {**state, "module": __name__},
    )


def _serve(
    path: str,
    user: pwd.struct_passwd,
    options: Namespace,
    ready: Callable[[], None],
    setup: DaemonSetup,
) -> int:
    """Become the user and serve, in a process that was forked for it."""
    from ccfs import daemon
    from ccfs.ccfsd import launch
    from ccfs.cli import logs
    from ccfs.journal import location

    logs.to_syslog(options.debug)
    launch.become(user.pw_uid, user.pw_gid, _open_descriptors())
    journal = location.choose(path, None, on_disk=False)
    daemon_options = mount_job.daemon_options(options, journal, setup)
    return daemon.serve(
        dataclasses.replace(daemon_options, allow_other=True, journal_made_for=path), ready
    )


def _open_descriptors() -> set[int]:
    """Return the descriptors that the supervisor left open for the daemon."""
    return {number for name in os.listdir("/proc/self/fd") if (number := int(name)) > 2}
