# SPDX-License-Identifier: MIT
"""Users who try to get at a mount: a place where each of them is what he claims to be.

This file knows users and namespaces, never what is in a mount.  Everything happens in a mount
namespace of its own: there /dev/fuse is open to all, two users exist, and the mounts of one of them
are visible; when its first process ends all of that is gone.  Needs root.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.mounting import START_SECONDS, TMPFS, first_line, until_killed
from tests.support.paths import PROJECT

INTRUDER = "tests/support/clients/python/intruder.py"
OWNER, OTHER, SHARED = 64001, 64002, 64003
"""Uids of two users, and the gid of a group that both are in."""
SECONDS = 60

PASSWD = f"""ccfsowner:x:{OWNER}:{OWNER}::/:/bin/sh
ccfsother:x:{OTHER}:{OTHER}::/:/bin/sh
"""
GROUP = f"""ccfsowner:x:{OWNER}:
ccfsother:x:{OTHER}:
ccfsshared:x:{SHARED}:ccfsowner,ccfsother
"""
SHADOW = "ccfsowner:*:19000::::::\nccfsother:*:19000::::::\n"

MOUNTS = {"plain": [], "--allow-other": ["--allow-other"], "--allow-root": ["--allow-root"]}

OWNED = ("setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups")
OTHERS = ("setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups")
SETFSUID = (
    "import ctypes,sys,os\nctypes.CDLL(None).setfsgid({0})\nctypes.CDLL(None).setfsuid({0})\n"
)

WHO: dict[str, Sequence[str]] = {
    "the owner": OWNED,
    "the owner, by su": ("su", "-s", "/bin/sh", "ccfsowner", "-c"),
    "the owner, by sudo -u": ("sudo", "-n", "-u", "ccfsowner"),
    "the owner, by runuser": ("runuser", "-u", "ccfsowner", "--"),
    "the owner, in another pid namespace": ("unshare", "--pid", "--fork", *OWNED),
    "the owner, in another mount namespace": ("unshare", "--mount", *OWNED),
    "the owner, root of a user namespace": (*OWNED, "unshare", "--user", "--map-root-user"),
    "the owner, after newgrp": (*OWNED[:-1], "--init-groups", "sg", "ccfsshared", "-c"),
    "another user": OTHERS,
    "another user of the owner's group": (*OTHERS[:2], f"--regid={OWNER}", "--clear-groups"),
    "another user, root of a user namespace": (*OTHERS, "unshare", "--user", "--map-root-user"),
    "root": (),
    "root, with setfsuid to the owner": ("setfsuid",),
    "root of a container": ("unshare", "--mount", "--pid", "--fork", "--uts", "--ipc"),
}
AS_A_SHELL = {"su", "sg"}


@dataclass(frozen=True, slots=True)
class IsolatedMounts:
    """The namespace, and what is in it.  `pids` are the daemons, by the kind of their mount."""

    directory: Path
    namespace_pid: int
    pids: dict[str, int]

    def top(self, kind: str) -> Path:
        """The root of a mount."""
        return self.directory / kind.lstrip("-")

    def run(self, command: Sequence[str], *, check: bool = True) -> str:
        """The output of a command, run by root in the namespace."""
        done = subprocess.run(
            [
                "nsenter",
                f"--target={self.namespace_pid}",
                "--mount",
                f"--wd={self.project}",
                *command,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
        return done.stdout

    @property
    def project(self) -> Path:
        """The project, where every user can read it."""
        return self.directory / "project"

    def ask(self, who: str, *arguments: str) -> dict[str, str]:
        """Run the attacks as `who`; the outcome of each."""
        command = ["/usr/bin/python3", "-I", str(self.project / INTRUDER), *arguments]
        prefix = [*WHO[who]]
        if prefix == ["setfsuid"]:
            code = SETFSUID.format(OWNER) + "sys.argv=sys.argv[1:]\nexec(open(sys.argv[0]).read())"
            prefix, command = [], ["/usr/bin/python3", "-I", "-c", code, *command[2:]]
        elif AS_A_SHELL & {*prefix}:
            command = [" ".join(command)]
        found: dict[str, str] = json.loads(self.run([*prefix, *command]))
        return found

    def uses(self, who: str, kind: str) -> dict[str, str]:
        """Run the attacks on a mount of a kind, with everything in the kernel's caches."""
        self.warm(kind)
        return self.ask(who, "use", str(self.top(kind)), str(self.pids[kind]))

    def warm(self, kind: str) -> None:
        """Have the owner look at everything, so that the kernel could answer by itself."""
        script = "ls -lR . && cat caches/tkt/ccache README && readlink default && stat default/lock"
        self.run([*OWNED, "sh", "-c", f"cd {self.top(kind)} && {script}"])


