"""`AtomicCounter`: steps that never conflict, from any number of processes, each of which counts once."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from reliable_write import limits
from reliable_write.counters.blocks import claimed_ids
from reliable_write.counters.keyed import add_keyed
from reliable_write.counters.once import Once
from reliable_write.counters.place import Place, check_whole
from reliable_write.counters.repair import repair
from reliable_write.counters.steps import Add, Bounds, Reset
from reliable_write.errors import CounterTypeError, Outcome, ReliableWriteError
from reliable_write.recording import HasEngine

T = TypeVar("T")


class AtomicCounter:
    """A counter that any number of processes raise and lower at once. Safe for threads, which take turns.

        orders = AtomicCounter(writer, "counters", "orders")
        number = orders.add()                      # the new value; one request, one write unit

    A step counts once, also where an answer is lost and the request sent again, or arrives late. `initial` is what a
    counter begins with that is not there, `minimum` and `maximum` are what no step may go below or above, `attribute`
    is where the value lies. All are whole numbers up to 10**36; a step is under 10**24.

    Making one sends nothing. Make one in each process and keep it; a forked child goes on with a slot of its own.
    `close()`, or leaving its `with` block, gives back what it holds in the counter's item (see docs/counters.md).

    All methods raise `CounterTypeError` where the attribute holds no whole number, which `repair=True` mends where it
    is a string that spells one; `InvalidKeyError`, `UnknownTableError`. Steps raise `CommitFailedError` where it is
    certain that they are not counted, and `CounterUnknownError`.
    """

    def __init__(
        self,
        writer: HasEngine,
        table: str,
        name: str,
        *,
        initial: int = 0,
        minimum: int | None = None,
        maximum: int | None = None,
        attribute: str = "value",
        repair: bool = False,
    ) -> None:
        self._place = Place(writer, table, name, attribute)
        self._initial = check_whole("initial", initial, limits.COUNTER_VALUE_MAX)
        self._bounds = Bounds(minimum, maximum)
        if not self._bounds.hold(initial):
            raise ValueError("initial is outside of the bounds.")
        self._repair = repair
        self._once = Once(self._place)

    def __repr__(self) -> str:
        return f"<Atomic{self._place}>"

    def add(self, n: int = 1, *, idempotency_key: str | None = None) -> int:
        """Raise it by n, or lower it by a negative n; the new value.

        Raises `CounterLimitError` where that is over a bound. A step of 0 writes nothing and returns the value.

        With an `idempotency_key` it counts once for as long as receipts are kept (14 days), from any process. It is a
        scope of its own (`ReliableWriteScope`): it raises what a commit raises, needs transactions, and returns the
        value as it is after it, which may hold others' steps too. After a `CommitUnknownError` say the same again.
        """
        check_whole("n", n, limits.COUNTER_STEP_MAX)
        if n == 0:
            return self.get()
        if idempotency_key is not None:
            self._mended(lambda: add_keyed(self._place, n, self._initial, self._bounds, idempotency_key))
            return self._get_after_a_step()
        return self._mended(lambda: self._once.apply(lambda: Add(self._place, n, self._initial, self._bounds)))

    def subtract(self, n: int = 1, *, idempotency_key: str | None = None) -> int:
        """`add(-n)`."""
        return self.add(-check_whole("n", n, limits.COUNTER_STEP_MAX), idempotency_key=idempotency_key)

    def get(self, *, consistent: bool = True) -> int:
        """The value as it is now, or with `consistent=False` as it was a moment ago, for half the read units.

        Raises `ReadFailedError`.
        """
        return self._mended(lambda: self._place.value_in(self._place.read(consistent=consistent), self._initial))

    def next_ids(self, n: int = 1, *, idempotency_key: str | None = None) -> range:
        """The next n numbers, which nobody else gets: with an initial 0 they begin at 1. Raises as `add`.

        Numbers may be skipped: where a process dies, or an answer is lost for good. With an `idempotency_key` the same
        numbers are given again for as long as that is remembered (14 days), from any process; that needs no
        transactions. Raises `IdempotencyMismatchError` where the key was used for another n.
        """
        check_whole("n", n, limits.COUNTER_STEP_MAX, least=1)
        if idempotency_key is not None:
            return claimed_ids(self._place, n, idempotency_key, self._fresh_ids)
        return self._fresh_ids(n)

    def reset(self, to: int | None = None) -> None:
        """Set it to a value, by default to its initial one, whatever is there; steps of others may come after it.

        Raises `ValueError` for a value outside of the bounds.
        """
        value = self._initial if to is None else check_whole("to", to, limits.COUNTER_VALUE_MAX)
        if not self._bounds.hold(value):
            raise ValueError("The value is outside of the bounds.")
        self._once.apply(lambda: Reset(self._place, value))

    def repair(self) -> int:
        """Make a number of a string that spells one, unless somebody has changed it; the value. Others pass unchanged.

        Raises `CounterTypeError` for what spells no whole number.
        """
        return repair(self._place, self._initial)

    def close(self) -> None:
        """Give back the slot in the counter's item: one request. It may be used again all the same."""
        self._once.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _get_after_a_step(self) -> int:
        try:
            return self.get()
        except ReliableWriteError as error:
            error.outcome = Outcome.WRITTEN
            error.add_note("reliable-write: the step is counted; only its value could not be read.")
            raise

    def _fresh_ids(self, n: int) -> range:
        last = self.add(n)
        return range(last - n + 1, last + 1)

    def _mended(self, deed: Callable[[], T]) -> T:
        try:
            return deed()
        except CounterTypeError as wrong:
            if not (self._repair and wrong.repairable):
                raise
        self.repair()
        return deed()
