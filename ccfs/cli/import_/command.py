# SPDX-License-Identifier: MIT
"""Move the ccaches of a residual into the mount, as ccfsd does at login.

Knows the order of the steps and the names that ccaches get; never the bytes of a ccache.  A source
is removed only after the mount has its content.
"""

from __future__ import annotations

import errno
import os
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex

from ccfs.cli import info, mountpoint_argument
from ccfs.cli.ccache_directory import LIST_HINT, directory_of, make_default
from ccfs.cli.ccache_files import read_file, write_ccache
from ccfs.cli.import_ import residual as residuals
from ccfs.cli.import_.library_source import Library
from ccfs.cli.import_.open_sources import open_sources
from ccfs.cli.import_.source import Source
from ccfs.commandline import messages
from ccfs.errors import ExistsError, Exit, SourceError, UsageError, UserError
from ccfs.linux import foreign_file
from ccfs.mounting import mountpoint

_PROBE = "ccfs-import-{}"
_PROBE_PRINCIPAL = "probe@{}.CCFS.INVALID"


def run(arguments: Namespace) -> int:
    """Move the ccaches of a residual into the mount, and print their names there."""
    path = mountpoint_argument.resolve(arguments.mountpoint)
    limit = _max_ccache_bytes(path)
    residual = arguments.residual or residuals.default(os.environ, os.getuid())
    _check_elsewhere(path, residual)
    with open_sources(residual, limit) as sources:
        default = _default_name(path)
        names = _target_names(sources, arguments.into, default)
        if not arguments.replace:
            for name in names:
                _check_replaceable(path, name)
        keep_default = _has_credentials(path, default) or default in names
        for source, name in zip(sources, names, strict=True):
            _move(path, source, name, arguments)
        if not keep_default:
            _make_primary_default(path, sources, names)
    return Exit.OK


def _make_primary_default(path: str, sources: list[Source], names: list[str]) -> None:
    """Make the primary ccache of a collection the mount's default, if the collection has one."""
    primaries = [name for source, name in zip(sources, names, strict=True) if source.primary]
    if primaries:
        directory = directory_of(path, primaries[0])
        _run_on_mount(path, primaries[0], lambda: make_default(path, directory))


def _max_ccache_bytes(path: str) -> int:
    """Return the mount's limit of a ccache's size, in bytes."""
    data = mountpoint.call(path, lambda: read_file(os.path.join(path, "info")))
    limit = info.of_mount(data).get("limit_ccache_bytes")
    return limit if isinstance(limit, int) else 0


def _default_name(path: str) -> str:
    """Return the name of the mount's default ccache."""
    link = os.path.join(path, "default")
    target = mountpoint.call(path, lambda: os.fsencode(os.readlink(link)))
    return os.path.basename(os.fsdecode(target))


def _target_names(sources: list[Source], into: str | None, default: str) -> list[str]:
    """Return the name of each ccache in the mount: a single one becomes the default ccache."""
    if len(sources) == 1:
        return [into or default]
    if into is not None:
        raise UsageError(
            f"there are {len(sources)} ccaches to import, and one name",
            "leave '--into' out, or import them one at a time",
        )
    return [source.name for source in sources]


def _check_elsewhere(path: str, residual: str) -> None:
    """Raise SourceError for a source in this mount: it would replace itself, then be removed.

    For `KCM:` a probe ccache shows whether the mount's own daemon serves it.
    """
    kind, rest = residuals.split(residual)
    file = residuals.file_of(kind, rest)
    if _is_in_mount(path, file) if file else kind == "KCM" and _shows_mount(path, kind):
        raise SourceError(
            f"{foreign_file.printable(residual)} is in the ccfs at {path} already",
            f"name what is to be imported, such as 'ccfs import FILE:/tmp/krb5cc_{os.getuid()}'",
        )


def _is_in_mount(path: str, file: str) -> bool:
    """True if a file or directory is in the mount; False if it doesn't exist."""
    device = os.makedev(0, mountpoint.find(path).connection)
    with suppress(OSError):
        return os.stat(os.path.dirname(file)).st_dev == device or os.stat(file).st_dev == device
    return False


def _shows_mount(path: str, kind: str) -> bool:
    """True if the collection of a type shows a ccache that is made in the mount for that."""
    library = Library(kind)
    token = token_hex(8)
    name, principal = _PROBE.format(token), _PROBE_PRINCIPAL.format(token.upper())
    directory = directory_of(path, name)

    def make() -> None:
        os.mkdir(directory)
        with open(os.path.join(directory, "principal"), "w") as file:
            file.write(principal)

    try:
        _run_on_mount(path, name, make)
        return library.has_principal(kind, principal)
    finally:
        with suppress(UserError):
            _run_on_mount(path, name, lambda: os.rmdir(directory))


def _check_replaceable(path: str, name: str) -> None:
    """Raise ExistsError if the ccache has credentials."""
    if _has_credentials(path, name):
        raise _exists(name)


def _has_credentials(path: str, name: str) -> bool:
    directory = directory_of(path, name)
    data = b""
    with suppress(OSError):  # `write_ccache` reports a wrong name
        data = mountpoint.call(path, lambda: read_file(os.path.join(directory, "info")))
    return bool(info.of_ccache(data).get("credentials"))


def _move(path: str, source: Source, name: str, arguments: Namespace) -> None:
    """Write one ccache to the mount, print its name, and remove it where it was."""
    directory = directory_of(path, name)

    def write() -> None:
        write_ccache(directory, source, replace=arguments.replace)

    _run_on_mount(path, name, write, source)
    print(messages.printable(name), flush=True)
    if not arguments.keep:
        try:
            source.remove()
        except SourceError as error:
            messages.say("notice", f"imported, but {error.reason}")


_REASONS = {
    errno.EBADMSG: "it is no ccache",
    errno.EINVAL: "no ccache can have that name",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOSPC: "it is too large, or there are too many ccaches",
    errno.EDQUOT: "there is no room for it in the mount",
}


def _run_on_mount(
    path: str, name: str, operation: Callable[[], object], source: Source | None = None
) -> None:
    """Run an operation on the mount with a bound on time; ExistsError, SourceError.

    The error names the `source` if there is one, else the ccache `name`.
    """

    def run_operation() -> bytes:
        operation()
        return b""

    try:
        mountpoint.call(path, run_operation)
    except FileExistsError:
        raise _exists(name) from None
    except OSError as error:
        system_reason = (error.strerror or type(error).__name__).lower()
        reason = _REASONS.get(error.errno or 0, system_reason)
        if source:
            shown = foreign_file.printable(source.residual)
            hint = "see ccfs(1) for what can be imported"
            raise SourceError(f"cannot import {shown}: {reason}", hint) from None
        raise SourceError(f'cannot use ccache "{name}": {reason}', LIST_HINT) from None


def _exists(name: str) -> ExistsError:
    return ExistsError(
        f'ccache "{name}" has credentials', "add '--replace', or name another with '--into'"
    )
