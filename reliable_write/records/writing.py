"""What a record intends when it is put or deleted, and how the local object moves on once the outcome is known.

What is written is the record as it was when it was recorded. The local object gets its new version, and what
constraints changed, only with WRITTEN or WILL_BE_WRITTEN, and only in fields that nobody has set to something else
since: with UNKNOWN it stays as it is, until the scope is committed again and the outcome is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from reliable_write.clock import TimeSource
from reliable_write.errors import ConditionFailedError, FailedCondition, Outcome
from reliable_write.intents import Intent
from reliable_write.records.constraints import C, Constrained, before_delete, before_save
from reliable_write.records.layout import Layout, VersionField
from reliable_write.records.versions import kept, next_version, stale, unless_stale

_HOLDS: Final = frozenset({Outcome.WRITTEN, Outcome.WILL_BE_WRITTEN})

Change = tuple[Any, Any]
"""What a field was when the record was recorded, and what it becomes."""


def put_intent(record: C, time: TimeSource) -> Intent:
    """See `Writable`. Raises `ConstraintViolationError` and what `to_item` raises."""
    layout = type(record).__layout__
    written = before_save(record)
    item, changes = written.to_item(), _changes(record, written)
    version = kept(layout)
    if version is None:
        return Intent(layout.table, item, settled=_moving(record, changes))
    local = getattr(record, version.field)
    following = next_version(version, local, time)
    item[version.attribute] = layout.stored(version.field, following)
    changes[version.field] = (local, following)
    return _versioned(record, item, version, local, changes)


def delete_intent(record: Constrained) -> Intent:
    """See `Writable`. A deleted record is as one that was never saved: it may be put again."""
    layout = type(record).__layout__
    before_delete(record)
    version = kept(layout)
    if version is None:
        return Intent(layout.table, record.key())
    local = getattr(record, version.field)
    return _versioned(record, record.key(), version, local, {version.field: (local, version.initial)})


def _versioned(
    record: Constrained, content: Mapping[str, Any], version: VersionField, local: Any, changes: Mapping[str, Change]
) -> Intent:
    layout = type(record).__layout__
    return Intent(
        layout.table,
        content,
        unless_stale(layout, version, local),
        settled=_moving(record, changes),
        refused=_refusing(layout, version, local),
    )


def _refusing(
    layout: Layout, version: VersionField, local: Any
) -> Callable[[FailedCondition], ConditionFailedError | None]:
    return lambda failure: stale(layout, version, local, failure)


def _changes(record: Constrained, written: Constrained) -> dict[str, Change]:
    """What constraints made different. The values before are copies: the caller may change his in place."""
    if written is record:
        return {}
    before, after = vars(record.model_copy(deep=True)), vars(written)
    fields = type(record).__layout__.model.model_fields
    return {name: (before[name], after[name]) for name in fields if before[name] != after[name]}


def _moving(record: Constrained, changes: Mapping[str, Change]) -> Callable[[Outcome], None]:
    """A frozen record is never moved: who shares it, or has it in a set, relies on that."""
    if record.model_config.get("frozen"):
        return lambda _outcome: None

    def settled(outcome: Outcome) -> None:
        if outcome not in _HOLDS:
            return
        fields = vars(record)  # not by assignment: validators and frozen fields are for the application's own
        for name, (before, after) in changes.items():
            if fields[name] == before:
                fields[name] = after

    return settled
