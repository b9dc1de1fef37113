# SPDX-License-Identifier: MIT
"""The state file: the registry that one ccfsd leaves to the next.

Knows a registry as JSON, and how to replace a file in one step; never what a process does.
"""

from __future__ import annotations

import json
import os
from typing import Any

from ccfs.ccfsd.registry import Mount, Owner, Registry, Session
from ccfs.linux.processes import Process

VERSION = 1


def encode(registry: Registry) -> bytes:
    """Return a registry as JSON."""
    return json.dumps(
        {
            "version": VERSION,
            "following": registry.next_number,
            "mounts": [
                {
                    "name": mount.name,
                    "uid": mount.owner.uid,
                    "gid": mount.owner.gid,
                    "user": mount.owner.user,
                    "daemon": _pair(mount.daemon),
                    "device": mount.device,
                    "asked": mount.requested,
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
    """Return the registry of JSON.  Raises ValueError."""
    try:
        state = json.loads(data)
        if state["version"] != VERSION:
            raise ValueError("another version")
        mounts = [_mount(entry) for entry in state["mounts"]]
        sessions = [_session(entry) for entry in state["sessions"]]
        next_number = int(state["following"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no state: {type(error).__name__}") from None
    return Registry(
        next_number, {mount.name: mount for mount in mounts}, {s.number: s for s in sessions}
    )


def write(path: str, registry: Registry) -> None:
    """Replace the file in one step.  Raises OSError: the file is as before."""
    new = path + ".new"
    descriptor = os.open(
        new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        data = encode(registry)
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)
    os.rename(new, path)


def read(path: str) -> Registry | None:
    """Return the registry in the file; None without a file.  Raises ValueError, OSError."""
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


def _mount(entry: Any) -> Mount:
    owner = Owner(int(entry["uid"]), int(entry["gid"]), str(entry["user"]))
    daemon = _process(entry["daemon"]) if entry["daemon"] else None
    doomed = tuple(str(ccache) for ccache in entry.get("doomed", ()))  # an older ccfsd has none
    return Mount(
        str(entry["name"]), owner, daemon, str(entry["device"]), bool(entry["asked"]), doomed
    )


def _session(entry: Any) -> Session:
    return Session(
        int(entry["number"]),
        str(entry["mount"]),
        _process(entry["leader"]),
        str(entry["ccache"]),
        str(entry["service"]),
    )
