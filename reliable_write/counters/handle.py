"""`Counter`: a handle like an int, which knows when somebody else has moved what it shows."""

from __future__ import annotations

from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NoReturn, Self

from reliable_write import limits
from reliable_write.counters.once import Once
from reliable_write.counters.place import Place, check_whole
from reliable_write.counters.repair import repair as repair_it
from reliable_write.counters.steps import TIMESTAMP, Move
from reliable_write.dynamodb import CallFailed, Condition, ConditionRefused
from reliable_write.errors import CounterTypeError, InvalidKeyError
from reliable_write.recording import HasEngine
from reliable_write.values import WireItem


class Counter:
    """A counter created once, then a handle like an int: it shows what it saw, and steps from there.

        visits = Counter(writer, "counters", "visits")
        visits += 1
        print(f"{visits} since {visits.timestamp}")

    A step raises `CounterOutOfSyncError`, which is a `ValueError` too, if another process has moved the counter since;
    nothing is written then, and the handle shows the true value. A step that was applied is never refused so, whatever
    answers were lost. Steps raise `CommitFailedError` and `CounterUnknownError` too, as those of `AtomicCounter`.

    Making one reads the item, and creates it with `initial` where there is none: of two processes one creates it, the
    other takes what it finds. Raises `ReadFailedError`, `CommitFailedError` (with the outcome UNKNOWN where it may have
    been created: making another one finds out), `CounterTypeError` (see `repair`),
    `InvalidKeyError`, `UnknownTableError`. Safe for threads: they step one after the other, from what the last one
    left. It cannot be pickled: hand on the table and the name.
    """

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __init__(
        self,
        writer: HasEngine,
        table: str,
        name: str,
        initial: int = 0,
        *,
        attribute: str = "value",
        repair: bool = False,
    ) -> None:
        self._place = Place(writer, table, name, attribute)
        self._initial = check_whole("initial", initial, limits.COUNTER_VALUE_MAX)
        if TIMESTAMP in (attribute, self._place.hash_name):
            raise InvalidKeyError(f"{self._place}: {TIMESTAMP!r} is where a Counter keeps when it was changed last.")
        self._once = Once(self._place)
        self._value = initial
        self._timestamp: str | None = None
        try:
            self._adopt(self._created())
        except CounterTypeError as wrong:
            if not (repair and wrong.repairable):
                raise
            repair_it(self._place, initial)
            self._adopt(self._created())

    # --- what it shows ------------------------------------------------------------------------------------------

    @property
    def value(self) -> int:
        """What this handle saw last; sends nothing."""
        return self._value

    @property
    def timestamp(self) -> str | None:
        """When it was changed last by a `Counter`, as far as this handle saw: ISO 8601, UTC. By the changer's clock."""
        return self._timestamp

    def refresh(self) -> int:
        """What is there now, by a strongly consistent read; a counter that is gone is created again."""
        self._once.quiet(lambda: self._adopt(self._created()))
        return self._value

    # --- steps --------------------------------------------------------------------------------------------------

    def add(self, n: int = 1) -> int:
        """`c += n` with the new value as its result. Raises `CounterOutOfSyncError`."""
        check_whole("n", n, limits.COUNTER_STEP_MAX)
        return self._once.apply(lambda: self._move(self._value + n))

    def set(self, value: int) -> None:
        """Set it, if nobody has moved it. Raises `CounterOutOfSyncError`."""
        check_whole("value", value, limits.COUNTER_VALUE_MAX)
        self._once.apply(lambda: self._move(value))

    def __iadd__(self, n: int) -> Self:  # type: ignore[misc]  # `c + 1` is a number, `c += 1` stays the counter
        self.add(n)
        return self

    def __isub__(self, n: int) -> Self:  # type: ignore[misc]  # the same
        self.add(-check_whole("n", n, limits.COUNTER_STEP_MAX))
        return self

    def close(self) -> None:
        """Give back the slot in the counter's item: one request. It may be used again all the same."""
        self._once.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- like an int --------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<{self._place}: {self._value}>"

    def __str__(self) -> str:
        return str(self._value)

    def __format__(self, spec: str) -> str:
        return format(self._value, spec)

    def __int__(self) -> int:
        return self._value

    def __index__(self) -> int:
        return self._value

    def __float__(self) -> float:
        return float(self._value)

    def __bool__(self) -> bool:
        return self._value != 0

    def __eq__(self, other: object) -> Any:
        return self._value == other._value if isinstance(other, Counter) else self._value == other

    def __lt__(self, other: Any) -> Any:
        return self._value < _plain(other)

    def __le__(self, other: Any) -> Any:
        return self._value <= _plain(other)

    def __gt__(self, other: Any) -> Any:
        return self._value > _plain(other)

    def __ge__(self, other: Any) -> Any:
        return self._value >= _plain(other)

    def __add__(self, other: Any) -> Any:
        return self._value + _plain(other)

    def __radd__(self, other: Any) -> Any:
        return _plain(other) + self._value

    def __sub__(self, other: Any) -> Any:
        return self._value - _plain(other)

    def __rsub__(self, other: Any) -> Any:
        return _plain(other) - self._value

    def __mul__(self, other: Any) -> Any:
        return self._value * _plain(other)

    def __rmul__(self, other: Any) -> Any:
        return _plain(other) * self._value

    def __neg__(self) -> int:
        return -self._value

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Counter cannot be pickled or copied: hand on its table and name, or int(counter).")

    # --- inside -------------------------------------------------------------------------------------------------

    def _move(self, to: int) -> Move:
        now = self._place.engine.time.wall_seconds()
        timestamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds")
        return Move(self._place, self._value, to, timestamp, self._show, self._adopt)

    def _show(self, value: int, timestamp: str | None) -> None:
        self._value, self._timestamp = value, timestamp

    def _adopt(self, item: WireItem) -> None:
        self._show(self._place.value_in(item, self._initial), item.get(TIMESTAMP, {}).get("S"))

    def _created(self) -> WireItem:
        """The item, made if there is none. Late or sent twice, making it does nothing to one that is there."""
        place = self._place
        item = place.read()
        if place.attribute in item:
            return item
        step = self._move(self._initial)
        names = {"#v": place.attribute, **step.names}
        absent = Condition(
            "attribute_not_exists(#v)", names, {":to": step.values[":to"], ":timestamp": step.values[":timestamp"]}
        )
        engine = place.engine
        try:
            return engine.store.change(
                place.table, place.key, f"SET {step.update}", absent, engine.attempt_deadline(), whole=True
            )
        except ConditionRefused as refused:
            return refused.found or {}
        except CallFailed as failure:
            raise place.unanswered(failure) from failure.__cause__


def _plain(other: Any) -> Any:
    return other.value if isinstance(other, Counter) else other
