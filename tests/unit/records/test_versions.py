"""Versions as pure functions: what comes next, under which condition, and what a refusal means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import ConfigDict

from reliable_write import HashKey, InvalidItemError, Outcome, Record, Version, VersionMode
from reliable_write.errors import FailedCondition
from reliable_write.intents import Intent
from reliable_write.records.layout import VersionField
from reliable_write.records.versions import next_version
from tests.unit.fakes import ManualTime

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
NUMBERED = VersionField("version", "v", VersionMode.AUTO_INCREMENT_AND_CHECK, "int", 0)
DATED = VersionField("changed", "c", VersionMode.AUTO_INCREMENT_AND_CHECK, "datetime", None)


class Numbered(Record, table="numbered"):
    id: Annotated[str, HashKey()]
    version: Annotated[int, Version()] = 0


class Frozen(Record, table="frozen"):
    model_config = ConfigDict(frozen=True)

    id: Annotated[str, HashKey()]
    version: Annotated[int, Version()] = 0


class Dated(Record, table="dated"):
    id: Annotated[str, HashKey()]
    changed: Annotated[datetime | None, Version()] = None


class Kept(Record, table="kept"):
    id: Annotated[str, HashKey()]
    version: Annotated[int, Version(VersionMode.NONE)] = 0


class Counted(Record, table="counted"):
    id: Annotated[str, HashKey()]
    version: Annotated[int, Version(VersionMode.AUTO_INCREMENT)] = 0


def at(moment: datetime) -> ManualTime:
    time = ManualTime()
    time.wall = moment.timestamp()
    return time


def test_a_number_goes_up_by_one() -> None:
    assert next_version(NUMBERED, 0, at(NOON)) == 1
    assert next_version(NUMBERED, 41, at(NOON)) == 42


@pytest.mark.parametrize(
    ("local", "clock", "following"),
    [
        (None, NOON, NOON),
        (NOON, NOON + timedelta(hours=1), NOON + timedelta(hours=1)),
        (NOON, NOON, NOON + TICK),
        (NOON, NOON - timedelta(days=1), NOON + TICK),
        (NOON.astimezone(timezone(timedelta(hours=5))), NOON, NOON + TICK),
    ],
    ids=["new", "later", "clock stands still", "clock went back", "another zone"],
)
def test_a_datetime_grows_whatever_the_clock_does(local: datetime | None, clock: datetime, following: datetime) -> None:
    found = next_version(DATED, local, at(clock))
    assert found == following
    assert found.utcoffset() == timedelta(0)


def test_a_datetime_without_a_zone_is_refused_by_its_field() -> None:
    with pytest.raises(InvalidItemError, match="changed is a datetime without a time zone") as refused:
        next_version(DATED, NOON.replace(tzinfo=None), at(NOON))
    assert refused.value.path == "changed"


def given(intent: Intent) -> tuple[Any, dict[str, str], dict[str, Any]]:
    return intent.given.condition, dict(intent.given.names or {}), dict(intent.given.values or {})


def test_a_new_record_may_go_over_nothing_and_over_what_has_no_version() -> None:
    new = Numbered(id="a")
    condition = "attribute_not_exists(#version) OR #version = :version"
    assert given(new.__reliable_put__(at(NOON))) == (condition, {"#version": "version"}, {":version": 0})
    assert given(new.__reliable_delete__()) == (condition, {"#version": "version"}, {":version": 0})
    assert given(Dated(id="a").__reliable_put__(at(NOON))) == (
        "attribute_not_exists(#version)",
        {"#version": "changed"},
        {},
    )


def test_a_saved_record_must_be_the_latest() -> None:
    saved = Numbered(id="a", version=3)
    intent = saved.__reliable_put__(at(NOON))
    assert given(intent) == ("#version = :version", {"#version": "version"}, {":version": 3})
    assert intent.content == {"id": "a", "version": 4}
    dated = Dated(id="a", changed=NOON).__reliable_delete__()
    assert given(dated) == ("#version = :version", {"#version": "changed"}, {":version": "2026-05-01T12:00:00.000000Z"})


def test_what_is_not_checked_has_no_condition() -> None:
    kept, counted = Kept(id="a", version=7), Counted(id="a", version=7)
    for intent in (kept.__reliable_put__(at(NOON)), counted.__reliable_put__(at(NOON)), counted.__reliable_delete__()):
        assert given(intent) == (None, {}, {})
    assert kept.__reliable_put__(at(NOON)).content == {"id": "a", "version": 7}
    assert counted.__reliable_put__(at(NOON)).content == {"id": "a", "version": 8}


@pytest.mark.parametrize("outcome", [Outcome.WRITTEN, Outcome.WILL_BE_WRITTEN])
def test_the_local_object_moves_with_an_outcome_that_holds(outcome: Outcome) -> None:
    record = Numbered(id="a")
    intent = record.__reliable_put__(at(NOON))
    assert record.version == 0
    intent.settled(outcome)
    assert record.version == 1


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.NOT_WRITTEN])
def test_the_local_object_stays_with_any_other(outcome: Outcome) -> None:
    record = Numbered(id="a", version=4)
    for intent in (record.__reliable_put__(at(NOON)), record.__reliable_delete__()):
        intent.settled(outcome)
        assert record.version == 4


def test_a_version_set_to_something_else_meanwhile_stays() -> None:
    record = Numbered(id="a", version=4)
    put, delete = record.__reliable_put__(at(NOON)), record.__reliable_delete__()
    record.version = 9
    put.settled(Outcome.WRITTEN)
    delete.settled(Outcome.WRITTEN)
    assert record.version == 9


def test_a_deleted_record_is_as_one_that_was_never_saved() -> None:
    numbered, dated = Numbered(id="a", version=4), Dated(id="a", changed=NOON)
    for record in (numbered, dated):
        record.__reliable_delete__().settled(Outcome.WRITTEN)
    assert (numbered.version, dated.changed) == (0, None)


def test_a_frozen_record_never_moves() -> None:
    record = Frozen(id="a", version=4)
    before = hash(record)
    record.__reliable_put__(at(NOON)).settled(Outcome.WRITTEN)
    record.__reliable_delete__().settled(Outcome.WRITTEN)
    assert (record.version, hash(record)) == (4, before)


@pytest.mark.parametrize(
    ("record", "item", "expected", "actual"),
    [
        (Numbered(id="a"), {"version": Decimal(3)}, None, 3),
        (Numbered(id="a", version=2), None, 2, None),
        (Numbered(id="a", version=2), {"version": "soon"}, 2, "soon"),
        (Dated(id="a", changed=NOON), {"changed": "2026-05-01T12:00:00.000001Z"}, NOON, NOON + TICK),
        (Dated(id="a", changed=NOON), {"changed": "soon"}, NOON, "soon"),
        (Dated(id="a"), {}, None, None),
    ],
)
def test_a_refusal_tells_both_versions(record: Record, item: dict[str, Any] | None, expected: Any, actual: Any) -> None:
    failure = FailedCondition("operations[0]", record.__layout__.table, item)
    stale: Any = record.__reliable_put__(at(NOON)).refused(failure)
    assert (stale.expected, stale.actual, stale.item) == (expected, actual, item)
    assert "operations[0]" in stale.message
