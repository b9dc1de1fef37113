"""The state file: what one ccfsd leaves to the next.

Knows a registry as JSON, and how to put a file in place in one step; never what a process does.
"""

from __future__ import annotations

import json
import os
from typing import Any

from ccfs.ccfsd.registry import Mount, Owner, Registry, Session
from ccfs.linux.processes import Process

VERSION = 1


def encode(registry: Registry) -> bytes:
    """A registry as JSON."""
    return json.dumps(
        {
            "version": VERSION,
            "following": registry.following,
            "mounts": [
                {
                    "name": mount.name,
                    "uid": mount.owner.uid,
                    "gid": mount.owner.gid,
                    "user": mount.owner.user,
                    "daemon": _pair(mount.daemon),
                    "device": mount.device,
                    "asked": mount.asked,
                    "doomed": mount.doomed,
                }
                for mount in registry.mounts.values()
            ],
            "sessions": [
                {
                    "number": session.number,
                    "mount": session.mount,
                    "leader": _pair(session.leader),
                    "ccache": session.ccache,
                    "service": session.service,
                }
                for session in registry.sessions.values()
            ],
        }
    ).encode("ascii")


def decode(data: bytes) -> Registry:
    """A registry from JSON; ValueError for anything else."""
    try:
        told = json.loads(data)
        if told["version"] != VERSION:
            raise ValueError("another version")
        mounts = [_mount(one) for one in told["mounts"]]
        sessions = [_session(one) for one in told["sessions"]]
        following = int(told["following"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no state: {type(error).__name__}") from None
    return Registry(
        following, {mount.name: mount for mount in mounts}, {s.number: s for s in sessions}
    )


def write(path: str, registry: Registry) -> None:
    """Have the file hold a registry, or what it held before.  Raises OSError."""
    following = path + ".new"
    descriptor = os.open(
        following, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        data = encode(registry)
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)
    os.rename(following, path)


def read(path: str) -> Registry | None:
    """What the file holds; None without one.  ValueError, OSError."""
    try:
        with open(path, "rb") as file:
            return decode(file.read())
    except FileNotFoundError:
        return None


def _pair(process: Process | None) -> list[int] | None:
    return [process.pid, process.start] if process else None


def _process(pair: Any) -> Process:
    pid, start = (int(number) for number in pair)
    if pid < 1:
        raise ValueError("no process")
    return Process(pid, start)


def _mount(told: Any) -> Mount:
    owner = Owner(int(told["uid"]), int(told["gid"]), str(told["user"]))
    daemon = _process(told["daemon"]) if told["daemon"] else None
    doomed = tuple(str(ccache) for ccache in told.get("doomed", ()))  # an older ccfsd has none
    return Mount(str(told["name"]), owner, daemon, str(told["device"]), bool(told["asked"]), doomed)


def _session(told: Any) -> Session:
    return Session(
        int(told["number"]),
        str(told["mount"]),
        _process(told["leader"]),
        str(told["ccache"]),
        str(told["service"]),
    )
