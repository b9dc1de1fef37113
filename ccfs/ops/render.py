# SPDX-License-Identifier: MIT
"""The texts of the mount: README, info, stats, ids, principal, kdc_offset, primary.

Knows the lines of each text; never how a file is opened or read.
"""

import json
from collections.abc import Mapping

from ccfs import __version__
from ccfs.format.names import encode_name
from ccfs.format.principal import unparse_name
from ccfs.format.text import principal_text, timestamp
from ccfs.ops.file_system import FileSystem
from ccfs.store.ccache import Ccache
from ccfs.store.dir_names import shown_name

_README = """\
Kerberos credentials of uid {uid}, as files.  They are in the memory of process {pid}, not on disk.

use       export KRB5CCNAME=FILE:{mount}/default/ccache
          export KRB5CCNAME=DIR:{mount}/dir               (several identities, kswitch)
look      ls {mount}/caches/*/credentials     cat one of them     klist
switch    ln -sfn caches/NAME {mount}/default
new       mkdir {mount}/caches/NAME           kinit -c FILE:{mount}/caches/NAME/ccache
remove    rm {mount}/caches/NAME/credentials/X     rmdir {mount}/caches/NAME
follow    tail -f {mount}/events
wait      cat {mount}/changed                 returns at the next change; so does
                                              caches/NAME/changed (`ls` lists neither)
ids       ls -l {mount}/by-id                   identifiers are never reused
lock      ccfs lock -m {mount} NAME -- COMMAND     (fcntl locks on caches/NAME/lock)

Secrets are in `ccache` and in credentials/ID.raw only.
"""


def readme(fs: FileSystem, _: int = 0) -> bytes:
    """Describe the mount and its use, with its own paths."""
    text = _README.format(uid=fs.info.owner.uid, pid=fs.info.pid, mount=fs.info.mountpoint)
    return text.encode("utf-8", "surrogateescape")


def info(fs: FileSystem, serial: int) -> bytes:
    """Return the `key: value` lines of the mount (serial 0) or of a ccache."""
    ccache = fs.store.collection.by_serial(serial)
    lines = _ccache_info(fs, ccache) if ccache else _mount_info(fs)
    return "".join(f"{key}: {value}\n" for key, value in lines).encode("utf-8", "surrogateescape")


def _mount_info(fs: FileSystem) -> list[tuple[str, object]]:
    store, limits = fs.store, fs.store.limits
    ccaches = [c for c in store.collection.all() if c.initialised]
    return [
        ("server_id", fs.info.ident),
        ("start_time", int(store.start_time)),
        ("pid", fs.info.pid),
        ("keeper", fs.info.supervisor_pid),
        ("version", __version__),
        ("journal", fs.info.journal_path.replace("\n", "%0A")),
        ("kcm_socket", fs.info.kcm_socket.replace("\n", "%0A")),
        ("default", encode_name(store.collection.default.name)),
        ("change_time", store.change_time),
        ("ccaches", len(ccaches)),
        ("credentials", sum(len(c.credentials) for c in ccaches)),
        ("files", store.scratch.count),
        ("bytes", store.used_bytes),
        ("limit_ccaches", limits.ccaches),
        ("limit_ccache_bytes", limits.ccache_bytes),
        ("limit_total_bytes", limits.total_bytes),
        ("limit_credentials", limits.credentials),
        ("limit_events", limits.events),
        ("limit_handles", limits.handles),
    ]


def _ccache_info(fs: FileSystem, ccache: Ccache) -> list[tuple[str, object]]:
    prefix, expires = ccache.prefix, ccache.expires()
    offset = prefix.header.kdc_offset if prefix else None
    return [
        ("id", ccache.ident),
        ("name", encode_name(ccache.name)),
        ("principal", principal_text(prefix.principal) if prefix else ""),
        ("initialised", _yes(ccache.initialised)),
        ("default", _yes(ccache is fs.store.collection.default)),
        ("version", prefix.header.dialect.version if prefix else ""),
        ("change_time", ccache.change_time),
        ("lineage", ccache.lineage),
        ("last_default_time", ccache.last_default_time or ""),
        ("credentials", len(ccache.credentials)),
        ("config_entries", len(ccache.config)),
        ("bytes", ccache.size),
        ("expires", timestamp(expires) if expires else ""),
        ("kdc_offset", offset[0] if offset else ""),
    ]


def ids(fs: FileSystem, serial: int) -> bytes:
    """Return a line with id and file for each credential and entry, in stored order."""
    ccache = fs.store.collection.by_serial(serial)
    image = ccache.image if ccache else None
    lines = (
        (f"{s.ident}\t{_DIRECTORY[s.config]}/{s.name}\n" for s in image.stored()) if image else ()
    )
    return "".join(lines).encode("utf-8", "surrogateescape")


_DIRECTORY = {False: "credentials", True: "config"}


def principal(fs: FileSystem, serial: int) -> bytes:
    """Return the client principal and a newline; b"" where the ccache is uninitialised."""
    ccache = fs.store.collection.by_serial(serial)
    prefix = ccache.prefix if ccache else None
    return unparse_name(prefix.principal) + b"\n" if prefix else b""


def kdc_offset(fs: FileSystem, serial: int) -> bytes:
    """Return the KDC offset in seconds and a newline; b"" where it is not set."""
    ccache = fs.store.collection.by_serial(serial)
    offset = ccache.prefix.header.kdc_offset if ccache and ccache.prefix else None
    return b"%d\n" % offset[0] if offset else b""


def primary(fs: FileSystem, _: int) -> bytes:
    """Return the file name in `dir/` of the default ccache, as in a DIR ccache's `primary`."""
    return shown_name(fs.store.collection.default) + b"\n"


def stats(fs: FileSystem, _: int) -> bytes:
    """Return JSON: requests by operation, the sizes of the store, and the uptime."""
    store = fs.store
    ccaches = [c for c in store.collection.all() if c.initialised]
    sizes = {
        "ccaches": len(ccaches),
        "credentials": sum(len(c.credentials) for c in ccaches),
        "bytes": store.used_bytes,
        "scratch_files": store.scratch.count,
        "open_handles": len(fs.handles),
        "events": store.events.sequence,
        "uptime": int(fs.committer.clock() - store.start_time),
    }
    requests = ",\n".join(_numbers(fs.committer.requests, "    "))
    lines = [f'  "requests": {{\n{requests}\n  }}', *_numbers(sizes, "  ")]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")


def _numbers(values: Mapping[str, int], indent: str) -> list[str]:
    """Return JSON members in columns.

    The size is the same for larger numbers: reading `stats` after stat(2) is a request, too.
    """
    return [
        f"{indent}{json.dumps(key)}:{value:>{14 + 14 - len(key)}}" for key, value in values.items()
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
