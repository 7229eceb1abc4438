"""What is left of a mixed scope in the journal: its state, and what people see of it and do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reliable_write import ReliableWriteScope, WriteState
from reliable_write.cli.exits import ExitCode
from reliable_write.recovery import Resumed
from reliable_write.testing.engines import Capability
from reliable_write.testing.faults import Call, FaultPlan, SimulatedCrash, crash
from tests.integration.at_commit import add, count, delete, put, shown
from tests.integration.stuck_writes import cli, valid
from tests.world import World

pytestmark = pytest.mark.needs(Capability.TRANSACTIONS)
WHY = ["--reason", "the cause is mended", "--yes"]
KEY = "order 123; it's"
"""An idempotency key may hold anything that is printable, so commands that name it quote it."""


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(dynoxide: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the engine, which is found from where the run began."""
    assert dynoxide.endpoint_url
    monkeypatch.chdir(tmp_path)


def record(scope: ReliableWriteScope, one: str, two: str) -> None:
    """Places 1 and 3 are journalled, 0 and 2 are not."""
    scope.update_item(one, Key={"id": "counter"}, add={"n": 1})
    scope.put_item(two, Item={"id": "a", "v": "mine"})
    scope.condition_check(one, Key={"id": "none"}, ConditionExpression="attribute_not_exists(id)")
    scope.put_items(two, [{"id": "b", "v": "mine"}, {"id": "c", "v": "mine"}])


def left_behind(world: World, one: str, two: str, key: str | None, *, restamped: bool = False) -> str:
    """Committed, and propagated nowhere: its writer died. With `restamped`, the stamp is not the write id."""
    writer = world.writer()
    if restamped:
        rival = world.writer(delete_finished_inline=True)
        FaultPlan(writer.client).on(
            "TransactWriteItems", lambda _: add(rival, one, "counter", n=10), times=1, having=b"J#"
        )
    scope = ReliableWriteScope(writer, idempotency_key=key)
    record(scope, one, two)
    FaultPlan(writer.client).on("PutItem", crash, having=f'"{two}"'.encode())
    with pytest.raises(SimulatedCrash):
        scope.commit()
    assert scope.write_id is not None
    (entry,) = world.records("J#")
    assert (entry["sk"]["S"] == scope.write_id) == (not restamped and key is None)
    return scope.write_id


IDS = pytest.mark.parametrize(
    ("key", "restamped"), [(None, False), (None, True), (KEY, False)], ids=["stamp", "restamped", "key"]
)


@IDS
def test_show_explain_skip_and_retry_name_the_scopes_places(world: World, key: str | None, restamped: bool) -> None:
    one, two = world.table("one"), world.table("two")
    write_id = left_behind(world, one, two, key, restamped=restamped)
    places = ["operations[1]", "operations[3].items[0]", "operations[3].items[1]"]
    ran = cli(world, "writes", "show", write_id, "--json")
    assert ran.code == ExitCode.DONE, ran.err
    facts = valid(ran.facts, "writes-show")
    assert facts["write_id"] == write_id
    assert [operation["place"] for operation in facts["operations"]] == places
    ran = cli(world, "writes", "explain", write_id, "--json")
    assert ran.code == ExitCode.DONE
    assert all(place in json.dumps(ran.facts) for place in places)
    ran = cli(world, "writes", "skip", write_id, "--op", "3.1", *WHY, "--json")
    assert ran.code == ExitCode.DONE, ran.err
    ran = cli(world, "writes", "skip", write_id, "--op", "2", *WHY, "--json")
    assert ran.code == ExitCode.USAGE, "that one took effect at the commit"
    ran = cli(world, "writes", "retry", write_id, "--now", *WHY, "--json")
    assert ran.code == ExitCode.DONE, ran.err
    assert {item["id"]["S"] for item in world.items(two)} == {"a", "b"}
    assert count(world, one, "counter") == (11 if restamped else 1)
    assert world.records("J#") == []


