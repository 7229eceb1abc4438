"""Whether the engine has transactions, asked once."""

from __future__ import annotations

import pytest

from reliable_write import CommitFailedError, UnsupportedOperationError
from reliable_write.capabilities import Capabilities
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed, Store
from reliable_write.dynamodb.failures import CancelReason, TransactionCancelled
from reliable_write.policy import FailureKind
from tests.unit.fakes import ManualTime, ScriptedCalls, Step

KEY = {"pk": {"S": "CONFIG"}, "sk": {"S": "CONFIG"}}
UNKNOWN_CALL = CallFailed(FailureKind.UNCLASSIFIED, "UnknownOperationException", None, ambiguous=False)


def asked(*steps: Step, table: str = "journal") -> tuple[Capabilities, ScriptedCalls, Deadline]:
    time, calls = ManualTime(), ScriptedCalls(*steps)
    return Capabilities(Store(calls, time), table, KEY, time), calls, Deadline.after(8.0, time)


def test_an_engine_is_asked_once_with_a_check_that_changes_nothing() -> None:
    capabilities, calls, deadline = asked({})
    for _ in range(2):
        capabilities.require_transactions("An update", deadline)
    ((call, request),) = calls.sent
    assert call == "transact_write_items"
    assert [list(action) for action in request["TransactItems"]] == [["ConditionCheck"]]


def test_an_engine_without_them_is_told_by_name() -> None:
    capabilities, calls, deadline = asked(UNKNOWN_CALL)
    for _ in range(2):
        with pytest.raises(UnsupportedOperationError, match="An update needs TransactWriteItems"):
            capabilities.require_transactions("An update", deadline)
    assert len(calls.sent) == 1


def test_an_engine_that_cancels_the_question_has_them() -> None:
    capabilities, _, deadline = asked(TransactionCancelled([CancelReason(None, "ConditionalCheckFailed")]))
    capabilities.require_transactions("An update", deadline)


def test_no_answer_is_no_verdict() -> None:
    denied = CallFailed(FailureKind.ACCESS_DENIED, "AccessDeniedException", "journal")
    capabilities, calls, deadline = asked(denied, {})
    with pytest.raises(CommitFailedError, match="dynamodb:ConditionCheckItem"):
        capabilities.require_transactions("An update", deadline)
    capabilities.require_transactions("An update", deadline)
    assert len(calls.sent) == 2


def test_two_installations_do_not_share_a_token() -> None:
    """AWS refuses a token that comes again with another request, for ten minutes and the whole account."""
    tokens = set()
    for table in ("journal", "other"):
        capabilities, calls, deadline = asked({}, table=table)
        capabilities.require_transactions("An update", deadline)
        tokens.add(calls.sent[0][1]["ClientRequestToken"])
    assert len(tokens) == 2
    assert all(len(token) <= 36 for token in tokens)
