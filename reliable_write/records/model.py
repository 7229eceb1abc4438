"""`Record`: a pydantic model that is an item of a table.

What is written is what pydantic's own serialisation gives (`model_dump` with aliases), so serializers, computed and
excluded fields mean what they mean elsewhere; what is read is validated as the class says. The work is done in `items`
and `loading`: a class of the caller's has private methods too, and ours would be overridden by accident.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, Unpack, cast

from pydantic import BaseModel, ConfigDict, PrivateAttr
from pydantic.errors import PydanticUndefinedAnnotation

from reliable_write.clock import TimeSource
from reliable_write.errors import RecordDefinitionError
from reliable_write.intents import Intent
from reliable_write.records.constraints import Constraint, Constraints, gathered
from reliable_write.records.items import item_of
from reliable_write.records.layout import Layout, layout_of
from reliable_write.records.loading import UnknownAttributes, loaded
from reliable_write.records.writing import delete_intent, put_intent

_METHODS: Final = ("to_item", "from_item", "key", "unknown_attributes")


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """What was said in the class's own line; what a subclass does not say, it inherits."""

    table: str | None = None
    unknown: UnknownAttributes = "ignore"


class _LayoutWhenComplete:
    """Stands in for a layout while a class has none, and makes it once the types that the class names exist."""

    def __get__(self, record: object, model: type[Record]) -> Layout:
        table = model.__record_options__.table
        if table is None:
            raise RecordDefinitionError(
                f"{model.__name__} has no table, so it is only a base for records. Name one: "
                f'class {model.__name__}(..., table="...").'
            )
        try:
            model.model_rebuild()
        except PydanticUndefinedAnnotation as error:
            raise RecordDefinitionError(f"{model.__name__} names a type that does not exist yet: {error}.") from error
        model.__layout__ = layout_of(model, table)
        return model.__layout__


class Record(BaseModel):
    """An item of a table as a pydantic model.

        class Employee(Record, table="employees"):
            id: Annotated[UUID, HashKey()]
            name: str
            email: str | None = Field(default=None, alias="mail")

    `table` is a table's name, or `destination:table`; a class without one is a base for others, and a subclass inherits
    or overrides it. `unknown` says what becomes of attributes that are no field when an item is read: "ignore" (the
    default: dropped), "keep" (written back unchanged) or "refuse" (`RecordLoadError`). `constraints` are asked before
    it is saved or deleted and after it is loaded, after those of the parents. Other keywords are pydantic's
    configuration.

    Raises `RecordDefinitionError` when the class is made: for a bare float, a key that can be none, two fields with one
    attribute; names the field and what to say instead.
    """

    model_config = ConfigDict(populate_by_name=True)

    __layout__: ClassVar[Layout]
    __record_options__: ClassVar[RecordOptions] = RecordOptions()
    __constraints__: ClassVar[Sequence[Constraint[Any]]] = ()

    _unknown_attributes: dict[str, Any] | None = PrivateAttr(default=None)

    if TYPE_CHECKING:

        def __init_subclass__(
            cls,
            *,
            table: str = ...,
            unknown: UnknownAttributes = ...,
            constraints: Constraints = ...,
            **config: Unpack[ConfigDict],
        ) -> None: ...

    else:

        def __init_subclass__(cls, *, table=None, unknown=None, constraints=(), **config) -> None:  # noqa: ANN001, ANN003 - as above
            super().__init_subclass__(**config)

    @classmethod
    def __pydantic_init_subclass__(
        cls,
        *,
        table: str | None = None,
        unknown: UnknownAttributes | None = None,
        constraints: Constraints = (),
        **more: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**more)
        inherited = cls.__record_options__
        cls.__record_options__ = RecordOptions(table or inherited.table, unknown or inherited.unknown)
        _check_line(cls, table)
        cls.__constraints__ = gathered(cls, constraints)
        cls.__layout__ = _LayoutWhenComplete()  # type: ignore[assignment]  # a descriptor that gives one
        if cls.__record_options__.table is not None and cls.__pydantic_complete__:
            cls.__layout__ = layout_of(cls, cls.__record_options__.table)

    def to_item(self) -> dict[str, Any]:
        """The record as an item: values as boto3's resources take them, by attribute name.

        An attribute is left out where it is None and None is the field's default, or where it is an empty set and
        that is. Raises `InvalidItemError` with the class and the path of what cannot be stored. Whether numbers,
        sizes and keys fit the table is looked at when the item is recorded in a scope.
        """
        item = item_of(self, type(self).__layout__)
        return {**self._unknown_attributes, **item} if self._unknown_attributes else item

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Self:
        """The record in an item as boto3's resources give it; stamps are passed over.

        Raises `RecordLoadError`, whose message and causes hold no value of the item.
        """
        record, unknown = loaded(cls.__layout__, item, cls.__record_options__.unknown)
        if unknown:
            record._unknown_attributes = unknown  # noqa: SLF001 - of this very class
        return cast("Self", record)

    def key(self) -> dict[str, Any]:
        """The record's key, as values DynamoDB takes, by attribute name."""
        layout = type(self).__layout__
        return {key.attribute: layout.stored(key.field, getattr(self, key.field)) for key in layout.keys}

    def unknown_attributes(self) -> Mapping[str, Any]:
        """Attributes that are no fields of the class, as they were read; kept only with `unknown="keep"`."""
        return MappingProxyType(self._unknown_attributes or {})

    def __reliable_put__(self, time: TimeSource) -> Intent:
        """See `Writable`."""
        return put_intent(self, time)

    def __reliable_delete__(self) -> Intent:
        """See `Writable`."""
        return delete_intent(self)


def _check_line(model: type[Record], table: object) -> None:
    if table is not None and not (isinstance(table, str) and table):
        raise RecordDefinitionError(f"{model.__name__}: a table is named by a string that is not empty.")
    if model.__record_options__.unknown not in ("ignore", "keep", "refuse"):
        raise RecordDefinitionError(f'{model.__name__}: unknown is "ignore", "keep" or "refuse".')
    if model.model_config.get("extra") == "allow":
        raise RecordDefinitionError(f'{model.__name__}: say unknown="keep" instead of extra="allow".')
    for name in _METHODS:
        if name in model.model_fields:
            raise RecordDefinitionError(
                f'{model.__name__}.{name} hides a method of Record. Name the field otherwise, with alias="{name}".'
            )
