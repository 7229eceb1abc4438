"""What the record store costs: the table of its page, counted. Items are under 1 KB, the writer was used before."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest

from reliable_write import HashKey, Record, RecordStore, ReliableWriter, Version, VersionMode
from reliable_write.testing.engines import Capability
from reliable_write.testing.meter import Meter
from tests.records import placed
from tests.world import World

PAGE = Path(__file__).parents[2] / "docs" / "records-store.md"


class Kept(Record, table="kept"):
    id: Annotated[str, HashKey()]
    version: Annotated[int, Version(VersionMode.NONE)] = 0


class Counted(Record, table="counted"):
    id: Annotated[str, HashKey()]
    version: Annotated[int, Version(VersionMode.AUTO_INCREMENT)] = 0


class Checked(Record, table="checked"):
    id: Annotated[str, HashKey()]
    version: Annotated[int, Version()] = 0


Deed = Callable[[RecordStore, type[Any]], Any]


def put(store: RecordStore, kind: type[Any]) -> None:
    store.put(kind(id="new"))


def put_again(store: RecordStore, kind: type[Any]) -> None:
    store.put(kind(id="old", version=1))


def delete(store: RecordStore, kind: type[Any]) -> None:
    store.delete(kind(id="old", version=1))


def put_25(store: RecordStore, kind: type[Any]) -> None:
    store.put_all([kind(id=f"n{number}") for number in range(25)])


def get(store: RecordStore, kind: type[Any]) -> None:
    assert store.get(kind, "old") is not None


def get_consistently(store: RecordStore, kind: type[Any]) -> None:
    assert store.get(kind, "old", consistent=True) is not None


ROWS: dict[str, tuple[Deed, type[Record]]] = {
    "put, NONE or AUTO_INCREMENT": (put, Counted),
    "put, checked": (put, Checked),
    "put of a saved record, checked": (put_again, Checked),
    "delete, NONE or AUTO_INCREMENT": (delete, Counted),
    "delete, checked": (delete, Checked),
    "put_all of 25, NONE or AUTO_INCREMENT": (put_25, Counted),
    "put_all of 25, checked": (put_25, Checked),
    "get": (get, Counted),
    "get, consistent": (get_consistently, Counted),
}


def warmed(world: World, kind: type[Record]) -> ReliableWriter:
    """A writer that knows installation, table and engine."""
    writer = world.writer(delete_finished_inline=True)
    RecordStore(writer).put(kind(id="old"))  # type: ignore[call-arg]  # of one of these classes
    return writer


def counted(world: World, deed: Deed, kind: type[Record]) -> tuple[int, float, float]:
    """Requests before it returns; write units, with the deletion of the finished entry; read units."""
    writer = warmed(world, kind)
    with Meter(writer.client) as meter:
        deed(RecordStore(writer), kind)
    return meter.calls.total() - meter.calls["BatchWriteItem"], meter.write_units, meter.read_units


def told() -> dict[str, tuple[int, float, float]]:
    rows = re.findall(r"^\| `?([^|`]+)`? \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE.read_text(), re.MULTILINE)
    return {name.strip(): (int(calls), float(writes), float(reads)) for name, calls, writes, reads in rows}


@pytest.mark.needs(Capability.TRANSACTIONS, Capability.CONSUMED_CAPACITY, Capability.BATCH_GET_CAPACITY)
def test_the_table_of_costs_is_what_the_engine_bills(every_world: World) -> None:
    found = {
        name: counted(every_world, deed, placed(kind, every_world.table("t"))) for name, (deed, kind) in ROWS.items()
    }
    assert found == told()


@pytest.mark.needs(Capability.CONSUMED_CAPACITY)
def test_what_the_application_keeps_costs_what_is_counted_without_a_check(plain_world: World) -> None:
    costs = {kind: counted(plain_world, put, placed(kind, plain_world.table("t"))) for kind in (Kept, Counted)}
    assert costs[Kept] == costs[Counted]
