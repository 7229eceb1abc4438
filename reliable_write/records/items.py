"""A record to an item: pydantic's own serialisation, then the tables of `stored`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from reliable_write.errors import InvalidItemError, RecordLoadError
from reliable_write.records.fields import ITEM_CONTEXT
from reliable_write.records.layout import MISSING, Layout
from reliable_write.records.loading import loaded
from reliable_write.records.stored import store_attributes
from reliable_write.values import UnstorableValue, shown_path


def item_of(record: BaseModel, layout: Layout) -> dict[str, Any]:
    """The attributes of a record; raises `InvalidItemError` with the class and the path of what cannot be stored."""
    try:
        dump = _dumped(record, warnings="error")
    except PydanticSerializationError:
        dump = None  # what is said of it is said outside the handler: pydantic's error shows the value
    return _doubtful(record, layout) if dump is None else _stored(dump, layout)


def _dumped(record: BaseModel, warnings: Literal["error", "none"]) -> Any:
    # Not record.model_dump: what a class makes of that for its own API is not what its table holds.
    return BaseModel.model_dump(record, by_alias=True, context=ITEM_CONTEXT, warnings=warnings)


def _stored(dump: Any, layout: Layout) -> dict[str, Any]:
    if not isinstance(dump, Mapping):
        raise InvalidItemError(
            f"{layout.model.__name__}: its model_serializer makes no attributes, but a {type(dump).__name__}. "
            "Let it return a dict.",
            table=layout.table,
        )
    present = dict(dump)
    for name in layout.none_left_out:
        if present.get(name, MISSING) is None:
            del present[name]
    for name in layout.empty_set_left_out:
        if not present.get(name, MISSING):
            del present[name]
    try:
        return store_attributes(present)
    except UnstorableValue as refusal:
        unstorable = refusal
    raise unstorable.at(layout.model.__name__, table=layout.table)


def _doubtful(record: BaseModel, layout: Layout) -> dict[str, Any]:
    """The item of a record in which pydantic finds a value that its field does not take.

    It is sometimes wrong about unions, so the item is read back: what does not come back as it was is refused.
    """
    item = _stored(_dumped(record, warnings="none"), layout)
    path = _path_not_read_back(item, layout)
    if path is None:
        return item
    raise InvalidItemError(
        f"{layout.model.__name__}: {shown_path(path)} holds what its field does not take, so it could not be read "
        "back. It was assigned or copied without validation; validate_assignment=True finds that earlier.",
        path=path,
        table=layout.table,
    )


def _path_not_read_back(item: dict[str, Any], layout: Layout) -> str | None:
    try:
        again, _ = loaded(layout, item, "ignore")
    except RecordLoadError as error:
        return error.problems[0].path
    found = _stored(_dumped(again, warnings="none"), layout)
    return next((name for name in item if name not in found or not _same(item[name], found[name])), None)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
