"""`ShardedCounter`: one that is written faster than one item takes, spread over several."""

from __future__ import annotations

import hashlib
from types import TracebackType
from typing import Final, NoReturn, Self

from reliable_write import limits
from reliable_write.counters.keyed import add_keyed
from reliable_write.counters.once import Once
from reliable_write.counters.place import Place, check_whole
from reliable_write.counters.steps import Add, Bounds, number
from reliable_write.dynamodb import CallFailed, Condition, ConditionRefused
from reliable_write.errors import ConfigurationError, UnsupportedOperationError
from reliable_write.recording import HasEngine
from reliable_write.values import WireItem

SHARDS: Final = "_rwn"
"""In the first item: how many there are. All processes must agree, or some would not be counted."""
_FREE: Final = Bounds()


class ShardedCounter:
    """A counter spread over several items, for more steps a second than one item takes (1,000 write units).

        hits = ShardedCounter(writer, "counters", "hits", shards=8)
        hits.add()
        hits.get()                                 # the sum, by one request

    Steps count once, as those of `AtomicCounter`, and raise the same. They return nothing: no item knows the sum. So
    there are no bounds and no `next_ids` either. The number of shards, 2 to 100, stays what it was first.

    A handle keeps to one item of its own choice, and to further ones only while its threads are more than one at a
    time: so handles spread over the items, and each item holds the slots of few of them.
    """

    def __init__(
        self,
        writer: HasEngine,
        table: str,
        name: str,
        *,
        shards: int,
        initial: int = 0,
        minimum: None = None,
        maximum: None = None,
        attribute: str = "value",
    ) -> None:
        if minimum is not None or maximum is not None:  # type: ignore[redundant-expr]  # callers may not type-check
            raise UnsupportedOperationError(
                "A sharded counter has no minimum and no maximum: no item knows the sum. Use AtomicCounter."
            )
        check_whole("shards", shards, limits.COUNTER_SHARDS_MAX, least=2)
        self._initial = check_whole("initial", initial, limits.COUNTER_VALUE_MAX)
        whole = Place(writer, table, name, attribute)
        self._places = [whole.part(f"{number}") for number in range(shards)]
        self._onces = [Once(place) for place in self._places]
        self._agreed = False
        self._favourite: int | None = None

    def __repr__(self) -> str:
        return f"<Sharded{self._places[0]}, {len(self._places)} shards>"

    def add(self, n: int = 1, *, idempotency_key: str | None = None) -> None:
        """Raise it by n, or lower it by a negative n. Raises as `AtomicCounter.add`, and `ConfigurationError`."""
        check_whole("n", n, limits.COUNTER_STEP_MAX)
        if not self._agreed:
            self._agree()
        if n == 0:
            return
        if idempotency_key is not None:
            place = self._places[_hash(idempotency_key) % len(self._places)]
            add_keyed(place, n, 0, _FREE, idempotency_key)
            return
        once = self._idle()
        place = self._places[self._onces.index(once)]
        once.apply(lambda: Add(place, n, 0, _FREE))

    def subtract(self, n: int = 1, *, idempotency_key: str | None = None) -> None:
        """`add(-n)`."""
        self.add(-check_whole("n", n, limits.COUNTER_STEP_MAX), idempotency_key=idempotency_key)

    def get(self) -> int:
        """The sum, by one strongly consistent request over all items; no snapshot of them.

        It holds every step that was acknowledged before it began. Raises `ReadFailedError`, `CounterTypeError`,
        `ConfigurationError` where the counter was made with another number of shards.
        """
        first = self._places[0]
        engine, keys = first.engine, {place.item_name: place for place in self._places}
        wanted = [(place.table, place.key) for place in self._places]
        try:
            found = engine.store.batch_get(wanted, {first.table: ()}, engine.attempt_deadline())
        except CallFailed as failure:
            raise first.read_failed(failure) from failure
        total = self._initial
        for _, item in found:
            place = keys[item[first.hash_name]["S"]]
            if place is first:
                self._check_shards(item)
            total += place.value_in(item, 0)
        return total

    def next_ids(self, *_: object, **__: object) -> NoReturn:
        """Refused: `UnsupportedOperationError`."""
        raise UnsupportedOperationError(
            "A sharded counter gives no ids: its items do not know each other's. Use AtomicCounter: it gives blocks "
            "of any size by one request."
        )

    def close(self) -> None:
        """Give back its slots: a request for each. It may be used again all the same."""
        for once in self._onces:
            once.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- inside -------------------------------------------------------------------------------------------------

    def _idle(self) -> Once:
        """The first one, from the favourite on, that no thread is busy with; the favourite where there is none."""
        count = len(self._onces)
        if self._favourite is None:
            self._favourite = int.from_bytes(self._places[0].engine.time.random_bytes(4), "big") % count
        turned = [self._onces[(self._favourite + step) % count] for step in range(count)]
        return next((once for once in turned if not once.busy), turned[0])

    def _agree(self) -> None:
        """Write down how many shards there are, or find that it is another number."""
        first = self._places[0]
        count = number(len(self._places))
        same = Condition("attribute_not_exists(#n) OR #n = :n", {"#n": SHARDS}, {":n": count})
        engine = first.engine
        try:
            engine.store.change(first.table, first.key, "SET #n = :n", same, engine.attempt_deadline())
        except ConditionRefused as refused:
            self._check_shards(refused.found or {SHARDS: {"N": "0"}})
        except CallFailed as failure:
            raise first.refused(failure) from failure.__cause__
        self._agreed = True

    def _check_shards(self, item: WireItem) -> None:
        told = item.get(SHARDS, number(len(self._places)))["N"]
        if told != str(len(self._places)):
            raise ConfigurationError(
                f"{self._places[0]} has {told} shards, and this handle was made with {len(self._places)}. Nothing was "
                "written. All processes must say the same number; for another one choose another name."
            )


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
