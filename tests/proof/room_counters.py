"""Counters: each step counts once, what is refused never does, an id is given once, and what is unknown is told truly.

Every step is another power of ten, so that the value itself tells how often each of them was counted.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

from reliable_write import (
    AtomicCounter,
    Counter,
    CounterUnknownError,
    Outcome,
    ReliableWriteError,
    ShardedCounter,
    limits,
)
from reliable_write.errors import IdempotencyMismatchError
from tests.proof.history import check
from tests.proof.room_world import RoomCase, RoomPlan, Scenario

TABLE, NAME = "counters", "tally"
SLOW_SECONDS = -3600.0
SHARDS = 3
FIRST_RIVAL, FIRST_HELPER = 8, 16
"""Exponents of the steps of others."""

Fate = Literal["counted", "refused", "open"]


@dataclass
class Step:
    """One change of the counter, and what is known of it."""

    n: int
    fate: Fate = "open"
    told: int | None = None
    unknown: CounterUnknownError | None = None
    key: str | None = None
    ours: bool = False
    number: int = 0
    """In the order in which they began."""
    at: float = 0.0


@dataclass
class Block:
    """Ids that were given."""

    ids: range
    key: str | None = None


@dataclass
class Told:
    """All that anybody was told."""

    steps: list[Step] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)


class CounterCase(RoomCase):
    """One counter, its handles, and the sum."""

    room = "counters"
    tables_made: ClassVar = {TABLE: ("id",)}
    stall_seconds = limits.COUNTER_SLOT_SECONDS + 1

    def __init__(self, plan: RoomPlan) -> None:
        self.told = Told()
        self.initial = 0
        self.sharded = False
        self.minimum: int | None = None
        self.reset: Step | None = None
        self.reset_until = 0
        """Steps from this number on came after it was over."""
        self.exponents = (itertools.count(FIRST_RIVAL), itertools.count(FIRST_HELPER))
        super().__init__(plan)

    # --- steps --------------------------------------------------------------------------------------------------

    def step(self, n: int, deed: Callable[[], int | None], *, key: str | None = None) -> int | None:
        """One step and what was said of it; the value after it where that was told."""
        step = Step(n, key=key, ours=self.playing, number=len(self.told.steps), at=self.time.elapsed)
        self.told.steps.append(step)
        try:
            step.told = deed()
        except CounterUnknownError as unknown:
            step.unknown = unknown
        except ReliableWriteError as error:
            step.fate = {Outcome.NOT_WRITTEN: "refused", Outcome.WRITTEN: "counted"}.get(error.outcome, "open")  # type: ignore[assignment]
            self.note(error.outcome.name, step)
            return None
        else:
            step.fate = "counted"
        self.note("UNKNOWN" if step.unknown else "WRITTEN", step)
        self.check_value(step)
        return step.told

    def note(self, outcome: str, step: Step) -> None:
        if step.ours:
            self.outcomes[outcome] += 1

    def check_value(self, step: Step) -> None:
        """The value that was told holds the step itself and all that was counted before it began."""
        if step.told is None or self.reset is not None or self.minimum is not None:
            return
        earlier = [one for one in self.told.steps if one.fate == "counted" and one.number < step.number]
        for one in [step, *earlier]:
            check(digit(step.told, one.n) == 1, f"told {step.told}, in which {one.n} is not once")

    def take(self, counter: AtomicCounter, n: int = 3, key: str | None = None) -> None:
        """A block of ids."""
        ids: list[range] = []

        def deed() -> int:
            ids.append(counter.next_ids(n, idempotency_key=key))
            return ids[0][-1]

        step = Step(n, ours=self.playing)
        try:
            deed()
        except ReliableWriteError as error:
            self.note(error.outcome.name, step)
            return
        self.note("WRITTEN", step)
        self.told.blocks.append(Block(ids[0], key))

    # --- others -------------------------------------------------------------------------------------------------

    def somebody(self, **more: Any) -> AtomicCounter:
        return AtomicCounter(self.process(), TABLE, NAME, initial=self.initial, **more)

    def others_step(self, exponents: Iterator[int]) -> None:
        if self.minimum is not None:
            counter = self.somebody(minimum=self.minimum)
            self.step(-1, counter.subtract)
        elif self.told.blocks or "ids" in self.plan.scenario.name:
            self.take(self.somebody())
        elif self.sharded:
            n = 10 ** next(exponents)
            self.step(n, partial(self.shards().add, n))
        else:
            n = 10 ** next(exponents)
            self.step(n, partial(self.somebody(repair=True).add, n))

    def shards(self) -> ShardedCounter:
        return ShardedCounter(self.process(), TABLE, NAME, shards=SHARDS)

    def interfere(self, kind: str) -> None:
        """Somebody steps; or, once our slot is old, steps and removes it; or steps and gives his own back."""
        playing, self.playing = self.playing, False
        if kind == "update":
            self.pass_seconds(limits.COUNTER_SLOT_SECONDS + 1)
        self.others_step(self.exponents[0])
        if kind == "delete" and not self.sharded and self.minimum is None:
            with self.somebody(repair=True) as counter:
                n = 10 ** next(self.exponents[0])
                if "ids" in self.plan.scenario.name:
                    self.take(counter)
                else:
                    self.step(n, partial(counter.add, n))
        self.playing = playing

    def go_on(self) -> None:
        playing, self.playing = self.playing, False
        self.helper.engine().recovery.resume_all()
        if self.minimum is None:
            self.others_step(self.exponents[1])
        self.playing = playing

    def heal(self) -> None:
        self.others_finish()
        for step in [one for one in self.told.steps if one.key is not None]:
            self.say_again(step)
        if self.plan.scenario.play is CounterCase.ids_keyed:
            self.take(self.somebody(), key="key-1")

    def say_again(self, step: Step) -> None:
        """A queue that delivers the same message to another process."""
        counter: Any = self.shards() if self.sharded else self.somebody()
        counter.add(step.n, idempotency_key=step.key)
        step.fate = "counted"

    # --- finding out --------------------------------------------------------------------------------------------

    def find_out(self) -> None:
        for step in self.told.steps:
            if step.unknown is not None:
                self.settle(step)
            elif step.ours and step.fate == "open" and step.key is not None:
                self.say_again(step)

    def settle(self, step: Step) -> None:
        unknown = step.unknown
        assert unknown is not None
        if unknown.settle is None:
            lost = self.time.elapsed - step.at >= limits.COUNTER_SLOT_SECONDS or self.plan.scenario.skew
            check(lost, "it can no longer be told, and its slot is young")
            self.outcomes["cannot be told"] += 1
            return
        try:
            step.told = unknown.settle()
        except CounterUnknownError as again:
            check(again.settle is None, "nothing goes wrong, and it does not know")
            step.unknown = again
            self.settle(step)
            return
        step.unknown = None
        step.fate = "refused" if step.told is None else "counted"
        if step is self.reset:
            self.reset_until = len(self.told.steps)
        self.outcomes[f"settled, {step.fate}"] += 1
        self.check_value(step)

    # --- judging ------------------------------------------------------------------------------------------------

    def value(self) -> int:
        if self.sharded:
            return self.shards().get()
        found = self.somebody(repair=True)
        return found.get()

    def judge(self) -> None:
        check(self.value() in self.possible(), f"the sum is {self.value()}; told was {self.told.steps}")
        if self.minimum is not None:
            check(self.value() >= self.minimum, "below its minimum")
        self.check_ids()
        self.check_unwritten()
        told = [one.told for one in self.told.steps if one.told is not None and one.key is None]
        check(len(set(told)) == len(told) or self.reset is not None, "a value was told twice")

    def possible(self) -> set[int]:
        if self.told.blocks or "ids" in self.plan.scenario.name:
            return {self.value()}
        steps = [one for one in self.told.steps if one is not self.reset]
        if self.reset is None:
            return sums(self.initial, steps)
        after = [one for one in steps if one.number > self.reset.number]
        before = [Step(one.n) for one in steps if one.number < self.reset.number]
        # Of those that came while it was under way either may hold, as far as anybody was told.
        during = [Step(one.n) if one.number < self.reset_until else one for one in after]
        applied = sums(self.reset.n, [*before, *during]) if self.reset.fate != "refused" else set()
        return applied | (sums(self.initial, steps) if self.reset.fate != "counted" else set())

    def land(self) -> None:
        super().land()
        if self.reset is not None and self.reset.fate == "open":
            self.reset_until = len(self.told.steps)

    def check_ids(self) -> None:
        seen: dict[int, str | None] = {}
        blocks: dict[str | None, range] = {}
        for block in self.told.blocks:
            if block.key is not None:
                check(blocks.setdefault(block.key, block.ids) == block.ids, f"{block.key} got two blocks")
            for one in block.ids:
                check(one not in seen or (seen[one] == block.key is not None), f"{one} was given twice")
                seen[one] = block.key
        check(not seen or max(seen) <= self.value(), "an id was given that the counter has not reached")

    # --- scenarios ----------------------------------------------------------------------------------------------

    def add_thrice(self) -> None:
        """The handle is used again after whatever came of its step before."""
        counter = AtomicCounter(self.me, TABLE, NAME, initial=self.initial)
        for n in (1, 10, 100):
            self.step(n, partial(counter.add, n))
        self.read(counter)
        counter.close()

    def read(self, counter: AtomicCounter) -> None:
        counted = [one for one in self.told.steps if one.fate == "counted"]
        try:
            value = counter.get()
        except ReliableWriteError as error:
            check(error.outcome is Outcome.NOT_WRITTEN, "a read that says it wrote")
            return
        for one in counted:
            check(digit(value, one.n) == 1, f"read {value}, in which {one.n} is not once")

    def add_and_close(self) -> None:
        """Given back, and used again all the same."""
        counter = AtomicCounter(self.me, TABLE, NAME)
        self.step(1, partial(counter.add, 1))
        counter.close()
        self.step(10, partial(counter.add, 10))
        counter.close()

    def add_once_more(self) -> None:
        """A step after a lull: its own slot may be gone."""
        counter = AtomicCounter(self.me, TABLE, NAME)
        self.step(1, partial(counter.add, 1))
        self.pass_seconds(limits.COUNTER_SLOT_SECONDS + 1)
        self.step(10, partial(counter.add, 10))

    def subtract_at_a_bound(self) -> None:
        counter = AtomicCounter(self.me, TABLE, NAME, initial=self.initial, minimum=self.minimum)
        for _ in range(3):
            self.step(-1, counter.subtract)

    def add_keyed(self) -> None:
        counter = AtomicCounter(self.me, TABLE, NAME)
        self.step(1, lambda: counter.add(1, idempotency_key="key-1"), key="key-1")

    def ids(self) -> None:
        counter = AtomicCounter(self.me, TABLE, NAME)
        self.take(counter)
        self.take(counter)

    def ids_keyed(self) -> None:
        counter = AtomicCounter(self.me, TABLE, NAME)
        self.take(counter, key="key-1")
        self.take(counter, key="key-1")
        try:
            counter.next_ids(4, idempotency_key="key-1")
        except IdempotencyMismatchError:
            pass
        except ReliableWriteError as error:
            self.outcomes[error.outcome.name] += 1
        else:
            check(not self.told.blocks, "a block of another size under the same key")

    def repairing(self) -> None:
        counter = AtomicCounter(self.me, TABLE, NAME)
        with contextlib.suppress(ReliableWriteError), self.honestly():
            check(counter.repair() % 100 == self.initial, "repaired to something else")
        mending = AtomicCounter(self.me, TABLE, NAME, repair=True)
        self.step(100, partial(mending.add, 100))

    def resetting(self) -> None:
        counter = AtomicCounter(self.me, TABLE, NAME)
        self.step(1, partial(counter.add, 1))
        self.reset = reset = Step(5 * 10**6, number=len(self.told.steps), ours=True, at=self.time.elapsed)
        self.told.steps.append(reset)
        try:
            counter.reset(reset.n)
        except CounterUnknownError as unknown:
            reset.unknown = unknown
        except ReliableWriteError:
            reset.fate = "refused"
        else:
            reset.fate = "counted"
        finally:
            self.reset_until = len(self.told.steps)
        self.note({"counted": "WRITTEN", "refused": "NOT_WRITTEN", "open": "UNKNOWN"}[reset.fate], reset)

    def handle_steps(self) -> None:
        """Refused where somebody was quicker; then it shows what is there, and steps from that."""
        with self.honestly():
            counter = Counter(self.me, TABLE, NAME, self.initial)
        for n in (1, 10, 100):
            seen = counter.value
            self.step(n, partial(counter.add, n))
            self.check_out_of_sync(counter, seen)
        with contextlib.suppress(ReliableWriteError), self.honestly():
            counter.refresh()
        counter.close()

    def check_out_of_sync(self, counter: Counter, seen: int) -> None:
        step = self.told.steps[-1]
        if step.fate == "counted" and step.told is not None:
            check(counter.value >= seen, "the handle shows less than before")

    def handle_sets(self) -> None:
        with self.honestly():
            counter = Counter(self.me, TABLE, NAME, self.initial)
        n = 10
        self.step(n, lambda: self._set(counter, counter.value + n))
        self.step(100, partial(counter.add, 100))

    @staticmethod
    def _set(counter: Counter, to: int) -> int:
        counter.set(to)
        return to

    def shards_step(self) -> None:
        counter = ShardedCounter(self.me, TABLE, NAME, shards=SHARDS)
        self.step(1, partial(counter.add, 1))
        self.step(10, partial(counter.subtract, -10))
        self._read_shards(counter)
        counter.close()

    def _read_shards(self, counter: ShardedCounter) -> None:
        counted = [one for one in self.told.steps if one.fate == "counted"]
        try:
            value = counter.get()
        except ReliableWriteError:
            return
        for one in counted:
            check(digit(value, one.n) == 1, f"read {value}, in which {one.n} is not once")

    def shards_keyed(self) -> None:
        counter = ShardedCounter(self.me, TABLE, NAME, shards=SHARDS)
        self.step(1, lambda: counter.add(1, idempotency_key="key-1"), key="key-1")

    # --- beginnings ---------------------------------------------------------------------------------------------

    def begin_used(self) -> None:
        """Others have used it, and one of them died: his slot is old by now, and a copy of his step under way."""
        n = 10**6
        self.step(n, partial(self.somebody().add, n))
        for request in [dict(request) for call, request in self.tables.sent if call == "update_item"][-1:]:
            self.flies("update_item", request, long=True)
        self.pass_seconds(limits.COUNTER_SLOT_SECONDS + 1)
        n = 10**7
        self.step(n, partial(self.somebody().add, n))

    def begin_stock(self) -> None:
        self.initial, self.minimum = 2, 0

    def begin_sharded(self) -> None:
        self.sharded = True

    def begin_with_text(self) -> None:
        self.initial = 41
        self.tables.tables[TABLE].items[NAME] = {"id": {"S": NAME}, "value": {"S": "41"}}

    def begin_made(self) -> None:
        self.step(10**6, partial(self.somebody().add, 10**6))


def digit(value: int, n: int) -> int:
    return value // n % 10


def sums(start: int, steps: list[Step]) -> set[int]:
    """All that these steps may come to."""
    found = {start + sum(step.n for step in steps if step.fate == "counted")}
    for step in steps:
        if step.fate == "open":
            found |= {value + step.n for value in found}
    return found


CounterCase.scenarios = (
    Scenario("add to one that is not there", CounterCase.add_thrice),
    Scenario("add to one that others use, and collect", CounterCase.add_thrice, CounterCase.begin_used),
    Scenario("add by a slow clock", CounterCase.add_thrice, CounterCase.begin_made, SLOW_SECONDS),
    Scenario("add, close, add", CounterCase.add_and_close, CounterCase.begin_used),
    Scenario("add after a lull", CounterCase.add_once_more, CounterCase.begin_made),
    Scenario("subtract at a bound", CounterCase.subtract_at_a_bound, CounterCase.begin_stock),
    Scenario("add with a key", CounterCase.add_keyed, CounterCase.begin_made),
    Scenario("ids", CounterCase.ids),
    Scenario("ids with a key", CounterCase.ids_keyed),
    Scenario("repair", CounterCase.repairing, CounterCase.begin_with_text),
    Scenario("reset", CounterCase.resetting, CounterCase.begin_made),
    Scenario("a handle, made and stepping", CounterCase.handle_steps),
    Scenario("a handle, stepping", CounterCase.handle_steps, CounterCase.begin_made),
    Scenario("a handle, set", CounterCase.handle_sets, CounterCase.begin_made),
    Scenario("shards", CounterCase.shards_step, CounterCase.begin_sharded),
    Scenario("shards with a key", CounterCase.shards_keyed, CounterCase.begin_sharded),
)
