"""How a command ends: the exit codes, and what an error means as one code and one paragraph."""

from __future__ import annotations

import contextlib
import enum
import json
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from reliable_write import errors


class ExitCode(enum.IntEnum):
    """Never renumbered: scripts and alarms lean on them."""

    DONE = 0
    PARTLY = 1
    USAGE = 2
    CONFIGURATION = 3
    SERVICE = 4
    NOT_FOUND = 5
    TOO_LATE = 6
    DIFFERENT = 7


MEANINGS: Final = {
    ExitCode.DONE: "done",
    ExitCode.PARTLY: "done in part, something is stuck, or a check did not hold",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.CONFIGURATION: "settings, credentials or the system table are not in order",
    ExitCode.SERVICE: "DynamoDB, or S3, cannot be reached, or refuses",
    ExitCode.NOT_FOUND: "the table, item or write is not there",
    ExitCode.TOO_LATE: "nothing to do, or somebody else was first",
    ExitCode.DIFFERENT: "upload: an object with other content is there, and was left alone",
}
assert set(MEANINGS) == set(ExitCode)


class CommandError(Exception):
    """A command cannot do what was asked; the message says why and what to do."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Ending:
    """What an error means to the caller of a command."""

    code: ExitCode
    kind: str
    told: str
    outcome: str | None = None


@contextlib.contextmanager
def reported(*, as_json: bool, debug: bool) -> Iterator[None]:
    """Turn errors of the library and of the service into a paragraph on stderr and an exit code.

    What is neither is a defect of ours and keeps its traceback.
    """
    try:
        yield
    except Exception as error:
        ending = ending_of(error)
        if ending is None:
            raise
        if debug:
            sys.stderr.write(paragraph(traceback.format_exc()))
        sys.stderr.write(paragraph(ending.told))
        if as_json:
            facts = {"kind": ending.kind, "message": ending.told, "outcome": ending.outcome, "exit": int(ending.code)}
            sys.stdout.write(json.dumps({"error": facts}) + "\n")
        sys.exit(ending.code)


def paragraph(text: str) -> str:
    """Text for stderr. What is quoted in it must not talk to the terminal, nor begin a line that looks like ours."""
    from reliable_write.settings import printable

    return "\n    ".join(map(printable, text.rstrip("\n").split("\n"))) + "\n"


def ending_of(error: Exception) -> Ending | None:
    """The meaning of an error; None for one that is nobody's but ours."""
    if isinstance(error, CommandError):
        return Ending(error.code, "CommandError", str(error))
    if isinstance(error, errors.ReliableWriteError):
        return _own_ending(error)
    return _foreign_ending(error)


def _own_ending(error: errors.ReliableWriteError) -> Ending:
    """An error of the library. Settings that "cannot be read" are not wrong: the call that failed has its own code."""
    code, told = _code_of(error), error.message
    if isinstance(error, errors.ConfigurationError) and error.__cause__ is not None:
        from reliable_write.dynamodb import CallFailed
        from reliable_write.policy import FailureKind

        failure = error.__cause__
        if isinstance(failure, CallFailed) and failure.kind is not FailureKind.TABLE_MISSING:
            code, advice = _advice(failure, failure.code)
            told = f"{told} {advice}"
    return Ending(code, type(error).__name__, told, error.outcome.value)


def _code_of(error: errors.ReliableWriteError) -> ExitCode:
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), ExitCode.SERVICE)


_CODES: Final[tuple[tuple[tuple[type[errors.ReliableWriteError], ...], ExitCode], ...]] = (
    ((errors.EntryNotFoundError, errors.UnknownTableError), ExitCode.NOT_FOUND),
    ((errors.TooLateError, errors.LockLostError, errors.LockNotAcquiredError), ExitCode.TOO_LATE),
    ((errors.ConfigurationError,), ExitCode.CONFIGURATION),
    ((errors.WriteRejectedError,), ExitCode.USAGE),
)


def _foreign_ending(error: Exception) -> Ending | None:
    """Errors of botocore, and the library's own reading of them."""
    from botocore.exceptions import BotoCoreError, ClientError

    from reliable_write.dynamodb import CallFailed
    from reliable_write.dynamodb.failures import translate

    if isinstance(error, BotoCoreError | ClientError):
        said, failure = str(error), translate(error, None)
    else:
        said, failure = str(error.__cause__ or ""), error  # type: ignore[assignment]  # sorted out by the next line
    if not isinstance(failure, CallFailed):
        return None
    code, advice = _advice(failure, type(error).__name__)
    text = f"{said.rstrip('.')}. {advice}" if said else f"{failure}. {advice}"
    return Ending(code, type(error).__name__, text)


def _advice(failure: object, name: str) -> tuple[ExitCode, str]:
    from reliable_write.dynamodb import CallFailed
    from reliable_write.policy import FailureKind

    assert isinstance(failure, CallFailed)
    if name in ("NoRegionError", "InvalidRegionError", "ProfileNotFound"):
        return ExitCode.CONFIGURATION, "Give --region or --profile, or set AWS_DEFAULT_REGION or AWS_PROFILE."
    if failure.kind is FailureKind.CREDENTIALS:
        return ExitCode.CONFIGURATION, "Check them with: aws sts get-caller-identity (an emulator takes invented ones)."
    if failure.kind is FailureKind.TABLE_MISSING:
        return ExitCode.NOT_FOUND, "Check its name, --region and --profile."
    if failure.kind is FailureKind.ACCESS_DENIED:
        return ExitCode.SERVICE, "Let an administrator allow this call, then run the same command again."
    return ExitCode.SERVICE, "Check --endpoint-url, --region and the network, then run the same command again."
