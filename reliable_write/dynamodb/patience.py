"""One request, sent with the same bytes for as long as that makes sense."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from reliable_write.clock import Deadline, TimeSource
from reliable_write.dynamodb.calls import CallName, Calls
from reliable_write.dynamodb.failures import CallFailed, ConditionRefused, TransactionCancelled
from reliable_write.policy import FailureKind, retry_pause_seconds


class PatientCalls:
    """What the verbs of reading and writing have in common."""

    def __init__(self, calls: Calls, time: TimeSource) -> None:
        self._calls = calls
        self._time = time

    def _send(self, call: CallName, request: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        return self._send_counting(call, request, deadline)[0]

    def _send_counting(
        self, call: CallName, request: Mapping[str, Any], deadline: Deadline
    ) -> tuple[dict[str, Any], int]:
        """The same bytes again until they are answered, refused for good, or out of time; the answer and the tries.

        Out of time after a failed try, that try's failure is told: "deadline passed" says nothing about the service.
        """
        ambiguous = False
        before: CallFailed | None = None
        for tries in itertools.count(1):
            try:
                return self._calls.send(call, request, deadline), tries
            except (ConditionRefused, TransactionCancelled) as refused:
                refused.ambiguous = ambiguous
                raise
            except CallFailed as failure:
                ambiguous = ambiguous or failure.ambiguous
                telling = before if before is not None and failure.kind is FailureKind.DEADLINE else failure
                again = telling.with_ambiguity(ambiguous=ambiguous)
                if not failure.kind.retryable:
                    raise again from telling.__cause__
                before = failure
                self._pause(tries, deadline, again)
        raise AssertionError

    def _pause(self, tries: int, deadline: Deadline, failure: CallFailed) -> None:
        """Wait before the next try, or raise the failure where the wait would outlast the deadline."""
        seconds = retry_pause_seconds(tries, self._time)
        if seconds >= deadline.remaining_seconds():
            raise failure from failure.__cause__
        self._time.sleep(seconds)
