"""Real flights written under SIGKILL, and proof that the comparison at the end would see what it must."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reliable_write.testing.engines import Dynoxide
from tests.acceptance.flights.__main__ import warm_world
from tests.acceptance.flights.check import Check
from tests.acceptance.flights.data import INSTALL, DataMissing, Dataset, find, load
from tests.acceptance.flights.diary import Reading
from tests.acceptance.flights.model import (
    ARRIVALS,
    DEPARTURES,
    FLIGHTS,
    KEYS,
    LAST_SEEN,
    SYSTEM_TABLE,
    Model,
    wire,
)
from tests.acceptance.flights.run import heal
from tests.acceptance.flights.worker import Worker, World, client
from tests.conftest import require_engine

ROOT = Path(__file__).parents[2]
KILLS = 50


@pytest.fixture(scope="module")
def data() -> Dataset:
    _require_data()
    return load(None)


def _require_data() -> None:
    try:
        find()
    except DataMissing as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_killed_workers_leave_no_flight_half_written_lost_or_twice(request: pytest.FixtureRequest) -> None:
    require_engine("dynoxide")
    request.node.user_properties.append(("engine", "dynoxide"))
    _require_data()
    ended = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.flights", "--flights", "600", "--kills", str(KILLS), "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads(ended.stdout)
    assert report["problems"] == []
    assert report["kills"] >= KILLS
    assert report["compared"]["rows"]["flights"] == 600
    for happened in ("found_half_written", "recoveries", "announcements", "superseded", "written_again"):
        assert report[happened] > 0, f"nothing was {happened}"


def test_the_files_are_what_they_are_said_to_be(data: Dataset) -> None:
    """`load` compares the row counts; the keys of the tables lean on this."""
    at = data.header.index
    names = ("year", "month", "day", "carrier", "flight", "origin")
    rows = [line.split(",") for line in data.flights]
    assert len({tuple(row[at(name)] for name in names) for row in rows}) == len(rows)
    assert len({tuple(row[at(name)] for name in names[:-1]) for row in rows}) < len(rows)
    assert sum(row[at("tailnum")] == "NA" for row in rows) == 2_512


def test_a_flight_takes_three_to_six_operations(data: Dataset) -> None:
    model = Model(data)
    plans = [model.plan(index) for index in range(2_000)]
    assert {plan.operations for plan in plans} == {3, 5, 6}
    assert {plan.operations for plan in plans if plan.tailnum is None} == {3}
    announced = {(put.table, put.key) for plan in plans for put in plan.announcement}
    assert {(delete.table, delete.key) for plan in plans for delete in plan.deletes} == announced != set()


# --- the comparison itself ----------------------------------------------------------------------------------------


class Written:
    """Some flights, written without any trouble."""

    def __init__(self, world: World, reader: Any, reading: Reading) -> None:
        self.world = world
        self.reader = reader
        self.reading = reading

    def mismatches(self) -> list[str]:
        return Check(self.reader, self.world.model, [self.reading]).run().mismatches

    def items(self, table: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.reader.scan(TableName=table, ConsistentRead=True)["Items"]
        return found

    def put(self, table: str, item: dict[str, Any]) -> None:
        self.reader.put_item(TableName=table, Item=item)

    def delete(self, table: str, item: dict[str, Any]) -> None:
        names = KEYS.get(table, ("pk", "sk"))
        self.reader.delete_item(TableName=table, Key={name: item[name] for name in names})


@pytest.fixture(scope="module")
def written(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    require_engine("dynoxide")
    few = Dataset(data.header, data.flights[:60], data.planes, data.airports, data.airlines)
    with Dynoxide() as engine:
        world = warm_world(engine.endpoint_url, Model(few))
        path = tmp_path_factory.mktemp("flights") / "worker"
        Worker(world, 0, world.model.work_order(), path).run()
        heal(world)
        reading = Reading(path)
        reading.look()
        reader = client(world)
        yield Written(world, reader, reading)
        reader.close()


def _lose(table: str) -> Callable[[Written], None]:
    return lambda written: written.delete(table, written.items(table)[0])


def _alter(table: str, attribute: str) -> Callable[[Written], None]:
    def alter(written: Written) -> None:
        item = next(item for item in written.items(table) if attribute in item)
        written.put(table, {**item, attribute: {"S": "altered"}})

    return alter


def _add(table: str) -> Callable[[Written], None]:
    def add(written: Written) -> None:
        item = written.items(table)[0]
        written.put(table, {**item, KEYS[table][-1]: {"S": "another"}})

    return add


def _stamp_otherwise(table: str) -> Callable[[Written], None]:
    return _alter(table, "_rw")


def _bring_back_a_cancelled_line(written: Written) -> None:
    model = written.world.model
    plan = next(plan for index in range(len(model)) if (plan := model.plan(index)).announcement)
    written.put(ARRIVALS, wire(plan.announcement[1].item))


def _show_an_earlier_last_seen(written: Written) -> None:
    """The last leg of an aircraft gives way to the one before: both are real, one is wrong."""
    rows = sorted((row for row in written.items(FLIGHTS) if "tailnum" in row), key=lambda row: str(row["_rw"]["S"]))
    tails = [row["tailnum"]["S"] for row in rows]
    first = next(row for row in rows if tails.count(row["tailnum"]["S"]) > 1)
    model = written.world.model
    plan = next(plan for index in range(len(model)) if (plan := model.plan(index)).flight_id == first["flight_id"]["S"])
    assert plan.last_seen is not None
    written.put(LAST_SEEN, {**wire(plan.last_seen.item), "_rw": first["_rw"]})


def _leave_an_entry(written: Written) -> None:
    written.put(SYSTEM_TABLE, {"pk": {"S": "J#001"}, "sk": {"S": "0" * 36}})


def _lose_a_tombstone(written: Written) -> None:
    tombstone = next(item for item in written.items(SYSTEM_TABLE) if item["pk"]["S"].startswith("T#"))
    written.delete(SYSTEM_TABLE, tombstone)


DAMAGES = {
    **{f"lose from {table}": _lose(table) for table in KEYS},
    **{f"add to {table}": _add(table) for table in KEYS},
    **{f"stamp otherwise in {table}": _stamp_otherwise(table) for table in KEYS},
    "alter a flight": _alter(FLIGHTS, "dest"),
    "alter a board": _alter(DEPARTURES, "status"),
    "bring back a cancelled line": _bring_back_a_cancelled_line,
    "show an earlier last seen": _show_an_earlier_last_seen,
    "leave an entry": _leave_an_entry,
    "lose a tombstone": _lose_a_tombstone,
}


def test_an_undamaged_world_compares_equal(written: Written) -> None:
    assert written.mismatches() == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_comparison_sees(damage: str, written: Written) -> None:
    """Each damage is done to the real tables, seen, and undone."""
    before = {table: written.items(table) for table in (*KEYS, SYSTEM_TABLE)}
    DAMAGES[damage](written)
    assert written.mismatches()
    for table, items in before.items():
        for item in written.items(table):
            if item not in items:
                written.delete(table, item)
        for item in items:
            written.put(table, item)


def test_a_lost_acknowledged_write_and_one_settled_twice_are_seen(written: Written) -> None:
    reading = written.reading
    twice = Check(written.reader, written.world.model, [reading, reading]).run().mismatches
    none = Check(written.reader, written.world.model, []).run().mismatches
    assert any("settled 2 times" in words for words in twice)
    assert any("settled 0 times" in words for words in none)


def test_a_missing_package_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(DataMissing, match=INSTALL):
        find()
