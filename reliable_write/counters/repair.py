"""Making a number of a counter that was stored as a string, as by a tutorial's `put_item(Item={"value": "0"})`."""

from __future__ import annotations

from reliable_write.counters.place import Place, whole_number
from reliable_write.counters.steps import number
from reliable_write.dynamodb import CallFailed, Condition, ConditionRefused
from reliable_write.errors import CounterTypeError, Outcome, ReliableWriteError
from reliable_write.values import WireItem


def repair(place: Place, initial: int) -> int:
    """See `AtomicCounter.repair`.

    Only the string that was seen is replaced, so it does not matter how often this is sent, or when it arrives.
    """
    deadline = place.engine.attempt_deadline()
    unclear = False
    while True:
        item = _look(place, unclear=unclear)
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
        try:
            place.engine.store.change(place.table, place.key, "SET #v = :number", condition, deadline)
        except ConditionRefused as refused:  # somebody was quicker, or our own lost try: see what is there now
            unclear = unclear or refused.ambiguous
        except CallFailed as failure:
            raise place.unanswered(failure) from failure.__cause__
        else:
            return value


def _look(place: Place, *, unclear: bool) -> WireItem:
    """What is there now. Who sent a repair, and does not see what became of it, cannot say that nothing was written."""
    try:
        return place.read()
    except ReliableWriteError as error:
        if unclear:
            error.outcome = Outcome.UNKNOWN
        raise