@contextlib.contextmanager
def isolated_namespace() -> Iterator[IsolatedMounts]:
    """A namespace with users and no mount yet."""
    directory = Path(tempfile.mkdtemp(prefix="ccfs-isolated-", dir=TMPFS))
    directory.chmod(0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory)
        holder = stack.enter_context(_namespace_holder(directory))
        yield IsolatedMounts(directory, holder.pid, {})


@contextlib.contextmanager
def isolated() -> Iterator[IsolatedMounts]:
    """A namespace with a mount of each kind, and a ccache in it."""
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(isolated_namespace())
        daemons = [stack.enter_context(_daemon(made, kind)) for kind in MOUNTS]
        pids = {kind: daemon.pid for kind, daemon in zip(MOUNTS, daemons, strict=True)}
        yield IsolatedMounts(made.directory, made.namespace_pid, pids)


@contextlib.contextmanager
def _namespace_holder(directory: Path) -> Iterator[subprocess.Popen[str]]:
    files = {"passwd": PASSWD, "group": GROUP, "shadow": SHADOW, "fuse.conf": "user_allow_other\n"}
    for name, more in files.items():
        there = Path("/etc", name)
        kept = there.read_text() if there.exists() else ""
        (directory / name).write_text(kept + more)
        (directory / name).chmod(0o600 if name == "shadow" else 0o644)
    (directory / "project").mkdir()
    binds = "".join(f"mount --bind {directory}/{name} /etc/{name}\n" for name in files)
    script = f"""set -e
        mount -t tmpfs -o mode=755 none {directory}/project
        mknod -m 666 {directory}/project/fuse c 10 229
        mount --bind {directory}/project/fuse /dev/fuse
        umount -l {directory}/project
        mount --bind {PROJECT} {directory}/project
        {binds}
        echo ready
        exec cat"""
    process = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with until_killed(process, "ready"):
        yield process


@contextlib.contextmanager
def _daemon(where: IsolatedMounts, kind: str) -> Iterator[subprocess.Popen[str]]:
    """A daemon of the owner."""
    top = where.top(kind)
    top.mkdir(mode=0o700)
    os.chown(top, OWNER, OWNER)
    python = Path(sys.executable)
    if python.is_relative_to(PROJECT):
        python = where.project / python.relative_to(PROJECT)
    log = (where.directory / f"log{kind}").open("w")
    command = ["nsenter", f"--target={where.namespace_pid}", "--mount", f"--wd={where.project}"]
    command += [*OWNED, str(python), "-m", "ccfs"]
    process = subprocess.Popen(
        [*command, "mount", "--foreground", "--no-journal", *MOUNTS[kind], str(top)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )
    try:
        assert process.stdout is not None
        said = first_line(process.stdout, START_SECONDS)
        assert said.startswith("export "), (where.directory / f"log{kind}").read_text()
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.communicate()
            log.close()


COLUMNS = {
    "lookup": ("lookup",),
    "stat": ("stat",),
    "list": ("list", "readlink"),
    "open for read": ("read", "read text"),
    "open for write": ("write",),
    "create": ("create", "mkdir"),
    "rename": ("rename", "switch"),
    "remove": ("unlink", "rmdir", "truncate"),
    "lock": ("lock",),
    "poll": ("poll",),
    "wait": ("wait",),
    "signal": ("signal",),
    "ptrace": ("ptrace",),
    "mem": ("mem", "maps"),
    "environ": ("environ",),
    "fd": ("fd",),
}

Results = dict[tuple[str, str], dict[str, str]]


def everything(where: IsolatedMounts) -> Results:
    """Run all attacks, by every user on every kind of mount: (kind, who) -> attack -> outcome."""
    return {(kind, who): where.uses(who, kind) for kind in MOUNTS for who in WHO}


def table(results: Results) -> str:
    """The results as Markdown."""
    rows = [["mount", "who", *COLUMNS], ["---"] * (len(COLUMNS) + 2)]
    for (kind, who), found in results.items():
        cells = [_cell({found[what] for what in whats}) for whats in COLUMNS.values()]
        rows.append([f"`{kind}`" if kind.startswith("-") else kind, who, *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(results: set[str]) -> str:
    return "/".join("yes" if result == "ok" else result for result in sorted(results))
