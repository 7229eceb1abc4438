"""From a record class and boto3's conditions to one Query or Scan, checked before it is sent.

Conditions name attributes as the table has them; the name of a field stands for its attribute. Values may be those of
the record (`UUID`, `date`, an `Enum`): they are encoded as the record encodes them.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

from boto3.dynamodb.conditions import AttributeBase, AttributeType, BeginsWith, ConditionBase, Contains, In, Key
from pydantic_core import PydanticSerializationError

from reliable_write.dynamodb import Reading
from reliable_write.errors import InvalidExpressionError, InvalidKeyError, UnsupportedOperationError
from reliable_write.expressions import build_reading
from reliable_write.operations import Index
from reliable_write.records.layout import Layout
from reliable_write.records.model import Record
from reliable_write.records.stored import stored
from reliable_write.values import UnstorableValue

_TOP: Final = re.compile(r"[^.\[]+")
"""The attribute a path begins with."""


class Asked:
    """The expressions of one reading. Raises `InvalidExpressionError`, `InvalidKeyError` or `InvalidItemError`."""

    def __init__(self, layout: Layout, index: Index | None) -> None:
        self._layout = layout
        self._index = index
        self._fields = {attribute: field for field, attribute in layout.attributes.items()}
        self._key: ConditionBase | None = None
        self._filter: ConditionBase | None = None
        self._where = f"{layout.model.__name__} in {layout.table}"

    def by_key(self, hash_value: Any, range_condition: Any) -> None:
        """Ask for one partition, or for a part of it; a range that is no condition is meant to be equal."""
        hash_key, range_key = self._key_attributes()
        key: ConditionBase = self._equal(hash_key, hash_value)
        if range_condition is not None:
            if range_key is None:
                raise InvalidKeyError(f"{self._where}: there is no range key to have a condition on.")
            key = key & self._range(range_key, range_condition)
        self._key = key

    def _range(self, range_key: str, condition: Any) -> ConditionBase:
        if not isinstance(condition, ConditionBase):
            return self._equal(range_key, condition)
        part: ConditionBase = self._encoded(condition)
        self._check_range(part, range_key)
        return part

    def _equal(self, attribute: str, value: Any) -> ConditionBase:
        """A key of the table is what the class makes of the value, as for a read by key."""
        key = next((key for key in self._layout.keys if key.attribute == attribute), None)
        if key is None:
            return cast("ConditionBase", self._encoded(Key(attribute).eq(value)))
        return cast("ConditionBase", Key(attribute).eq(self._layout.key_value(key, value)))

    def filtered(self, condition: Any) -> None:
        """Leave out what does not meet the condition; it is read, and paid for, all the same."""
        if not isinstance(condition, ConditionBase):
            raise InvalidExpressionError(
                f"{self._where}: a filter is a boto3.dynamodb.conditions object such as Attr('city').eq('London'), not "
                f"{type(condition).__name__}."
            )
        self._filter = self._encoded(condition)

    def reading(self, *, consistent: bool, descending: bool, page_items: int | None) -> Reading:
        """The Query, or the Scan where no key was asked for."""
        (key, filter_), names, values = build_reading((self._key, self._filter), self._where)
        return Reading(
            table=self._layout.table,
            consistent=consistent,
            key_condition=key,
            filter=filter_,
            names=names,
            values=values,
            index=None if self._index is None else self._index.name,
            descending=descending,
            page_items=page_items,
        )

    def _key_attributes(self) -> tuple[str, str | None]:
        if self._index is not None:
            return self._index.hash_key, self._index.range_key
        range_key = self._layout.range_key
        return self._layout.hash_key.attribute, None if range_key is None else range_key.attribute

    def _check_range(self, condition: ConditionBase, range_key: str) -> None:
        named = {part.name for part in condition.get_expression()["values"] if isinstance(part, AttributeBase)}
        if named != {range_key}:
            raise InvalidKeyError(
                f"{self._where}: range takes one condition on {range_key!r}, as Key({range_key!r}).lt(...); "
                f"this one is on {', '.join(sorted(map(repr, named))) or 'several'}. Use filter= for other attributes."
            )

    # --- values, and names ------------------------------------------------------------------------------------------

    def _encoded(self, condition: Any) -> Any:
        """The condition with names of attributes, and with values as items have them."""
        parts = condition.get_expression()["values"]
        return type(condition)(*(self._part(condition, part, parts[0]) for part in parts))

    def _part(self, condition: ConditionBase, part: Any, subject: Any) -> Any:
        if isinstance(part, ConditionBase):
            return self._encoded(part)
        if isinstance(part, AttributeBase):
            return type(part)(self._attribute_path(part.name))
        if isinstance(condition, AttributeType):
            return part
        # A part of a text or the member of a set is no value of the field: its serializer would not take it.
        field = None if isinstance(condition, (Contains, BeginsWith)) else self._field_of(subject)
        return [self._value(field, one) for one in part] if isinstance(condition, In) else self._value(field, part)

    def _value(self, field: str | None, value: Any) -> Any:
        try:
            return stored(value) if field is None else self._layout.stored(field, value)
        except UnstorableValue as refusal:
            unstorable = refusal
        except PydanticSerializationError:
            raise InvalidExpressionError(
                f"{self._where}: {field} is compared with a value of type {type(value).__name__}, which it cannot be."
            ) from None
        raise unstorable.at(f"{self._where}, a condition", table=self._layout.table)

    def _field_of(self, subject: Any) -> str | None:
        """The field whose value is compared; None inside of one, and for a size."""
        if isinstance(subject, ConditionBase) or not isinstance(subject, AttributeBase):
            return None
        return self._fields.get(self._attribute_path(subject.name))

    def _attribute_path(self, path: str) -> str:
        top = _TOP.match(path)
        if top is None or top[0] in self._fields:
            return path
        return self._layout.attributes.get(top[0], top[0]) + path[top.end() :]


def check_whole(kind: type[Record], index: Index) -> None:
    """Refuse to make records of what an index holds of them.

    Fields with defaults would be filled in, and the next put would write those over what is in the table. A local index
    could be asked for whole items (`Select`), but not every engine then gives them.
    """
    if index.projected is None:
        return
    layout, model = kind.__layout__, kind.model_fields
    fields = {field: attribute for field, attribute in layout.attributes.items() if not model[field].exclude}
    missing = [field for field, attribute in fields.items() if attribute not in index.projected]
    if kind.__record_options__.unknown == "keep":
        missing.append("unknown attributes")
    if missing:
        raise UnsupportedOperationError(
            f"Index {index.name!r} of {layout.table} does not hold all of {layout.model.__name__}: "
            f"{', '.join(missing)} would be missing. fetch=True reads the records found from the table, 100 in one "
            "BatchGetItem.",
            table=layout.table,
        )
