"""Each fault of `reliable_write.testing` does to a request what it says, and to the tables too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from reliable_write.testing import (
    Call,
    Echo,
    FakeTime,
    Fault,
    FaultPlan,
    InFlight,
    SimulatedCrash,
    Stall,
    collide,
    crash,
    duplicate,
    lose_answer,
    lose_answer_on_the_way,
    refuse_connection,
    server_error,
    throttle,
)
from reliable_write.testing.faults import When
from tests.world import World

KEY = {"id": {"S": "one"}}


class Count:
    """One item that counts how often it was added to: what arrived twice shows."""

    def __init__(self, world: World) -> None:
        self.world, self.client = world, world.client
        self.table = world.table("counts")

    def add(self) -> None:
        self.client.update_item(
            TableName=self.table,
            Key=KEY,
            UpdateExpression="ADD n :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )

    def add_transacted(self) -> None:
        update = {
            "TableName": self.table,
            "Key": KEY,
            "UpdateExpression": "ADD n :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
        self.client.transact_write_items(TransactItems=[{"Update": update}])

    @property
    def stored(self) -> int:
        item = self.world.item(self.table, **KEY)
        return int(item["n"]["N"]) if item else 0


@pytest.fixture
def count(world: World) -> Count:
    return Count(world)


def code(error: ClientError) -> Any:
    return error.response["Error"]["Code"]


@pytest.mark.parametrize(
    ("fault", "when", "raised", "stored"),
    [
        (crash, "before", SimulatedCrash, 0),
        (crash, "after", SimulatedCrash, 1),
        (lose_answer, "before", ReadTimeoutError, 0),
        (lose_answer, "after", ReadTimeoutError, 1),
        (lose_answer_on_the_way, "before", ReadTimeoutError, 1),
        (refuse_connection, "before", EndpointConnectionError, 0),
        (throttle, "before", ClientError, 0),
        (server_error, "before", ClientError, 0),
        (collide, "before", ClientError, 0),
    ],
)
def test_what_is_told_and_what_is_done(
    count: Count, fault: Fault, when: When, raised: type[BaseException], stored: int
) -> None:
    with FaultPlan(count.client).on("UpdateItem", fault, when, times=1) as plan, pytest.raises(raised):
        count.add()
    assert plan.injected == 1
    assert count.stored == stored


def test_a_conflict_is_told_as_dynamodb_tells_it_of_one_write_and_of_a_transaction(count: Count) -> None:
    plan = FaultPlan(count.client).on("UpdateItem", collide).on("TransactWriteItems", collide)
    with plan, pytest.raises(ClientError) as single:
        count.add()
    assert code(single.value) == "TransactionConflictException"
    with FaultPlan(count.client).on("TransactWriteItems", collide), pytest.raises(ClientError) as whole:
        count.add_transacted()
    assert code(whole.value) == "TransactionCanceledException"
    assert [reason["Code"] for reason in whole.value.response["CancellationReasons"]] == ["TransactionConflict"]
    assert count.stored == 0


def test_a_duplicate_arrives_twice_at_once(count: Count) -> None:
    with FaultPlan(count.client).on("UpdateItem", duplicate, times=1) as plan:
        count.add()
    assert (plan.injected, count.stored) == (1, 2)


def test_an_echo_arrives_when_it_is_told_to(count: Count) -> None:
    echo = Echo()
    with FaultPlan(count.client).on("UpdateItem", echo, times=1):
        count.add()
    assert count.stored == 1
    assert echo.land() == [200]
    assert count.stored == 2
    assert echo.land() == []


def test_what_is_in_flight_lands_once(count: Count) -> None:
    late = InFlight()
    with FaultPlan(count.client).on("UpdateItem", late, times=1), pytest.raises(ReadTimeoutError):
        count.add()
    assert count.stored == 0
    assert late.land() == [200]
    assert count.stored == 1


def test_a_stalled_call_goes_on_when_it_is_woken(count: Count) -> None:
    stall = Stall()
    with FaultPlan(count.client).on("UpdateItem", stall, times=1):
        sender = threading.Thread(target=count.add)
        sender.start()
        stall.wait_until_reached()
        assert count.stored == 0
        stall.wake()
        sender.join(30)
    assert count.stored == 1


def test_a_stall_that_nobody_comes_to_or_wakes_ends_as_a_timeout(count: Count) -> None:
    stall = Stall(seconds_max=0.01)
    with pytest.raises(TimeoutError, match="no call came"):
        stall.wait_until_reached()
    with FaultPlan(count.client).on("UpdateItem", stall), pytest.raises(TimeoutError, match="nobody called wake"):
        count.add()
    assert count.stored == 0


def test_nothing_is_sent_after_a_crash_by_any_client_of_the_plan(count: Count) -> None:
    other = count.world.engine.client()
    with FaultPlan(count.client) as plan:
        plan.watch(other).at(1, crash)
        with pytest.raises(SimulatedCrash):
            count.add()
        assert plan.crashed
        for client in (count.client, other):
            with pytest.raises(SimulatedCrash):
                client.delete_item(TableName=count.table, Key=KEY)
        assert len(plan.calls) == 1


def test_a_process_that_is_over_is_refused_as_by_a_dead_network(count: Count) -> None:
    with FaultPlan(count.client) as plan:
        plan.end()
        with pytest.raises(EndpointConnectionError, match="over"):
            count.add()
    count.add()
    assert (count.stored, plan.calls) == (1, [])


def test_a_released_client_is_not_acted_on(count: Count) -> None:
    plan = FaultPlan(count.client).on("UpdateItem", crash)
    plan.release(count.client)
    count.add()
    assert (count.stored, plan.calls) == (1, [])


@pytest.mark.parametrize(
    ("send", "tables"),
    [
        (lambda client, table: client.get_item(TableName=table, Key=KEY), 1),
        (lambda client, table: client.batch_get_item(RequestItems={table: {"Keys": [KEY]}}), 1),
        (
            lambda client, table: client.transact_write_items(
                TransactItems=[
                    {"Put": {"TableName": table, "Item": KEY}},
                    {"Put": {"TableName": table, "Item": {"id": {"S": "two"}}}},
                ]
            ),
            1,
        ),
        (lambda client, _: client.list_tables(), 0),
    ],
)
def test_a_call_names_its_tables_once(count: Count, send: Callable[[Any, str], Any], tables: int) -> None:
    with FaultPlan(count.client) as plan:
        send(count.client, count.table)
    assert [call.tables for call in plan.calls] == [(count.table,) * tables]


def test_a_call_of_another_service_names_no_tables() -> None:
    assert Call(1, "PutObject", b"not json").tables == ()


def test_the_fake_clock_stands_still_until_it_is_moved() -> None:
    time = FakeTime(1000.0)
    time.sleep(2)
    time.move(3)
    assert (time.wall_seconds(), time.elapsed_seconds()) == (1005.0, 5.0)
    time.set_wall(10.0)
    assert (time.wall_seconds(), time.elapsed_seconds()) == (10.0, 5.0)
    with pytest.raises(ValueError, match="backwards"):
        time.move(-1)
