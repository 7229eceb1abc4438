"""A reader's look at items with the journal in view, in Python values; `reliable_write.pending` says what holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reliable_write import limits
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed
from reliable_write.engine import Engine
from reliable_write.entry import State
from reliable_write.errors import LookFailedError
from reliable_write.operations import StampNames, make_key
from reliable_write.pending import PendingLook, PendingWrite
from reliable_write.policy import FailureKind
from reliable_write.recording import schema_of
from reliable_write.values import WireItem, decode_item


@dataclass(frozen=True, slots=True)
class PendingChange:
    """What a committed write that is not finished will do, or has done already, to the item."""

    write_id: str
    """The id in logs, errors and tools."""
    state: State
    """`pending`: a monitor finishes it; `quarantined`: a person must decide."""
    operation: str
    """The place of its operation on this item, `operations[3].items[4]`; empty where that was done at the commit."""
    deletes: bool
    """Whether the item is gone once it is applied."""
    applied_here: bool
    """Whether its operation on this item is applied, or superseded by a later write."""
    fractured: bool
    """Whether some of its operations are applied and others not, as far as can be told: see `unreached`."""
    unreached: int
    """Its operations that could not be looked at, because their tables gave no answer within two seconds."""
    committed_at_milliseconds: int
    """Wall time of the machine that committed it."""
    item: dict[str, Any] | None = field(repr=False)
    """What will be there once it is applied; None for a delete."""


@dataclass(frozen=True, slots=True)
class Look:
    """An item, strongly read, and the committed writes that touch it and are not finished."""

    item: dict[str, Any] | None = field(repr=False)
    """As Python values, without stamps; None where there is none."""
    pending: tuple[PendingChange, ...]
    """Oldest first."""
    unreadable: int
    """Journal entries that this version cannot read; any of them may touch the item. Told by `reliable-write writes
    list --state unreadable`."""

    @property
    def fractured(self) -> bool:
        """Whether a write that touches the item is done in part: other items may not fit to this one."""
        return any(change.fractured for change in self.pending)

    @property
    def settled(self) -> bool:
        """Whether the item holds every write that was committed before the look began."""
        return not self.pending and not self.unreadable


def look_many(engine: Engine, keys: Sequence[tuple[str, Mapping[str, Any]]], wait: float) -> tuple[Look, ...]:
    """See `ReliableWriter.look_many`."""
    if not (math.isfinite(wait) and wait >= 0):
        raise ValueError(f"wait is {wait}; it takes seconds, 0 or more.")
    if len(keys) > limits.LOOK_KEYS_MAX:
        raise ValueError(f"A look takes {limits.LOOK_KEYS_MAX} keys; these are {len(keys)}. Look several times.")
    wanted = [(table, make_key(schema_of(engine, table), key, f"look at {table}")) for table, key in keys]
    deadline = Deadline.after(engine.settings.attempt_deadline_seconds + wait, engine.time)
    try:
        looks = engine.pending.look_many(wanted, deadline, wait_seconds=wait)
    except CallFailed as failure:
        raise _failed(failure) from failure
    return tuple(_in_python(look, engine.installation.names) for look in looks)


def _failed(failure: CallFailed) -> LookFailedError:
    advice = "Look again."
    if failure.kind is FailureKind.ACCESS_DENIED:
        advice = "A look needs dynamodb:Query and BatchGetItem on the system table, and BatchGetItem on the item's own."
    elif failure.kind is FailureKind.CREDENTIALS:
        advice = "Check the credentials with: aws sts get-caller-identity"
    return LookFailedError(
        f"The journal or the items could not be read: {failure}. {advice}",
        retryable=failure.kind.retryable or failure.kind is FailureKind.DEADLINE,
    )


def _in_python(look: PendingLook, names: StampNames) -> Look:
    return Look(
        _bare(look.item, names), tuple(_change(write, names) for write in look.writes), unreadable=look.unreadable
    )


def _change(write: PendingWrite, names: StampNames) -> PendingChange:
    return PendingChange(
        write_id=write.write_id,
        state=write.state,
        operation=write.operation,
        deletes=write.deletes,
        applied_here=write.applied_here,
        fractured=write.fractured,
        unreached=write.unreached,
        committed_at_milliseconds=write.committed_at_milliseconds,
        item=_bare(write.item, names),
    )


def _bare(item: WireItem | None, names: StampNames) -> dict[str, Any] | None:
    if item is None:
        return None
    return decode_item({name: value for name, value in item.items() if name not in (names.full, names.update)})
