"""What is told of an exception that nobody foresaw: its kind and its place, never its message."""

from ccfs.errors import redaction

SECRET = "not for the log"


def raised(error: BaseException) -> BaseException:
    """An exception that has been raised, here."""
    try:
        raise error
    except BaseException as caught:
        return caught


def test_its_type_and_place() -> None:
    said = redaction.describe(raised(ValueError(SECRET)))
    assert said.startswith("ValueError at raised:")
    assert SECRET not in said


def test_of_a_group_the_first_one() -> None:
    """A task group wraps what ended it, perhaps more than once."""
    inner = ExceptionGroup("inner", [raised(KeyError(SECRET)), OSError()])  # type: ignore[list-item]
    said = redaction.describe(raised(BaseExceptionGroup(SECRET, [inner])))
    assert said.startswith("KeyError at raised:")
    assert SECRET not in said
