"""What krb5.conf says, as far as `ccfs doctor` wants to know it.

Knows the form of krb5.conf(5) and where MIT's libkrb5 looks for it; never what a setting means.
Whatever can't be read says nothing, as for libkrb5.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

PLACE = "/etc/krb5.conf"
SECTION = "[libdefaults]"
DEEPEST = 8
"""Files that include one another, in a row."""

_INCLUDED = re.compile(r"[\w-]+|[^.].*\.conf", re.ASCII)
"""The names of files that `includedir` reads."""


def libdefault(name: str, environment: Mapping[str, str]) -> str:
    """The first value of a setting of [libdefaults]; "" where there is none.

    In it, `%{uid}` and the like stand for the caller, as for libkrb5.
    """
    paths = environment.get("KRB5_CONFIG", PLACE).split(":")
    found = (value for path in paths for key, value in _read(path, 0) if key == name)
    return _expanded(next(found, ""))


def _read(path: str, depth: int) -> Iterator[tuple[str, str]]:
    """The settings of [libdefaults] in a file, and in those that it includes, in their order."""
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
            for one in _included(word, rest.strip()) if depth < DEEPEST else ():
                yield from _read(one, depth + 1)
        elif line.startswith("}"):
            braces -= 1
        elif value == "{":
            braces += 1
        elif separator and section == SECTION and not braces:
            yield key.removesuffix("*").rstrip(), _unquoted(value)


def _included(word: str, path: str) -> list[str]:
    """The files of `include FILE`, and of `includedir DIRECTORY`."""
    if word == "include":
        return [path]
    names: list[str] = []
    with suppress(OSError):
        names = sorted(os.listdir(path))
    return [os.path.join(path, name) for name in names if _INCLUDED.fullmatch(name)]


def _unquoted(value: str) -> str:
    return value[1:].partition('"')[0] if value.startswith('"') else value


def _expanded(value: str) -> str:
    """With the parameters that depend on who asks (krb5.conf(5), "Parameter expansion")."""
    uid = os.geteuid()
    value = value.replace("%{euid}", str(uid)).replace("%{null}", "")
    value = re.sub(r"%\{(uid|USERID)\}", str(os.getuid()), value)
    with suppress(KeyError):
        value = value.replace("%{username}", pwd.getpwuid(uid).pw_name)
    return value
