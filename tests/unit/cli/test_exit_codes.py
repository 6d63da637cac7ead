"""Which error means which exit code, and what of it is shown."""

from __future__ import annotations

import errno

import pytest

from engagement_async import errors
from engagement_async.cli import exit_codes
from engagement_async.cli.exit_codes import CommandError, Interrupted, exit_code_of, message_of


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("x"), exit_codes.USAGE),
        (errors.RequestRefusedError("x"), exit_codes.USAGE),
        (errors.ServerRefusedError("x"), exit_codes.USAGE),
        (errors.AuthError("x"), exit_codes.CREDENTIALS),
        (errors.ServerError("x"), exit_codes.INCOMPLETE),
        (errors.EngagementError("x"), exit_codes.INCOMPLETE),
        (BrokenPipeError(), exit_codes.BROKEN_PIPE),
        (OSError(errno.ENOSPC, "full"), exit_codes.RESOURCE),
        (MemoryError(), exit_codes.RESOURCE),
        (KeyboardInterrupt(), exit_codes.INTERRUPTED),
        (Interrupted(exit_codes.TERMINATED), exit_codes.TERMINATED),
        (CommandError("x", exit_codes.LOCKED), exit_codes.LOCKED),
        (ZeroDivisionError(), exit_codes.BUG),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_one_code(error: BaseException, code: int) -> None:
    assert exit_code_of(error) == code


def test_every_error_of_the_package_has_a_code_of_its_own_meaning() -> None:
    of_jobs = {name for name in errors.__all__ if issubclass(getattr(errors, name), errors.JobError)}

    for name in set(errors.__all__) - of_jobs:
        assert exit_code_of(getattr(errors, name)("x")) not in (exit_codes.BUG, exit_codes.RESOURCE)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.UsageError("name a metric"), "name a metric"),
        (CommandError("another run holds it", 11), "another run holds it"),
        (OSError(errno.ENOSPC, "No space left", "a.csv"), "a.csv: No space left: make room and run it again"),
        (OSError(errno.EACCES, "Permission denied", "a.csv"), "a.csv: Permission denied"),
        (OSError(), "OSError"),
        (KeyboardInterrupt(), "interrupted"),
        (MemoryError(), "out of memory: request fewer IDs at once"),
    ],
)
def test_what_is_foreseen_is_shown_in_its_words(error: BaseException, message: str) -> None:
    assert message_of(error) == message


def test_of_a_bug_the_place_is_shown_and_never_the_text() -> None:
    try:
        dict[str, int]()["canary"]
    except KeyError as error:
        message = message_of(error)

    assert "KeyError" in message
    assert f"{__file__}:" in message
    assert "canary" not in message
