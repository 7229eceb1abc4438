"""Looking at stuck writes: what is listed, compared, explained and waited for; values stay hidden unless asked for."""

import re
import shlex
import threading
from typing import Any

import pytest
import typer.main

from reliable_write import Settings
from reliable_write.cli.app import app
from reliable_write.cli.exits import ExitCode
from reliable_write.dynamodb import open_client
from reliable_write.entry import Entry
from reliable_write.testing.engines import Engine
from reliable_write.testing.faults import FaultPlan
from tests.integration.stuck_writes import SECRET, Stuck, batch, cli, delete, ids, one, put, valid
from tests.world import World, world

__all__ = ["world"]
NO_WRITE = "0" * 36


@pytest.fixture
def stuck(world: World) -> Stuck:
    return Stuck(world.hasty())


# --- status -------------------------------------------------------------------------------------------------------


def test_an_idle_installation_is_not_stuck(world: World, stuck: Stuck) -> None:
    stuck.beat()
    ran = cli(world, "status", "--exit-code", "--json")
    assert ran.code == ExitCode.DONE
    facts = valid(ran.facts, "status")
    assert facts["counts"] == {"pending": 0, "quarantined": 0, "unreadable": 0}
    assert facts["monitors_alive"] == 1
    assert "Nothing is stuck." in cli(world, "status").out


@pytest.mark.parametrize("kind", ["quarantined", "unreadable", "overdue"])
def test_whatever_is_stuck_is_told_and_is_exit_code_1_on_demand(world: World, stuck: Stuck, kind: str) -> None:
    table = world.table("t")
    if kind == "quarantined":
        stuck.quarantined(one(put(table, "x")), age_seconds=7200)
    elif kind == "unreadable":
        stuck.commit(one(put(table, "x")), format=9)
    else:
        stuck.commit(one(put(table, "x")), age_seconds=60)
    ran = cli(world, "status", "--json", "--exit-code")
    assert ran.code == ExitCode.PARTLY
    assert valid(ran.facts, "status")["stuck"] is True
    told = cli(world, "status")
    assert told.code == ExitCode.DONE
    assert "Nothing is stuck" not in told.out


def test_a_young_pending_write_is_nobodys_alarm(world: World, stuck: Stuck) -> None:
    stuck.commit(one(put(world.table("t"), "x")), age_seconds=2)
    assert cli(world, "status", "--exit-code").code == ExitCode.DONE
    assert cli(world, "status", "--exit-code", "--overdue-after", "1s").code == ExitCode.PARTLY


# --- list ---------------------------------------------------------------------------------------------------------


def test_filters_take_what_they_say_and_nothing_else(world: World, stuck: Stuck) -> None:
    orders, stock = world.table("orders"), world.table("stock")
    old = stuck.commit(one(put(orders, "a")), age_seconds=3600)
    young = stuck.commit(one(put(stock, "b")))
    aside = stuck.quarantined(one(put(orders, "c")), batch(put(stock, "c")), reason="access denied on table orders")
    newer = stuck.commit(one(put(orders, "d")), format=9)

    def listed(*filters: str) -> set[str]:
        return {row["write_id"] for row in cli(world, "writes", "list", "--jsonl", *filters).lines}

    assert listed() == set(ids([old, young, aside, newer]))
    assert listed("--state", "pending") == set(ids([old, young]))
    assert listed("--state", "quarantined", "--state", "unreadable") == set(ids([aside, newer]))
    assert listed("--older-than", "30m") == set(ids([old]))
    assert listed("--error", "ACCESS denied") == set(ids([aside]))
    assert listed("--table", stock) == set(ids([young, aside]))
    assert listed("--table", orders, "--state", "pending") == set(ids([old]))
    assert listed("--limit", "1") == {old.write_id}


def test_the_list_validates_and_names_what_it_left_out(world: World, stuck: Stuck) -> None:
    table = world.table("t")
    stuck.quarantined(one(put(table, "a")))
    stuck.commit(one(put(table, "b")), format=9)
    facts = valid(cli(world, "writes", "list", "--json").facts, "writes-list")
    assert facts["entries"] == 2
    for row in cli(world, "writes", "list", "--jsonl").lines:
        valid(row, "write")
    filtered = cli(world, "writes", "list", "--json", "--table", table)
    assert valid(filtered.facts, "writes-list")["left_out"] == 1
    assert filtered.facts["writes"][0]["tables"] == [table]


