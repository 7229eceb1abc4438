"""How a step is known again: the slot of a handle in the counter's item, and the floor under all slots.

Every handle owns two attributes of the item: `_rws.<id>`, the stamp of its last step, and `_rwv.<id>`, the value after
it. A step sets both together with the value, if its own stamp is later than the one in its slot. So of any number of
copies of one request one takes effect, and whoever finds the step's stamp in the slot knows that it has, and with what
result, however far others have moved on.

Slots are removed, or the item would grow for ever; then a copy that is still under way would find no slot, which is
what a new handle finds. So whoever removes a slot raises the floor, `_rwf`, to its stamp, and where there is no slot a
step must be later than the floor. A handle's steps are the later the newer they are: those up to the slot's stamp can
never land any more, and those after it have not yet. No clock or duration is leaned on: removing a slot too early only
takes the knowledge whether its last step was counted.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from reliable_write import limits
from reliable_write.clock import Stamp, is_stamp, stamp_milliseconds
from reliable_write.dynamodb import Condition
from reliable_write.policy import stamp_of
from reliable_write.values import WireItem

STAMP_PREFIX: Final = "_rws."
RESULT_PREFIX: Final = "_rwv."
FLOOR: Final = "_rwf"
COLLECTED: Final = "_rwc"
"""The latest stamp of the slots that others removed; no slot with a later one was removed but by its own handle."""

FREE: Final = "((attribute_not_exists(#slot) AND (attribute_not_exists(#floor) OR #floor < :stamp)) OR #slot < :stamp)"
"""The condition of a step: it has not taken effect, and nothing later of its handle has."""


class Standing(enum.Enum):
    """What an item says about one step."""

    APPLIED = "applied"
    """It has taken effect, and is the last one of its handle that has."""
    FENCED = "fenced"
    """Its place was taken: it has not taken effect and never will."""
    OPEN = "open"
    """It has not taken effect, and may."""
    OUTRUN = "outrun"
    """The floor is above it, and others never removed its slot: unless its own handle did, it has not taken effect and
    never will."""
    GONE = "gone"
    """It can no longer take effect, and whether it has cannot be told: its slot was removed, or is not its own."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The names of one handle's attributes."""

    id: str

    @property
    def stamp_name(self) -> str:
        """Of the attribute that holds the stamp of the last step."""
        return STAMP_PREFIX + self.id

    @property
    def result_name(self) -> str:
        """Of the attribute that holds the value after it."""
        return RESULT_PREFIX + self.id

    def standing(self, item: WireItem, stamp: Stamp, fence: Stamp) -> Standing:
        """What the item says about the step with this stamp, which is fenced by that one."""
        if self.stamp_name not in item:
            floor = stamp_of(item, FLOOR)
            free = FLOOR not in item or (floor is not None and floor < stamp)
            return Standing.OPEN if free else self._without_slot(item, stamp)
        found = stamp_of(item, self.stamp_name)
        if found == stamp:
            return Standing.APPLIED
        if found == fence:
            return Standing.FENCED
        return Standing.OPEN if found is not None and found < stamp else Standing.GONE

    @staticmethod
    def _without_slot(item: WireItem, stamp: Stamp) -> Standing:
        """Where the floor forbids the step."""
        collected = stamp_of(item, COLLECTED)
        kept = COLLECTED not in item or (collected is not None and collected < stamp)
        return Standing.OUTRUN if kept and stamp_of(item, FLOOR) is not None else Standing.GONE


def found_slots(item: WireItem) -> list[tuple[Stamp, Slot]]:
    """All slots of an item, the one that was used last at the end."""
    found = []
    for name in item:
        stamp = stamp_of(item, name) if name.startswith(STAMP_PREFIX) else None
        if stamp is not None:
            found.append((stamp, Slot(name.removeprefix(STAMP_PREFIX))))
    return sorted(found, key=lambda one: one[0])


def dead_slots(item: WireItem, now_milliseconds: float) -> list[tuple[Stamp, Slot]]:
    """Those to be removed now, as many as one request takes: see `limits.COUNTER_SLOT_SECONDS`."""
    slots = found_slots(item)
    surplus = len(slots) - limits.COUNTER_SLOTS_MAX
    dead = [
        (stamp, slot)
        for number, (stamp, slot) in enumerate(slots)
        if _age_seconds(stamp, now_milliseconds)
        > (limits.COUNTER_SLOT_SECONDS_MIN if number < surplus else limits.COUNTER_SLOT_SECONDS)
    ]
    return dead[: limits.COUNTER_SLOTS_COLLECTED_MAX]


def _age_seconds(stamp: Stamp, now_milliseconds: float) -> float:
    return (now_milliseconds - stamp_milliseconds(stamp)) / 1000


def removal(slots: Sequence[tuple[Stamp, Slot]], item: WireItem, *, own: bool = False) -> tuple[str, Condition]:
    """The update that removes these slots if they are as they were seen, and its condition; `item` is the one seen.

    One request for all of them: each costs the write units of the whole item. It is never part of a step: a step's
    bytes must stay the same, and it must not be refused because somebody else's slot has moved.
    """
    last = max(stamp for stamp, _ in slots)
    names: dict[str, str] = {}
    values: WireItem = {":last": {"S": last}}
    seen, removed, raised = [], [], []
    for number, (stamp, slot) in enumerate(slots):
        names |= {f"#s{number}": slot.stamp_name, f"#v{number}": slot.result_name}
        values[f":s{number}"] = {"S": stamp}
        seen.append(f"#s{number} = :s{number}")
        removed += [f"#s{number}", f"#v{number}"]
    for place, mark in (("#floor", FLOOR), *(() if own else (("#collected", COLLECTED),))):
        names[place] = mark
        # A mark never falls, so one that is high enough stays so, unless the item was made anew.
        high_enough = (stamp_of(item, mark) or "") >= last
        seen.append(f"{place} >= :last" if high_enough else f"(attribute_not_exists({place}) OR {place} < :last)")
        raised += [] if high_enough else [f"{place} = :last"]
    update = f"REMOVE {', '.join(removed)}" + (f" SET {', '.join(raised)}" if raised else "")
    return update, Condition(" AND ".join(seen), names, values)


def floor_is_sound(item: WireItem) -> bool:
    """Whether a step can be later than the floor. Not so where somebody else wrote it."""
    if FLOOR not in item:
        return True
    text = item[FLOOR].get("S")
    return is_stamp(text) and stamp_milliseconds(Stamp(str(text))) < _MILLISECONDS_END


_MILLISECONDS_END: Final = 1 << 47
"""Of clocks that can be followed: the year 6429, and room in a stamp's digits after it."""
