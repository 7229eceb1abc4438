"""Deciding about stuck writes: only what was asked, only what was reviewed, never without a reason and a record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reliable_write import Settings
from reliable_write.cli.bulk import Result
from reliable_write.cli.deeds import act, select_ids
from reliable_write.cli.desk import open_desk
from reliable_write.cli.exits import ExitCode
from reliable_write.cli.options import At
from reliable_write.cli.plans import Plan
from reliable_write.dynamodb import open_client
from reliable_write.entry import Entry
from reliable_write.testing.faults import Call, FaultPlan, deny, refuse_connection
from tests.clocks import HastyTime
from tests.integration.stuck_writes import Ran, Stuck, batch, cli, delete, ids, one, put, valid
from tests.world import SHARDS, World, world

__all__ = ["world"]
NO_WRITE = "0" * 36
ENDED_BY_SIGINT = 130
WHY = ["--reason", "the cause is mended", "--yes"]


@pytest.fixture
def stuck(world: World) -> Stuck:
    return Stuck(world.writer())


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the engine, which is found from where the run began."""
    assert world.system_table
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reliable_write.cli.connect.SystemTime", HastyTime)


def deeds(world: World) -> list[tuple[str, str]]:
    return sorted((record["action"]["S"], record["write_id"]["S"]) for record in world.records("A"))


def entry_of(world: World, entry: Entry) -> dict[str, Any]:
    return next(record for record in world.records("J#") if record["sk"]["S"] == entry.stamp)


# --- one write ----------------------------------------------------------------------------------------------------


def test_retry_makes_it_pending_and_due_and_a_monitor_finishes_it(world: World, stuck: Stuck) -> None:
    table = world.table("t")
    entry = stuck.quarantined(one(put(table, "x")))
    ran = cli(world, "writes", "retry", entry.write_id, *WHY, "--json")
    assert ran.code == ExitCode.DONE
    facts = valid(ran.facts, "writes-deed")
    assert (facts["counts"]["done"], facts["remaining"], facts["rest_plan"]) == (1, 0, None)
    assert entry_of(world, entry)["state"] == {"S": "pending"}
    assert world.items(table) == [], "the retry itself is the monitor's"
    stuck.writer.recovery.resume(entry.write_id)
    assert len(world.items(table)) == 1
    (record,) = world.records("A")
    assert record["reason"] == {"S": "the cause is mended"}
    assert record["operator"]["S"].partition("@")[2]


def test_retry_now_makes_the_attempt_and_tells_how_it_ended(world: World, stuck: Stuck) -> None:
    table = world.table("t")
    good, bad = stuck.quarantined(one(put(table, "x"))), stuck.quarantined(one(put("no-such-table", "x")))
    ran = cli(world, "writes", "retry", good.write_id, bad.write_id, "--now", *WHY, "--json")
    attempts = {result["write_id"]: result["attempt"] for result in valid(ran.facts, "writes-deed")["results"]}
    assert attempts == {good.write_id: "finished", bad.write_id: "still pending"}
    assert len(world.items(table)) == 1


@pytest.mark.parametrize(
    ("wish", "skipped"),
    [
        (["0"], ["operations[0]"]),
        (["1"], ["operations[1].items[0]", "operations[1].items[1]"]),
        (["1.1"], ["operations[1].items[1]"]),
        (["operations[1].items[0]", "2"], ["operations[1].items[0]", "operations[2]"]),
    ],
)
def test_skip_gives_up_what_is_named_and_the_rest_goes_on(
    world: World, stuck: Stuck, wish: list[str], skipped: list[str]
) -> None:
    table = world.table("t")
    entry = stuck.quarantined(one(put(table, "a")), batch(put(table, "b"), put(table, "c")), one(delete(table, "d")))
    options = [word for one_wish in wish for word in ("--op", one_wish)]
    ran = cli(world, "writes", "skip", entry.write_id, *options, *WHY, "--json")
    assert ran.code == ExitCode.DONE, ran.err
    valid(ran.facts, "writes-deed")
    assert entry_of(world, entry)["skipped"] == {"SS": skipped}
    assert world.records("A")[0]["skipped"] == {"SS": skipped}
    stuck.engine.operators.retry(entry.write_id, operator="ada", reason="the rest")
    assert stuck.writer.recovery.resume(entry.write_id).resumed == "finished"
    puts = {"operations[0]", "operations[1].items[0]", "operations[1].items[1]"}
    assert len(world.items(table)) == len(puts - set(skipped))


