"""`ccfs import`: what login does, by hand: ccaches from elsewhere move into the mount.

Knows the file operations that the mount has for it: a scratch file is written beside `ccache` and
renamed over it, in one step; never the bytes of a ccache.  A source is removed once the mount has
said that it has its content.
"""

from __future__ import annotations

import errno
import os
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex

from ccfs.cli import info, mountpoint_argument, output
from ccfs.cli.ccaches import directory_of, make_default
from ccfs.cli.import_ import sources
from ccfs.cli.import_.sources import Left, Writable
from ccfs.errors import ExistsError, Exit, SourceError, UsageError, UserError
from ccfs.linux import foreign_file
from ccfs.mounting import mountpoint

_SCRATCH = ".ccfs-import-{}"
_PROBE = "ccfs-import-{}"
_PROBED = "probe@{}.CCFS.INVALID"


def run(arguments: Namespace) -> int:
    """Move the ccaches of a residual into the mount, and print the names that they have there."""
    path = mountpoint_argument.of(arguments.mountpoint)
    limit = _limit(path)
    residual = arguments.residual or sources.default(os.environ, os.getuid())
    _check_elsewhere(path, residual)
    with sources.opened(residual, limit) as found:
        default = _default(path)
        names = _names(found, arguments.into, default)
        if not arguments.replace:
            for name in names:
                _check_free(path, name)
        had_something = _has_credentials(path, default)
        for left, name in zip(found, names, strict=True):
            _move(path, left, name, arguments)
        if not had_something and default not in names:
            _lead(path, next((n for n, left in zip(names, found, strict=True) if left.primary), ""))
    return Exit.OK


def _lead(path: str, name: str) -> None:
    """Make the primary one of a collection the default; where none was, nothing happens."""
    if name:
        _ask(path, name, lambda: make_default(path, directory_of(path, name)))


def _limit(path: str) -> int:
    """How large a ccache may be in the mount: bytes."""
    said = info.of_mount(mountpoint.ask(path, lambda: read(os.path.join(path, "info"))))
    limit = said.get("limit_ccache_bytes")
    return limit if isinstance(limit, int) else 0


def _default(path: str) -> str:
    """The name of the default ccache."""
    link = os.path.join(path, "default")
    target = mountpoint.ask(path, lambda: os.fsencode(os.readlink(link)))
    return os.path.basename(os.fsdecode(target))


def _names(found: list[Left], into: str | None, default: str) -> list[str]:
    """Where each ccache goes: one alone into the default, more under names of their own."""
    if len(found) == 1:
        return [into or default]
    if into is not None:
        raise UsageError(
            f"there are {len(found)} ccaches to import, and one name",
            "leave '--into' out, or import them one at a time",
        )
    return [left.name for left in found]


def _check_elsewhere(path: str, residual: str) -> None:
    """SourceError for a source that is in this mount: it would be replaced by itself, and removed.

    A KCM may be the mount's own daemon: it is one that shows what was just made in the mount.
    """
    kind, rest = sources.split(residual)
    file = sources.of_file(kind, rest)
    if _is_in(path, file) if file else kind == "KCM" and _is_seen_in(path, kind):
        raise SourceError(
            f"{foreign_file.shown(residual)} is in the ccfs at {path} already",
            f"name what is to be imported, such as 'ccfs import FILE:/tmp/krb5cc_{os.getuid()}'",
        )


def _is_in(path: str, file: str) -> bool:
    """Whether a file or directory is in the mount; one that isn't there is not."""
    device = os.makedev(0, mountpoint.find(path).connection)
    with suppress(OSError):
        return os.stat(os.path.dirname(file)).st_dev == device or os.stat(file).st_dev == device
    return False


def _is_seen_in(path: str, kind: str) -> bool:
    """Whether the collection of a type shows a ccache that is made in the mount."""
    library = sources.Library(kind)
    token = token_hex(8)
    name, principal = _PROBE.format(token), _PROBED.format(token.upper())
    directory = directory_of(path, name)

    def make() -> None:
        os.mkdir(directory)
        with open(os.path.join(directory, "principal"), "w") as file:
            file.write(principal)

    try:
        _ask(path, name, make)
        return library.has(kind, principal)
    finally:
        with suppress(UserError):
            _ask(path, name, lambda: os.rmdir(directory))


def _check_free(path: str, name: str) -> None:
    """ExistsError where a ccache has credentials."""
    if _has_credentials(path, name):
        raise _taken(name)


def _has_credentials(path: str, name: str) -> bool:
    directory = directory_of(path, name)
    said: bytes = b""
    with suppress(OSError):  # what is wrong with the name is said by who makes it
        said = mountpoint.ask(path, lambda: read(os.path.join(directory, "info")))
    return bool(info.of_ccache(said).get("credentials"))


def _move(path: str, left: Left, name: str, arguments: Namespace) -> None:
    """Import one ccache, say its name, and remove it where it was."""
    directory = directory_of(path, name)
    _ask(path, name, lambda: put(directory, left, replace=arguments.replace), left)
    print(output.printable(name), flush=True)
    if not arguments.keep:
        try:
            left.remove()
        except SourceError as error:
            output.say("notice", f"imported, but {error.reason}")


def put(directory: str, left: Writable, *, replace: bool) -> None:
    """Make it the content of a ccache, in one step.  In a child process: errno alone gets out.

    FileExistsError where that has credentials, unless it is to `replace` them.
    """
    made = False
    with suppress(FileExistsError):
        os.mkdir(directory)
        made = True
    scratch = os.path.join(directory, _SCRATCH.format(os.getpid()))
    try:
        left.put(scratch)
        said = info.of_ccache(read(os.path.join(directory, "info")))
        if said.get("credentials") and not replace:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        os.rename(scratch, os.path.join(directory, "ccache"))
    except BaseException:
        with suppress(OSError):
            os.unlink(scratch)
        if made:
            with suppress(OSError):
                os.rmdir(directory)
        raise


_SAID = {
    errno.EBADMSG: "it is no ccache",
    errno.EINVAL: "no ccache can have that name",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOSPC: "it is too large, or there are too many ccaches",
    errno.EDQUOT: "there is no room for it in the mount",
}


def _ask(path: str, name: str, work: Callable[[], object], left: Left | None = None) -> None:
    """Do some work on the mount, its failures as a person would name them."""

    def bounded() -> bytes:
        work()
        return b""

    try:
        mountpoint.ask(path, bounded)
    except FileExistsError:
        raise _taken(name) from None
    except OSError as error:
        why = _SAID.get(error.errno or 0, (error.strerror or str(error)).lower())
        what = f"import {foreign_file.shown(left.residual)}" if left else f'use ccache "{name}"'
        hint = "see ccfs(1) for what can be imported" if left else "list them with 'ccfs list'"
        raise SourceError(f"cannot {what}: {why}", hint) from None


def _taken(name: str) -> ExistsError:
    return ExistsError(
        f'ccache "{name}" has credentials', "add '--replace', or name another with '--into'"
    )


def read(file: str) -> bytes:
    """All of a file."""
    with open(file, "rb") as opened:
        return opened.read()
