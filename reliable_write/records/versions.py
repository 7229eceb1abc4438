"""Versions, without I/O: which one comes next, under which condition, and what a refusal means.

A version only ever grows. A number goes up by one. A datetime is the clock's, unless that stands still or went back:
then it is a microsecond after the version before.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from reliable_write.at_commit import Given
from reliable_write.clock import TimeSource
from reliable_write.errors import FailedCondition, InvalidItemError, StaleRecordError
from reliable_write.records.fields import VersionMode
from reliable_write.records.layout import Layout, VersionField
from reliable_write.records.marks import is_marked

_TICK: Final = timedelta(microseconds=1)


def kept(layout: Layout) -> VersionField | None:
    """The version this library keeps; None where there is none, or the application keeps it."""
    version = layout.version
    return None if version is None or version.mode is VersionMode.NONE else version


def next_version(version: VersionField, local: Any, time: TimeSource) -> Any:
    """The version a put writes over `local`. Raises `InvalidItemError` for a datetime without a time zone."""
    if version.kind == "int":
        return local + 1
    now = datetime.fromtimestamp(time.wall_seconds(), UTC)
    if local is None:
        return now
    if local.tzinfo is None:
        raise InvalidItemError(
            f"{version.field} is a datetime without a time zone, which is no moment in time. Leave the version alone: "
            "every put sets it.",
            path=version.field,
        )
    return max(now, local.astimezone(UTC) + _TICK)


def unless_stale(layout: Layout, version: VersionField, local: Any) -> Given:
    """The condition under which a record with this version is the latest; none where versions are not checked.

    A record that was never saved may also be put over an item that has no version yet.
    """
    if version.mode is not VersionMode.AUTO_INCREMENT_AND_CHECK:
        return Given()
    names = {"#version": version.attribute}
    if local is None:
        return Given("attribute_not_exists(#version)", names)
    same = {":version": layout.stored(version.field, local)}
    if local == version.initial:
        return Given("attribute_not_exists(#version) OR #version = :version", names, same)
    return Given("#version = :version", names, same)


def stale(layout: Layout, version: VersionField, local: Any, failure: FailedCondition) -> StaleRecordError:
    """What to tell where that condition was false. Versions are no secrets: they are in the message."""
    expected = None if local == version.initial else local
    if failure.item is not None and is_marked(failure.item):
        return StaleRecordError(
            f"{failure.operation}: {layout.model.__name__} in {layout.table} is stale: a shared record was deleted "
            "here, which a mark tells. Nothing of this write was written. SharedRecords.create makes a new one.",
            expected=expected,
        )
    actual = _found(version, failure.item)
    return StaleRecordError(
        f"{failure.operation}: {layout.model.__name__} in {layout.table} is stale: its version is {_told(expected)}, "
        f"the table's is {_told(actual)}. Nothing of this write was written. Read it again, decide, and write that.",
        expected=expected,
        actual=actual,
        item=failure.item,
    )


def _found(version: VersionField, item: Mapping[str, Any] | None) -> Any:
    """The version of an item that was read as it is; what cannot be one is given as it was found."""
    value = None if item is None else item.get(version.attribute)
    try:
        if version.kind == "int" and isinstance(value, Decimal):
            return int(value)
        return datetime.fromisoformat(value) if version.kind == "datetime" and isinstance(value, str) else value
    except ValueError:
        return value


def _told(version: Any) -> str:
    if version is None:
        return "none"
    return version.isoformat() if isinstance(version, datetime) else str(version)