def test_an_entry_whose_head_is_garbled_is_listed_and_stops_nothing(world: World, stuck: Stuck) -> None:
    entry = stuck.commit(one(put(world.table("t"), "a")))
    world.client.put_item(TableName=world.system_table, Item={"pk": {"S": "J#003"}, "sk": {"S": "rubbish"}})
    rows = {row["write_id"]: row for row in cli(world, "writes", "list", "--jsonl").lines}
    assert set(rows) == {entry.write_id, "rubbish"}
    assert valid(rows["rubbish"], "write")["state"] == "unreadable"


def test_an_entry_whose_head_is_garbled_can_be_asked_about_by_its_id(world: World, stuck: Stuck) -> None:
    """Each command says what it is and leads on; none fails, none takes it for absent, none changes it."""
    write_id = garbled(world, stuck)
    before = world.records("J#")
    explained = cli(world, "writes", "explain", write_id)
    assert explained.code == ExitCode.DONE
    assert "committed_at" in explained.out
    for step in valid(cli(world, "writes", "explain", write_id, "--json").facts, "writes-explain")["advice"]:
        check_command(step["command"])
    for command in (["show"], ["wait"], ["skip", "--op", "0", "--reason", "why", "--yes"]):
        ran = cli(world, "writes", command[0], write_id, *command[1:], "--json")
        assert ran.code == ExitCode.PARTLY, ran.err
        assert f"reliable-write writes explain {write_id}" in valid(ran.facts, "error")["error"]["message"]
    for deed in ("retry", "quarantine", "discard"):
        ran = cli(world, "writes", deed, write_id, "--reason", "why", "--yes", "--json")
        (result,) = valid(ran.facts, "writes-deed")["results"]
        assert (result["result"], "Nothing was changed" in result["told"]) == ("refused", True)
    assert world.records("J#") == before
    assert world.records("A") == []


def garbled(world: World, stuck: Stuck) -> str:
    entry = stuck.commit(one(put(world.table("t"), "a")))
    (record,) = world.records("J#")
    world.client.update_item(
        TableName=world.system_table,
        Key={"pk": record["pk"], "sk": record["sk"]},
        UpdateExpression="REMOVE committed_at",
    )
    return entry.write_id


def test_a_misspelt_table_is_told_from_one_that_nothing_waits_for(world: World, stuck: Stuck) -> None:
    orders = world.table("orders")
    stuck.commit(one(put(orders, "x")))
    ran = cli(world, "writes", "list", "--table", "order")
    assert f"they write to {orders}" in " ".join(ran.err.split())
    assert "they write to" not in cli(world, "writes", "list", "--table", orders).err


def test_what_is_not_there_ends_with_the_command_that_tells_more(world: World) -> None:
    ran = cli(world, "writes", "show", NO_WRITE, "--system-table", world.system_table)
    assert ran.err.strip().endswith(
        f"Run: reliable-write writes explain {NO_WRITE} --system-table {world.system_table}"
    )


