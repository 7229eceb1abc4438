"""The parts put together over scripted calls: what settings and the installation do, and what is logged."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from reliable_write import (
    CommitFailedError,
    CommitUnknownError,
    ConfigurationError,
    DuplicateKeyError,
    ForeignStampError,
    PropagationPendingError,
    ReliableWriteScope,
    Settings,
    UncommittedScopeWarning,
    UnknownTableError,
    UnsupportedOperationError,
    WriteRejectedError,
)
from reliable_write.dynamodb import CallFailed, CallName, ConditionRefused
from reliable_write.engine import Engine, assemble
from reliable_write.events import Events, default_logger
from reliable_write.operations import KeyAttribute, StampNames
from reliable_write.policy import FailureKind
from reliable_write.system_table import Installation
from reliable_write.values import WireItem
from tests.unit.fakes import NOON, InlineWorkers, ManualTime

MARKER = "s3cret"
FAR = f"{int((NOON + 100_000) * 1000):012x}" + "0" * 24


class Tables:
    """`Calls` that answer every request with success, but for what a test puts in their way."""

    def __init__(self, **config: str) -> None:
        self.config: WireItem = {
            "format": {"N": "1"},
            "shards": {"N": config.get("shards", "4")},
            "order": {"S": config.get("order", "strict")},
            "stamp_attribute": {"S": "_rw"},
            "update_stamp_attribute": {"S": "_rwu"},
        }
        self.sent: list[tuple[CallName, dict[str, Any]]] = []
        self.faults: dict[tuple[str, str | None], Exception] = {}
        self.found: dict[str, list[WireItem]] = {}
        self.missing: set[str] = set()

    def send(self, call: CallName, request: Mapping[str, Any], deadline: Any) -> dict[str, Any]:
        assert not deadline.passed()
        self.sent.append((call, dict(request)))
        fault = self.faults.get((call, request.get("TableName"))) or self.faults.get((call, None))
        if fault is not None:
            raise fault
        if call == "get_item":
            return {"Item": self.config} if request["Key"]["pk"]["S"] == "CONFIG" else {}
        if call == "describe_table":
            if request["TableName"] in self.missing:
                raise CallFailed(FailureKind.TABLE_MISSING, "ResourceNotFoundException", request["TableName"])
            return {"Table": _description(request["TableName"])}
        return {"Responses": self.found} if call == "batch_get_item" else {}

    def count(self, call: CallName) -> int:
        return sum(name == call for name, _ in self.sent)


def _description(table: str) -> dict[str, Any]:
    return {
        "TableName": table,
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    }


class Scene:
    def __init__(self, tables: Tables | None = None, logger: Any = None, **settings: Any) -> None:
        self.tables = tables or Tables()
        self.time = ManualTime()
        self.settings = Settings(system_table="journal", **settings)
        self.made: Engine | None = None
        self.logger = logger

    def engine(self) -> Engine:
        if self.made is None:
            self.made = assemble(self.tables, self.settings, self.time, InlineWorkers(), Events(self.logger))
        return self.made

    def scope(self, **options: Any) -> ReliableWriteScope:
        return ReliableWriteScope(self, **options)

    def recorded(self) -> ReliableWriteScope:
        scope = self.scope()
        scope.put_item("orders", Item={"id": MARKER, "name": MARKER, "deep": [{"x": MARKER}]})
        scope.delete_item("people", Key={"id": MARKER})
        return scope


@pytest.fixture(autouse=True)
def structlog_as_it_was() -> Iterator[None]:
    """Capturing logs configures structlog for good."""
    yield
    structlog.reset_defaults()


# --- settings and the installation --------------------------------------------------------------------------------


def test_the_system_table_is_the_one_that_is_read() -> None:
    scene = Scene()
    scene.engine()
    assert [request["TableName"] for _, request in scene.tables.sent] == ["journal"]


def test_an_attempt_lasts_as_long_as_set() -> None:
    for seconds in (5.0, 9.0):
        scene = Scene(attempt_deadline_seconds=seconds)
        scope = scene.recorded()
        scene.tables.faults["put_item", "journal"] = CallFailed(FailureKind.THROTTLED, "Throttled", "journal")
        with pytest.raises(CommitFailedError) as caught:
            scope.commit()
        assert caught.value.retryable
        assert seconds - 1.5 < scene.time.elapsed < seconds


def test_the_schema_of_a_table_is_asked_once_and_again_after_a_while() -> None:
    scene = Scene()
    for _ in range(3):
        scene.recorded().discard()
    assert scene.tables.count("describe_table") == 2
    scene.time.pass_seconds(301)
    scene.recorded().discard()
    assert scene.tables.count("describe_table") == 4


def test_a_missing_table_is_asked_for_again_each_time() -> None:
    scene = Scene()
    scene.tables.missing = {"orders"}
    scope = scene.scope()
    with pytest.raises(UnknownTableError, match="'orders' does not exist"):
        scope.put_item("orders", Item={"id": "a"})
    scene.tables.missing = set()
    scope.put_item("orders", Item={"id": "a"})
    assert len(scope) == 1


def test_a_table_that_vanished_is_forgotten() -> None:
    scene = Scene()
    scope = scene.recorded()
    scene.tables.faults["batch_get_item", None] = CallFailed(FailureKind.TABLE_MISSING, "NotFound", None)
    with pytest.raises(UnknownTableError, match="does not exist any more"):
        scope.commit()
    scene.tables.missing = {"orders"}
    with pytest.raises(UnknownTableError):
        scene.recorded()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("format", {"N": "2"}, "format 2, which this version does not know"),
        ("format", {"N": "x"}, "damaged"),
        ("shards", None, "damaged"),
        ("stamp_attribute", {"N": "1"}, "damaged"),
    ],
)
def test_a_config_record_that_cannot_be_read_is_refused(name: str, value: Any, words: str) -> None:
    tables = Tables()
    if value is None:
        del tables.config[name]
    else:
        tables.config[name] = value
    with pytest.raises(ConfigurationError, match=words):
        Scene(tables).engine()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"shards": 0}, "shards is 0; it takes 1 to 1000"),
        ({"shards": -4}, "shards is -4"),
        ({"shards": 1001}, "shards is 1001"),
        ({"order": "Strict"}, "order is 'Strict'; it takes strict or clock"),
        ({"names": StampNames("", "_rwu")}, "need names"),
        ({"names": StampNames("_rw", "")}, "need names"),
        ({"names": StampNames("_rw", "_rw")}, "different ones"),
    ],
    ids=repr,
)
def test_an_installation_that_could_not_work_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Installation(**wrong)


def test_the_ends_of_what_an_installation_takes_are_taken() -> None:
    for shards in (1, 1000):
        assert Installation(shards=shards, order="clock", names=StampNames("a", "b")).shards == shards


@pytest.mark.parametrize("shards", ["0", "-1", "1001", "1000000"])
def test_a_config_record_with_shards_that_could_not_work_is_refused(shards: str) -> None:
    """Followed, each look at the journal would be a million queries."""
    with pytest.raises(ConfigurationError, match=f"shards is {shards}"):
        Scene(Tables(shards=shards)).engine()


def test_a_missing_system_table_is_told_with_the_command() -> None:
    tables = Tables()
    tables.faults["get_item", "journal"] = CallFailed(FailureKind.TABLE_MISSING, "NotFound", "journal")
    with pytest.raises(ConfigurationError, match="Run: reliable-write init --system-table journal"):
        Scene(tables).engine()


def test_order_clock_looks_at_nothing_before_the_commit_point() -> None:
    scene = Scene(Tables(order="clock"))
    scene.recorded().commit()
    assert scene.tables.count("batch_get_item") == 0


def test_a_table_keyed_by_the_stamp_attribute_is_refused() -> None:
    scene = Scene()
    schema = scene.engine().schemas.get("orders")
    object.__setattr__(schema, "hash_key", KeyAttribute("_rw", "S"))
    with pytest.raises(UnsupportedOperationError, match="named like the stamp"):
        scene.scope().put_item("orders", Item={"_rw": "a"})


# --- what is found ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stamps",
    [{"_rw": {"N": "7"}}, {"_rw": {"S": MARKER}}, {"_rw": {"S": FAR}}, {"_rwu": {"S": FAR}}, {"_rwu": {"NULL": True}}],
    ids=repr,
)
def test_a_foreign_stamp_that_is_found_stops_the_commit_before_anything_is_written(stamps: WireItem) -> None:
    scene = Scene()
    scene.tables.found = {"orders": [{"id": {"S": MARKER}, **stamps}]}
    with pytest.raises(ForeignStampError, match="reliable-write repair-stamp orders") as caught:
        scene.recorded().commit()
    assert scene.tables.count("put_item") == 0
    assert MARKER not in str(caught.value)


def test_a_tombstone_from_the_far_future_does_not_move_our_clock() -> None:
    """Followed, it would make all our stamps foreign to everybody else."""
    scene = Scene()
    scene.tables.found = {"journal": [{"pk": {"S": "T#x"}, "stamp": {"S": FAR}}]}
    with pytest.raises(ForeignStampError):
        scene.recorded().commit()
    assert scene.tables.count("put_item") == 0
    scene.tables.found = {}
    assert scene.recorded().commit().stamp < FAR


# --- where errors stand -------------------------------------------------------------------------------------------


def test_a_refusal_tells_operation_table_and_place_also_in_its_facts() -> None:
    scope = Scene().recorded()
    for item, kind in (({"id": 7}, "InvalidKeyError"), ({"id": "a", "x": 1.5}, "InvalidItemError")):
        with pytest.raises(WriteRejectedError) as caught:
            scope.put_items("orders", [{"id": "b"}, item])
        assert type(caught.value).__name__ == kind
        assert caught.value.operation == "operations[2].items[1]"
        assert caught.value.table == "orders"
        assert str(caught.value).startswith("operations[2].items[1] put into orders")
    assert len(scope) == 2


def test_the_key_of_a_duplicate_is_given_as_the_caller_writes_keys() -> None:
    scene = Scene()
    schema = scene.engine().schemas.get("orders")
    for kind, value in (("S", "a"), ("N", Decimal("1.5")), ("B", b"a")):
        object.__setattr__(schema, "hash_key", KeyAttribute("id", kind))  # type: ignore[arg-type]  # one of them
        scope = scene.scope()
        scope.put_item("orders", Item={"id": value, "note": MARKER})
        with pytest.raises(DuplicateKeyError) as caught:
            scope.delete_item("orders", Key={"id": value})
        assert caught.value.key == {"id": value}
        assert pickle.loads(pickle.dumps(caught.value)).key == {"id": value}  # noqa: S301 - our own


# --- what is logged -----------------------------------------------------------------------------------------------


def _throttled(table: str) -> CallFailed:
    failure = CallFailed(FailureKind.ACCESS_DENIED, "AccessDeniedException", table)
    failure.__cause__ = RuntimeError(MARKER)
    return failure


def test_no_event_holds_a_value_whatever_happens() -> None:
    """Success, refusal, pending, unknown, dropped, abandoned: ids, tables and counts are enough."""
    with capture_logs() as told:
        Scene().recorded().commit()

        refused = Scene()
        scope = refused.recorded()
        refused.tables.faults["put_item", "journal"] = _throttled("journal")
        with pytest.raises(CommitFailedError) as failed:
            scope.commit()

        pending = Scene()
        pending.tables.faults["put_item", "orders"] = _throttled("orders")
        with pytest.raises(PropagationPendingError) as late:
            pending.recorded().commit()

        conflict = Scene()
        overtaken = {"id": {"S": MARKER}, "_rw": {"S": MARKER}}
        conflict.tables.faults["put_item", "orders"] = ConditionRefused(overtaken)
        with pytest.raises(PropagationPendingError) as foreign:
            conflict.recorded().commit()

        unknown = Scene()
        scope = unknown.recorded()
        unknown.tables.faults["put_item", "journal"] = CallFailed(FailureKind.TIMEOUT, "ReadTimeoutError", "journal")
        with pytest.raises(CommitUnknownError) as lost:
            scope.commit()

        flushing = Scene(delete_finished_inline=True)
        flushing.tables.faults["batch_write_item", None] = _throttled("journal")
        flushing.recorded().commit()

        with pytest.warns(UncommittedScopeWarning) as warned, Scene().scope() as dropped:
            dropped.put_item("orders", Item={"id": MARKER})
        with pytest.raises(ZeroDivisionError), Scene().scope() as abandoned:  # noqa: PT012 - the block is the point
            abandoned.put_item("orders", Item={"id": MARKER})
            raise ZeroDivisionError(MARKER)

    events = [line["event"] for line in told]
    assert set(events) == {
        "write_committed",
        "write_applied",
        "write_refused",
        "write_pending",
        "write_unknown",
        "finished_entries_not_deleted",
        "scope_dropped",
        "scope_abandoned",
    }
    texts = [repr(told), *(str(caught.value) for caught in (failed, late, foreign, lost)), *map(str, warned)]
    assert not [text for text in texts if MARKER in text]
    assert not [line for line in told if line["log_level"] == "error"]


def test_unconfigured_structlog_prints_nothing(capfd: pytest.CaptureFixture[str], caplog: Any) -> None:
    structlog.reset_defaults()
    scene = Scene()
    with caplog.at_level(logging.WARNING, "reliable_write"):
        scope = scene.recorded()
        scene.tables.faults["put_item", "orders"] = _throttled("orders")
        with pytest.raises(PropagationPendingError):
            scope.commit()
    out, err = capfd.readouterr()
    assert out == err == ""
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "write_pending" in caplog.records[0].getMessage()


def test_a_configured_structlog_is_used() -> None:
    structlog.configure(processors=[structlog.testing.LogCapture()])
    try:
        assert structlog.is_configured()
        assert "stdlib" not in type(default_logger()).__module__
    finally:
        structlog.reset_defaults()


def test_a_logger_that_is_given_is_used() -> None:
    capture = structlog.testing.LogCapture()
    logger = structlog.wrap_logger(structlog.ReturnLogger(), processors=[capture])
    Scene(logger=logger).recorded().commit()
    assert [entry["event"] for entry in capture.entries] == ["write_committed", "write_applied"]
