"""What a record class must keep to, told when the class is made: by field, and with what to say instead."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Final

from reliable_write.errors import RecordDefinitionError
from reliable_write.operations import StampNames
from reliable_write.records.marks import DELETED_ATTRIBUTE
from reliable_write.records.shapes import Place, Schema, Shapes, kind_of_value

Complaint = str | None
"""What is wrong at a place, to follow its path in a sentence."""

_TAKEN: Final = {
    **dict.fromkeys((StampNames().full, StampNames().update), "that is where stamps are kept"),
    DELETED_ATTRIBUTE: "an item that has it is taken for a deleted record",
}
"""Attributes no field may be, and why."""
_KEY_KINDS: Final = frozenset({"S", "N", "B"})
_MEMBER_KINDS: Final = _KEY_KINDS | {"?"}
_NAME_LEAVES: Final = frozenset({"str", "uuid", "int", "date", "datetime", "time", "unknown", "any", "url"})
_UNSORTED_LEAVES: Final = frozenset({"timedelta", "string"})


def refuse(model: type, field: str, complaint: str) -> RecordDefinitionError:
    """The error for one field of a class."""
    return RecordDefinitionError(f"{model.__name__}.{field} {complaint}.")


def check_shapes(model: type, shapes: Shapes) -> None:
    """Raise `RecordDefinitionError` for the first place of a class that no item can hold."""
    for place in shapes.places():
        rule = _RULES.get(place.type)
        complaint = rule(place, shapes) if rule else None
        if complaint is not None:
            raise refuse(model, place.path, complaint)


def check_attributes(model: type, attributes: Mapping[str, str], computed: Mapping[str, str]) -> None:
    """Raise `RecordDefinitionError` where two fields have one name, or one has a name that is taken."""
    owners: dict[str, str] = {}
    for field, attribute in (*attributes.items(), *computed.items()):
        if attribute in _TAKEN:
            raise refuse(model, field, f"cannot be the attribute {attribute}: {_TAKEN[attribute]}")
        if attribute in owners:
            raise refuse(model, field, f"and {owners[attribute]} are both the attribute {attribute}: give one an alias")
        if attribute != field and attribute in attributes:
            raise refuse(model, field, f"has the alias {attribute}, which is another field: pydantic takes both names")
        owners[attribute] = field


def check_key(model: type, field: str, schema: Schema, shapes: Shapes, *, sorts: bool) -> None:
    """Raise `RecordDefinitionError` for a field that can be no key, or no range key (`sorts`)."""
    kinds = shapes.kinds(schema) - {"?"}
    if "NULL" in kinds:
        raise refuse(model, field, "is a key and may not be optional: every item has its key")
    if kinds - _KEY_KINDS:
        raise refuse(model, field, "can be no key: a key is a string, a number or bytes")
    if len(kinds) > 1:
        raise refuse(model, field, "can be no key: it may be of several types, and a table's key is of one")
    if sorts and _UNSORTED_LEAVES & {leaf["type"] for leaf in shapes.leaves(schema)}:
        raise refuse(model, field, "is kept as text that does not sort, so a range key of it is in no order")


def _float(_place: Place, _shapes: Shapes) -> Complaint:
    return (
        "is a float, which DynamoDB cannot hold exactly. Say how it is kept: Annotated[float, FloatAs.NUMBER] "
        "(a decimal number) or Annotated[float, FloatAs.STRING] (text, also NaN and infinity); or use Decimal"
    )


def _complex(_place: Place, _shapes: Shapes) -> Complaint:
    return "is a complex number, which DynamoDB cannot hold. Give it a serializer (pydantic.PlainSerializer)"


def _datetime(place: Place, _shapes: Shapes) -> Complaint:
    if place.schema.get("tz_constraint") == "naive":
        return "is a datetime without a time zone, so nobody knows when it was. Use pydantic.AwareDatetime"
    return None


def _set(place: Place, shapes: Shapes) -> Complaint:
    if shapes.kinds(place.schema.get("items_schema", {"type": "any"})) - _MEMBER_KINDS:
        return "is a set of more than strings, numbers or bytes, which DynamoDB cannot hold. Use a list or a tuple"
    return None


def _dict(place: Place, shapes: Shapes) -> Complaint:
    leaves = list(shapes.leaves(place.schema.get("keys_schema", {"type": "str"})))
    if len(leaves) == 1 and _is_name(leaves[0], shapes):
        return None
    return (
        "is a dict whose keys cannot be read back from text. The names in a map are strings: use str, int, UUID, "
        "date, datetime, time or an Enum of strings"
    )


def _is_name(leaf: Schema, shapes: Shapes) -> bool:
    return leaf["type"] in _NAME_LEAVES or (leaf["type"] in ("enum", "literal") and shapes.kinds(leaf) == {"S"})


def _enum(place: Place, _shapes: Shapes) -> Complaint:
    if any(kind_of_value(member) == "?" for member in place.schema["members"]):
        return "is an Enum with values that are no str, int, Decimal or bytes: an item holds the values"
    return None


def _literal(place: Place, _shapes: Shapes) -> Complaint:
    members = [value for value in place.schema["expected"] if isinstance(value, enum.Enum)]
    if all(isinstance(member, (str, int)) for member in members):
        return None
    return (
        "is a Literal of an Enum's members: an item holds their values, which pydantic does not take for them. Make "
        "it an enum.StrEnum or IntEnum, or write the values into the Literal"
    )


def _field(place: Place, _shapes: Shapes) -> Complaint:
    name = place.path.rpartition(".")[2]
    read, written = (place.schema.get(f"{way}_alias", name) for way in ("validation", "serialization"))
    if read != written:
        return "would be written under one name and read under another. Give it one `alias`"
    if place.schema.get("serialization_exclude") and not _has_default(place.schema):
        return "is excluded from the item, so it cannot be loaded. Give it a default"
    return None


def _has_default(field: Schema) -> bool:
    return field["schema"]["type"] == "default" or field.get("required") is False


_RULES: Final[dict[str, Callable[[Place, Shapes], Complaint]]] = {
    "float": _float,
    "complex": _complex,
    "datetime": _datetime,
    "set": _set,
    "frozenset": _set,
    "dict": _dict,
    "enum": _enum,
    "literal": _literal,
    "model-field": _field,
    "dataclass-field": _field,
    "typed-dict-field": _field,
}
