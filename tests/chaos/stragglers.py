"""Entries that nobody is at, made at the journal itself: a hundred times quicker than killing a writer for each.

That a killed writer leaves exactly such entries is what `test_crash_points` shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from monitor import MonitorSettings, WriteMonitor
from reliable_write import Settings
from reliable_write.clock import HybridClock, SystemTime
from reliable_write.entry import FORMAT, Entry, encode_operations, entry_item, shard_of
from reliable_write.operations import Action, Delete, Operation, Put
from reliable_write.testing.faults import FaultPlan
from reliable_write.workers import ThreadWorkers
from tests.clocks import HastyTime
from tests.world import World

LEASE = 10.0


class Left:
    """Writes somebody left behind in a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._clock = HybridClock(SystemTime())
        self._engine = world.writer().engine()
        self.entries: list[Entry] = []

    def entry(self, *actions: Action, **more: Any) -> Entry:
        """One committed entry with an operation for each action; not put anywhere."""
        stamp = self._clock.stamp()
        operations = [Operation("put_item" if isinstance(one, Put) else "delete_item", (one,)) for one in actions]
        return Entry(
            shard=shard_of(stamp, self._engine.journal.shards),
            stamp=stamp,
            write_id=stamp,
            format=FORMAT,
            committed_at_milliseconds=more.pop("committed_at", int(SystemTime().wall_seconds() * 1000)),
            payload=encode_operations(operations, stamp, stamp),
            **more,
        )

    def leave(self, *entries: Entry, spoil: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Put them as commits do, spoilt before where that is asked for."""
        items = [entry_item(entry) for entry in entries]
        for item in items:
            if spoil is not None:
                spoil(item)
        workers = ThreadWorkers(8)
        workers.run_all([_put(self.world, item) for item in items])
        workers.close()
        self.entries += entries

    def puts(self, count: int, *tables: str, mark: str = "good") -> list[Entry]:
        """So many entries, each a put of its own key in each table."""
        return [self.entry(*(put(table, f"{mark}-{number}") for table in tables)) for number in range(count)]


def put(table: str, key: str, **values: Any) -> Put:
    return Put(table, ("id",), {"id": {"S": key}, **values})


def delete(table: str, key: str) -> Delete:
    return Delete(table, ("id",), {"id": {"S": key}})


def _put(world: World, item: dict[str, Any]) -> Callable[[], object]:
    return lambda: world.client.put_item(TableName=world.system_table, Item=item)


class Bench:
    """A monitor in this process, with clocks to move on and faults to inject."""

    def __init__(self, world: World, *, time: HastyTime | None = None, logger: Any = None, **settings: Any) -> None:
        self.time = time or HastyTime()
        patience = {name: settings.pop(name) for name in tuple(settings) if name in Settings.model_fields}
        self.writer = world.writer(time=self.time, logger=logger, **patience)
        self.monitor = WriteMonitor(self.writer, MonitorSettings(lease_seconds=LEASE, **settings))
        self.faults = FaultPlan(self.writer.client)

    def claims(self) -> int:
        """Claims that reached the wire, those refused among them."""
        return sum(call.operation == "UpdateItem" and b"attempts" in call.body for call in self.faults.calls)

    def sweep_after(self, seconds: float = LEASE) -> dict[str, int]:
        """One sweep so much later; how its attempts ended."""
        self.time.skip(seconds)
        return {str(resumed): count for resumed, count in self.monitor.run_once().attempts.items()}


class Ear:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda event, **facts: self.heard.append((event, facts))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [facts for name, facts in self.heard if name == event]


def moved_to(entry: Entry, shard: int) -> Entry:
    return dataclasses.replace(entry, shard=shard)


def ids(items: Sequence[dict[str, Any]]) -> set[str]:
    return {item["id"]["S"] for item in items}
