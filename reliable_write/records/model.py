"""`Record`: a pydantic model that is an item of a table.

What is written is what pydantic's own serialisation gives (`model_dump` with aliases), so serializers, computed and
excluded fields mean what they mean elsewhere; what is read is validated as the class says. In between stand only the
tables of `stored`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self, Unpack

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation
from pydantic_core import PydanticSerializationError

from reliable_write.clock import TimeSource
from reliable_write.errors import InvalidItemError, LoadProblem, RecordDefinitionError, RecordLoadError
from reliable_write.intents import Intent
from reliable_write.operations import StampNames
from reliable_write.records.constraints import Constraint, Constraints, gathered
from reliable_write.records.fields import ITEM_CONTEXT
from reliable_write.records.layout import Layout, layout_of
from reliable_write.records.stored import loadable, store_attributes
from reliable_write.records.writing import delete_intent, put_intent
from reliable_write.values import UnstorableValue, shown_path

UnknownAttributes = Literal["ignore", "keep", "refuse"]

_STAMPS: Final = frozenset({StampNames().full, StampNames().update})
_METHODS: Final = ("to_item", "from_item", "key", "unknown_attributes")
_PROBLEMS_SHOWN: Final = 5


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
        try:
            dump = self._dumped(warnings="error")
        except PydanticSerializationError:
            return self._doubtful_item()
        return self._item_of(dump)

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Self:
        """The record in an item as boto3's resources give it; stamps are passed over.

        Raises `RecordLoadError`, whose message and causes hold no value of the item.
        """
        layout = cls.__layout__
        known, unknown = cls._parted(item, layout)
        try:
            record = cls.model_validate(known, strict=False)
        except ValidationError as error:
            problems = [LoadProblem(_path(one["loc"]), one["type"]) for one in _bare_errors(error)]
        else:
            if unknown:
                record._unknown_attributes = unknown  # noqa: SLF001 - of this very class
            return record
        # Outside the handler: pydantic's error shows values, and must not hang on to ours.
        raise _load_error(cls, item, problems)

    def key(self) -> dict[str, Any]:
        """The record's key, as values DynamoDB takes, by attribute name."""
        layout = type(self).__layout__
        values = self.__dict__
        return {key.attribute: layout.stored(key.field, values[key.field]) for key in layout.keys}

    def unknown_attributes(self) -> Mapping[str, Any]:
        """Attributes that are no fields of the class, as they were read; kept only with `unknown="keep"`."""
        return MappingProxyType(self._unknown_attributes or {})

    def __reliable_put__(self, time: TimeSource) -> Intent:
        """See `Writable`."""
        return put_intent(self, time)

    def __reliable_delete__(self) -> Intent:
        """See `Writable`."""
        return delete_intent(self)

    def _dumped(self, warnings: Literal["error", "none"]) -> dict[str, Any]:
        # Not self.model_dump: what a class makes of that for its own API is not what its table holds.
        return BaseModel.model_dump(self, by_alias=True, context=ITEM_CONTEXT, warnings=warnings)

    def _item_of(self, dump: dict[str, Any]) -> dict[str, Any]:
        layout = type(self).__layout__
        nones, empty_sets = layout.none_left_out, layout.empty_set_left_out
        present = {
            name: value
            for name, value in dump.items()
            if value or not ((value is None and name in nones) or name in empty_sets)
        }
        try:
            store_attributes(present)
        except UnstorableValue as refusal:
            unstorable = refusal
        else:
            return {**self._unknown_attributes, **present} if self._unknown_attributes else present
        raise unstorable.at(type(self).__name__, table=layout.table)

    def _doubtful_item(self) -> dict[str, Any]:
        """The item of a record in which pydantic finds a value that its field does not take.

        It is sometimes wrong about unions, so the item is read back: what does not come back as it was is refused.
        """
        item = self._item_of(self._dumped(warnings="none"))
        try:
            again = self.from_item(item)
        except RecordLoadError as error:
            path = error.problems[0].path
        else:
            found = again._item_of(again._dumped(warnings="none"))  # noqa: SLF001 - another of this class
            path = next((name for name in item if name not in found or not _same(item[name], found[name])), "")
            if not path:
                return item
        raise InvalidItemError(
            f"{type(self).__name__}: {shown_path(path)} holds what its field does not take, so it could not be read "
            "back. It was assigned or copied without validation; validate_assignment=True finds that earlier.",
            path=path,
            table=type(self).__layout__.table,
        )

    @classmethod
    def _parted(cls, item: Mapping[str, Any], layout: Layout) -> tuple[dict[str, Any], dict[str, Any]]:
        known: dict[str, Any] = dict.fromkeys(layout.sets_required, frozenset())
        unknown: dict[str, Any] = {}
        fields = layout.read
        for name, value in item.items():
            if name in fields:
                known[name] = loadable(value)
            elif name not in layout.computed and name not in _STAMPS:
                unknown[name] = value
        policy = cls.__record_options__.unknown
        if unknown and policy == "refuse":
            raise _load_error(cls, item, [LoadProblem(name, "unknown_attribute") for name in unknown])
        return known, unknown if policy == "keep" else {}


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


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


def _bare_errors(error: ValidationError) -> list[Any]:
    return list(error.errors(include_url=False, include_input=False, include_context=False))


def _path(location: tuple[int | str, ...]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")


def _load_error(model: type[Record], item: Mapping[str, Any], problems: list[LoadProblem]) -> RecordLoadError:
    layout = model.__layout__
    names = [key.attribute for key in layout.keys]
    shown = ", ".join(f"{shown_path(one.path)} ({one.kind})" for one in problems[:_PROBLEMS_SHOWN])
    more = f" and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
    return RecordLoadError(
        f"An item of {layout.table} is no {model.__name__}: {shown}{more}. Which item: this error's `key` "
        f"({', '.join(names)}); what is wrong: pydantic's kinds of problem, by attribute.",
        table=layout.table,
        key={name: item[name] for name in names if name in item},
        problems=tuple(problems),
    )
