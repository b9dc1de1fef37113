# SPDX-License-Identifier: MIT
"""The policy for texts of exceptions: an unexpected one's type and places, never its message."""

import json

import pytest

from ccfs.cli import daemonize
from ccfs.commandline import messages
from ccfs.errors import redaction
from ccfs.linux import forked_call

SECRET = "not for the log"


def raised(error: BaseException) -> BaseException:
    """An exception that has been raised, here."""
    try:
        raise error
    except BaseException as caught:
        return caught


def raised_from_others() -> Exception:
    """An exception with a cause and a note, whose cause has a context; each has the secret."""
    try:
        try:
            try:
                raise KeyError(SECRET)
            except KeyError:
                raise ValueError(SECRET)  # noqa: B904 - the context is what is tested
        except ValueError as cause:
            error = RuntimeError(SECRET)
            error.add_note(SECRET)
            raise error from cause
    except RuntimeError as caught:
        return caught


def test_description_has_type_and_place() -> None:
    text = redaction.describe(raised(ValueError(SECRET)))
    assert text.startswith("ValueError at raised:")
    assert SECRET not in text


def test_description_of_a_group_is_of_its_first_exception() -> None:
    """A task group wraps what ended it, perhaps more than once."""
    inner = ExceptionGroup("inner", [raised(KeyError(SECRET)), OSError()])  # type: ignore[type-var]
    text = redaction.describe(raised(BaseExceptionGroup(SECRET, [inner])))
    assert text.startswith("KeyError at raised:")
    assert SECRET not in text


def test_description_of_an_oserror_has_the_errno() -> None:
    text = redaction.describe(raised(PermissionError(13, SECRET, SECRET)))
    assert text.startswith("PermissionError (EACCES) at raised:")
    assert SECRET not in text
    assert redaction.describe(OSError(SECRET)) == "OSError at "


def test_tracebacks_have_causes_and_contexts_without_messages() -> None:
    text = redaction.tracebacks(raised_from_others())
    types = [line for line in text.splitlines() if not line.startswith(" ")]
    assert types == ["KeyError", "ValueError", "RuntimeError"]
    assert "in raised_from_others" in text
    assert SECRET not in text


def test_description_of_a_child_s_exception_is_kept() -> None:
    """A child process passes on a description, which has no message in it."""

    def fail() -> bytes:
        raise ValueError(SECRET)

    with pytest.raises(redaction.ChildError) as caught:
        forked_call.call(fail, 20)
    text = redaction.describe(caught.value)
    assert text.startswith("ChildError: ValueError at fail:")
    assert " at _unpack:" in text
    assert SECRET not in text


def test_a_command_that_fails_unexpectedly_prints_no_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for debug in (False, True):
        messages.crash(raised_from_others(), debug=debug)
        printed = capsys.readouterr().err
        assert SECRET not in printed
        assert "unexpected failure: RuntimeError at raised_from_others:" in printed
        assert ("in raised_from_others" in printed) is debug


def test_a_daemon_that_fails_unexpectedly_reports_no_message() -> None:
    report = json.loads(daemonize._report(raised_from_others(), ""))
    assert report["reason"].startswith("unexpected failure: RuntimeError at raised_from_others:")
    assert SECRET not in json.dumps(report)
