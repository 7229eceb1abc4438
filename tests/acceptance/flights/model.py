"""What a flight becomes: three to six operations over five tables, the same whenever they are made.

- flown, or at least off the ground: the flight, its lines on both boards, the aircraft's history, `last_seen`  (5)
- cancelled with an aircraft at the gate: the flight, the history, `last_seen`, a notice on the departures board,
  and its lines go from both boards  (6)
- cancelled before an aircraft was assigned: the flight, and its lines go from both boards  (3)

The lines that go were put by an earlier scope, the announcement. All copies hold what the files say of airline, airport
and aircraft, as denormalised tables do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.acceptance.flights.data import Dataset, Facts

Key = tuple[str, ...]

FLIGHTS, DEPARTURES, ARRIVALS, HISTORY, LAST_SEEN = "flights", "departures", "arrivals", "aircraft_history", "last_seen"
KEYS = {
    FLIGHTS: ("flight_id",),
    DEPARTURES: ("board", "line"),
    ARRIVALS: ("board", "line"),
    HISTORY: ("tailnum", "leg"),
    LAST_SEEN: ("tailnum",),
}
SYSTEM_TABLE = "flights_journal"


@dataclass(frozen=True, slots=True)
class Put:
    table: str
    item: Facts

    @property
    def key(self) -> Key:
        return tuple(str(self.item[name]) for name in KEYS[self.table])


@dataclass(frozen=True, slots=True)
class Delete:
    table: str
    key: Key

    @property
    def named_key(self) -> dict[str, str]:
        return dict(zip(KEYS[self.table], self.key, strict=True))


@dataclass(frozen=True, slots=True)
class Plan:
    """One flight: what is announced (nothing, for most), and the scope that tells what became of it."""

    index: int
    flight_id: str
    tailnum: str | None
    announcement: tuple[Put, ...]
    puts: tuple[Put, ...]
    deletes: tuple[Delete, ...]

    @property
    def copies(self) -> tuple[Put, ...]:
        """The puts to keys that are this flight's alone."""
        return tuple(put for put in self.puts if put.table != LAST_SEEN)

    @property
    def last_seen(self) -> Put | None:
        return next((put for put in self.puts if put.table == LAST_SEEN), None)

    @property
    def operations(self) -> int:
        return len(self.puts) + len(self.deletes)


class Model:
    """Plans by index; nothing is kept."""

    def __init__(self, data: Dataset) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data.flights)

    def plan(self, index: int) -> Plan:
        return _Planner(self._data, index).plan()

    def work_order(self) -> list[int]:
        """All flights, some hundreds at a time, an aircraft's legs side by side: dealt out one by one, they go to
        different processes at the same moment, which then race for its `last_seen`.
        """
        return sorted(range(len(self)), key=lambda index: (index // _SORTED_TOGETHER, self._tailnum(index), index))

    def _tailnum(self, index: int) -> str:
        return str(self._data.flight(index).get("tailnum", ""))


_SORTED_TOGETHER = 300


class _Planner:
    def __init__(self, data: Dataset, index: int) -> None:
        self._data = data
        self._index = index
        self._flight = flight = data.flight(index)
        self._day = f"{flight['year']}-{flight['month']:02d}-{flight['day']:02d}"
        self._name = f"{flight['carrier']}-{flight['flight']}-{flight['origin']}"
        self._tailnum = str(flight["tailnum"]) if "tailnum" in flight else None
        self._cancelled = "dep_time" not in flight

    def plan(self) -> Plan:
        puts = [Put(FLIGHTS, self._flight_item())]
        if self._tailnum is not None:
            puts += [Put(HISTORY, self._history_item()), Put(LAST_SEEN, self._last_seen_item())]
        lines = (Put(DEPARTURES, self._departure_line()), Put(ARRIVALS, self._arrival_line()))
        announcement: tuple[Put, ...] = ()
        deletes: tuple[Delete, ...] = ()
        if self._cancelled:
            announcement = tuple(Put(line.table, {**line.item, "status": "scheduled"}) for line in lines)
            deletes = tuple(Delete(line.table, line.key) for line in lines)
            if self._tailnum is not None:
                puts.append(Put(DEPARTURES, self._notice()))
        else:
            puts += lines
        return Plan(self._index, self._flight_id(), self._tailnum, announcement, tuple(puts), deletes)

    def _flight_id(self) -> str:
        return f"{self._day}-{self._name}"

    def _flight_item(self) -> Facts:
        airline = self._data.airlines[str(self._flight["carrier"])]
        return {"flight_id": self._flight_id(), **self._flight, "airline": airline["name"], **self._about_airports()}

    def _about_airports(self) -> Facts:
        """Four of the destinations are in no file."""
        names: Facts = {
            f"{role}_name": self._data.airports[code]["name"]
            for role in ("origin", "dest")
            if (code := str(self._flight[role])) in self._data.airports
        }
        return names

    def _history_item(self) -> Facts:
        plane = self._data.planes.get(self._tailnum or "", {})
        built: Facts = {"built": plane["year"]} if "year" in plane else {}
        kind: Facts = {name: plane[name] for name in ("manufacturer", "model", "seats", "engine") if name in plane}
        return {"leg": f"{self._day}-{self._name}", **self._seen(), **built, **kind}

    def _last_seen_item(self) -> Facts:
        return {**self._seen(), "flight_id": self._flight_id()}

    def _seen(self) -> Facts:
        names = ("tailnum", "carrier", "flight", "origin", "dest", "dep_time", "arr_time", "distance", "time_hour")
        return {name: self._flight[name] for name in names if name in self._flight}

    def _departure_line(self) -> Facts:
        return self._line("origin", "dest", "sched_dep_time", "dep_time", "dep_delay")

    def _arrival_line(self) -> Facts:
        return self._line("dest", "origin", "sched_arr_time", "arr_time", "arr_delay")

    def _line(self, place: str, other: str, scheduled: str, actual: str, delay: str) -> Facts:
        flight = self._flight
        known = {name: flight[name] for name in (scheduled, actual, delay) if name in flight}
        return {
            "board": f"{flight[place]}-{self._day}",
            "line": f"{flight[scheduled]:04d}-{self._name}",
            "flight_id": self._flight_id(),
            other: flight[other],
            **known,
            "status": "flown",
        }

    def _notice(self) -> Facts:
        line = self._departure_line()
        return {**line, "line": f"cancelled-{line['line']}", "status": "cancelled"}


def wire(item: Facts) -> dict[str, dict[str, str]]:
    """An item as DynamoDB stores it, by rules of our own: this is what the library is checked against."""
    return {name: {"S": value} if isinstance(value, str) else {"N": str(value)} for name, value in item.items()}


def wire_key(table: str, key: Key) -> dict[str, dict[str, str]]:
    return {name: {"S": part} for name, part in zip(KEYS[table], key, strict=True)}


def key_of(table: str, item: dict[str, Any]) -> Key:
    """The key of an item as stored."""
    return tuple(item[name]["S"] for name in KEYS[table])


def create_tables(client: Any) -> None:
    for table, names in KEYS.items():
        client.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
            KeySchema=[
                {"AttributeName": name, "KeyType": role} for name, role in zip(names, ("HASH", "RANGE"), strict=False)
            ],
        )
