"""Values as an item holds them, and back to what pydantic reads; each way one table by exact type.

| Python | in an item |
| UUID, IP address, URL, path | its text |
| Enum | its value |
| datetime | UTC, microseconds, fixed width, so that it sorts: `2024-02-29T12:00:00.000000Z` |
| date, time, timedelta | ISO 8601 |
| tuple, deque, an empty set | a list |
| what DynamoDB knows | itself |

Paths are put together on the way out of a refusal, as in `values`.
"""

from __future__ import annotations

import enum
import ipaddress
import math
import pathlib
from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from boto3.dynamodb.types import Binary
from pydantic import AnyUrl, TypeAdapter
from pydantic_core import Url

from reliable_write.values import UnstorableValue

# --- into an item -------------------------------------------------------------------------------------------------


def stored(value: Any) -> Any:
    """The value as boto3's resources take it; raises `UnstorableValue`."""
    return (_STORE.get(type(value)) or _store_of_base(value))(value)


def _store_of_base(value: Any) -> Callable[[Any], Any]:
    for base, store in _STORE_BASES:
        if isinstance(value, base):
            return store
    raise UnstorableValue(
        f"is of type {type(value).__name__}. Give the field a serializer (pydantic.PlainSerializer) that returns "
        "str, int, Decimal, bytes, a list, a dict or a set"
    )


def _same(value: Any) -> Any:
    return value


def _float(value: float) -> Any:
    if math.isfinite(value):
        raise UnstorableValue(
            "is a float, which DynamoDB cannot hold exactly. Annotate the field with FloatAs.NUMBER or "
            "FloatAs.STRING, or use Decimal"
        )
    raise UnstorableValue("is NaN or infinite, which no number in DynamoDB is. Annotate the field with FloatAs.STRING")


def _member(value: enum.Enum) -> Any:
    return stored(value.value)


def _instant(value: datetime) -> str:
    if value.utcoffset() is None:
        raise UnstorableValue(
            "is a datetime without a time zone, so nobody knows when it was. Give it one: datetime.now(timezone.utc), "
            "or pydantic.AwareDatetime as the field's type"
        )
    try:
        return value.astimezone(UTC).isoformat(timespec="microseconds")[:_INSTANT_CHARACTERS] + "Z"
    except OverflowError:
        raise UnstorableValue("is outside the years 1 to 9999 in UTC") from None


def _day(value: date) -> str:
    return value.isoformat()


def _time_of_day(value: time) -> str:
    offset = value.utcoffset()
    if value.tzinfo is not None and (offset is None or offset % _MINUTE):
        raise UnstorableValue("is a time in a zone without a fixed offset of whole minutes. Use a datetime")
    return value.isoformat(timespec="microseconds")


def _duration(value: timedelta) -> Any:
    return _DURATION.dump_python(value, mode="json")


def _list(value: Any) -> list[Any]:
    parts: list[Any] = []
    try:
        for part in value:
            parts.append((_STORE.get(type(part)) or _store_of_base(part))(part))  # noqa: PERF401 - the path counts them
    except UnstorableValue as refusal:
        refusal.steps.append(f"[{len(parts)}]")
        raise
    return parts


def _map(value: Mapping[Any, Any]) -> dict[str, Any]:
    found = {name if type(name) is str else _name(name): part for name, part in value.items()}
    if len(found) != len(value):
        raise UnstorableValue("has two keys with one text. The names in a map are strings")
    return store_attributes(found)


def store_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    """Turn the values of a map or an item into what can be stored, in place; raises `UnstorableValue` with the path."""
    name = ""
    try:
        for name, value in attributes.items():
            store = _STORE.get(type(value))
            if store is not _same:
                attributes[name] = (store or _store_of_base(value))(value)
    except UnstorableValue as refusal:
        refusal.steps.append(f".{name}")
        raise
    return attributes


def _name(key: Any) -> str:
    text = stored(key)
    if isinstance(text, str):
        return text
    if isinstance(text, int) and not isinstance(text, bool):
        return str(int(text))
    raise UnstorableValue(f"has a key of type {type(key).__name__}. The names in a map are strings")


def _set(value: AbstractSet[Any]) -> Any:
    if not value:
        return []  # DynamoDB has no empty set; pydantic makes one of an empty list
    if _PLAIN_MEMBERS.issuperset(map(type, value)):
        return value
    parts = [stored(part) for part in value]
    if any(isinstance(part, (list, dict)) for part in parts):
        raise UnstorableValue("is a set of more than strings, numbers or bytes. Use a list or a tuple")
    return set(parts)


_INSTANT_CHARACTERS: Final = len("2024-02-29T12:00:00.000000")
_MINUTE: Final = timedelta(minutes=1)
_DURATION: Final[TypeAdapter[timedelta]] = TypeAdapter(timedelta)
_ADDRESSES: Final = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)
_PLAIN_MEMBERS: Final = frozenset({str, int, Decimal, bytes})

_STORE: Final[dict[type, Callable[[Any], Any]]] = {
    **dict.fromkeys((str, int, bool, Decimal, type(None), bytes, bytearray, Binary), _same),
    float: _float,
    UUID: str,
    datetime: _instant,
    date: _day,
    time: _time_of_day,
    timedelta: _duration,
    dict: _map,
    list: _list,
    tuple: _list,
    set: _set,
    frozenset: _set,
}

_STORE_BASES: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (enum.Enum, _member),
    (float, _float),
    ((str, int, Decimal, bytes, bytearray), _same),
    (UUID, str),
    (datetime, _instant),
    (date, _day),
    (time, _time_of_day),
    (timedelta, _duration),
    (Mapping, _map),
    (AbstractSet, _set),
    ((list, tuple, deque), _list),
    ((*_ADDRESSES, pathlib.PurePath, AnyUrl, Url), str),
)
"""By base where the exact type is not known; an Enum first, since its members may be strings or numbers too."""


# --- out of an item -----------------------------------------------------------------------------------------------


def loadable(value: Any) -> Any:
    """The value as pydantic reads it in any field: whole numbers as `int`, binary as `bytes`."""
    load = _LOAD.get(type(value))
    return value if load is None else load(value)


def _number(value: Decimal) -> int | Decimal:
    # A Decimal would be taken for True by `bool | int`, and be left as it is by `Any`.
    return int(value) if value == value.to_integral_value() else value


def _binary(value: Any) -> bytes:
    return bytes(value.value)


def _loadable_list(parts: list[Any]) -> list[Any]:
    return [loadable(part) for part in parts]


def _loadable_map(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: loadable(part) for name, part in parts.items()}


def _loadable_set(parts: set[Any]) -> set[Any]:
    return {loadable(part) for part in parts}


_LOAD: Final[dict[type, Callable[[Any], Any]]] = {
    Decimal: _number,
    Binary: _binary,
    list: _loadable_list,
    dict: _loadable_map,
    set: _loadable_set,
}
