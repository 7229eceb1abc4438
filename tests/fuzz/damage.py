"""An installation in memory with one record of each kind, and ways to damage what is stored."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from typing import Any

from monitor.auditor import Auditor
from monitor.audits import AuditSettings
from monitor.loop import WriteMonitor
from monitor.settings import MonitorSettings
from reliable_write.clock import Deadline, Stamp
from reliable_write.entry import FORMAT, Entry, encode_operations, shard_of
from reliable_write.errors import EntryNotFoundError, UnsupportedOperationError
from reliable_write.operations import Operation, Put
from reliable_write.values import WireItem
from tests.simulation.memory_world import SYSTEM, TABLE, MemoryWorld, deleting, putting
from tests.unit.fakes import ManualTime

LONG_SECONDS = 40 * 86_400.0
"""Past every wait and every retention."""


def blob(key: str, size: int) -> Put:
    return Put(TABLE, ("id",), {"id": {"S": key}, "blob": {"B": os.urandom(size)}})


SHAPES: dict[str, tuple[Operation, ...]] = {
    "a put": (Operation("put_item", (putting("a", name="Ada"),)),),
    "a batch of puts": (Operation("put_items", (putting("a", name="Ada"), putting("b", name="Bob"))),),
    "a delete": (Operation("delete_item", (deleting("old"),)),),
    "a batch of deletes": (Operation("delete_items", (deleting("old"), deleting("older"))),),
    "all kinds": (
        Operation("put_item", (putting("a", name="Ada"),)),
        Operation("put_items", (putting("b"), putting("c"))),
        Operation("delete_item", (deleting("old"),)),
        Operation("delete_items", (deleting("older"),)),
    ),
    "chunks": tuple(Operation("put_item", (blob(f"k{index}", 300_000),)) for index in range(3)),
}


class DamagedWorld(MemoryWorld):
    """Tables that can be put back as they were, and everything that reads the journal."""

    def __init__(self, **more: Any) -> None:
        super().__init__(shards=2, time=ManualTime(), page_items=50, **more)
        for key in ("old", "older", "kept"):
            self.plant(key, value="before")

    def deadline(self) -> Deadline:
        return Deadline.after(8, self.time)

    def leave(self, operations: tuple[Operation, ...]) -> Entry:
        """A committed write that nobody has begun to apply."""
        stamp = self.stamp()
        payload = encode_operations(operations, stamp, stamp)
        milliseconds = int(self.time.wall * 1000)
        entry = Entry(shard_of(stamp, 2), stamp, stamp, FORMAT, milliseconds, payload)
        self.engine.journal.commit(entry, self.deadline())
        return entry

    def snapshot(self) -> dict[str, dict[str, WireItem]]:
        return {name: copy.deepcopy(table.items) for name, table in self.tables.tables.items()}

    def restore(self, kept: Mapping[str, dict[str, WireItem]]) -> None:
        for name, items in kept.items():
            self.tables.tables[name].items = copy.deepcopy(items)

    def replace(self, before: WireItem, after: WireItem) -> None:
        """One record of the system table for another, wherever its key says it lies."""
        items = self.tables.tables[SYSTEM].items
        del items[self.tables.tables[SYSTEM].place(before)]
        items[self.tables.tables[SYSTEM].place(after)] = after

    def stored(self) -> dict[str, WireItem]:
        """The system table without what monitors write about themselves."""
        items = self.tables.tables[SYSTEM].items
        return {place: item for place, item in items.items() if not place.startswith("M\0")}

    def shown_items(self) -> dict[str, WireItem]:
        return self.tables.tables[TABLE].items

    def monitor(self) -> WriteMonitor:
        settings = MonitorSettings(readers=1, workers=1, lease_seconds=10, audit=False)
        return WriteMonitor(Desk(self), settings)  # type: ignore[arg-type]  # what it takes of a writer

    def auditor(self, **settings: Any) -> Auditor:
        return Auditor(self.process(), AuditSettings(gc=True, **settings))

    def look(self, write_id: str) -> str | None:
        """What `writes show` goes by; why it is unreadable."""
        try:
            return self.engine.operators.examine(write_id).unreadable
        except EntryNotFoundError:
            return "not found"
        except UnsupportedOperationError as error:
            return str(error)


class Desk:
    """What a monitor takes of a writer."""

    def __init__(self, world: MemoryWorld) -> None:
        self._engine = world.process()
        self.time = self._engine.time
        self.events = self._engine.events
        self.settings = self._engine.settings

    def engine(self) -> Any:
        return self._engine


def flipped(item: WireItem, name: str) -> Iterator[WireItem]:
    """The item with each single bit of this attribute's content turned, as far as it is still text where it was."""
    ((kind, content),) = item[name].items()
    if kind == "SS":
        for index, part in enumerate(content):
            for turned in _turned(part.encode()):
                text = _as_text(turned)
                if text is not None:
                    yield {**item, name: {"SS": [*content[:index], text, *content[index + 1 :]]}}
        return
    for turned in _turned(content if kind == "B" else content.encode()):
        value = turned if kind == "B" else _as_text(turned)
        if value is not None:
            yield {**item, name: {kind: value}}


def renamed(item: WireItem, name: str) -> Iterator[WireItem]:
    """The item with each single bit of this attribute's name turned."""
    for turned in _turned(name.encode()):
        text = _as_text(turned)
        if text:
            yield {**{other: value for other, value in item.items() if other != name}, text: item[name]}


def _turned(content: bytes) -> Iterator[bytes]:
    for position in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        yield bytes(damaged)


def _as_text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


__all__ = ["LONG_SECONDS", "SHAPES", "DamagedWorld", "Desk", "Stamp", "flipped", "renamed"]
