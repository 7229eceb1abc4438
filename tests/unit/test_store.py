from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reliable_write import limits
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed, Condition, ConditionRefused, Store
from reliable_write.policy import FailureKind
from tests.unit.fakes import ManualTime, ScriptedCalls, Step

KEY = {"id": {"S": "k"}}
ITEM = {**KEY, "v": {"N": "1"}}
FRESH = Condition("attribute_not_exists(#i)", {"#i": "id"})


def failed(kind: FailureKind) -> CallFailed:
    return CallFailed(kind, kind.value, "orders")


class Scene:
    def __init__(self, *steps: Step, seconds: float = 8.0) -> None:
        self.calls = ScriptedCalls(*steps)
        self.time = ManualTime()
        self.store = Store(self.calls, self.time)
        self.deadline = Deadline.after(seconds, self.time)

    def put(self) -> None:
        self.store.put("orders", ITEM, FRESH, self.deadline, look=KEY)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls.sent]


RETRYABLE = [kind for kind in FailureKind if kind.retryable]


@pytest.mark.parametrize("kind", RETRYABLE)
def test_a_passing_failure_is_retried_with_the_same_bytes(kind: FailureKind) -> None:
    scene = Scene(failed(kind), failed(kind), {})
    scene.put()
    assert len(scene.calls.sent) == 3
    assert scene.calls.sent[0] == scene.calls.sent[1] == scene.calls.sent[2]
    assert scene.time.slept == [limits.RETRY_BASE_SECONDS * 2, limits.RETRY_BASE_SECONDS * 4]


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if not kind.retryable])
def test_any_other_failure_is_told_at_once(kind: FailureKind) -> None:
    scene = Scene(failed(kind))
    with pytest.raises(CallFailed) as caught:
        scene.put()
    assert caught.value.kind is kind
    assert scene.time.slept == []
    assert caught.value.ambiguous is not kind.definite


@pytest.mark.parametrize(
    ("steps", "ambiguous"),
    [
        ([FailureKind.THROTTLED, FailureKind.ACCESS_DENIED], False),
        ([FailureKind.TIMEOUT, FailureKind.ACCESS_DENIED], True),
        ([FailureKind.TIMEOUT, FailureKind.THROTTLED, FailureKind.ACCESS_DENIED], True),
        ([FailureKind.SERVER, FailureKind.VALIDATION], True),
        ([FailureKind.UNREACHABLE, FailureKind.CREDENTIALS], False),
        ([FailureKind.UNCLASSIFIED], True),
    ],
)
def test_one_lost_answer_makes_the_whole_call_ambiguous(steps: list[FailureKind], ambiguous: bool) -> None:
    scene = Scene(*map(failed, steps))
    with pytest.raises(CallFailed) as caught:
        scene.put()
    assert caught.value.ambiguous is ambiguous
    assert caught.value.kind is steps[-1]


def test_a_condition_refused_after_a_lost_answer_may_be_our_own_doing() -> None:
    """CE12."""
    scene = Scene(failed(FailureKind.TIMEOUT), ConditionRefused(ITEM))
    with pytest.raises(ConditionRefused) as caught:
        scene.put()
    assert caught.value.ambiguous
    assert caught.value.found == ITEM


def test_a_condition_refused_at_once_is_nobodys_doing_but_others() -> None:
    scene = Scene(ConditionRefused(ITEM))
    with pytest.raises(ConditionRefused) as caught:
        scene.put()
    assert not caught.value.ambiguous


@pytest.mark.parametrize("found", [ITEM, None])
def test_an_engine_that_does_not_show_the_item_is_asked_for_it(found: Any) -> None:
    scene = Scene(failed(FailureKind.TIMEOUT), ConditionRefused(None), {"Item": found} if found else {})
    with pytest.raises(ConditionRefused) as caught:
        scene.put()
    assert caught.value.found == found
    assert caught.value.ambiguous
    assert scene.calls.sent[-1] == ("get_item", {"TableName": "orders", "Key": KEY, "ConsistentRead": True})


