"""`reliable-write repair-stamp`: one foreign stamp comes off one item; nothing else is changed, shown or guessed."""

import json
import re
import shlex
import time
from typing import Any

import pytest

from reliable_write import ForeignStampError
from reliable_write.cli.connect import connect
from reliable_write.cli.exits import CommandError, ExitCode, ending_of
from reliable_write.cli.repair import Repair, find_foreign_stamps
from reliable_write.clock import STAMP_CHARACTERS
from reliable_write.dynamodb import CallFailed
from reliable_write.errors import InvalidItemError, TooLateError
from reliable_write.testing.faults import FaultPlan, answer, lose_answer
from tests.unit.cli_process import Ran, run_cli
from tests.world import World, every_world, world

__all__ = ["every_world", "world"]
SECRET = "only-the-owner-may-see-this"


def stamp(days_ahead: float) -> str:
    return f"{int((time.time() + days_ahead * 86_400) * 1000):012x}".ljust(STAMP_CHARACTERS, "0")


def repair(world: World, table: str, key: Any, *arguments: str) -> Ran:
    return run_cli("repair-stamp", table, "--key", json.dumps(key), *arguments, environment=world.environment())


def put(world: World, table: str, **item: Any) -> dict[str, Any]:
    whole = {"id": {"S": "x"}, "secret": {"S": SECRET}, **item}
    world.client.put_item(TableName=table, Item=whole)
    return whole


FOREIGN = {
    "a number": ({"N": "7"}, "a number, not a stamp"),
    "a map": ({"M": {"a": {"L": [{"N": "1"}]}}}, "a map, not a stamp"),
    "null": ({"NULL": True}, "null, not a stamp"),
    "another string": ({"S": "v2"}, "a string that is no stamp"),
    "the far future": ({"S": stamp(30)}, "a stamp 30.0 days ahead of this machine's clock"),
}


@pytest.mark.parametrize("value", FOREIGN)
def test_a_foreign_stamp_comes_off_and_all_else_stays(world: World, value: str) -> None:
    table = world.table("items")
    held, told = FOREIGN[value]
    whole = put(world, table, _rw=held, _rwu={"S": stamp(0)})
    ran = repair(world, table, {"id": "x"}, "--yes", "--json", "--reason", "imported by hand")
    assert ran.code == ExitCode.DONE, ran.err
    assert ran.facts == {"table": table, "key": {"id": "x"}, "foreign": {"_rw": told}, "repaired": True}
    whole.pop("_rw")
    assert world.item(table, id={"S": "x"}) == whole
    assert SECRET not in ran.out + ran.err
    (record,) = world.records("A")
    assert record["removed"] == {"M": {"_rw": held}}
    assert record["reason"] == {"S": "imported by hand"}


def test_it_works_on_every_engine(every_world: World) -> None:
    table = every_world.table("items")
    whole = put(every_world, table, _rw={"S": "v2"}, _rwu={"N": "7"})
    assert repair(every_world, table, {"id": "x"}, "--yes").code == ExitCode.DONE
    assert every_world.item(table, id={"S": "x"}) == {"id": whole["id"], "secret": whole["secret"]}


def test_a_writer_that_was_refused_can_write_after_the_command_its_error_names(world: World) -> None:
    """The message is what an operator has: the command in it must exist and help."""
    table = world.table("items")
    put(world, table, _rw={"N": "7"}, _rwu={"BOOL": True})
    writer = world.writer()
    with pytest.raises(ForeignStampError) as refused, writer.begin() as scope:
        scope.put_item(table, {"id": "x", "n": 2})
    command = re.search(r"reliable-write (.*)$", str(refused.value))
    assert command is not None
    words = shlex.split(command[1].replace("<the item's key as JSON>", '{"id": "x"}').replace("''", "'"))
    ran = run_cli(*words, "--yes", environment=world.environment())
    assert ran.code == ExitCode.DONE, ran.err
    with writer.begin() as scope:
        scope.put_item(table, {"id": "x", "n": 2})
    found = world.item(table, id={"S": "x"})
    assert found is not None
    assert found["n"] == {"N": "2"}


