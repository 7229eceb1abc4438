"""What the fields of a class may hold, read from pydantic's core schema: there all types are resolved.

pydantic has many kinds of schema and will have more, so nothing here needs to know all of them: one that is not known
is walked through where it has schemas inside, and what it holds counts as unknown. Unknown is allowed, and looked at
when a value comes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from pydantic_core import SchemaSerializer, SchemaValidator

from reliable_write.records.fields import FloatAs

Schema = Mapping[str, Any]

_ABOUT_THE_SCHEMA: Final = frozenset(
    {"metadata", "serialization", "default", "expected", "members", "config", "definitions"}
)
"""Parts that hold no schema of a value."""

_KINDS: Final = {
    **dict.fromkeys(("str", "uuid", "date", "datetime", "time", "timedelta", "url", "multi-host-url"), "S"),
    **dict.fromkeys(("int", "decimal", "float"), "N"),
    "bytes": "B",
    "bool": "BOOL",
    "none": "NULL",
    **dict.fromkeys(("list", "tuple", "generator"), "L"),
    **dict.fromkeys(("set", "frozenset"), "SET"),
    **dict.fromkeys(("dict", "model", "typed-dict", "dataclass"), "M"),
}
_VALUE_KINDS: Final = ((bool, "BOOL"), (str, "S"), ((int, Decimal), "N"), (bytes, "B"), (type(None), "NULL"))


@dataclass(frozen=True, slots=True)
class Place:
    """One schema and where it stands, for instance `lines[].price`."""

    path: str
    schema: Schema

    @property
    def type(self) -> str:
        """The kind of schema, in pydantic's words."""
        return str(self.schema["type"])


class Shapes:
    """One class's core schema, with its references resolved."""

    def __init__(self, schema: Schema) -> None:
        self.definitions: dict[str, Schema] = {}
        while schema["type"] != "model":
            self.definitions |= {part["ref"]: part for part in schema.get("definitions", ())}
            schema = self._inner(schema)
        self.model = schema
        while schema["type"] != "model-fields":
            schema = self._inner(schema)
        self.fields: dict[str, Schema] = schema["fields"]
        self.attributes = {name: _attribute(name, part) for name, part in self.fields.items()}
        """Attribute names by field, in the order of the class."""
        self.computed = {
            part["property_name"]: part.get("alias", part["property_name"])
            for part in schema.get("computed_fields", ())
        }

    def validator(self, field: str) -> SchemaValidator:
        """Validates one field's value by itself, as the class would: its own validators and configuration count."""
        return SchemaValidator(self._complete(self.fields[field]["schema"]), self.model.get("config"))

    def fields_serializer(self) -> SchemaSerializer:
        """The class's serializer, without what it may have for itself as a whole.

        Definitions go inside: from a model schema that is not the outermost pydantic goes back to the class's own.
        """
        bare: Any = {name: part for name, part in self.model.items() if name not in ("serialization", "ref")}
        return SchemaSerializer({**bare, "schema": self._complete(self.model["schema"])})

    def _complete(self, schema: Schema) -> Any:
        if not self.definitions:
            return schema
        return {"type": "definitions", "schema": schema, "definitions": list(self.definitions.values())}

    def places(self) -> Iterator[Place]:
        """Every schema of a value inside the class whose serializer is pydantic's own, and FloatAs's places."""
        yield from self._places(Place("", self.model), set())

    def kinds(self, schema: Schema) -> frozenset[str]:
        """What a value becomes in an item: S, N, B, BOOL, NULL, L, M, SET; "?" where it cannot be known."""
        return frozenset(kind for leaf in self.leaves(schema) for kind in _kinds_of_leaf(leaf))

    def leaves(self, schema: Schema) -> Iterator[Schema]:
        """The schemas a value may be of, without wrappers: of a union each, of an optional one also `none`."""
        kind, own = schema["type"], serializer_of(schema)
        if own is not None:
            yield {"type": own.value} if isinstance(own, FloatAs) else own
        elif kind == "nullable":
            yield {"type": "none"}
            yield from self.leaves(schema["schema"])
        elif kind in ("union", "tagged-union"):
            for choice in _choices(schema):
                yield from self.leaves(choice)
        elif kind in _KINDS or kind in ("enum", "literal") or not _is_wrapper(schema):
            yield schema
        else:
            yield from self.leaves(self._inner(schema))

    def _inner(self, schema: Schema) -> Schema:
        return self.definitions[schema["schema_ref"]] if schema["type"] == "definition-ref" else _wrapped(schema)

    def _places(self, place: Place, entered: set[str]) -> Iterator[Place]:
        if serializer_of(place.schema) is not None:
            return
        yield place
        if place.type == "definition-ref":
            ref = place.schema["schema_ref"]
            if ref not in entered:
                entered.add(ref)
                yield from self._places(Place(place.path, self.definitions[ref]), entered)
            return
        for step, part in _parts(place.schema):
            yield from self._places(Place(f"{place.path}{step}".removeprefix("."), part), entered)


