# SPDX-License-Identifier: MIT
"""The command line of ccfsd.  Knows options and their defaults; never what they do."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

from ccfs import __version__
from ccfs.ccfsd.settings import KCM_SOCKET, Limits, Settings
from ccfs.commandline.parser import ArgumentParser, seconds, whole_number

_DEFAULTS = Settings()
LIMITS = tuple(field.name for field in dataclasses.fields(Limits))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line.  Raises UsageError."""
    parser = ArgumentParser(prog="ccfsd", description="Mount a ccfs for each user who needs one.")
    flag = parser.add_argument
    flag("--version", action="version", version=f"ccfsd {__version__}")
    flag("--debug", action="store_true", help="log everything")
    flag("--stop", action="store_true", help="end the ccfsd that runs, and all mounts with it")
    flag(
        "--restart",
        action="store_true",
        help="replace the running ccfsd and its daemons with this version",
    )
    flag("--check", action="store_true", help="see whether ccfsd could run, and end")
    flag(
        "--runtime-directory",
        default=_DEFAULTS.root,
        metavar="DIR",
        help=f"default: {_DEFAULTS.root}",
    )
    flag(
        "--kcm-socket",
        default=KCM_SOCKET,
        metavar="PATH",
        help=f"where KCM clients connect; default: {KCM_SOCKET}",
    )
    flag("--no-kcm", dest="kcm_socket", action="store_const", const="", help="serve no KCM clients")
    flag("--allow-root", action="store_true", help="let root into the users' mounts, too")
    flag(
        "--idle",
        type=seconds,
        default=_DEFAULTS.idle,
        metavar="SECONDS",
        help="end a daemon without requests and credentials after so long (600)",
    )
    flag(
        "--hang",
        type=seconds,
        default=_DEFAULTS.hang,
        metavar="SECONDS",
        help="replace a daemon that does not answer for so long, and does nothing (5)",
    )
    flag(
        "--patience",
        type=seconds,
        default=_DEFAULTS.patience,
        metavar="SECONDS",
        help="end a mount for which no daemon comes up for so long (30)",
    )
    flag("--mount-anew", action="store_true", help="after a crash mount anew, as before Linux 6.9")
    flag(
        "--grace",
        type=_seconds_or_zero,
        default=_DEFAULTS.grace,
        metavar="SECONDS",
        help="keep a mount for so long after the last session (0)",
    )
    flag(
        "--linger-directory",
        default=_DEFAULTS.linger,
        metavar="DIR",
        help=f"names the users whose mounts outlive their sessions; default: {_DEFAULTS.linger}",
    )
    flag(
        "--limit",
        type=_limit,
        action="append",
        default=[],
        metavar="NAME=N",
        help="what users may have without a session: "
        + ", ".join(f"{name} ({getattr(_DEFAULTS.limits, name)})" for name in LIMITS),
    )
    return parser.parse_args(argv)


def settings(options: argparse.Namespace) -> Settings:
    """Return the settings of a parsed command line."""
    return Settings(
        root=options.runtime_directory,
        kcm=options.kcm_socket,
        idle=options.idle,
        hang=options.hang,
        grace=options.grace,
        patience=options.patience,
        mount_anew=options.mount_anew,
        linger=options.linger_directory,
        allow_root=options.allow_root,
        debug=options.debug,
        limits=Limits(**dict(options.limit)),
    )


def _limit(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if name not in LIMITS:
        raise argparse.ArgumentTypeError(f"no limit {name!r}, only {', '.join(LIMITS)}")
    return name, whole_number(number)


def _seconds_or_zero(text: str) -> float:
    return 0.0 if text == "0" else seconds(text)