def test_a_refusal_that_cannot_be_looked_into_may_be_our_own_doing_where_an_answer_was_lost() -> None:
    """The first try may be what refused the second one; that the item cannot be read now says nothing of it."""
    denied = failed(FailureKind.ACCESS_DENIED)
    for first, ambiguous in ((FailureKind.TIMEOUT, True), (FailureKind.THROTTLED, False)):
        scene = Scene(failed(first), ConditionRefused(None), denied)
        with pytest.raises(CallFailed) as caught:
            scene.put()
        assert (caught.value.kind, caught.value.ambiguous) == (FailureKind.ACCESS_DENIED, ambiguous)


def test_nothing_is_sent_once_the_wait_would_outlast_the_deadline() -> None:
    scene = Scene(*[failed(FailureKind.THROTTLED)] * 100, seconds=2.0)
    with pytest.raises(CallFailed) as caught:
        scene.put()
    assert caught.value.kind is FailureKind.THROTTLED
    assert not scene.deadline.passed()
    assert sum(scene.time.slept) < 2.0
    assert len(scene.calls.sent) == len(scene.time.slept) + 1


def test_out_of_time_after_a_failed_try_that_failure_is_told() -> None:
    """An outage read as "deadline passed" for as long as its last try came too late to be sent."""
    lost, unreachable, late = map(failed, (FailureKind.TIMEOUT, FailureKind.UNREACHABLE, FailureKind.DEADLINE))
    for steps, kind, ambiguous in (
        ([unreachable, late], FailureKind.UNREACHABLE, False),
        ([lost, late], FailureKind.TIMEOUT, True),
        ([lost, unreachable, late], FailureKind.UNREACHABLE, True),
        ([late], FailureKind.DEADLINE, False),
    ):
        with pytest.raises(CallFailed) as told:
            Scene(*steps).put()
        assert (told.value.kind, told.value.ambiguous) == (kind, ambiguous)


def test_a_cause_survives_the_retries() -> None:
    cause = RuntimeError("the transport's own")
    failure = failed(FailureKind.ACCESS_DENIED)
    failure.__cause__ = cause
    with pytest.raises(CallFailed) as caught:
        Scene(failed(FailureKind.THROTTLED), failure).put()
    assert caught.value.__cause__ is cause


# --- batches ------------------------------------------------------------------------------------------------------

KEYS = [("orders", {"id": {"S": "a"}}), ("people", {"id": {"S": "b"}}), ("orders", {"id": {"S": "c"}})]
ATTRIBUTES = {"orders": ("id", "_rw"), "people": ("id", "_rw")}


def test_a_batch_get_reads_strongly_and_only_what_is_named() -> None:
    scene = Scene({"Responses": {"orders": [ITEM]}})
    assert scene.store.batch_get(KEYS, ATTRIBUTES, scene.deadline) == [("orders", ITEM)]
    ((name, request),) = scene.calls.sent
    assert name == "batch_get_item"
    assert request["RequestItems"].keys() == {"orders", "people"}
    for part in request["RequestItems"].values():
        assert part["ConsistentRead"] is True
        assert part["ExpressionAttributeNames"] == {"#a0": "id", "#a1": "_rw"}
        assert part["ProjectionExpression"] == "#a0, #a1"
    assert [key["id"]["S"] for key in request["RequestItems"]["orders"]["Keys"]] == ["a", "c"]


def test_unprocessed_keys_are_asked_for_until_all_are_answered() -> None:
    rest = {"people": {"Keys": [KEYS[1][1]], "ConsistentRead": True}}
    scene = Scene(
        {"Responses": {"orders": [ITEM]}, "UnprocessedKeys": rest},
        {"Responses": {}, "UnprocessedKeys": rest},
        failed(FailureKind.THROTTLED),
        {"Responses": {"people": [ITEM]}, "UnprocessedKeys": {}},
    )
    assert scene.store.batch_get(KEYS, ATTRIBUTES, scene.deadline) == [("orders", ITEM), ("people", ITEM)]
    assert [request["RequestItems"] for _, request in scene.calls.sent[1:]] == [rest, rest, rest]