def _attribute(name: str, field: Schema) -> str:
    return str(field.get("serialization_alias", name))


def serializer_of(schema: Schema) -> FloatAs | Schema | None:
    """Who turns the value into something else: a `FloatAs`, a function of the caller's (what it returns), or nobody."""
    own = schema.get("serialization") or {}
    if not str(own.get("type", "")).startswith(("function", "format", "to-string")):
        return None
    marker = getattr(own.get("function"), "__self__", None)
    if isinstance(marker, FloatAs):
        return marker
    return own.get("return_schema") or {"type": "unknown"}


def _kinds_of_leaf(leaf: Schema) -> Iterator[str]:
    if leaf["type"] in ("enum", "literal"):
        for value in leaf["members" if leaf["type"] == "enum" else "expected"]:
            yield kind_of_value(value)
    elif leaf["type"] == FloatAs.STRING.value:
        yield "S"
    elif leaf["type"] == FloatAs.NUMBER.value:
        yield "N"
    else:
        yield _KINDS.get(leaf["type"], "?")


def kind_of_value(value: Any) -> str:
    """What a member of an enumeration or a literal becomes in an item; "?" for what no key of an item can be."""
    plain = value.value if isinstance(value, enum.Enum) else value
    return next((kind for base, kind in _VALUE_KINDS if isinstance(plain, base)), "?")


def _is_wrapper(schema: Schema) -> bool:
    return schema["type"] == "definition-ref" or _first(schema) is not None


def _wrapped(schema: Schema) -> Schema:
    inner = _first(schema)
    assert inner is not None, schema["type"]
    return inner


def _first(schema: Schema) -> Schema | None:
    if schema["type"] == "chain":
        return dict(schema["steps"][-1])
    return next((schema[name] for name in ("schema", "python_schema", "lax_schema") if name in schema), None)


def _choices(schema: Schema) -> list[Schema]:
    choices = schema["choices"]
    if isinstance(choices, dict):
        return [choice for choice in choices.values() if isinstance(choice, dict)]
    return [choice[0] if isinstance(choice, tuple) else choice for choice in choices]


def _parts(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The schemas directly inside one, each with its step of a path. (A dataclass's `fields` are names only.)"""
    if schema["type"] == "json-or-python":
        yield "", schema["python_schema"]
        return
    for name, part in schema.items():
        if name in ("fields", "arguments_schema") and schema["type"] not in ("dataclass", "call"):
            yield from _fields(part)
        elif name == "computed_fields":
            yield from ((f".{field['property_name']}", field["return_schema"]) for field in part)
        elif name not in _ABOUT_THE_SCHEMA:
            step = "[]" if name in ("items_schema", "values_schema") else ""
            yield from ((step, inner) for inner in _schemas_in(part))


def _fields(fields: Any) -> Iterator[tuple[str, Schema]]:
    named = fields.items() if isinstance(fields, dict) else ((field["name"], field) for field in fields)
    for name, field in named:
        yield f".{name}", field if "type" in field else field["schema"]


def _schemas_in(part: Any) -> Iterator[Schema]:
    if isinstance(part, dict) and isinstance(part.get("type"), str):
        yield part
    elif isinstance(part, dict):
        yield from (inner for inner in part.values() if isinstance(inner, dict) and "type" in inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _schemas_in(inner[0] if isinstance(inner, tuple) else inner)
