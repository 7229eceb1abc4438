"""Python values to the values an item holds, and back to what pydantic reads."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from boto3.dynamodb.types import Binary
from pydantic import TypeAdapter

_DURATION: TypeAdapter[timedelta] = TypeAdapter(timedelta)


def stored(value: Any) -> Any:  # noqa: PLR0911 - to become a table
    """The value as boto3's resources take it."""
    if isinstance(value, enum.Enum):
        return stored(value.value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, time):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, timedelta):
        return _DURATION.dump_python(value, mode="json")
    if isinstance(value, Mapping):
        return {str(stored(name)): stored(part) for name, part in value.items()}
    if isinstance(value, (set, frozenset)):
        return {stored(part) for part in value} or []
    if isinstance(value, (list, tuple)):
        return [stored(part) for part in value]
    return value


def loadable(value: Any) -> Any:
    """The value as pydantic reads it: whole numbers as int, binary as bytes."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else value
    if isinstance(value, Binary):
        return bytes(value.value)  # type: ignore[attr-defined]  # not in stubs
    if isinstance(value, Mapping):
        return {name: loadable(part) for name, part in value.items()}
    if isinstance(value, (set, frozenset)):
        return {loadable(part) for part in value}
    if isinstance(value, list):
        return [loadable(part) for part in value]
    return value
