"""An item to a record. What is wrong with an item is told by place and kind; values stay where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ValidationError

from reliable_write.errors import LoadProblem, RecordLoadError
from reliable_write.operations import StampNames
from reliable_write.records.layout import Layout
from reliable_write.records.stored import loadable
from reliable_write.values import shown_path

UnknownAttributes = Literal["ignore", "keep", "refuse"]

_STAMPS: Final = frozenset({StampNames().full, StampNames().update})
_PROBLEMS_SHOWN: Final = 5


def loaded(layout: Layout, item: Mapping[str, Any], policy: UnknownAttributes) -> tuple[Any, dict[str, Any]]:
    """The record in an item, and the attributes to keep that are no fields; raises `RecordLoadError`."""
    known, unknown = _parted(layout, item)
    if unknown and policy == "refuse":
        raise _load_error(layout, item, [LoadProblem(name, "unknown_attribute") for name in unknown])
    record = _validated(layout.model, known)
    if isinstance(record, list):
        raise _load_error(layout, item, record)
    return record, unknown if policy == "keep" else {}


def _parted(layout: Layout, item: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    known: dict[str, Any] = dict.fromkeys(layout.sets_required, frozenset())
    unknown: dict[str, Any] = {}
    for name, value in item.items():
        if name in layout.read:
            known[name] = loadable(value)
        elif name not in layout.computed and name not in _STAMPS:
            unknown[name] = value
    return known, unknown


def _validated(model: type[BaseModel], known: dict[str, Any]) -> BaseModel | list[LoadProblem]:
    """Problems are returned, not raised: an error raised from here would carry pydantic's, which shows values."""
    try:
        return model.model_validate(known, strict=False)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        return [LoadProblem(_path(one["loc"]), one["type"]) for one in found]


def _path(location: tuple[int | str, ...]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")


def _load_error(layout: Layout, item: Mapping[str, Any], problems: list[LoadProblem]) -> RecordLoadError:
    names = [key.attribute for key in layout.keys]
    shown = ", ".join(f"{shown_path(one.path)} ({one.kind})" for one in problems[:_PROBLEMS_SHOWN])
    more = f" and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
    return RecordLoadError(
        f"An item of {layout.table} is no {layout.model.__name__}: {shown}{more}. Which item, is in this error's `key` "
        f"({', '.join(names)}). Repair the item, or give the class a field that takes it.",
        table=layout.table,
        key={name: item[name] for name in names if name in item},
        problems=tuple(problems),
    )
