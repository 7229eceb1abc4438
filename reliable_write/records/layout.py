"""What a record class says of its table: names, keys and version, worked out once, when the class is made."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from reliable_write.errors import InvalidKeyError, RecordDefinitionError
from reliable_write.records.fields import HashKey, RangeKey, Version, VersionMode
from reliable_write.records.stored import stored

KeyKind = Literal["S", "N", "B"]


class Missing(enum.Enum):
    """The type of `MISSING`."""

    MISSING = "MISSING"


MISSING: Final = Missing.MISSING
"""No range key given; None could be meant as one."""


@dataclass(frozen=True, slots=True)
class KeyField:
    """A key of the table."""

    field: str
    attribute: str


@dataclass(frozen=True, slots=True)
class VersionField:
    """The version of a record."""

    field: str
    attribute: str
    mode: VersionMode
    kind: Literal["int", "datetime"]
    initial: int | None
    """Of a record that was never saved: the field's default; None for a datetime."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """One record class and its table."""

    model: type[BaseModel]
    table: str
    hash_key: KeyField
    range_key: KeyField | None
    version: VersionField | None
    attributes: Mapping[str, str] = field(repr=False)
    """Attribute names by field, in the order of the class."""

    def attribute_of(self, field: str) -> str:
        """The attribute that holds a field; raises `KeyError` for what is no field."""
        return self.attributes[field]

    def key_of(self, hash: Any, range: Any = MISSING) -> dict[str, Any]:  # noqa: A002 - the words of the field
        """The key of an item, as values DynamoDB takes; raises `InvalidKeyError` naming the field."""
        key = {self.hash_key.attribute: self._key_value(self.hash_key, hash)}
        if self.range_key is None:
            if range is not MISSING:
                raise InvalidKeyError(f"{self.model.__name__}: the table has no range key.", table=self.table)
            return key
        if range is MISSING:
            raise InvalidKeyError(
                f"{self.model.__name__}: the range key {self.range_key.field} is missing.", table=self.table
            )
        return {**key, self.range_key.attribute: self._key_value(self.range_key, range)}

    def stored(self, _field: str, value: Any) -> Any:
        """The value of a field as an item holds it, for a condition or an update."""
        return stored(value)

    def _key_value(self, key: KeyField, value: Any) -> Any:
        try:
            kind = TypeAdapter[Any](cast("Any", self.model.model_fields[key.field].annotation))
            return self.stored(key.field, kind.validate_python(value))
        except ValidationError:
            pass
        raise InvalidKeyError(f"{self.model.__name__}: {key.field} cannot be the key it was given.", table=self.table)


def layout_of(model: type[BaseModel], table: str) -> Layout:
    """The layout of a complete class; raises `RecordDefinitionError`."""
    attributes = {name: info.alias or name for name, info in model.model_fields.items()}
    return Layout(
        model=model,
        table=table,
        hash_key=_required(model, _marked(model, HashKey, attributes)),
        range_key=_marked(model, RangeKey, attributes),
        version=_version(model, attributes),
        attributes=attributes,
    )


def _required(model: type[BaseModel], key: KeyField | None) -> KeyField:
    if key is None:
        raise RecordDefinitionError(f"{model.__name__} has no hash key: mark it with Annotated[..., HashKey()].")
    return key


def _marked(model: type[BaseModel], marker: type, attributes: Mapping[str, str]) -> KeyField | None:
    for name, info in model.model_fields.items():
        if any(isinstance(part, marker) for part in info.metadata):
            return KeyField(name, attributes[name])
    return None


def _version(model: type[BaseModel], attributes: Mapping[str, str]) -> VersionField | None:
    for name, info in model.model_fields.items():
        for part in info.metadata:
            if isinstance(part, Version):
                kind: Literal["int", "datetime"] = "int" if info.annotation is int else "datetime"
                return VersionField(name, attributes[name], part.mode, kind, info.default)
    return None