@pytest.mark.parametrize("wish", ["3", "1.2", "-1", "operations[9]", "x"])
def test_skip_of_what_is_not_there_is_a_usage_error(world: World, stuck: Stuck, wish: str) -> None:
    table = world.table("t")
    entry = stuck.quarantined(one(put(table, "a")), batch(put(table, "b"), put(table, "c")), one(delete(table, "d")))
    ran = cli(world, "writes", "skip", entry.write_id, f"--op={wish}", *WHY)
    assert ran.code == ExitCode.USAGE
    assert "skipped" not in entry_of(world, entry)
    assert world.records("A") == []


def test_quarantine_keeps_monitors_away_until_a_retry(world: World, stuck: Stuck) -> None:
    entry = stuck.commit(one(put(world.table("t"), "x")))
    assert cli(world, "writes", "quarantine", entry.write_id, *WHY).code == ExitCode.DONE
    assert stuck.writer.recovery.resume(entry.write_id).resumed == "quarantined"
    assert cli(world, "writes", "retry", entry.write_id, *WHY).code == ExitCode.DONE
    assert stuck.writer.recovery.resume(entry.write_id).resumed == "finished"


@pytest.mark.usefixtures("_nobody_waits")
def test_discard_removes_the_entry_and_undoes_nothing(world: World, stuck: Stuck) -> None:
    table = world.table("t")
    entry = stuck.quarantined(one(put(table, "applied")), one(put(table, "open")))
    world.client.put_item(TableName=table, Item={"id": {"S": "applied"}, "_rw": {"S": entry.stamp}})
    ran = cli(world, "writes", "discard", entry.write_id, *WHY, "--json")
    assert ran.code == ExitCode.DONE
    valid(ran.facts, "writes-deed")
    assert world.records("J#") == []
    assert [item["id"]["S"] for item in world.items(table)] == ["applied"]
    assert deeds(world) == [("discard", entry.write_id)]


@pytest.mark.usefixtures("_nobody_waits")
def test_pending_writes_are_set_aside_and_awaited_once_before_they_are_discarded(world: World, stuck: Stuck) -> None:
    table = world.table("t")
    entries = [stuck.commit(one(put(table, f"k{n}"))) for n in range(5)] + [stuck.quarantined(one(put(table, "q")))]
    ran = cli(world, "writes", "discard", *ids(entries), *WHY, "--jsonl")
    assert ran.code == ExitCode.DONE, ran.err
    assert sorted(valid(line, "deed-result")["write_id"] for line in ran.lines) == sorted(ids(entries))
    assert world.records("J#") == []
    assert deeds(world) == sorted(
        [("discard", entry.write_id) for entry in entries] + [("quarantine", entry.write_id) for entry in entries[:5]]
    )


# --- what must not happen -----------------------------------------------------------------------------------------

DEEDS = ["retry", "quarantine", "discard"]


def deed_on(world: World, deed: str, entry: Entry, *more: str) -> Ran:
    return cli(world, "writes", deed, entry.write_id, *more)


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize(
    ("more", "code"),
    [
        ([], ExitCode.USAGE),
        (["--yes"], ExitCode.USAGE),
        (["--yes", "--reason", "  "], ExitCode.USAGE),
        (["--reason", "x"], ExitCode.USAGE),
        (["--dry-run"], ExitCode.DONE),
        (["--dry-run", "--yes", "--reason", "x"], ExitCode.DONE),
        (["--plan-out", "plan.json", "--reason", "x"], ExitCode.DONE),
        (["--state", "pending", *WHY], ExitCode.USAGE),
    ],
)
def test_nothing_is_done_unasked_without_a_reason_or_where_it_was_only_planned(
    world: World, stuck: Stuck, deed: str, more: list[str], code: ExitCode
) -> None:
    """Without a terminal nobody can say yes."""
    stuck.commit(one(put(world.table("t"), "x")))
    entry = stuck.commit(one(put(world.table("t"), "x")))
    before = world.items(world.system_table)
    ran = deed_on(world, deed, entry, *more)
    assert ran.code == code, ran.err
    assert world.items(world.system_table) == before


def test_a_deed_without_ids_and_filters_is_not_a_deed_on_everything(world: World, stuck: Stuck) -> None:
    stuck.commit(one(put(world.table("t"), "x")))
    assert cli(world, "writes", "discard", *WHY).code == ExitCode.USAGE
    assert len(world.records("J#")) == 1


