"""What the engine can do is asked once, and what is missing is refused by name."""

from __future__ import annotations

import pytest

from reliable_write.capabilities import Capabilities
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed, Store
from reliable_write.errors import CommitFailedError, Outcome, UnsupportedOperationError
from reliable_write.policy import FailureKind
from tests.unit.fakes import ManualTime, ScriptedCalls, Step


def asking(*steps: Step) -> tuple[Capabilities, ScriptedCalls, ManualTime]:
    time, calls = ManualTime(), ScriptedCalls(*steps)
    return Capabilities(Store(calls, time), "system", {"pk": {"S": "config"}, "sk": {"S": "config"}}, time), calls, time


def test_it_is_asked_once_with_a_check_that_changes_nothing() -> None:
    capabilities, calls, time = asking({})
    for _ in range(3):
        capabilities.require_transactions("an update", Deadline.after(5, time))
    ((call, request),) = calls.sent
    assert call == "transact_write_items"
    assert [list(action) for action in request["TransactItems"]] == [["ConditionCheck"]]


def test_a_token_is_never_used_twice() -> None:
    """AWS keeps it for ten minutes for the whole account: another installation's would be refused."""
    tokens = set()
    for _ in range(3):
        capabilities, calls, time = asking({})
        capabilities.require_transactions("an update", Deadline.after(5, time))
        tokens.add(calls.sent[0][1]["ClientRequestToken"])
    assert len(tokens) == 3
    assert max(map(len, tokens)) <= 36


@pytest.mark.parametrize("code", ["UnknownOperationException", "UnknownOperation"])
def test_an_engine_without_is_refused_by_name_and_not_asked_again(code: str) -> None:
    capabilities, calls, time = asking(CallFailed(FailureKind.UNCLASSIFIED, code, None, ambiguous=False))
    for what in ("an update", "An idempotency key"):
        with pytest.raises(UnsupportedOperationError, match=f"{what} needs TransactWriteItems") as caught:
            capabilities.require_transactions(what, Deadline.after(5, time))
        assert caught.value.outcome is Outcome.NOT_WRITTEN
    assert len(calls.sent) == 1


def test_no_answer_is_no_answer_and_asked_again() -> None:
    denied = CallFailed(FailureKind.ACCESS_DENIED, "AccessDeniedException", "system")
    capabilities, calls, time = asking(denied, {})
    with pytest.raises(CommitFailedError, match="dynamodb:ConditionCheckItem") as caught:
        capabilities.require_transactions("an update", Deadline.after(5, time))
    assert caught.value.outcome is Outcome.NOT_WRITTEN
    capabilities.require_transactions("an update", Deadline.after(5, time))
    assert len(calls.sent) == 2