@IDS
def test_a_finished_write_is_told_by_its_receipt(world: World, key: str | None, restamped: bool) -> None:
    one, two = world.table("one"), world.table("two")
    write_id = left_behind(world, one, two, key, restamped=restamped)
    assert world.writer().recovery.resume(write_id).resumed is Resumed.FINISHED
    ran = cli(world, "writes", "explain", write_id, "--json")
    assert ran.code == ExitCode.DONE
    assert "Finished" in ran.facts["headline"]
    assert cli(world, "writes", "wait", write_id, "--timeout", "5s", "--json").code == ExitCode.DONE
    ran = cli(world, "writes", "explain", "order-9", "--json")
    assert ran.code == ExitCode.NOT_FOUND
    assert cli(world, "writes", "wait", "order-9", "--timeout", "5s").code == ExitCode.USAGE


def test_commands_that_are_told_quote_a_key(world: World) -> None:
    one, two = world.table("one"), world.table("two")
    write_id = left_behind(world, one, two, KEY)
    world.writer().engine().operators.quarantine(write_id, operator="me", reason="look")
    ran = cli(world, "writes", "explain", write_id, "--json")
    told = [advice["command"] for advice in ran.facts["advice"]]
    assert told
    assert all("'order 123; it'\"'\"'s'" in command for command in told if "writes" in command)


# --- status -------------------------------------------------------------------------------------------------------


@IDS
def test_the_status_of_a_write_in_each_of_its_states(world: World, key: str | None, restamped: bool) -> None:
    one, two = world.table("one"), world.table("two")
    writer = world.writer()
    write_id = left_behind(world, one, two, key, restamped=restamped)
    assert writer.status(write_id) is WriteState.PENDING
    operators = writer.engine().operators
    operators.quarantine(write_id, operator="me", reason="look")
    assert writer.status(write_id) is WriteState.QUARANTINED
    operators.retry(write_id, operator="me", reason="go on")
    assert writer.status(write_id) is WriteState.PENDING
    assert writer.recovery.resume(write_id).resumed is Resumed.FINISHED
    assert writer.status(write_id) is WriteState.APPLIED
    for receipt in world.records("R#"):
        world.client.delete_item(TableName=world.system_table, Key={"pk": receipt["pk"], "sk": receipt["sk"]})
    assert writer.status(write_id) is WriteState.UNKNOWN, "collected: nobody can tell"


def test_the_status_of_what_never_was_and_of_a_write_without_a_receipt(world: World) -> None:
    table = world.table("one")
    writer = world.writer()
    assert writer.status("order-9") is WriteState.UNKNOWN
    receipt = put(writer, table)
    assert writer.status(receipt.write_id) is WriteState.PENDING, "its entry still waits for company"
    writer.close()
    assert world.writer().status(receipt.write_id) is WriteState.UNKNOWN, "no receipt, so honest about it"


def test_the_status_looks_for_the_receipt_first(world: World) -> None:
    """Between the two looks the write commits: entry first, receipt second would read as finished."""
    one, two = world.table("one"), world.table("two")
    asker = world.writer()
    asker.engine()
    ids: list[str] = []

    def commit(_call: Call) -> None:
        ids.append(left_behind(world, one, two, "order-1"))

    plan = FaultPlan(asker.client).on("GetItem", commit, "after", times=1)
    state = asker.status("order-1")
    assert plan.injected == 1
    assert ids == ["order-1"]
    assert state in (WriteState.PENDING, WriteState.UNKNOWN)
    assert shown(world, two, "a") is None
    assert asker.status("order-1") is WriteState.PENDING


def test_a_delete_at_commit_alone_is_told_by_its_receipt(world: World) -> None:
    table = world.table("one")
    writer = world.writer()
    receipt = delete(writer, table, at_commit=True)
    assert writer.status(receipt.write_id) is WriteState.APPLIED
    assert world.records("J#") == []
