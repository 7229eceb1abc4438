"""One bounded, parallel application of a committed write's operations to their tables; results in the caller's order.

Every write to a destination is conditional on being later in order than what is there, so it may be repeated, delayed
or raced by anybody without harm. A result never raises: one refused operation does not keep the others from finishing.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from reliable_write.clock import Deadline, Stamp, TimeSource
from reliable_write.dynamodb import CallFailed, Condition, ConditionRefused, Store
from reliable_write.operations import Action, Delete, Put, StampNames
from reliable_write.policy import Reading, Trouble, read_stamps
from reliable_write.tombstones import ForeignTombstone, Tombstones
from reliable_write.workers import Workers

_OLDER_THAN_MINE = "(attribute_not_exists(#full) OR #full < :mine) AND (attribute_not_exists(#upd) OR #upd < :mine)"

_REASONS = {
    Reading.OVERTAKEN: "an update later in order changed the item first; an operator must decide which value holds",
    Reading.FOREIGN: "the item's stamp attribute holds something this library did not write",
}


_FOREIGN_TOMBSTONE = "the key's tombstone holds no stamp, or one from more than a day in the future"


class Status(enum.StrEnum):
    """How one operation ended in this attempt."""

    APPLIED = "applied"
    SUPERSEDED = "superseded"
    """A committed write later in order is there; nothing more to do."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one action."""

    place: str
    """Where it stands in its scope, for instance `operations[3].items[4]`."""
    table: str
    status: Status
    trouble: Trouble | None = None


class Propagation:
    """Applies the operations of one write, with the stamp of that write."""

    def __init__(
        self, store: Store, tombstones: Tombstones, workers: Workers, time: TimeSource, names: StampNames
    ) -> None:
        self._store = store
        self._tombstones = tombstones
        self._workers = workers
        self._time = time
        self._names = names

    def apply(
        self, stamp: Stamp, actions: Sequence[tuple[str, Action]], deadline: Deadline, *, late: bool
    ) -> list[Result]:
        """Apply all actions, in parallel.

        `late` is True for every attempt but the first: by then the key may have been deleted and its tombstone left, so
        each put looks for a newer tombstone afterwards and takes itself back. A put that is sent a second time within
        the first attempt is late too: the first may have been applied, seen and deleted in between.
        """
        tasks = [partial(self._settle, place, action, stamp, deadline, late=late) for place, action in actions]
        return self._workers.run_all(tasks)

    def _settle(self, place: str, action: Action, stamp: Stamp, deadline: Deadline, *, late: bool) -> Result:
        try:
            if isinstance(action, Put):
                status = self._put(action, stamp, deadline, late=late)
            else:
                status = self._delete(action, stamp, deadline)
        except _Refused as refused:
            return Result(place, action.table, Status.FAILED, refused.trouble)
        except CallFailed as failure:
            trouble = Trouble(str(failure), failure.kind.permanent, failure.kind)
            return Result(place, action.table, Status.FAILED, trouble)
        return Result(place, action.table, status)

    def _put(self, put: Put, stamp: Stamp, deadline: Deadline, *, late: bool) -> Status:
        item = {**put.item, self._names.full: {"S": stamp}}
        while True:
            try:
                tries = self._store.put(put.table, item, self._older_than(stamp), deadline, look=put.key)
                late = late or tries > 1
                status = Status.APPLIED
            except ConditionRefused as refused:
                reading = self._read(refused, stamp)
                if reading is Reading.OLDER:  # it vanished, or was replaced by something older, after we were refused
                    late = True
                    continue
                status = Status.APPLIED if reading is Reading.MINE else Status.SUPERSEDED
            if late:
                return self._yield_to_tombstone(put, stamp, deadline, status)
            return status

    def _delete(self, delete: Delete, stamp: Stamp, deadline: Deadline) -> Status:
        self._tombstones.mark(delete, stamp, deadline)
        while True:
            try:
                self._store.delete(delete.table, delete.key, self._older_than(stamp), deadline)
            except ConditionRefused as refused:
                if self._read(refused, stamp) is Reading.OLDER:
                    continue
                return Status.SUPERSEDED
            return Status.APPLIED

    def _yield_to_tombstone(self, put: Put, stamp: Stamp, deadline: Deadline, status: Status) -> Status:
        """A delete later in order may have finished before this late put came: then take exactly our put back.

        An update that came after the delete has built on what is there and keeps it (CE23: undoing by our stamp alone
        would remove that update too).
        """
        try:
            newer = self._tombstones.stamp(put, deadline)
        except ForeignTombstone:
            raise _Refused(Trouble(_FOREIGN_TOMBSTONE, permanent=True)) from None
        if newer is None or newer < stamp:
            return status
        ours = Condition(
            "#full = :mine AND (attribute_not_exists(#upd) OR #upd < :tomb)",
            self._stamp_names(),
            {":mine": {"S": stamp}, ":tomb": {"S": newer}},
        )
        with contextlib.suppress(ConditionRefused):  # not ours any more: whoever wrote over it knew the tombstone
            self._store.delete(put.table, put.key, ours, deadline)
        return Status.SUPERSEDED

    def _read(self, refused: ConditionRefused, stamp: Stamp) -> Reading:
        """What the item that refused us says; raises for what no rule decides."""
        reading = Reading.OLDER if refused.found is None else read_stamps(refused.found, stamp, self._names, self._time)
        if reading in _REASONS:
            raise _Refused(Trouble(_REASONS[reading], permanent=True))
        return reading

    def _older_than(self, stamp: Stamp) -> Condition:
        return Condition(_OLDER_THAN_MINE, self._stamp_names(), {":mine": {"S": stamp}})

    def _stamp_names(self) -> dict[str, str]:
        return {"#full": self._names.full, "#upd": self._names.update}


class _Refused(Exception):
    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.reason)
        self.trouble = trouble
