"""Errors that are meant for a person, and the exit statuses they end in.

Knows what a person is told and with which status the command ends; never how a mount works, nor
anything of the other layers (whose own error trees stay theirs).
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit statuses of `ccfs`: a contract, documented in ccfs(1) and the README.

    A number is never given a second meaning; a new kind of failure gets the next free one.
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
    """Something the user can understand and mend.

    `reason` is one line, lower case, without a full stop; `hint` says what to do next, or is empty;
    `status` is the exit status of the command that fails with it. None of them holds a secret.
    """

    default_status = Exit.UNEXPECTED

    def __init__(self, reason: str, hint: str = "", status: Exit | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.status = self.default_status if status is None else status


class UsageError(UserError):
    """The command line can't be followed."""

    default_status = Exit.USAGE


class NotMountedError(UserError):
    """There is no ccfs where one was expected."""

    default_status = Exit.NOT_MOUNTED


class AlreadyMountedError(UserError):
    """A living ccfs is there already."""

    default_status = Exit.ALREADY_MOUNTED


class MountError(UserError):
    """The system gives us no FUSE mount: no device, no fusermount3, or mount(2) refused."""

    default_status = Exit.NO_FUSE


class DeadMountError(UserError):
    """A mount is there whose daemon is gone."""

    default_status = Exit.DEAD_MOUNT


class DeniedError(UserError):
    """The caller may not do this."""

    default_status = Exit.PERMISSION


class MountpointError(UserError):
    """The directory can't be mounted on."""

    default_status = Exit.BAD_MOUNTPOINT


class NoCcacheError(UserError):
    """There is no ccache of that name."""

    default_status = Exit.NO_CCACHE


class LockedError(UserError):
    """Somebody else holds the lock."""

    default_status = Exit.LOCKED


class SourceError(UserError):
    """What was to be imported can't be."""

    default_status = Exit.BAD_SOURCE


class ExistsError(UserError):
    """There is something already that would be replaced."""

    default_status = Exit.EXISTS


class KcmSocketError(UserError):
    """KCM clients can't be served at the socket."""

    default_status = Exit.KCM_SOCKET


class JournalError(UserError):
    """The journal, or the place for it, can't be used."""

    default_status = Exit.JOURNAL


class NoAnswerError(UserError):
    """A daemon is there and doesn't answer within the bound."""

    default_status = Exit.NO_ANSWER
