"""`Record`: a pydantic model that is an item of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, Unpack

from pydantic import BaseModel, ConfigDict, ValidationError

from reliable_write.clock import TimeSource
from reliable_write.errors import RecordLoadError
from reliable_write.intents import Intent
from reliable_write.records.constraints import Constraint, Constraints, gathered
from reliable_write.records.fields import ITEM_CONTEXT
from reliable_write.records.layout import Layout, layout_of
from reliable_write.records.stored import loadable, stored
from reliable_write.records.writing import delete_intent, put_intent

UnknownAttributes = Literal["ignore", "keep", "refuse"]


class Record(BaseModel):
    """An item of a table as a pydantic model."""

    model_config = ConfigDict(populate_by_name=True)

    __layout__: ClassVar[Layout]
    __constraints__: ClassVar[Sequence[Constraint[Any]]] = ()

    def __init_subclass__(
        cls,
        *,
        table: str | None = None,
        unknown: UnknownAttributes | None = None,
        constraints: Constraints = (),
        **config: Unpack[ConfigDict],
    ) -> None:
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
        cls.__constraints__ = gathered(cls, constraints)
        inherited = getattr(cls, "__layout__", None)
        if table is None and inherited is not None:
            table = inherited.table
        if table is not None:
            cls.__layout__ = layout_of(cls, table)

    def to_item(self) -> dict[str, Any]:
        """The record as an item: values as boto3's resources take them, by attribute name."""
        item: dict[str, Any] = stored(self.model_dump(by_alias=True, context=ITEM_CONTEXT))
        return {name: value for name, value in item.items() if value is not None and value != []}

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Self:
        """The record an item holds; raises `RecordLoadError` where it holds none."""
        try:
            return cls.model_validate({name: loadable(value) for name, value in item.items()}, strict=False)
        except ValidationError:
            pass
        raise RecordLoadError(f"The item is no {cls.__name__}.", table=cls.__layout__.table)

    def key(self) -> dict[str, Any]:
        """The record's key, as values DynamoDB takes, by attribute name."""
        layout, item = type(self).__layout__, self.to_item()
        keys = [layout.hash_key] if layout.range_key is None else [layout.hash_key, layout.range_key]
        return {key.attribute: item[key.attribute] for key in keys}

    def __reliable_put__(self, time: TimeSource) -> Intent:
        """See `Writable`."""
        return put_intent(self, time)

    def __reliable_delete__(self) -> Intent:
        """See `Writable`."""
        return delete_intent(self)
