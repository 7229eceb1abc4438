"""Removing the slots of handles that are gone. Whatever fails here, another handle does it later."""

from __future__ import annotations

import contextlib

from reliable_write import limits
from reliable_write.clock import Deadline, Stamp
from reliable_write.counters.place import Place
from reliable_write.counters.slots import Slot, dead_slots, removal
from reliable_write.dynamodb import CallFailed, ConditionRefused
from reliable_write.policy import stamp_of
from reliable_write.values import WireItem


def clean(place: Place, item: WireItem) -> None:
    """Remove slots of this item that were not used for long, by one request if there are any."""
    engine = place.engine
    dead = dead_slots(item, engine.time.wall_seconds() * 1000)
    if dead:
        update, condition = removal(dead, item)
        with contextlib.suppress(ConditionRefused, CallFailed):  # somebody else was quicker, or it has to wait
            engine.store.change(place.table, place.key, update, condition, _soon(place))


def give_back(place: Place, slot: Slot, used: Stamp) -> None:
    """Remove one's own slot."""
    engine, deadline = place.engine, _soon(place)
    found: WireItem = {}
    with contextlib.suppress(CallFailed):
        while True:
            update, condition = removal([(used, slot)], found, own=True)
            try:
                engine.store.change(place.table, place.key, update, condition, deadline)
            except ConditionRefused as refused:
                found = refused.found or {}
                if stamp_of(found, slot.stamp_name) != used:
                    return
            else:
                return


def _soon(place: Place) -> Deadline:
    return Deadline.after(limits.COUNTER_COLLECT_SECONDS, place.engine.time)