def test_lists_read_heads_and_no_payload(world: World, stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    """A payload may be 350 KB; without --table nothing of it is asked for."""
    for n in range(3):
        stuck.commit(one(put(world.table("t"), f"k{n}")))
    plans: list[FaultPlan] = []

    def watched(settings: Settings) -> Any:
        client = open_client(settings)
        plans.append(FaultPlan(client))
        return client

    monkeypatch.setattr("reliable_write.cli.connect.open_client", watched)
    assert len(cli(world, "writes", "list", "--jsonl").lines) == 3
    queries = [call for call in plans[0].calls if call.operation == "Query"]
    assert len(queries) == stuck.engine.journal.shards
    assert not [call for call in queries if b"payload" in call.body or b"ProjectionExpression" not in call.body]
    assert {call.operation for call in plans[0].calls} == {"GetItem", "Query"}, "the config record, and heads"


@pytest.mark.parametrize(
    "arguments",
    [["--state", "lost"], ["--older-than", "soon"], ["--watch"], ["--watch", "--json"]],
)
def test_a_list_that_cannot_be_is_a_usage_error(world: World, arguments: list[str]) -> None:
    ran = cli(world, "writes", "list", *arguments)
    assert ran.code == ExitCode.USAGE
    assert "Traceback" not in ran.err


# --- show, explain ------------------------------------------------------------------------------------------------


def a_write_of_all_kinds(world: World, stuck: Stuck) -> tuple[str, list[str]]:
    """Its operations' expected findings, in their order."""
    table = world.table("t")
    older = stuck.commit(one(put(table, "older")))
    entry = stuck.commit(
        *[one(put(table, key)) for key in ("mine", "older", "newer", "gone", "updated", "foreign")],
        batch(delete(table, "there"), delete(table, "bare"), delete(table, "deleted")),
    )
    later = stuck.commit(one(put(table, "newer")))
    items: dict[str, dict[str, Any]] = {
        "mine": {"_rw": {"S": entry.stamp}},
        "older": {"_rw": {"S": older.stamp}},
        "newer": {"_rw": {"S": later.stamp}},
        "updated": {"_rw": {"S": older.stamp}, "_rwu": {"S": later.stamp}},
        "foreign": {"_rw": {"N": "7"}},
        "there": {"_rw": {"S": older.stamp}},
        "bare": {},
    }
    for key, stamps in items.items():
        world.client.put_item(TableName=table, Item={"id": {"S": key}, "theirs": {"S": SECRET}, **stamps})
    tombstones = stuck.engine.tombstones
    tombstones.mark(delete(table, "gone"), later.stamp, stuck.engine.attempt_deadline())
    tombstones.mark(delete(table, "deleted"), entry.stamp, stuck.engine.attempt_deadline())
    expected = ["applied", "not applied", "superseded", "deleted later", "overtaken by an update", "foreign stamp"]
    return entry.write_id, [*expected, "not applied", "not applied", "applied"]


def test_each_operation_is_compared_with_its_table_now(world: World, stuck: Stuck) -> None:
    write_id, expected = a_write_of_all_kinds(world, stuck)
    facts = valid(cli(world, "writes", "show", write_id, "--json").facts, "writes-show")
    assert [operation["found"] for operation in facts["operations"]] == expected
    told = cli(world, "writes", "show", write_id).out
    assert [found for found in expected if found not in told] == []


def test_values_and_keys_are_hidden_unless_revealed(world: World, stuck: Stuck) -> None:
    table = world.table("t")
    entry = stuck.commit(one(put(table, "the-key", blob={"B": b"\x00\xff"})))
    world.client.put_item(TableName=table, Item={"id": {"S": "the-key"}, "theirs": {"S": "their-value"}})
    secrets = [SECRET, "the-key", "their-value", "AP8="]
    for arguments in (["show"], ["show", "--json"], ["explain"], ["explain", "--json"]):
        ran = cli(world, "writes", arguments[0], entry.write_id, *arguments[1:])
        assert [secret for secret in secrets if secret in ran.out + ran.err] == [], arguments
    for form in ([], ["--json"]):
        ran = cli(world, "writes", "show", entry.write_id, "--reveal", *form)
        assert [secret for secret in secrets if secret not in ran.out] == []
    valid(ran.facts, "writes-show")


def test_a_table_that_cannot_be_read_is_told_per_operation(world: World, stuck: Stuck) -> None:
    entry = stuck.commit(one(put("no-such-table", "x")), one(put(world.table("t"), "x")))
    facts = valid(cli(world, "writes", "show", entry.write_id, "--json").facts, "writes-show")
    assert [operation["found"] for operation in facts["operations"]] == ["could not be read", "not applied"]


REASONS = [
    "access denied (AccessDeniedException) on table t",
    "table missing (ResourceNotFoundException) on table t",
    "refused as invalid (ValidationException) on table t",
    "something nobody knows",
]


@pytest.mark.parametrize("reason", REASONS)
def test_what_explain_tells_to_run_can_be_run(world: World, stuck: Stuck, reason: str) -> None:
    entry = stuck.quarantined(one(put(world.table("t"), "x")), reason=reason)
    ran = cli(world, "writes", "explain", entry.write_id, "--json", "--system-table", world.system_table)
    advice = valid(ran.facts, "writes-explain")["advice"]
    assert advice
    for step in advice:
        check_command(step["command"])
        assert world.system_table in step["command"], "the options of this command line are needed there too"
    assert reason in cli(world, "writes", "explain", entry.write_id).out.replace("\n", " ").replace("  ", " ")


def check_command(command: str) -> None:
    """It parses as far as its own options go."""
    program, *words = shlex.split(command)
    assert program == "reliable-write"
    if words[0] == "--version":
        return
    found: Any = typer.main.get_command(app)
    while hasattr(found, "commands") and words and not words[0].startswith("-"):
        found, words = found.commands[words[0]], words[1:]
    found.make_context(program, words)


def test_all_kinds_of_entries_have_an_explanation(world: World, stuck: Stuck) -> None:
    table = world.table("t")
    whole, _ = a_write_of_all_kinds(world, stuck)
    cases = {
        "newer version": stuck.commit(one(put(table, "a")), format=9).write_id,
        "damaged": stuck.commit(one(put(table, "b")), payload=b"0" * 40).write_id,
        "monitor": stuck.commit(one(put(table, "c")), age_seconds=60).write_id,
        "this moment": stuck.commit(one(put(table, "d"))).write_id,
        "overtaken by an update": whole,
    }
    for words, write_id in cases.items():
        ran = cli(world, "writes", "explain", write_id)
        assert ran.code == ExitCode.DONE
        assert words in re.sub(r"\s+", " ", ran.out), ran.out
        for step in valid(cli(world, "writes", "explain", write_id, "--json").facts, "writes-explain")["advice"]:
            check_command(step["command"])


def test_no_entry_is_not_taken_for_never_committed(world: World, stuck: Stuck) -> None:
    ran = cli(world, "writes", "explain", NO_WRITE)
    assert ran.code == ExitCode.NOT_FOUND
    assert "or it was never committed" in ran.out
    valid(cli(world, "writes", "explain", NO_WRITE, "--json").facts, "writes-explain")
    error = cli(world, "writes", "show", NO_WRITE, "--json")
    assert error.code == ExitCode.NOT_FOUND
    assert valid(error.facts, "error")["error"]["exit"] == ExitCode.NOT_FOUND
    discarded = stuck.commit(one(put(world.table("t"), "x")))
    stuck.engine.operators.discard(discarded.write_id, operator="ada@desk", reason="the customer was told")
    ran = cli(world, "writes", "explain", discarded.write_id)
    assert "ada@desk discarded it. Reason: the customer was told" in ran.out


# --- wait ---------------------------------------------------------------------------------------------------------


def test_wait_says_what_the_absence_of_an_entry_means(world: World, stuck: Stuck) -> None:
    table = world.table("t")
    ran = cli(world, "writes", "wait", NO_WRITE, "--json")
    assert (ran.code, valid(ran.facts, "writes-wait")["ended"], ran.facts["seen"]) == (0, "no entry", False)
    assert "never committed" in ran.facts["told"]
    discarded = stuck.commit(one(put(table, "x")))
    stuck.engine.operators.discard(discarded.write_id, operator="ada", reason="told")
    ran = cli(world, "writes", "wait", discarded.write_id, "--json")
    assert (ran.code, ran.facts["ended"]) == (ExitCode.PARTLY, "discarded")
    aside = stuck.quarantined(one(put(table, "x")))
    ran = cli(world, "writes", "wait", aside.write_id, "--json", "--timeout", "1h")
    assert (ran.code, ran.facts["ended"]) == (ExitCode.PARTLY, "quarantined")
    pending = stuck.commit(one(put(table, "x")))
    ran = cli(world, "writes", "wait", pending.write_id, "--json", "--timeout", "0s")
    assert (ran.code, ran.facts["ended"]) == (ExitCode.PARTLY, "still pending")
    assert cli(world, "writes", "wait", "typo").code == ExitCode.USAGE


def test_wait_ends_when_the_write_is_finished(world: World, stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    """A monitor finishes it after the first look, at which it was pending."""
    entry = stuck.commit(one(put(world.table("t"), "x")))
    looked = threading.Event()

    def seen(_entry: Entry) -> bool:
        looked.set()
        return False

    def finish() -> None:
        looked.wait(20)
        stuck.writer.recovery.resume(entry.write_id)

    monkeypatch.setattr("reliable_write.cli.errands.is_stuck", seen)
    helper = threading.Thread(target=finish)
    helper.start()
    ran = cli(world, "writes", "wait", entry.write_id, "--json", "--timeout", "20s")
    helper.join()
    assert (ran.code, valid(ran.facts, "writes-wait")["ended"], ran.facts["seen"]) == (0, "finished", True)


# --- the other commands' JSON -------------------------------------------------------------------------------------


def test_init_and_repair_stamp_keep_to_their_schemas_too(world: World) -> None:
    valid(cli(world, "init", "--json").facts, "init")
    valid(cli(world, "init", "--check", "--json", "--system-table", "absent").facts, "init")
    table = world.table("t")
    world.client.put_item(TableName=table, Item={"id": {"S": "x"}, "_rw": {"N": "7"}})
    for arguments in (["--dry-run"], ["--yes"]):
        valid(cli(world, "repair-stamp", table, "--key", '{"id": "x"}', "--json", *arguments).facts, "repair-stamp")


def test_the_demo_keeps_to_its_schema(world: World, ministack: Engine) -> None:
    """It starts an engine of its own; asked for here so that its absence is told as any other's."""
    assert ministack.endpoint_url
    valid(cli(world, "demo", "--orders", "3", "--json").facts, "demo")
