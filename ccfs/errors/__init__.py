# SPDX-License-Identifier: MIT
"""Errors that are shown to users, and the exit statuses of commands that fail with them.

Knows texts and exit statuses; never how a mount works.  Other layers have error trees of their own
(ccfs.store.errors, ccfs.format.errors).
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit statuses of `ccfs`: a contract, documented in ccfs(1).

    A number never gets a second meaning; a new kind of failure gets the next free one.
    """

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    NOT_MOUNTED = 3
    ALREADY_MOUNTED = 4
    NO_FUSE = 5
    DEAD_MOUNT = 6
    PERMISSION = 7
    BAD_MOUNTPOINT = 8
    NO_ANSWER = 9
    JOURNAL = 10
    FINDINGS = 11
    NO_CCACHE = 12
    LOCKED = 13
    BAD_SOURCE = 14
    EXISTS = 15
    KCM_SOCKET = 16
    NOT_RESTARTED = 17
    INTERRUPTED = 130


class UserError(Exception):
    """A failure that is explained to the user.

    `reason`: what is wrong, one line, lower case, without a full stop.  `hint`: what to do about
    it, or empty.  `status`: the exit status of the command.  None of them holds a secret.
    """

    default_status = Exit.UNEXPECTED

    def __init__(self, reason: str, hint: str = "", status: Exit | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.status = self.default_status if status is None else status


class UsageError(UserError):
    """The command line is wrong, or no mountpoint is known."""

    default_status = Exit.USAGE


class NotMountedError(UserError):
    """No ccfs is mounted at the path."""

    default_status = Exit.NOT_MOUNTED


class AlreadyMountedError(UserError):
    """A ccfs that answers is mounted at the path already."""

    default_status = Exit.ALREADY_MOUNTED


class MountError(UserError):
    """No FUSE mount is possible: no device, no fusermount3, or mount(2) failed."""

    default_status = Exit.NO_FUSE


class DeadMountError(UserError):
    """A mount without a daemon is at the path."""

    default_status = Exit.DEAD_MOUNT


class DeniedError(UserError):
    """The user has no permission."""

    default_status = Exit.PERMISSION


class MountpointError(UserError):
    """The directory can't be mounted on."""

    default_status = Exit.BAD_MOUNTPOINT


class NoCcacheError(UserError):
    """There is no ccache of that name."""

    default_status = Exit.NO_CCACHE


class LockedError(UserError):
    """Another process holds the lock."""

    default_status = Exit.LOCKED


class SourceError(UserError):
    """The source of an import can't be imported."""

    default_status = Exit.BAD_SOURCE


class ExistsError(UserError):
    """A ccache or file would be replaced, without --replace."""

    default_status = Exit.EXISTS


class KcmSocketError(UserError):
    """The KCM socket can't be used."""

    default_status = Exit.KCM_SOCKET


class JournalError(UserError):
    """The journal, or its directory, can't be used."""

    default_status = Exit.JOURNAL


class NoAnswerError(UserError):
    """A daemon doesn't answer in time."""

    default_status = Exit.NO_ANSWER