def test_unprocessed_items_are_no_success() -> None:
    """boto3#1424, #2088, pynamodb#1257."""
    rest = {"system": [{"DeleteRequest": {"Key": KEY}}]}
    scene = Scene({"UnprocessedItems": rest}, {"UnprocessedItems": {}})
    scene.store.delete_many("system", [KEY, {"id": {"S": "other"}}], scene.deadline)
    assert [len(request["RequestItems"]["system"]) for _, request in scene.calls.sent] == [2, 1]


@pytest.mark.parametrize("batch", ["get", "write"])
def test_what_stays_unprocessed_is_throttling_and_ends_at_the_deadline(batch: str) -> None:
    many = 200
    if batch == "get":
        scene = Scene(*[{"UnprocessedKeys": {"orders": {"Keys": [KEY]}}}] * many)
        act: Callable[[], object] = lambda: scene.store.batch_get(KEYS, ATTRIBUTES, scene.deadline)  # noqa: E731
    else:
        scene = Scene(*[{"UnprocessedItems": {"orders": [{}]}}] * many)
        act = lambda: scene.store.delete_many("orders", [KEY], scene.deadline)  # noqa: E731
    with pytest.raises(CallFailed) as caught:
        act()
    assert caught.value.kind is FailureKind.THROTTLED
    assert caught.value.table == "orders"
    assert not scene.deadline.passed()
    assert len(scene.calls.sent) < many


# --- requests -----------------------------------------------------------------------------------------------------


def test_writes_ask_for_the_item_that_refuses_them() -> None:
    scene = Scene({}, {})
    scene.put()
    scene.store.delete("orders", KEY, FRESH, scene.deadline)
    for _, request in scene.calls.sent:
        assert request["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
        assert request["ConditionExpression"] == "attribute_not_exists(#i)"
        assert "ExpressionAttributeValues" not in request


def test_a_query_is_strong_and_goes_on_where_it_stopped() -> None:
    scene = Scene({"Items": [ITEM], "LastEvaluatedKey": KEY}, {"Items": []})
    page = scene.store.query("system", "J#000", scene.deadline, limit=1)
    assert page.next_key == KEY
    assert scene.store.query("system", "J#000", scene.deadline, start=page.next_key).next_key is None
    (_, first), (_, second) = scene.calls.sent
    assert first["ConsistentRead"] is second["ConsistentRead"] is True
    assert first["Limit"] == 1
    assert second["ExclusiveStartKey"] == KEY


def test_a_put_that_does_not_look_costs_no_second_request() -> None:
    scene = Scene(ConditionRefused(None))
    with pytest.raises(ConditionRefused):
        scene.store.put("orders", ITEM, FRESH, scene.deadline)
    assert len(scene.calls.sent) == 1


def test_an_update_gives_the_whole_item_as_it_is_afterwards() -> None:
    scene = Scene({"Attributes": ITEM})
    assert scene.store.update("system", KEY, "SET v = v", FRESH, scene.deadline) == ITEM
    assert scene.calls.sent[0][1]["ReturnValues"] == "ALL_NEW"


def test_a_change_gives_what_it_changed_and_shows_the_item_that_refuses_it() -> None:
    scene = Scene({"Attributes": {"v": {"N": "2"}}}, ConditionRefused(None), {"Item": ITEM})
    change = ("orders", KEY, "SET v = :v", Condition("v = :old", {}, {":v": {"N": "2"}, ":old": {"N": "1"}}))
    assert scene.store.change(*change, scene.deadline) == {"v": {"N": "2"}}
    with pytest.raises(ConditionRefused) as refused:
        scene.store.change(*change, scene.deadline, whole=True)
    assert refused.value.found == ITEM
    returned = [request.get("ReturnValues") for _, request in scene.calls.sent]
    assert returned == ["UPDATED_NEW", "ALL_NEW", None]
    assert scene.calls.sent[0][1]["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"


def test_a_read_is_strong_and_an_absent_item_is_none() -> None:
    scene = Scene({}, {"Item": ITEM})
    assert scene.store.get("orders", KEY, scene.deadline) is None
    assert scene.store.get("orders", KEY, scene.deadline) == ITEM
    assert all(request["ConsistentRead"] for _, request in scene.calls.sent)