@pytest.mark.parametrize("stamps", [{}, {"_rw": {"S": stamp(0)}}, {"_rw": {"S": stamp(0.9)}, "_rwu": {"S": stamp(0)}}])
def test_a_stamp_in_order_is_left_alone(world: World, stamps: dict[str, Any]) -> None:
    table = world.table("items")
    whole = put(world, table, **stamps)
    ran = repair(world, table, {"id": "x"}, "--yes")
    assert ran.code == ExitCode.TOO_LATE
    assert "nothing to repair" in ran.err
    assert world.item(table, id={"S": "x"}) == whole
    assert not world.records("A")


def test_an_absent_item_and_an_absent_table_are_not_found(world: World) -> None:
    table = world.table("items")
    assert repair(world, table, {"id": "absent"}, "--yes").code == ExitCode.NOT_FOUND
    assert repair(world, "no-such-table", {"id": "x"}, "--yes").code == ExitCode.NOT_FOUND
    assert world.items(table) == []


@pytest.mark.parametrize("arguments", [[], ["--dry-run"], ["--dry-run", "--json"]])
def test_nothing_is_done_unasked(world: World, arguments: list[str]) -> None:
    """Without a terminal nobody can say yes."""
    table = world.table("items")
    whole = put(world, table, _rwu={"N": "7"})
    ran = repair(world, table, {"id": "x"}, *arguments)
    assert ran.code == (ExitCode.DONE if arguments else ExitCode.USAGE)
    assert "_rwu" in ran.out + ran.err
    assert world.item(table, id={"S": "x"}) == whole


def test_keys_take_their_types_from_the_table(world: World) -> None:
    table = world.table("items", "blob:B", "n:N")
    key: dict[str, Any] = {"blob": {"B": b"\x00\xff"}, "n": {"N": "1.5"}}
    world.client.put_item(TableName=table, Item={**key, "_rw": {"N": "1"}})
    assert repair(world, table, {"blob": "AP8=", "n": 1.5}, "--yes").code == ExitCode.DONE
    assert world.item(table, **key) == key


@pytest.mark.parametrize(
    "key",
    [
        "no json",
        "[1]",
        '{"id": "x"}',
        '{"id": "x", "n": "1"}',
        '{"id": "x", "n": true}',
        '{"id": "x", "n": NaN}',
        '{"id": "", "n": 1}',
        '{"id": "x", "n": 1, "more": 1}',
    ],
)
def test_what_is_no_key_of_the_table_is_refused_by_name(world: World, key: str) -> None:
    table = world.table("items", "id:S", "n:N")
    connection = connect_to(world)
    with pytest.raises((CommandError, InvalidItemError), match="--key") as refused:
        find_foreign_stamps(connection, table, key)
    ending = ending_of(refused.value)
    assert ending is not None
    assert ending.code is ExitCode.USAGE


def connect_to(world: World) -> Any:
    return connect(endpoint_url=world.engine.endpoint_url, region="us-east-1", system_table=world.system_table)


@pytest.fixture(autouse=True)
def _invented_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def test_an_item_that_changed_meanwhile_is_left_alone_and_no_record_says_otherwise(world: World) -> None:
    table = world.table("items")
    put(world, table, _rw={"N": "7"})
    connection = connect_to(world)
    found = find_foreign_stamps(connection, table, '{"id": "x"}')
    whole = put(world, table, _rw={"N": "8"})
    with pytest.raises(TooLateError):
        Repair(connection).take_off(found, "")
    assert world.item(table, id={"S": "x"}) == whole
    assert not world.records("A")


def test_a_repair_whose_answer_was_lost_is_known_to_be_done(world: World) -> None:
    table = world.table("items")
    put(world, table, _rw={"N": "7"})
    connection = connect_to(world)
    found = find_foreign_stamps(connection, table, '{"id": "x"}')
    with FaultPlan(connection.client).on("UpdateItem", lose_answer, "after", times=1) as plan:
        Repair(connection).take_off(found, "")
        assert plan.injected == 1
    assert "_rw" not in (world.item(table, id={"S": "x"}) or {})
    assert len(world.records("A")) == 1


def test_a_repair_that_was_refused_leaves_no_record(world: World) -> None:
    """Nothing was done, so nobody shall read that it was; where that is not certain the record stays."""
    table = world.table("items")
    whole = put(world, table, _rw={"N": "7"})
    connection = connect_to(world)
    found = find_foreign_stamps(connection, table, '{"id": "x"}')
    with FaultPlan(connection.client).on("UpdateItem", answer("AccessDeniedException")), pytest.raises(CallFailed):
        Repair(connection).take_off(found, "")
    assert world.item(table, id={"S": "x"}) == whole
    assert not world.records("A")
