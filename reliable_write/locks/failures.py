"""What to tell where the store gave no answer about a lock. Not to be taken for "somebody else holds it"."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reliable_write.dynamodb import CallFailed
from reliable_write.errors import CommitFailedError, Outcome, ReadFailedError


@contextmanager
def reading(table: str) -> Iterator[None]:
    """Raises `ReadFailedError` for a read without an answer."""
    try:
        yield
    except CallFailed as failure:
        raise ReadFailedError(
            f"A lock in {table} could not be read: {failure}. Nothing was written.",
            table=table,
            retryable=failure.kind.retryable,
        ) from failure


@contextmanager
def writing(table: str, what: str, advice: str) -> Iterator[None]:
    """Raises `CommitFailedError` for a write without an answer; its outcome is UNKNOWN where it may have happened."""
    try:
        yield
    except CallFailed as failure:
        outcome = Outcome.UNKNOWN if failure.ambiguous else Outcome.NOT_WRITTEN
        raise CommitFailedError(
            f"A lock in {table} could not be {what}: {failure}. {advice}",
            outcome=outcome,
            retryable=failure.kind.retryable,
        ) from failure
