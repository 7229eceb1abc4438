"""What a record class says of its table: names, keys and version, worked out once, when the class is made."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, SchemaSerializer, SchemaValidator

from reliable_write.errors import InvalidItemError, InvalidKeyError, RecordDefinitionError
from reliable_write.records.fields import ITEM_CONTEXT, HashKey, RangeKey, Version, VersionMode
from reliable_write.records.rules import check_attributes, check_key, check_shapes, refuse
from reliable_write.records.shapes import Shapes
from reliable_write.records.stored import stored
from reliable_write.values import UnstorableValue

_Marker = TypeVar("_Marker")


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
    read: frozenset[str] = field(repr=False)
    """Attributes that are read into fields."""
    computed: frozenset[str] = field(repr=False)
    """Attributes that are written and never read: pydantic's computed fields."""
    none_left_out: frozenset[str] = field(repr=False)
    """Attributes that are left out where they are None, because that is what loading makes of their absence."""
    empty_set_left_out: frozenset[str] = field(repr=False)
    """The same for the empty set, which DynamoDB cannot hold."""
    sets_required: tuple[str, ...] = field(repr=False)
    """Those of them that have no default; loading puts the empty set in place."""
    key_validators: Mapping[str, SchemaValidator] = field(repr=False)
    """By field: what the class itself makes of a key, its own validators with it."""
    fields_serializer: SchemaSerializer = field(repr=False)
    """The class's, without what it may have for itself as a whole."""

    @property
    def keys(self) -> tuple[KeyField, ...]:
        """Hash key, then range key where there is one."""
        return (self.hash_key,) if self.range_key is None else (self.hash_key, self.range_key)

    def attribute_of(self, field: str) -> str:
        """The attribute that holds a field; raises `KeyError` for what is no field."""
        return self.attributes[field]

    def key_of(self, hash: Any, range: Any = MISSING) -> dict[str, Any]:  # noqa: A002 - the words of the field
        """The key of an item, as values DynamoDB takes; raises `InvalidKeyError` naming the field.

        What the class would take for the field is taken here: a UUID's text for a UUID.
        """
        if self.range_key is None and range is not MISSING:
            raise self._bad_key(f"has no range key, so {self.hash_key.field} is the whole key")
        if self.range_key is not None and range is MISSING:
            raise self._bad_key(f"is known by {self.hash_key.field} and {self.range_key.field}: the latter is missing")
        return {key.attribute: self.key_value(key, value) for key, value in zip(self.keys, (hash, range), strict=False)}

    def stored(self, field: str, value: Any) -> Any:
        """The value of a field as an item holds it, for a condition or an update; a field's own serializer is asked.

        Raises `InvalidItemError` for what no item can hold.
        """
        attribute = self.attributes[field]
        dumped = self._dumped(field, value)
        if attribute not in dumped:
            raise InvalidItemError(
                f"{self.model.__name__}.{field} is excluded, so no item holds it.", path=field, table=self.table
            )
        try:
            return stored(dumped[attribute])
        except UnstorableValue as refusal:
            unstorable = refusal
        unstorable.steps.append(f".{attribute}")
        raise unstorable.at(self.model.__name__, table=self.table)

    def _dumped(self, field: str, value: Any) -> dict[str, Any]:
        # Not by model_construct: that would run default factories and model_post_init for an object nobody has.
        bare = self.model.__new__(self.model)
        for name, part in (("dict__", {field: value}), ("pydantic_fields_set__", {field})):
            object.__setattr__(bare, f"__{name}", part)
        for name in ("extra", "private"):
            object.__setattr__(bare, f"__pydantic_{name}__", None)
        try:
            return BaseModel.model_dump(bare, include={field}, by_alias=True, context=ITEM_CONTEXT, warnings=False)
        except PydanticSerializationError:
            # A serializer of the whole model may look at fields that are not there: then by the field's own alone.
            parts = self.fields_serializer
            part = parts.to_python(bare, include={field}, by_alias=True, context=ITEM_CONTEXT, warnings=False)
            return cast("dict[str, Any]", part)

    def key_value(self, key: KeyField, value: Any) -> Any:
        """One value of a key, as `key_of` makes it."""
        try:
            valid = self.key_validators[key.field].validate_python(value, strict=False)
        except ValidationError as error:
            kind = error.errors(include_url=False, include_input=False, include_context=False)[0]["type"]
        else:
            return self.stored(key.field, valid)
        raise self._bad_key(f"takes no such value for its key {key.field} ({kind})")

    def _bad_key(self, complaint: str) -> InvalidKeyError:
        return InvalidKeyError(f"{self.model.__name__} {complaint}.", table=self.table)


