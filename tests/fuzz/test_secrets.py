"""No value gets out by itself: a mark is in all that users store, and all that tells something is searched for it.

Values are told where they are asked for (`--reveal`), and in attributes of errors that are documented to hold them.
Keys and names may be told; then they are text, whatever is in them.
"""

from __future__ import annotations

import http.client
import io
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from monitor.health import Watched
from monitor.logs import configure_logs
from monitor.loop import WriteMonitor
from monitor.metrics import Metrics
from monitor.pulse import Pulse
from monitor.settings import MonitorSettings
from monitor.web.app import make_app
from monitor.web.server import WebServer
from reliable_write import AtomicCounter, HashKey, Lock, Record, RecordStore, ReliableWriteScope, Version, errors
from reliable_write.dynamodb import CallFailed, CallName
from reliable_write.operations import Operation, Put
from reliable_write.policy import FailureKind
from tests.fuzz.command_line import LOCKS, Place, Ran, commands, run
from tests.fuzz.damage import LONG_SECONDS, DamagedWorld, Desk
from tests.fuzz.tally import tally
from tests.simulation.memory_world import SYSTEM, TABLE

MARK = "4111-1111-1111-1111"
EVIL = '\x1b[2J\x1b]0;owned\x07\r\nforged \u202e\x9b31m<script>alert(1)</script>"},x=\x7f'
CARD = {"id": "card", "card": MARK}


class Card(Record, table=TABLE):
    id: Annotated[str, HashKey()]
    number: int = 0
    version: Annotated[int, Version()] = 0


