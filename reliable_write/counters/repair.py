"""Making a number of a counter that was stored as a string, as by a tutorial's `put_item(Item={"value": "0"})`."""

from __future__ import annotations

import contextlib

from reliable_write.counters.place import Place, whole_number
from reliable_write.counters.steps import number
from reliable_write.dynamodb import CallFailed, Condition, ConditionRefused
from reliable_write.errors import CounterTypeError


def repair(place: Place, initial: int) -> int:
    """See `AtomicCounter.repair`.

    Only the string that was seen is replaced, so it does not matter how often this is sent, or when it arrives.
    """
    deadline = place.engine.attempt_deadline()
    while True:
        item = place.read()
        try:
            return place.value_in(item, initial)
        except CounterTypeError as wrong:
            found = item[place.attribute]
            value = whole_number(found.get("S"))
            if value is None:
                raise
            if deadline.passed():
                raise wrong from None
        condition = Condition("#v = :seen", {"#v": place.attribute}, {":seen": found, ":number": number(value)})
        with contextlib.suppress(ConditionRefused):  # somebody was quicker: see what is there now
            try:
                place.engine.store.change(place.table, place.key, "SET #v = :number", condition, deadline)
            except CallFailed as failure:
                raise place.unanswered(failure) from failure.__cause__
            return value
