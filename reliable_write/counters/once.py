"""The steps of one handle, each of which counts once: sent, sent again, fenced, and settled.

The same bytes are sent again for as long as the attempt lasts. Where the answer of a try is lost, the next one says by
the slot whether it was applied. A refusal is final only if no try was lost: otherwise the first one may still be under
way, so its place is taken by a fence, a request that sets the slot to a later stamp if the step has not come; then it
never will. The same fence settles, later, what ended without any answer.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, TypeVar

from reliable_write import limits
from reliable_write.clock import Deadline, HybridClock, Stamp, TimeSource
from reliable_write.counters.cleaning import clean, give_back
from reliable_write.counters.place import Place
from reliable_write.counters.slots import FLOOR, FREE, Slot, Standing, floor_is_sound
from reliable_write.counters.steps import Step
from reliable_write.dynamodb import CallFailed, Condition, ConditionRefused
from reliable_write.errors import (
    CommitFailedError,
    CounterTypeError,
    CounterUnknownError,
    ForeignStampError,
    Outcome,
    ReliableWriteError,
)
from reliable_write.policy import FailureKind, retry_pause_seconds, stamp_of
from reliable_write.values import WireItem

T = TypeVar("T")


@dataclass(slots=True)
class Attempt:
    """A step with its stamp: the same request, however often it is sent."""

    step: Step
    slot: Slot
    stamp: Stamp
    fence: Stamp
    """Later than the stamp, earlier than those of all later steps."""
    ambiguous: bool = False
    """A try was sent and not answered: it may have been applied, or be applied later."""
    settled: bool = False
    value: int | None = None
    """The value after it; None where it is settled that it is not counted and never will be."""

    def request(self) -> tuple[str, Condition]:
        """Its update, and the condition with the names and values of both."""
        step = self.step
        names = {"#v": step.place.attribute, "#slot": self.slot.stamp_name, "#floor": FLOOR, **step.names}
        if "#result" in step.update:
            names["#result"] = self.slot.result_name
        condition = FREE if step.condition is None else f"{FREE} AND {step.condition}"
        values: WireItem = {":stamp": {"S": self.stamp}, **step.values}
        return f"SET {step.update}, #slot = :stamp", Condition(condition, names, values)

    def fencing(self) -> tuple[str, Condition]:
        """What takes its place: the condition of the step itself, so that only one of the two can ever hold."""
        names = {"#slot": self.slot.stamp_name, "#floor": FLOOR}
        return "SET #slot = :fence", Condition(FREE, names, {":stamp": {"S": self.stamp}, ":fence": {"S": self.fence}})

    def standing(self, item: WireItem) -> Standing:
        """What an item says about it."""
        return self.slot.standing(item, self.stamp, self.fence)

    def counted(self, value: int) -> int:
        """It has taken effect."""
        if not self.settled:
            self.settled, self.value = True, value
            self.step.landed(value)
        return value


class Mine:
    """What a handle has in one process: a slot, a clock of its own, and the turn of its threads."""

    def __init__(self, time: TimeSource) -> None:
        self.lock = threading.Lock()
        self.doubt: Attempt | None = None
        """Sent, and not known to be counted or not."""
        self.used: Stamp | None = None
        """What our slot holds, as far as is known; None where it is not there."""
        self.look_at_seconds = 0.0
        self._time = time
        self.renew()

    def renew(self) -> None:
        """A slot that nobody has, with a clock that has seen nothing: its stamps are compared with its own only."""
        self.slot = Slot(base64.b32encode(self._time.random_bytes(5)).decode().lower())
        self.clock = HybridClock(self._time)
        self.used = None

    def attempt(self, step: Step) -> Attempt:
        """The step, with a stamp later than all before."""
        return Attempt(step, self.slot, self.clock.stamp(), self.clock.stamp())

    def is_time_to_look(self) -> bool:
        """Whether to look for slots to remove; the next time is put off."""
        now = self._time.elapsed_seconds()
        if self.used is not None and now < self.look_at_seconds:
            return False
        self.look_at_seconds = now + limits.COUNTER_LOOK_SECONDS + self._time.jitter(limits.COUNTER_LOOK_SECONDS)
        return True


class Once:
    """Applies the steps of one handle. Safe for threads, which take turns; a forked child has a slot of its own."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._mines: dict[int, Mine] = {}
        """Of this process, by its id; after a fork perhaps also that of its parent."""

    def apply(self, make: Callable[[], Step]) -> int:
        """Make a step and apply it; the value after it. It is made in the turn, when nothing is in doubt any more.

        Raises what the step objects with (`CounterLimitError`, `CounterOutOfSyncError`, `CounterTypeError`),
        `CommitFailedError` where it is certainly not counted, `CounterUnknownError`.
        """
        with self._turn() as (mine, deadline):
            self._clear_doubt(mine, deadline)
            step = make()
            for tries in itertools.count(1):
                value = self._try(mine, mine.attempt(step), deadline)
                if value is not None:
                    return value
                self._pause(tries, deadline)
        raise AssertionError

    def quiet(self, look: Callable[[], T]) -> T:
        """Do something in the turn, when nothing is in doubt any more. Raises as `apply`."""
        with self._turn() as (mine, deadline):
            self._clear_doubt(mine, deadline)
            return look()

    def settle(self, attempt: Attempt) -> int | None:
        """See `CounterUnknownError`."""
        with self._turn() as (mine, deadline):
            return self._fence(mine, attempt, deadline)

    @property
    def busy(self) -> bool:
        """Whether a thread has its turn just now."""
        return self._here().lock.locked()

    def close(self) -> None:
        """Give the slot back; the next step takes one again. A failure is passed over.

        What is in doubt stays so, and can be settled: if it was applied the slot is not as we know it, and stays.
        """
        mine = self._mines.get(os.getpid())
        if mine is None or mine.used is None:
            return
        with contextlib.suppress(ReliableWriteError), self._turn():
            if mine.used is not None:
                give_back(self._place, mine.slot, mine.used)
                mine.used = None

    # --- the turn -----------------------------------------------------------------------------------------------

    def _here(self) -> Mine:
        pid = os.getpid()
        mine = self._mines.get(pid)
        if mine is None:
            # No lock: one taken over the fork may be held for ever. Of threads that come first at once all get the
            # one that was there first, or they would not wait for each other's turn.
            mine = self._mines.setdefault(pid, Mine(self._place.engine.time))
            for other in [other for other in self._mines if other != pid]:
                self._mines.pop(other, None)
        return mine

    @contextlib.contextmanager
    def _turn(self) -> Iterator[tuple[Mine, Deadline]]:
        deadline = self._place.engine.attempt_deadline()
        mine = self._here()
        if not mine.lock.acquire(timeout=max(deadline.remaining_seconds(), 0.0)):
            raise CommitFailedError(
                f"{self._place} was not changed: other threads of this process had their turn for {deadline.seconds:g} "
                "s. Nothing was written. It may be tried again; more handles have more turns.",
                retryable=True,
            )
        try:
            yield mine, deadline
        finally:
            mine.lock.release()

    def _clear_doubt(self, mine: Mine, deadline: Deadline) -> None:
        """Find out about the step before, while it can be told: the next one takes its slot."""
        doubtful = mine.doubt
        if doubtful is None:
            return
        try:
            self._fence(mine, doubtful, deadline)
        except CounterUnknownError as unknown:
            if mine.doubt is not doubtful:  # it can no longer be told, and can no longer land
                return
            raise CommitFailedError(
                f"{self._place} was not changed: whether the step before is counted cannot be found out now. Nothing "
                "was sent. It may be tried again.",
                retryable=True,
            ) from unknown

    def _pause(self, tries: int, deadline: Deadline) -> None:
        """Before another stamp is tried. The first time at once: a slot was removed, or a clock is slow."""
        time = self._place.engine.time
        seconds = 0.0 if tries == 1 else retry_pause_seconds(tries, time)
        if seconds >= deadline.remaining_seconds():
            raise CommitFailedError(
                f"{self._place} was not changed: its slots kept being removed until the deadline. Nothing was written. "
                "It may be tried again.",
                retryable=True,
            )
        time.sleep(seconds)

    # --- one attempt --------------------------------------------------------------------------------------------

    def _try(self, mine: Mine, attempt: Attempt, deadline: Deadline) -> int | None:
        """Send it until it is answered; the value after it, or None where another stamp must be tried."""
        place, key, look = self._place, self._place.key, mine.is_time_to_look()
        update, condition = attempt.request()
        mine.doubt = attempt
        while True:
            try:
                answer = place.engine.store.change(place.table, key, update, condition, deadline, whole=look)
            except ConditionRefused as refused:
                attempt.ambiguous = attempt.ambiguous or refused.ambiguous
                standing = attempt.standing(refused.found or {})
                if standing is Standing.APPLIED:
                    return self._applied(mine, attempt, refused.found or {})
                if standing is not Standing.OPEN:
                    self._begin_anew(mine, attempt, refused.found or {}, standing)
                    return None
                objection = attempt.step.objection(refused.found or {})
                if objection is not None:
                    return self._refused(mine, attempt, objection, refused.__cause__, deadline)
                # The engine does not tell what it refused, and what was read a moment later would be accepted.
            except CallFailed as failure:
                attempt.ambiguous = attempt.ambiguous or failure.ambiguous
                return self._failed(mine, attempt, failure, deadline)
            except BaseException as interruption:
                interruption.add_note(f"reliable-write: a step of {place} was interrupted; it may be counted.")
                raise
            else:
                value = self._applied(mine, attempt, answer, told=True)
                if look:
                    clean(place, answer)
                return value

    def _applied(self, mine: Mine, attempt: Attempt, item: WireItem, *, told: bool = False) -> int:
        """`told`: the item is the answer, so that it holds the value itself."""
        self._no_doubt(mine, attempt, attempt.stamp)
        place = self._place
        try:
            value = place.number(item[place.attribute]) if told else attempt.step.result(item, attempt.slot.result_name)
        except CounterTypeError as wrong:  # half a step upon a fraction that somebody wrote
            wrong.outcome = Outcome.WRITTEN
            wrong.add_note("reliable-write: the step is counted; only its value is no whole number.")
            raise
        return attempt.counted(value)

    def _refused(
        self,
        mine: Mine,
        attempt: Attempt,
        objection: ReliableWriteError,
        cause: BaseException | None,
        deadline: Deadline,
    ) -> int:
        """What the step's own condition says holds, unless an earlier try has been, or may yet be, applied."""
        value = self._fence(mine, attempt, deadline) if attempt.ambiguous else None
        if value is not None:
            return value
        mine.doubt = None
        raise objection from cause

    def _begin_anew(self, mine: Mine, attempt: Attempt, item: WireItem, standing: Standing) -> None:
        """No copy of it can land any more. If none may have been applied, it can be tried anew with a later stamp."""
        mine.doubt = None
        if attempt.ambiguous and standing is not Standing.OUTRUN:  # it is our slot's last step: we have not removed it
            mine.renew()
            self._raise_lost()
        if not floor_is_sound(item):
            raise ForeignStampError(
                f"{self._place}: attribute {FLOOR!r} of its item is reserved and holds something else. Nothing was "
                "written. Remove it while nobody counts.",
                table=self._place.table,
            )
        mine.renew()
        floor = stamp_of(item, FLOOR)
        if floor is not None:
            mine.clock.witness(floor)

    def _failed(self, mine: Mine, attempt: Attempt, failure: CallFailed, deadline: Deadline) -> int:
        place = self._place
        if failure.kind is FailureKind.VALIDATION:
            return self._refused(mine, attempt, place.invalid(failure, deadline), failure.__cause__, deadline)
        if attempt.ambiguous:
            self._raise_unknown(attempt, failure)
        mine.doubt = None
        raise place.refused(failure) from failure.__cause__

    # --- what is in doubt ---------------------------------------------------------------------------------------

    def _fence(self, mine: Mine, attempt: Attempt, deadline: Deadline) -> int | None:
        """Take its place, or see that it was there first: the value after it, or None; settled either way."""
        while not attempt.settled:
            found = self._send_fence(attempt, deadline)
            standing = Standing.FENCED if found is None else attempt.standing(found)
            if standing is Standing.OPEN:  # somebody has removed what the fence met
                continue
            if standing is Standing.APPLIED:
                return self._applied(mine, attempt, found or {})
            # While it is in doubt here no later step has used its slot, so it was not given back with this step in it.
            outrun = standing is Standing.OUTRUN and mine.doubt is attempt
            fenced = standing is Standing.FENCED
            self._no_doubt(mine, attempt, attempt.fence if fenced else None)
            if not fenced and not outrun:
                self._raise_lost()
            attempt.settled = True
        return attempt.value

    def _send_fence(self, attempt: Attempt, deadline: Deadline) -> WireItem | None:
        """The item that refused it; None where it holds."""
        place = self._place
        update, condition = attempt.fencing()
        try:
            place.engine.store.change(place.table, place.key, update, condition, deadline)
        except ConditionRefused as refused:
            return refused.found or {}
        except CallFailed as failure:
            self._raise_unknown(attempt, failure)
        return None

    def _no_doubt(self, mine: Mine, attempt: Attempt, used: Stamp | None) -> None:
        """What there is to know of it is known. It may be another process's, settled here: see `fork`."""
        if mine.doubt is attempt:
            mine.doubt = None
        if mine.slot == attempt.slot:
            mine.used = used

    def _raise_unknown(self, attempt: Attempt, failure: CallFailed) -> NoReturn:
        attempt.ambiguous = True
        raise CounterUnknownError(
            f"{self._place}: a step was sent and got no answer ({failure}); it may be counted, or be counted later. "
            "error.settle() finds out. Adding again may count twice.",
            settle=partial(self.settle, attempt),
            **self._place.facts,
        ) from failure.__cause__

    def _raise_lost(self) -> NoReturn:
        raise CounterUnknownError(
            f"{self._place}: whether a step was counted can no longer be told, since its slot was removed after "
            f"{limits.COUNTER_SLOT_SECONDS:g} s, or the item was written by others. It will not be counted any more.",
            **self._place.facts,
        )
