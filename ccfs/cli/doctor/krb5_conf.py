# SPDX-License-Identifier: MIT
"""Read settings of [libdefaults] from krb5.conf.

Knows the form of krb5.conf(5) and where MIT's libkrb5 looks for it; never what a setting means.
Files that can't be read are skipped, as libkrb5 skips them.  By hand: python-krb5, which is
optional here, has no function for libkrb5's profile library.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

DEFAULT_PATH = "/etc/krb5.conf"
SECTION = "[libdefaults]"
MAX_DEPTH = 8
"""Levels of `include`."""

_INCLUDED = re.compile(r"[\w-]+|[^.].*\.conf", re.ASCII)
"""The names of files that `includedir` reads."""


def libdefault(name: str, environment: Mapping[str, str]) -> str:
    """Return the first value of a setting of [libdefaults]; "" if there is none.

    `%{uid}` and the like are expanded for the calling process, as libkrb5 expands them.
    """
    paths = environment.get("KRB5_CONFIG", DEFAULT_PATH).split(":")
    values = (value for path in paths for key, value in _read(path, 0) if key == name)
    return _expand(next(values, ""))


def _read(path: str, depth: int) -> Iterator[tuple[str, str]]:
    """Yield the settings of [libdefaults] in a file and in the files it includes, in order."""
    lines: list[str] = []
    with suppress(OSError), open(path, encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().splitlines()
    section, braces = "", 0
    for line in map(str.strip, lines):
        if line.startswith(("#", ";")):
            continue
        word, _, rest = line.partition(" ")
        key, separator, value = (part.strip() for part in line.partition("="))
        if line.startswith("["):
            section, braces = line.rstrip("*"), 0
        elif word in ("include", "includedir") and not separator:
            for included in _included(word, rest.strip()) if depth < MAX_DEPTH else ():
                yield from _read(included, depth + 1)
        elif line.startswith("}"):
            braces -= 1
        elif value == "{":
            braces += 1
        elif separator and section == SECTION and not braces:
            yield key.removesuffix("*").rstrip(), _unquote(value)


def _included(word: str, path: str) -> list[str]:
    """Return the files of `include FILE` or `includedir DIRECTORY`."""
    if word == "include":
        return [path]
    names: list[str] = []
    with suppress(OSError):
        names = sorted(os.listdir(path))
    return [os.path.join(path, name) for name in names if _INCLUDED.fullmatch(name)]


def _unquote(value: str) -> str:
    return value[1:].partition('"')[0] if value.startswith('"') else value


def _expand(value: str) -> str:
    """Expand the parameters that depend on the user (krb5.conf(5), "Parameter expansion")."""
    uid = os.geteuid()
    value = value.replace("%{euid}", str(uid)).replace("%{null}", "")
    value = re.sub(r"%\{(uid|USERID)\}", str(os.getuid()), value)
    with suppress(KeyError):
        value = value.replace("%{username}", pwd.getpwuid(uid).pw_name)
    return value
