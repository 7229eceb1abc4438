"""What a field of a record says of itself in `Annotated[...]`: that it is a key, the version, how it keeps floats."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, cast

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


class ItemContext(dict[str, str]):
    """pydantic's serialization context while an item is made, and at no other time."""


ITEM_CONTEXT: Final = ItemContext(reliable_write="item")
"""A serializer of the caller's may ask for it: `info.context == {"reliable_write": "item"}`."""


@dataclass(frozen=True, slots=True)
class HashKey:
    """The field is the table's hash (partition) key: `id: Annotated[UUID, HashKey()]`."""


@dataclass(frozen=True, slots=True)
class RangeKey:
    """The field is the table's range (sort) key."""


class VersionMode(enum.Enum):
    """What a put or a delete of a record does with its version."""

    NONE = "none"
    """Nothing: the application keeps it."""
    AUTO_INCREMENT = "auto increment"
    """Raised by every put, never checked."""
    AUTO_INCREMENT_AND_CHECK = "auto increment and check"
    """Raised by every put; a put or delete of a record that is not the latest is refused."""


@dataclass(frozen=True, slots=True)
class Version:
    """The field is the record's version: an `int` with a default, or a `datetime | None` whose default is None."""

    mode: VersionMode = VersionMode.AUTO_INCREMENT_AND_CHECK


class FloatAs(enum.Enum):
    """How the floats of a field are kept; DynamoDB has none. `rate: Annotated[float, FloatAs.NUMBER]`.

    Both give back the very float that was stored. It counts for every float inside the field:
    `Annotated[list[float], FloatAs.NUMBER]`.
    """

    NUMBER = "number"
    """As the shortest decimal number that means this float (`Decimal(repr(x))`).

    1E-130 to 9.9E125, no NaN, no infinity.
    """
    STRING = "string"
    """As text (`repr(x)`): any float, NaN and the infinities too. It does not sort as a number."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        serialization = core_schema.wrap_serializer_function_ser_schema(self._serialize, info_arg=True)
        return cast("CoreSchema", {**handler(source), "serialization": serialization})

    def _serialize(self, value: Any, handler: Callable[[Any], Any], info: core_schema.SerializationInfo) -> Any:
        plain = handler(value)
        return self._converted(plain) if type(info.context) is ItemContext else plain

    def _converted(self, value: Any) -> Any:
        if isinstance(value, float):
            return self._stored(value)
        if isinstance(value, dict):
            return {name: self._converted(part) for name, part in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return type(value)(map(self._converted, value))
        return value

    def _stored(self, value: float) -> Any:
        if self is FloatAs.STRING:
            return repr(value)
        # What no number can be stays a float, and is refused with its path, which is not known here.
        return Decimal(repr(value)) if math.isfinite(value) else value