@pytest.fixture(params=["json", "console"])
def log(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """The log of a service at its most talkative."""
    root, stream = logging.getLogger(), io.StringIO()
    kept = (root.handlers, root.level)
    configure_logs(request.param, "debug", stream)
    yield stream
    root.handlers, root.level = kept
    structlog.reset_defaults()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An installation with the mark in whatever can hold it."""
    monkeypatch.chdir(tmp_path)
    made = Place(monkeypatch)
    world = made.world
    write = Operation("put_item", (Put(TABLE, ("id",), {"id": {"S": "card"}, "card": {"S": MARK}}),))
    pending = world.leave((write,))
    aside = world.engine.journal.quarantine(world.leave((write,)), "refused as invalid", world.deadline())
    world.plant("card", card=MARK)
    world.plant("foreign", _rw=MARK)
    world.tables.tables[LOCKS].items["held"]["lock_data"] = {"M": {"card": {"S": MARK}}}
    made.ids = [pending.write_id, aside.write_id, *made.ids]
    made.whole = world.snapshot()
    Path("folder").mkdir()
    Path("folder", "card.txt").write_text(MARK)
    return made


# --- errors and logs ----------------------------------------------------------------------------------------------

Deed = Callable[[ReliableWriteScope], object]
REFUSED: dict[str, tuple[type[Exception], Deed]] = {
    "a float beside it": (errors.InvalidItemError, lambda scope: scope.put_item(TABLE, {**CARD, "price": 1.5})),
    "too large": (errors.WriteTooLargeError, lambda scope: scope.put_item(TABLE, {"id": "x", "card": MARK * 30_000})),
    "no key": (errors.InvalidKeyError, lambda scope: scope.put_item(TABLE, {"card": MARK})),
    "twice": (errors.DuplicateKeyError, lambda scope: scope.put_items(TABLE, [CARD, CARD])),
    "no such value": (
        errors.InvalidExpressionError,
        lambda scope: scope.put_item(TABLE, CARD, "card = :no", ExpressionAttributeValues={":v": MARK}),
    ),
    "an update that adds text": (
        errors.WriteRejectedError,
        lambda scope: scope.update_item(TABLE, {"id": "x"}, add={"n": MARK}),
    ),
    "a foreign stamp given": (errors.ForeignStampError, lambda scope: scope.put_item(TABLE, {"id": "x", "_rw": MARK})),
}
FAULTS: dict[str, tuple[type[Exception], FailureKind, str]] = {
    "denied": (errors.CommitFailedError, FailureKind.ACCESS_DENIED, SYSTEM),
    "unknown": (errors.CommitUnknownError, FailureKind.TIMEOUT, SYSTEM),
    "throttled": (errors.PropagationPendingError, FailureKind.THROTTLED, TABLE),
    "refused as invalid": (errors.PropagationPendingError, FailureKind.VALIDATION, TABLE),
}


def hinder(world: DamagedWorld, kind: FailureKind | None, table: str = "") -> None:
    def before(call: CallName, request: Mapping[str, Any]) -> None:
        if (
            kind is not None
            and call in ("put_item", "transact_write_items")
            and request.get("TableName", table) == table
        ):
            raise CallFailed(kind, "Injected", table)

    world.tables.before = before


def told(error: BaseException) -> str:
    """All that a careless handler may write down of an error."""
    failures = getattr(error, "failures", ())
    return "".join([*traceback.format_exception(error), repr(error), repr(failures), *map(str, failures)])


def failures_of_scopes(world: DamagedWorld) -> Iterator[tuple[str, Exception]]:
    writer = world.writer()
    for name, (kind, deed) in REFUSED.items():
        with ReliableWriteScope(writer) as scope, pytest.raises(kind) as caught:
            deed(scope)
        yield name, caught.value
    for name, (kind, fault, table) in FAULTS.items():
        with ReliableWriteScope(writer) as scope:
            scope.put_item(TABLE, {"id": name, "card": MARK})
            hinder(world, fault, table)
            with pytest.raises(kind) as caught:
                scope.commit()
        hinder(world, None)
        yield name, caught.value


def failures_of_conditions(world: DamagedWorld) -> Iterator[tuple[str, Exception]]:
    writer = world.writer()
    world.plant("seen", card=MARK)
    with ReliableWriteScope(writer) as scope:
        scope.put_item(TABLE, {"id": "seen"}, "card <> :v", ExpressionAttributeValues={":v": MARK})
        with pytest.raises(errors.ConditionFailedError) as caught:
            scope.commit()
    assert caught.value.failures[0].item is not None
    assert caught.value.failures[0].item["card"] == MARK, "there it is documented to be"
    yield "a condition", caught.value
    for card in ("one", MARK):
        scope = ReliableWriteScope(writer, idempotency_key="key")
        scope.put_item(TABLE, {"id": "keyed", "card": card})
        if card == MARK:
            with pytest.raises(errors.IdempotencyMismatchError) as mismatch:
                scope.commit()
            yield "another write", mismatch.value
        else:
            scope.commit()
    world.plant("stamped", _rw=MARK)
    with ReliableWriteScope(writer) as scope:
        scope.put_item(TABLE, {"id": "stamped"})
        with pytest.raises(errors.ForeignStampError) as foreign:
            scope.commit()
    yield "a foreign stamp found", foreign.value


def failures_of_the_other_rooms(world: DamagedWorld) -> Iterator[tuple[str, Exception]]:
    writer = world.writer()
    world.tables.tables[TABLE].items["record"] = {"id": {"S": "record"}, "number": {"S": MARK}}
    with pytest.raises(errors.RecordLoadError) as load:
        RecordStore(writer).get(Card, "record")
    yield "no record", load.value
    with pytest.raises(errors.StaleRecordError) as stale:
        RecordStore(writer).put(Card(id="card", version=7))
    yield "a stale record", stale.value
    with pytest.raises(errors.LockNotAcquiredError) as lock:
        Lock(writer, LOCKS, "held", lease_seconds=20, heartbeat=False).acquire(timeout=0, data={"card": MARK})
    yield "a lock", lock.value
    world.tables.tables[LOCKS].items["odd"] = {
        "key": {"S": "odd"},
        "lock_id": {"S": MARK},
        "lock_lease_seconds": {"S": MARK},
    }
    with pytest.raises(errors.ReadFailedError) as odd:
        Lock(writer, LOCKS, "odd", lease_seconds=20, heartbeat=False).try_acquire()
    yield "no lock", odd.value
    world.tables.tables[LOCKS].items["counter"] = {"key": {"S": "counter"}, "value": {"S": MARK}}
    with pytest.raises(errors.CounterTypeError) as counter:
        AtomicCounter(writer, LOCKS, "counter").add()
    yield "no counter", counter.value


def watch(world: DamagedWorld) -> tuple[WriteMonitor, Metrics, Watched]:
    """A monitor with everything that the daemon puts around it."""
    watched = Watched(Pulse(world.time, 10**9))
    metrics = Metrics(watched)
    settings = MonitorSettings(readers=1, workers=1, lease_seconds=10, audit=False)
    monitor = WriteMonitor(Desk(world), settings, observers=[metrics])  # type: ignore[arg-type]  # as in `damage`
    watched.runs(monitor)
    return monitor, metrics, watched


def test_no_error_log_or_metric_tells_a_value(place: Place, log: io.StringIO) -> None:
    """Commits, failing ones of each kind, sweeps over what they left, quarantine, audits."""
    world = place.world
    world.logger = structlog.get_logger("reliable_write")
    with tally("tellings of a value", "errors", "log lines", "quarantined") as counts:
        for part in (failures_of_scopes, failures_of_conditions, failures_of_the_other_rooms):
            for name, error in part(world):
                assert MARK not in told(error), name
                structlog.get_logger("service").warning("failed", exc_info=error)
                counts.update(["inputs", "errors"])
        monitor, metrics, watched = watch(world)
        hinder(world, FailureKind.VALIDATION, TABLE)
        for _ in range(4):
            monitor.run_once()
            world.time.pass_seconds(60)
        counts["quarantined"] += monitor.status().quarantined
        hinder(world, None)
        auditor = world.auditor()
        for _ in range(3):
            auditor.run_once()
            world.time.pass_seconds(LONG_SECONDS)
        monitor.drain()
        counts["log lines"] += len(log.getvalue().splitlines())
        reasons = [item.get("last_error", {}).get("S", "") for item in world.records("J#")]
        assert any("Injected" in reason for reason in reasons)
        for text in (log.getvalue(), metrics.render().decode(), str(watched.ready()), str(monitor.status()), *reasons):
            assert MARK not in text
            counts["inputs"] += 1


# --- the command line ---------------------------------------------------------------------------------------------

WHY = ["--reason", "why", "--yes"]
ARGUMENTS: dict[str, list[str]] = {
    "init": ["--check"],
    "status": [],
    "doctor": ["--table", TABLE],
    "repair-stamp": [TABLE, "--key", '{"id": "foreign"}', *WHY],
    "demo": [],
    "audit list": [],
    "iam policy": ["--role", "app"],
    "locks list": [LOCKS],
    "locks show": [LOCKS, "held"],
    "locks release": [LOCKS, "held", *WHY],
    "upload": ["folder", "s3://bucket/prefix"],
    "writes list": ["--table", TABLE],
    "writes show": ["{id}"],
    "writes explain": ["{id}"],
    "writes wait": ["{id}", "--timeout", "0s"],
    "writes retry": ["{id}", "--now", *WHY],
    "writes skip": ["{id}", "--op", "0", *WHY],
    "writes quarantine": ["{id}", *WHY],
    "writes discard": ["{id}", *WHY],
    "writes apply": ["plan.json", "--yes"],
}
REVEALED = {
    "writes show": ["{id}", "--reveal"],
    "locks show": [LOCKS, "held", "--reveal"],
    "audit list": ["--reveal"],
}
LEAVES = {name: command for name, command in commands() if not hasattr(command, "commands")}


def runs(place: Place, name: str, arguments: list[str], **how: Any) -> Iterator[tuple[str, Ran]]:
    """In every form the command has, on every kind of write where it takes one."""
    options = {option for parameter in LEAVES[name].params for option in parameter.opts}
    for form in ("", *sorted({"--json", "--jsonl"} & options)):
        for write_id in place.ids[:4] if "{id}" in arguments else [""]:
            place.restore()
            words = [word.replace("{id}", write_id) for word in arguments]
            yield form, run([*name.split(), *words, *([form] if form else [])], **how)


def test_every_command_is_asked() -> None:
    assert set(ARGUMENTS) == set(LEAVES)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_no_command_tells_a_value_unasked(place: Place, name: str) -> None:
    with tally("commands beside values") as counts:
        assert run(["writes", "quarantine", place.ids[0], "--reason", "why", "--plan-out", "plan.json"]).code == 0
        for form, ran in runs(place, name, ARGUMENTS[name]):
            assert ran.out or ran.err
            assert MARK not in ran.out + ran.err, form
            counts["inputs"] += 1
        plan = Path("plan.json").read_text()
        assert MARK not in plan


@pytest.mark.parametrize("name", REVEALED)
def test_a_value_is_told_where_it_is_asked_for(place: Place, name: str) -> None:
    """Or the tests above would search where there is nothing to be found."""
    if name == "audit list":
        place.restore()
        assert run(["repair-stamp", TABLE, "--key", '{"id": "foreign"}', *WHY]).code == 0
        place.whole = place.world.snapshot()
    found = [MARK in ran.out for _, ran in runs(place, name, REVEALED[name])]
    assert any(found)


# --- names are text -----------------------------------------------------------------------------------------------


@pytest.fixture
def evil_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    made = Place(monkeypatch, evil=EVIL)
    write = Operation("put_item", (Put(TABLE, ("id",), {"id": {"S": EVIL}, EVIL: {"S": EVIL}}),))
    left = made.world.leave((write,))
    made.world.engine.journal.claim(left, EVIL, made.world.deadline())
    made.world.plant(EVIL, v=EVIL)
    made.ids = [left.write_id, *made.ids]
    made.whole = made.world.snapshot()
    Path("folder").mkdir()
    Path("folder", "a\x1b[2J\n.txt").write_text("a")
    return made


OURS = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[lh]|[0-9]*[AK])|\r(?=\x1b)")
"""Colours, and how a bar or a spinner is drawn again in its line."""


@pytest.mark.parametrize("name", ARGUMENTS)
def test_names_are_text_in_every_command(evil_place: Place, name: str) -> None:
    """Without a terminal and on one, where only our own colours may be."""
    if name == "writes apply":
        assert run(["writes", "retry", evil_place.ids[0], "--reason", EVIL, "--plan-out", "plan.json"]).code == 0
    with tally("commands beside evil names") as counts:
        arguments = REVEALED.get(name, ARGUMENTS[name])
        arguments = [f"held{EVIL}" if word == "held" else EVIL if word == "why" else word for word in arguments]
        for terminal in (False, True):
            for form, ran in runs(evil_place, name, arguments, terminal=terminal):
                for text, coloured in ((ran.out, terminal and not form), (ran.err, terminal)):
                    shown = OURS.sub("", text) if coloured else text
                    odd = {mark for mark in shown if not mark.isprintable() and mark not in "\n\t\xa0"}
                    assert not odd, (form, shown[:2000])
                    assert "\nforged" not in shown
                counts["inputs"] += 1


def test_names_are_text_in_errors() -> None:
    """Of tables, attributes, keys, placeholders, destinations."""
    world = DamagedWorld()
    writer = world.writer()
    deeds: list[Deed] = [
        lambda scope: scope.put_item(EVIL, {"id": "x"}),
        lambda scope: scope.put_item(f"eu:{EVIL}", {"id": "x"}),
        lambda scope: scope.put_item(f"{EVIL}:t", {"id": "x"}),
        lambda scope: scope.put_item(TABLE, {"id": "x", EVIL: 1.5}),
        lambda scope: scope.put_item(TABLE, {"id": "x", "a": {EVIL: [1.5]}}),
        lambda scope: scope.delete_item(TABLE, {"id": "x", EVIL: "x"}),
        lambda scope: scope.put_items(TABLE, [{"id": EVIL}, {"id": EVIL}]),
        lambda scope: scope.put_item(TABLE, {"id": "x"}, "#n = :v", {"#n": EVIL}, {":v": EVIL, f":{EVIL}": 1}),
        lambda scope: scope.update_item(TABLE, {"id": "x"}, set={EVIL: 1.5}),
        lambda scope: scope.commit(strategy=EVIL),  # type: ignore[arg-type]  # on purpose
    ]
    with tally("errors about evil names", "refused") as counts:
        for number, deed in enumerate(deeds):
            scope = ReliableWriteScope(writer)
            if number == len(deeds) - 1:
                scope.put_item(TABLE, {"id": "x"})
            with pytest.raises((errors.ReliableWriteError, ValueError)) as caught:
                deed(scope)
            scope.discard()
            counts.update(["inputs", "refused"])
            assert str(caught.value).isprintable(), (number, str(caught.value))
    with pytest.raises(errors.EntryNotFoundError) as absent:
        writer.recovery.resume(EVIL)
    assert str(absent.value).isprintable()


def test_a_tables_name_cannot_forge_a_metric() -> None:
    """Quotes, backslashes and line feeds in a label's value."""
    world = DamagedWorld()
    _, metrics, _ = watch(world)
    names = [EVIL, 'a"} 1\nreliable_write_ready{x="', "a\\", "\\n", "a\nreliable_write_live 0"]
    for name in names:
        metrics.breaker_changed(name, is_open=True)
    text = metrics.render().decode()
    with tally("labels") as counts:
        families = {family.name: family for family in text_string_to_metric_families(text)}
        labels = {sample.labels["table"] for sample in families["reliable_write_breaker_open"].samples}
        assert labels == set(names)
        assert [sample.value for sample in families["reliable_write_live"].samples] == [1.0]
        assert len(families["reliable_write_ready"].samples) == 1
        counts["inputs"] += len(names)


def test_a_reason_cannot_forge_an_answer_of_the_page() -> None:
    """It is JSON, and says so: nothing in it is markup."""
    watched = Watched(Pulse(DamagedWorld().time, 10**9))
    watched.waits(EVIL)
    server = WebServer(make_app(watched, Metrics(watched)), "127.0.0.1", 0).start()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        told = json.loads(answer.read())
        connection.close()
    finally:
        server.stop()
    assert answer.headers["content-type"] == "application/json"
    assert told == {"ok": False, "reasons": [EVIL]}


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_names_are_text_in_the_log_of_a_real_sweep(log_format: Any, evil_place: Place) -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    kept = (root.handlers, root.level)
    configure_logs(log_format, "debug", stream)
    try:
        world = evil_place.world
        world.logger = structlog.get_logger("reliable_write")
        monitor, _, _ = watch(world)
        for _ in range(3):
            monitor.run_once()
            world.time.pass_seconds(60)
        monitor.drain()
    finally:
        root.handlers, root.level = kept
        structlog.reset_defaults()
    lines = stream.getvalue().splitlines()
    assert lines
    assert all(line.isprintable() for line in lines), lines
    assert all(line[:1] in "{2" for line in lines), "a value began a line of its own"