def layout_of(model: type[BaseModel], table: str) -> Layout:
    """The layout of a complete class; raises `RecordDefinitionError`."""
    return _LayoutMaker(model).layout(table)


class _LayoutMaker:
    """One class being looked at."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model
        self._fields = model.model_fields
        self._shapes = Shapes(cast("dict[str, Any]", model.__pydantic_core_schema__))
        self._attributes = self._shapes.attributes

    def layout(self, table: str) -> Layout:
        check_shapes(self._model, self._shapes)
        check_attributes(self._model, self._attributes, self._shapes.computed)
        hash_key, range_key = self._hash_key(), self._key(RangeKey)
        keys = [key.field for key in (hash_key, range_key) if key]
        sets = [name for name in self._fields if self._is_set(name)]
        return Layout(
            model=self._model,
            table=table,
            hash_key=hash_key,
            range_key=range_key,
            version=self._version(keys),
            attributes=self._attributes,
            read=frozenset(self._attributes.values()),
            computed=frozenset(self._shapes.computed.values()),
            none_left_out=frozenset(self._attributes[name] for name in self._fields if self._is_none_by_default(name)),
            empty_set_left_out=frozenset(self._attributes[name] for name in sets if self._is_empty_by_default(name)),
            sets_required=tuple(self._attributes[name] for name in sets if self._fields[name].is_required()),
            key_validators={name: self._shapes.validator(name) for name in keys},
            fields_serializer=self._shapes.fields_serializer(),
        )

    def _hash_key(self) -> KeyField:
        key = self._key(HashKey)
        if key is None:
            raise RecordDefinitionError(
                f"{self._model.__name__} has no hash key. Mark the field that is the table's: "
                "`id: Annotated[UUID, HashKey()]`."
            )
        return key

    def _key(self, marker: type[HashKey | RangeKey]) -> KeyField | None:
        name = self._only_one(marker)
        if name is None:
            return None
        field = self._shapes.fields[name]
        if field.get("serialization_exclude") or field.get("serialization_exclude_if"):
            raise refuse(self._model, name, "is a key and may not be excluded: every item has its key")
        check_key(self._model, name, field["schema"], self._shapes, sorts=marker is RangeKey)
        return KeyField(name, self._attributes[name])

    def _only_one(self, marker: type) -> str | None:
        marked = [name for name, info in self._fields.items() if _mark(info, marker) is not None]
        if len(marked) > 1:
            raise refuse(
                self._model, marked[1], f"and {marked[0]} are both marked {marker.__name__}: there is only one"
            )
        return marked[0] if marked else None

    def _version(self, keys: list[str]) -> VersionField | None:
        name = self._only_one(Version)
        if name is None:
            return None
        if name in keys:
            raise refuse(self._model, name, "is a key, which never changes, so it can be no version")
        field, info = self._shapes.fields[name], self._fields[name]
        if field.get("serialization_exclude"):
            raise refuse(self._model, name, "is the version and may not be excluded: it is compared in the table")
        mark, kind = _mark(info, Version), self._version_kind(name)
        assert mark is not None
        return VersionField(name, self._attributes[name], mark.mode, kind, info.default)

    def _version_kind(self, name: str) -> Literal["int", "datetime"]:
        leaves, info = self._leaf_types(name), self._fields[name]
        has_value = not info.is_required() and info.default_factory is None
        if leaves == {"int"} and has_value and type(info.default) is int and info.default >= 0:
            return "int"
        if leaves == {"datetime", "none"} and has_value and info.default is None:
            return "datetime"
        raise refuse(
            self._model,
            name,
            "can be no version. Make it `Annotated[int, Version()] = 0` or "
            "`Annotated[datetime | None, Version()] = None`",
        )

    def _leaf_types(self, name: str) -> set[str]:
        return {leaf["type"] for leaf in self._shapes.leaves(self._shapes.fields[name]["schema"])}

    def _is_set(self, name: str) -> bool:
        return self._leaf_types(name) <= {"set", "frozenset"}

    def _is_none_by_default(self, name: str) -> bool:
        return self._fields[name].default is None and self._fields[name].default_factory is None

    def _is_empty_by_default(self, name: str) -> bool:
        info = self._fields[name]
        return info.is_required() or info.default_factory in (set, frozenset) or info.default in (set(), frozenset())


def _mark(info: FieldInfo, marker: type[_Marker]) -> _Marker | None:
    """The marker of a field, written `HashKey()` or `HashKey`."""
    return next(
        (
            part if isinstance(part, marker) else marker()
            for part in info.metadata
            if part is marker or isinstance(part, marker)
        ),
        None,
    )
