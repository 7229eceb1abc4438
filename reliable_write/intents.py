"""What an object that knows its own table hands to a scope in place of a table and an item.

The scope knows no records. It takes whatever makes an `Intent` of itself, writes what that says, and tells it what
became of it, so that an object moves on (to its next version, say) only once the outcome is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol

from reliable_write.at_commit import Given
from reliable_write.clock import TimeSource
from reliable_write.errors import ConditionFailedError, FailedCondition, InvalidItemError, Outcome, WriteRejectedError
from reliable_write.operations import StampNames

WriteVerb = Literal["put", "delete"]
IntentVerb = WriteVerb | Literal["check"]


def _nothing(_outcome: Outcome) -> None:
    """For intents that do not want to know."""


def _as_it_is(_failure: FailedCondition) -> None:
    """For intents whose refusal is told by its place alone."""


@dataclass(frozen=True, slots=True)
class Intent:
    """One write of one item, or a check of it: where, what, and under which condition."""

    table: str
    content: Mapping[str, Any] = field(repr=False)
    """The item of a put, the key of a delete or a check; Python values, as `put_item` takes them."""
    given: Given = field(default_factory=Given)
    """With a condition the write takes effect in the commit point itself. A check always has one."""
    settled: Callable[[Outcome], None] = _nothing
    """Called after each commit of the scope with what holds then: UNKNOWN may be followed by another call. It must not
    raise: the write has happened, or has not, all the same."""
    refused: Callable[[FailedCondition], ConditionFailedError | None] = _as_it_is
    """The error to raise where this intent's condition was false; None for the plain `ConditionFailedError`."""


class Writable(Protocol):
    """An object a scope can write. What it refuses by raising is no part of the scope."""

    def __reliable_put__(self, time: TimeSource) -> Intent:
        """The intent to put it as it is now; `time` is the writer's."""
        ...

    def __reliable_delete__(self) -> Intent:
        """The intent to delete it."""
        ...


class Checkable(Protocol):
    """An object a scope can be made to depend on: that something holds which this object says of an item."""

    def __reliable_check__(self) -> Intent:
        """The intent to check it: a key and a condition."""
        ...


_METHODS: Final = {"put": "__reliable_put__", "delete": "__reliable_delete__", "check": "__reliable_check__"}
_PLAINLY: Final = {"put": "put_item(table, ...)", "delete": "delete_item(table, ...)", "check": "condition_check(...)"}


def intent_of(writable: Writable | Checkable, verb: IntentVerb, where: str, time: TimeSource) -> Intent:
    """What it intends. Raises `InvalidItemError` for an object that cannot say, and what the object raises."""
    method = getattr(writable, _METHODS[verb], None)
    if method is None or isinstance(writable, type):
        needed = "an object that can be checked, such as a lease," if verb == "check" else "a record"
        raise InvalidItemError(
            f"{where}: {needed} is needed, not {type(writable).__name__}. For a plain item name its table: "
            f"{_PLAINLY[verb]}.",
            operation=where,
        )
    try:
        intent: Intent = method(time) if verb == "put" else method()
    except WriteRejectedError as refusal:
        refusal.operation = where
        raise
    return intent


def one_table(intents: Sequence[Intent], where: str) -> str:
    """The table all of a batch are for. Raises `InvalidItemError`."""
    tables = sorted({intent.table for intent in intents})
    if len(tables) > 1:
        raise InvalidItemError(
            f"{where}: a batch is for one table, and these records are for {tables[0]!r} and {tables[1]!r}. Use a "
            "batch for each.",
            operation=where,
        )
    return tables[0]


def _without(failure: FailedCondition, stamps: StampNames) -> FailedCondition:
    if failure.item is None:
        return failure
    shown = {name: value for name, value in failure.item.items() if name not in (stamps.full, stamps.update)}
    return replace(failure, item=shown)


class Intents:
    """The intents of one scope, by the places of their operations."""

    def __init__(self) -> None:
        self._by_place: dict[str, Intent] = {}

    def add(self, place: str, intent: Intent) -> None:
        """Remember it under the place at which it was recorded."""
        self._by_place[place] = intent

    def settle(self, outcome: Outcome) -> None:
        """Tell all of them what holds."""
        for intent in self._by_place.values():
            intent.settled(outcome)

    def told(self, error: ConditionFailedError, stamps: StampNames) -> ConditionFailedError:
        """The refusal in the words of the first intent that has its own; with the same facts.

        An intent is shown the item without its stamps, as they are no part of what it wrote.
        """
        for failure in error.failures:
            intent = self._by_place.get(failure.operation)
            own = intent.refused(_without(failure, stamps)) if intent is not None else None
            if own is not None:
                own.write_id, own.failures = error.write_id, error.failures
                return own
        return error