def test_a_write_that_is_not_there_is_not_found_and_one_among_others_makes_it_partly(
    world: World, stuck: Stuck
) -> None:
    ran = cli(world, "writes", "retry", NO_WRITE, *WHY, "--json")
    assert ran.code == ExitCode.NOT_FOUND
    assert "writes explain" in valid(ran.facts, "error")["error"]["message"]
    entry = stuck.quarantined(one(put(world.table("t"), "x")))
    ran = cli(world, "writes", "retry", entry.write_id, NO_WRITE, *WHY, "--json")
    assert ran.code == ExitCode.PARTLY
    counts = valid(ran.facts, "writes-deed")["counts"]
    assert (counts["done"], counts["not found"]) == (1, 1)


def test_an_entry_of_a_newer_version_is_refused_and_stays(world: World, stuck: Stuck) -> None:
    entry = stuck.commit(one(put(world.table("t"), "x")), format=9)
    before = world.items(world.system_table)
    for deed in DEEDS:
        assert deed_on(world, deed, entry, *WHY).code == ExitCode.USAGE
        assert cli(world, "writes", deed, "--older-than", "0s", *WHY).code == ExitCode.DONE
    assert world.items(world.system_table) == before


# --- many, and plans ----------------------------------------------------------------------------------------------


def test_a_filter_reaches_what_matches_and_nothing_else(world: World, stuck: Stuck) -> None:
    table = world.table("t")
    meant = [stuck.quarantined(one(put(table, f"k{n}")), reason="denied") for n in range(20)]
    others = [stuck.quarantined(one(put(table, "o")), reason="invalid"), stuck.commit(one(put(table, "p")))]
    ran = cli(world, "writes", "retry", "--error", "denied", *WHY, "--jsonl")
    assert ran.code == ExitCode.DONE
    assert {valid(line, "deed-result")["write_id"] for line in ran.lines} == set(ids(meant))
    assert deeds(world) == [("retry", write_id) for write_id in sorted(ids(meant))]
    assert entry_of(world, others[0])["state"] == {"S": "quarantined"}
    assert entry_of(world, others[1])["epoch"] == {"N": "0"}
    again = cli(world, "writes", "retry", "--error", "no such error", *WHY)
    assert (again.code, "nothing to retry" in again.err) == (ExitCode.DONE, True)


def planned(world: World, *arguments: str) -> dict[str, Any]:
    ran = cli(world, "writes", *arguments, "--reason", "reviewed", "--plan-out", "plan.json")
    assert ran.code == ExitCode.DONE, ran.err
    return dict(valid(json.loads(Path("plan.json").read_text()), "plan-file"))


@pytest.mark.usefixtures("_nobody_waits")
def test_a_plan_acts_on_what_was_reviewed_and_on_nothing_that_moved_or_came_later(world: World, stuck: Stuck) -> None:
    table = world.table("t")
    entries = [stuck.quarantined(one(put(table, f"k{n}"))) for n in range(4)]
    plan = planned(world, "discard", "--state", "quarantined")
    assert {write["write_id"] for write in plan["writes"]} == set(ids(entries))
    moved, gone, *still = entries
    stuck.engine.operators.retry(moved.write_id, operator="eve", reason="meanwhile")
    stuck.engine.operators.retry(gone.write_id, operator="eve", reason="meanwhile")
    stuck.writer.recovery.resume(gone.write_id)
    later = stuck.quarantined(one(put(table, "later")))
    ran = cli(world, "writes", "apply", "plan.json", "--yes", "--json")
    assert ran.code == ExitCode.PARTLY
    results = {result["write_id"]: result["result"] for result in valid(ran.facts, "writes-deed")["results"]}
    assert results == {
        moved.write_id: "too late",
        gone.write_id: "too late",
        **dict.fromkeys(ids(still), "done"),
    }
    assert {record["sk"]["S"] for record in world.records("J#")} == {moved.stamp, later.stamp}
    assert [record["reason"]["S"] for record in world.records("A") if record["action"]["S"] == "discard"] == [
        "reviewed"
    ] * 2
    assert cli(world, "writes", "apply", "plan.json", "--yes").code == ExitCode.TOO_LATE


@pytest.mark.parametrize(
    "change",
    [
        {"system_table": "another"},
        {"region": "eu-west-1"},
        {"endpoint_url": "http://x"},
        {"format": 2},
        {"action": "x"},
    ],
)
def test_a_plan_for_elsewhere_or_of_another_kind_is_refused(world: World, stuck: Stuck, change: dict[str, Any]) -> None:
    entry = stuck.quarantined(one(put(world.table("t"), "x")))
    plan = planned(world, "discard", entry.write_id)
    Path("plan.json").write_text(json.dumps({**plan, **change}))
    assert cli(world, "writes", "apply", "plan.json", "--yes").code == ExitCode.USAGE
    assert len(world.records("J#")) == 1


