"""The tables against the files: nothing half, nothing lost, nothing twice, nothing that should be gone.

Everything expected is computed anew from the files, in DynamoDB's own form; only the stamps are the library's word,
and they are checked against each other: all copies of a flight carry one, `last_seen` the greatest of its aircraft, and
of two writes that did not overlap the later one the greater.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from tests.acceptance.flights.diary import Fact, Reading
from tests.acceptance.flights.model import (
    FLIGHTS,
    KEYS,
    LAST_SEEN,
    SYSTEM_TABLE,
    Key,
    Model,
    Plan,
    Put,
    key_of,
    wire,
)

STAMP = "_rw"
Item = dict[str, dict[str, Any]]


@dataclass
class Comparison:
    """What was compared, and every mismatch in words."""

    rows: dict[str, int] = field(default_factory=dict)
    attributes: int = 0
    tombstones: int = 0
    ordered_pairs: int = 0
    mismatches: list[str] = field(default_factory=list)


class Check:
    """One comparison of everything."""

    def __init__(self, client: Any, model: Model, readings: list[Reading]) -> None:
        self._client = client
        self._model = model
        self._readings = readings
        self._told = Comparison()
        self._stamps: dict[int, str] = {}
        """By flight: the stamp its row carries."""
        self._index: dict[tuple[str, Key], int] = {}
        """Whose item a key of the boards, the history and the flights is."""
        self._deleted: dict[tuple[str, Key], int] = {}
        self._last: dict[str, int] = {}
        """By aircraft: the flight whose write is last in order."""

    def run(self) -> Comparison:
        self._expect()
        self._check_table(FLIGHTS, self._flight_stamped)
        for index in range(len(self._model)):
            self._note_last(index)
        for table in KEYS:
            if table not in (FLIGHTS, LAST_SEEN):
                self._check_table(table, self._same_stamp)
        self._check_last_seen()
        self._check_system_table()
        self._check_diaries()
        return self._told

    # --- what should be there -----------------------------------------------------------------------------------

    def _expect(self) -> None:
        for index in range(len(self._model)):
            plan = self._model.plan(index)
            self._index.update({(put.table, put.key): index for put in plan.copies})
            self._deleted.update({(delete.table, delete.key): index for delete in plan.deletes})

    def _note_last(self, index: int) -> None:
        tailnum = self._model.plan(index).tailnum
        stamp = self._stamps.get(index)
        if tailnum is not None and stamp is not None:
            rival = self._last.get(tailnum)
            if rival is None or stamp > self._stamps[rival]:
                self._last[tailnum] = index

    # --- tables -------------------------------------------------------------------------------------------------

    def _check_table(self, table: str, look: Any) -> None:
        expected = {key: index for (name, key), index in self._index.items() if name == table}
        self._told.rows[table] = 0
        for item in self._scan(table):
            self._told.rows[table] += 1
            key = key_of(table, item)
            index = expected.pop(key, None)
            if index is None:
                self._surplus(table, key, item)
                continue
            look(index, table, item)
            self._compare(table, key, _put_of(self._model.plan(index), table, key), item)
        for key, index in expected.items():
            written = self._stamps.get(index)
            self._wrong(f"{table}: {key} is missing; the flight's row {f'has {written}' if written else 'is, too'}")

    def _surplus(self, table: str, key: Key, item: Item) -> None:
        index = self._deleted.get((table, key))
        if index is None:
            self._wrong(f"{table}: {key} should not be there: {item}")
        else:
            self._wrong(
                f"{table}: {key} was deleted by flight {index} ({self._stamps.get(index)}) and is there: {item}"
            )

    def _flight_stamped(self, index: int, _table: str, item: Item) -> None:
        self._stamps[index] = _stamp(item)

    def _same_stamp(self, index: int, table: str, item: Item) -> None:
        if _stamp(item) != self._stamps.get(index):
            self._wrong(
                f"{table}: {key_of(table, item)} is of {_stamp(item)}, its flight's row of {self._stamps.get(index)}"
            )

    def _compare(self, table: str, key: Key, put: Put, item: Item) -> None:
        wanted = wire(put.item)
        found = {name: value for name, value in item.items() if name != STAMP}
        self._told.attributes += len(wanted)
        if wanted == found:
            return
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                self._wrong(f"{table}: {key}.{name} is {found.get(name)}, the files say {wanted.get(name)}")

    def _check_last_seen(self) -> None:
        expected = dict(self._last)
        self._told.rows[LAST_SEEN] = 0
        for item in self._scan(LAST_SEEN):
            self._told.rows[LAST_SEEN] += 1
            tailnum = item["tailnum"]["S"]
            index = expected.pop(tailnum, None)
            if index is None:
                self._wrong(f"{LAST_SEEN}: {tailnum} should not be there: {item}")
                continue
            if _stamp(item) != self._stamps[index]:
                self._wrong(
                    f"{LAST_SEEN}: {tailnum} is of {_stamp(item)}; last in order is flight {index}: "
                    f"{self._stamps[index]}"
                )
            put = self._model.plan(index).last_seen
            assert put is not None
            self._compare(LAST_SEEN, (tailnum,), put, item)
        for tailnum in expected:
            self._wrong(f"{LAST_SEEN}: {tailnum} is missing")

    def _check_system_table(self) -> None:
        """No entry and no chunk is left, and each deleted line has its tombstone, with its flight's stamp."""
        expected = dict(self._deleted)
        for item in self._scan(SYSTEM_TABLE):
            kind = item["pk"]["S"].partition("#")[0]
            if kind in ("J", "C"):
                self._wrong(f"{SYSTEM_TABLE}: {item['pk']['S']} {item['sk']['S']} is left")
            elif kind == "T":
                self._check_tombstone(item, expected)
        for table, key in expected:
            self._wrong(f"{SYSTEM_TABLE}: {table} {key} has no tombstone")

    def _check_tombstone(self, item: Item, expected: dict[tuple[str, Key], int]) -> None:
        table = item["table"]["S"]
        key = tuple(item["key"]["M"][name]["S"] for name in KEYS[table])
        index = expected.pop((table, key), None)
        self._told.tombstones += 1
        if index is None or item["stamp"]["S"] != self._stamps.get(index):
            self._wrong(f"{SYSTEM_TABLE}: the tombstone of {table} {key} is of {item['stamp']['S']}, flight {index}")

    # --- what the workers were told -----------------------------------------------------------------------------

    def _check_diaries(self) -> None:
        acknowledged = [write for reading in self._readings for write in _writes(reading.facts)]
        counts = Counter(fact.flight for reading in self._readings for fact in reading.facts if _settles(fact))
        for index in range(len(self._model)):
            if counts[index] != 1:
                self._wrong(f"flight {index} was settled {counts[index]} times")
        again = {fact.flight for reading in self._readings for fact in reading.facts if fact.kind == "again"}
        for write in acknowledged:
            self._check_acknowledged(write, again=write.flight in again)
        by_aircraft: dict[str, list[Write]] = {}
        for write in acknowledged:
            tailnum = self._model.plan(write.flight).tailnum
            if tailnum is not None:
                by_aircraft.setdefault(tailnum, []).append(write)
        for tailnum, writes in by_aircraft.items():
            self._check_real_time(tailnum, writes)

    def _check_acknowledged(self, write: Write, *, again: bool) -> None:
        """The row is of the acknowledged write; of a later one only where the flight was written again."""
        row = self._stamps.get(write.flight)
        if row is None:
            self._wrong(f"flight {write.flight} was acknowledged as {write.stamp} and is lost")
        elif row != write.stamp and not (again and row > write.stamp):
            self._wrong(f"flight {write.flight} was acknowledged as {write.stamp}; its row is of {row}")

    def _check_real_time(self, tailnum: str, writes: list[Write]) -> None:
        """A write that began after another was acknowledged has the greater stamp, whatever their clocks said."""
        ended = sorted(writes, key=attrgetter("ended"))
        greatest: Write | None = None
        at = 0
        for write in sorted(writes, key=attrgetter("began")):
            while ended[at].ended < write.began:
                greatest = max(greatest or ended[at], ended[at], key=attrgetter("stamp"))
                at += 1
            if greatest is not None:
                self._told.ordered_pairs += 1
                if greatest.stamp >= write.stamp:
                    self._wrong(
                        f"{tailnum}: {write} began after {greatest} was acknowledged, and is before it in order"
                    )

    # ------------------------------------------------------------------------------------------------------------

    def _scan(self, table: str) -> Iterator[Item]:
        pages = self._client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return itertools.chain.from_iterable(page["Items"] for page in pages)

    def _wrong(self, words: str) -> None:
        self._told.mismatches.append(words)


@dataclass(frozen=True, slots=True)
class Write:
    """An acknowledged write of a flight, with the time it took by the machine's own clock."""

    flight: int
    stamp: str
    began: float
    ended: float


def _writes(facts: Iterable[Fact]) -> Iterator[Write]:
    began: dict[int, float] = {}
    for fact in facts:
        if fact.kind == "begun":
            began[fact.flight] = fact.at
        elif fact.kind == "written":
            yield Write(fact.flight, fact.detail.partition(":")[0], began[fact.flight], fact.at)


def _settles(fact: Fact) -> bool:
    return fact.kind in ("written", "pending", "found")


def _put_of(plan: Plan, table: str, key: Key) -> Put:
    return next(put for put in plan.copies if put.table == table and put.key == key)


def _stamp(item: Item) -> str:
    return str(item.get(STAMP, {}).get("S"))