def test_a_plan_is_never_overwritten_and_rubbish_is_no_plan(world: World, stuck: Stuck) -> None:
    entry = stuck.quarantined(one(put(world.table("t"), "x")))
    for text in ("", "[]", "{}", '{"format": 1, "action": "retry"}'):
        Path("plan.json").write_text(text)
        assert cli(world, "writes", "apply", "plan.json", "--yes").code == ExitCode.USAGE
        arguments = ["--reason", "x", "--plan-out", "plan.json"]
        assert cli(world, "writes", "discard", entry.write_id, *arguments).code == ExitCode.USAGE
        assert Path("plan.json").read_text() == text
    assert cli(world, "writes", "apply", "absent.json", "--yes").code == ExitCode.USAGE


def test_dry_runs_and_plans_tell_in_json_what_they_would_do(world: World, stuck: Stuck) -> None:
    entry = stuck.quarantined(one(put(world.table("t"), "x")))
    for arguments in (["--dry-run"], ["--reason", "x", "--plan-out", "p.json"]):
        ran = cli(world, "writes", "discard", entry.write_id, *arguments, "--json")
        assert valid(ran.facts, "writes-plan")["writes"][0]["write_id"] == entry.write_id
    ran = cli(world, "writes", "discard", entry.write_id, "--dry-run", "--jsonl")
    assert valid(ran.lines[0], "reviewed-write")["epoch"] == 1


LOOKING_CALLS = 1 + SHARDS  # the config record, and each shard


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as in a terminal: whoever is started in the background by a script inherits that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# --- stopped half way ---------------------------------------------------------------------------------------------


def test_ctrl_c_lets_the_running_ones_end_and_says_where_to_resume(world: World, stuck: Stuck, tmp_path: Path) -> None:
    """A real process, a real SIGINT after the first results; then the rest, from the plan it left, each write once."""
    table = world.table("t")
    entries = [stuck.quarantined(one(put(table, f"k{n}"))) for n in range(60)]
    command = [sys.executable, "-m", "reliable_write.cli", "writes", "retry", "--state", "quarantined", *WHY]
    running = subprocess.Popen(
        [*command, "--rate", "5", "--jsonl"],
        env={**os.environ, **world.environment(), "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert running.stderr is not None
    with running.stdout, running.stderr:
        first = running.stdout.readline()
        running.send_signal(signal.SIGINT)
        done = [json.loads(line)["write_id"] for line in [first, *running.stdout]]
        err = running.stderr.read()
    assert running.wait(60) == ExitCode.PARTLY, err
    assert 0 < len(done) < len(entries), "it was stopped half way"
    assert deeds(world) == [("retry", write_id) for write_id in sorted(done)]
    (rest,) = tmp_path.glob("reliable-write-retry-rest-*.json")
    assert f"reliable-write writes apply {rest.name}" in err
    assert f"{len(entries) - len(done)} remain" in err
    ran = cli(world, "writes", "apply", rest.name, "--yes", "--json")
    assert ran.code == ExitCode.DONE
    assert deeds(world) == [("retry", write_id) for write_id in sorted(ids(entries))]


@pytest.mark.usefixtures("interruptible")
def test_a_second_ctrl_c_ends_at_once_and_says_where_to_look(
    world: World, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service hangs in the first write: Ctrl-C, then Ctrl-C again; handlers run in the main thread, as ever."""
    entries = [stuck.quarantined(one(put(world.table("t"), f"k{n}"))) for n in range(3)]
    main, told, over = threading.main_thread().ident, threading.Event(), threading.Event()
    assert main is not None

    def heard(_screen: object) -> None:
        told.set()

    def hang(_call: Call) -> None:
        signal.pthread_kill(main, signal.SIGINT)
        assert told.wait(20), "the first one is told"
        signal.pthread_kill(main, signal.SIGINT)
        over.wait(20)  # or the main thread might hear of it when all three are done

    def hanging(settings: Settings) -> Any:
        client = open_client(settings)
        FaultPlan(client).on("UpdateItem", hang, times=1)
        return client

    monkeypatch.setattr("reliable_write.cli.render_deeds.DeedScreen.stopping", heard)
    monkeypatch.setattr("reliable_write.cli.connect.open_client", hanging)
    ran = cli(world, "writes", "retry", "--state", "quarantined", *WHY)
    over.set()
    assert ran.code == ENDED_BY_SIGINT
    assert "Ended at once" in ran.err
    assert "reliable-write audit list" in ran.err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.undo()
    again = cli(world, "writes", "retry", *ids(entries), *WHY)
    assert again.code == ExitCode.DONE, again.out


class Impatient:
    """Presses Ctrl-C when the first write was set aside."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self.steps: list[str] = []

    def begin(self, what: str, _count: int) -> None:
        self.steps.append(what)

    def step(self) -> None:
        self.stop.set()

    def tell(self, result: Result) -> None:
        pass


class Witness(Impatient):
    """Counts the steps of each part and presses nothing."""

    def begin(self, what: str, count: int) -> None:
        self.steps.append(f"{what}: {count}")

    def step(self) -> None:
        self.steps.append("step")


@pytest.mark.usefixtures("_nobody_waits", "_as_in_this_world")
def test_the_wait_of_a_discard_is_told_second_by_second(world: World, stuck: Stuck) -> None:
    """Ten seconds in which nothing moves look like a hang."""
    entry = stuck.quarantined(one(put(world.table("t"), "x")))
    with open_desk(At(None, None, None, None)) as desk:
        plan = Plan("discard", "why", desk.place(), select_ids(desk, [entry.write_id]).writes)
        audience = Witness(threading.Event())
        outcome, _ = act(desk, plan, None, audience.stop, audience)
    assert outcome.exit_code is ExitCode.DONE
    assert audience.steps == ["wait for attempts to end, in s: 10", *["step"] * 10, "discard: 1"]


@pytest.mark.usefixtures("_nobody_waits", "_as_in_this_world")
def test_a_discard_stopped_between_its_steps_goes_on_from_the_plan_it_left(world: World, stuck: Stuck) -> None:
    """What it set aside itself must not look to it as moved by somebody else."""
    table = world.table("t")
    entries = [stuck.commit(one(put(table, f"k{n}"))) for n in range(40)]
    with open_desk(At(None, None, None, None)) as desk:
        selection = select_ids(desk, ids(entries))
        plan = Plan("discard", "why", desk.place(), selection.writes)
        stop = threading.Event()
        audience = Impatient(stop)
        outcome, rest = act(desk, plan, None, stop, audience)
    assert audience.steps == ["set aside"]
    assert (outcome.stopped, len(outcome.remaining)) == ("interrupted", 40)
    states = [record["state"]["S"] for record in world.records("J#")]
    assert 0 < states.count("quarantined") < 40
    assert rest is not None
    ran = cli(world, "writes", "apply", rest, "--yes", "--json")
    assert ran.code == ExitCode.DONE, ran.out
    assert world.records("J#") == []
    assert [deed for deed in deeds(world) if deed[0] == "discard"] == [
        ("discard", write_id) for write_id in sorted(ids(entries))
    ]


@pytest.fixture
def _as_in_this_world(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_nobody_waits")
def test_a_service_that_goes_away_stops_a_bulk_deed_and_the_rest_is_kept(
    world: World, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = world.table("t")
    entries = [stuck.quarantined(one(put(table, f"k{n}"))) for n in range(70)]
    refused = 0

    def unreachable_later(call: Call) -> None:
        nonlocal refused
        if call.number > LOOKING_CALLS + 60:  # three calls for each write
            refused += 1
            refuse_connection(call)

    def faulty(settings: Settings) -> Any:
        client = open_client(settings)
        plan = FaultPlan(client)
        for operation in ("GetItem", "PutItem", "UpdateItem", "BatchWriteItem"):
            plan.on(operation, unreachable_later)
        return client

    with monkeypatch.context() as patched:
        patched.setattr("reliable_write.cli.connect.open_client", faulty)
        ran = cli(world, "writes", "retry", "--state", "quarantined", *WHY, "--json")
    facts = valid(ran.facts, "writes-deed")
    assert refused, "the plan has refused nothing"
    assert facts["stopped"] not in (None, "interrupted")
    assert facts["counts"]["failed"] < facts["remaining"], "it did not go on against a wall"
    assert ran.code == ExitCode.PARTLY
    assert 0 < facts["counts"]["done"] < len(entries)
    assert facts["remaining"] == len(entries) - facts["counts"]["done"]
    ran = cli(world, "writes", "apply", facts["rest_plan"], "--yes", "--json")
    assert ran.code == ExitCode.DONE, ran.out
    assert {entry["epoch"]["N"] for entry in world.records("J#")} == {"2"}, "each was set aside and retried, once"
    assert set(deeds(world)) == {("retry", write_id) for write_id in ids(entries)}


def test_a_denied_deed_is_a_failure_of_the_service_and_leaves_no_record(
    world: World, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = stuck.quarantined(one(put(world.table("t"), "x")))

    def denied(settings: Settings) -> Any:
        client = open_client(settings)
        FaultPlan(client).on("UpdateItem", deny)
        return client

    monkeypatch.setattr("reliable_write.cli.connect.open_client", denied)
    ran = cli(world, "writes", "retry", entry.write_id, *WHY)
    assert ran.code == ExitCode.SERVICE
    assert "access denied" in ran.out
    assert deeds(world) == []


# --- the record of it all -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_nobody_waits")
def test_the_audit_list_says_who_did_what_to_which_write_and_why(world: World, stuck: Stuck) -> None:
    table = world.table("t")
    a, b = (stuck.quarantined(one(put(table, key)), one(put(table, key + "2"))) for key in "ab")
    cli(world, "writes", "skip", a.write_id, "--op", "1", *WHY)
    cli(world, "writes", "retry", a.write_id, *WHY)
    cli(world, "writes", "discard", b.write_id, *WHY)
    facts = valid(cli(world, "audit", "list", "--json").facts, "audit-list")
    assert [(deed["action"], deed["write_id"]) for deed in facts["deeds"]] == [
        ("discard", b.write_id),
        ("retry", a.write_id),
        ("skip", a.write_id),
    ]
    lines = cli(world, "audit", "list", "--write", a.write_id, "--action", "skip", "--jsonl").lines
    assert [valid(line, "audit-deed")["skipped"] for line in lines] == [["operations[1]"]]
    told = cli(world, "audit", "list", "--limit", "1")
    assert b.write_id in told.out
    assert "The newest 1 of 3" in told.err


def test_audit_records_of_repairs_hide_keys_unless_revealed(world: World) -> None:
    table = world.table("t")
    world.client.put_item(TableName=table, Item={"id": {"S": "the-key"}, "_rw": {"S": "the-stamp"}})
    cli(world, "repair-stamp", table, "--key", '{"id": "the-key"}', "--yes", "--reason", "import")
    for form in ([], ["--json"]):
        hidden, shown = cli(world, "audit", "list", *form), cli(world, "audit", "list", "--reveal", *form)
        assert not {"the-key", "the-stamp"} & set(hidden.out.replace('"', " ").split())
        assert {"the-key", "the-stamp"} <= set(shown.out.replace('"', " ").split())
    valid(shown.facts, "audit-list")


# --- the cause outlives the deed ----------------------------------------------------------------------------------


def test_setting_a_write_aside_keeps_the_error_that_was_there(world: World, stuck: Stuck) -> None:
    """Without it nobody could tell what to mend, nor find the others that failed alike."""
    cause = "access denied (AccessDeniedException) on table orders"
    entry = stuck.quarantined(one(put(world.table("t"), "x")), reason=cause)
    for reason in ("a drill", "another"):
        assert cli(world, "writes", "quarantine", entry.write_id, "--reason", reason, "--yes").code == ExitCode.DONE
    error = entry_of(world, entry)["last_error"]["S"]
    assert error.startswith(f"{cause}; set aside by ")
    assert error.endswith(": another"), "the last word only, or it would grow"
    assert error.count("set aside by") == 1
    (row,) = cli(world, "writes", "list", "--error", "access denied", "--jsonl").lines
    assert row["write_id"] == entry.write_id
    commands = [step["command"] for step in cli(world, "writes", "explain", entry.write_id, "--json").facts["advice"]]
    assert "reliable-write iam policy --role monitor --table orders" in commands


def test_without_an_error_the_persons_word_stands_alone(world: World, stuck: Stuck) -> None:
    entry = stuck.commit(one(put(world.table("t"), "x")))
    cli(world, "writes", "quarantine", entry.write_id, "--reason", "a drill", "--yes")
    assert entry_of(world, entry)["last_error"]["S"].startswith("set aside by ")


def test_a_plan_of_nothing_is_not_written(world: World) -> None:
    ran = cli(world, "writes", "discard", "--error", "nobody", "--reason", "why", "--plan-out", "plan.json")
    assert "No write matches; nothing to discard." in ran.err
    assert not Path("plan.json").exists()
