"""One of each kind of record and item that the library stores, as it stores it today, on clocks and chance that repeat.

`python -m tests.golden.life` freezes the kinds that are new. A frozen file is never written again: where a format is to
change, the old file stays, a new one is put beside it (`lock-held-2.json`), and both are read.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any
from unittest.mock import patch

from reliable_write import (
    AtomicCounter,
    Counter,
    HashKey,
    Lock,
    Record,
    ReliableWriteScope,
    Settings,
    ShardedCounter,
    Version,
)
from reliable_write.cli.connect import Connection
from reliable_write.cli.lock_errands import release_seen
from reliable_write.cli.lock_looks import look_at
from reliable_write.cli.repair import Repair, find_foreign_stamps
from reliable_write.clock import Deadline, HybridClock
from reliable_write.entry import FORMAT, Entry, encode_operations, shard_of
from reliable_write.operations import Delete, Operation, Put
from reliable_write.receipts import StoredReceipt
from reliable_write.records.marks import mark
from reliable_write.uploads.ledger import By, Ledger, done_of, first_of, next_of
from reliable_write.values import WireItem, encode_item
from tests.simulation.memory_world import SYSTEM, TABLE, MemoryWorld, putting
from tests.unit.fakes import ManualTime

COUNTERS, LOCKS, LEDGER, RECORDS = "counters", "locks", "ledger", "records"
OBJECT = "s3://bucket/a"


class Numbered(Record, table=RECORDS):
    id: Annotated[str, HashKey()]
    version: Annotated[int, Version()] = 0


class Dated(Record, table=RECORDS):
    id: Annotated[str, HashKey()]
    changed: Annotated[datetime | None, Version()] = None


class RepeatedTime(ManualTime):
    """The same moments and the same random bytes in every run."""

    def __init__(self) -> None:
        super().__init__()
        self._drawn = 0

    def random_bytes(self, count: int) -> bytes:
        self._drawn += 1
        return hashlib.shake_128(str(self._drawn).encode()).digest(count)


class Life:
    """Makes them, each by the code that makes it in a service, in one order that never changes."""

    def __init__(self) -> None:
        self.world = MemoryWorld(shards=4, time=RepeatedTime())
        for table, key in ((COUNTERS, "name"), (LOCKS, "key"), (LEDGER, "object"), (RECORDS, "id")):
            self.world.tables.create(table, key)
        self.writer = self.world.writer()
        self.engine = self.writer.engine()

    def items(self) -> dict[str, WireItem]:
        """By kind."""
        parts = [self._installation, self._entries, self._commits, self._tombstones, self._people]
        parts += [self._counters, self._locks, self._uploads, self._records, self._deeds_of_the_command_line]
        return {kind: dict(item) for part in parts for kind, item in part()}

    def _deadline(self) -> Deadline:
        return self.engine.attempt_deadline()

    def _stored(self, table: str, *place: str) -> WireItem:
        self.world.time.pass_seconds(1)
        return self.world.tables.tables[table].items["\0".join(place)]

    def _only(self, prefix: str) -> WireItem:
        return self.world.records(prefix)[-1]

    # --- the system table ---------------------------------------------------------------------------------------

    def _installation(self) -> Iterator[tuple[str, WireItem]]:
        yield "config", self._only("CONFIG")

    def _entry(self, *actions: Put | Delete) -> Entry:
        stamp = HybridClock(self.world.time).stamp()
        self.world.time.pass_seconds(0.01)
        verbs: list[Any] = ["put_item" if isinstance(action, Put) else "delete_item" for action in actions]
        operations = [Operation(verb, (action,)) for verb, action in zip(verbs, actions, strict=True)]
        payload = encode_operations(operations, stamp, stamp)
        entry = Entry(shard_of(stamp, 4), stamp, stamp, FORMAT, 1_700_000_000_123, payload)
        self.engine.journal.commit(entry, self._deadline())
        return entry

    def _entries(self) -> Iterator[tuple[str, WireItem]]:
        journal, deadline = self.engine.journal, self._deadline()
        entry = self._entry(putting("a", name="Ada"), Delete(TABLE, ("id",), {"id": {"S": "b"}}))
        place = (f"J#{entry.shard:03d}", entry.stamp)
        yield "entry", self._stored(SYSTEM, *place)
        claimed = journal.claim(entry, "host:7", deadline)
        postponed = journal.postpone(claimed, "throttled", 1_700_000_005_000, deadline)
        skipped = journal.skip(postponed, ["operations[1]"], deadline)
        yield "entry-tried", self._stored(SYSTEM, *place)
        aside = journal.quarantine(skipped, "refused as invalid", deadline)
        yield "entry-quarantined", self._stored(SYSTEM, *place)
        yield "chunk", self._only("C#")
        journal.annotate_chunks(entry.stamp, None, "1700000000001//", deadline)
        yield "chunk-note", self._only("C#")
        journal.discard(aside, deadline)

    def _commits(self) -> Iterator[tuple[str, WireItem]]:
        with ReliableWriteScope(self.writer, idempotency_key="order-7") as scope:
            scope.put_item(TABLE, Item={"id": "kept", "n": 1})
            scope.commit()
        yield "receipt", self._stored(SYSTEM, "R#order-7", "R")
        yield "item-put", self._stored(TABLE, "kept")
        with ReliableWriteScope(self.writer) as scope:
            scope.update_item(TABLE, Key={"id": "kept"}, add={"n": 2})
            scope.commit()
        yield "item-updated", self._stored(TABLE, "kept")
        void = StoredReceipt(
            "order-8", HybridClock(self.world.time).stamp(), "0" * 40, "scope", 2, 7, has_entry=False, void=True
        )
        self.engine.receipts.fence(void, self._deadline())
        yield "receipt-void", self._stored(SYSTEM, "R#order-8", "R")

    def _tombstones(self) -> Iterator[tuple[str, WireItem]]:
        self.world.delete("gone", engine=self.engine)
        yield "tombstone", dict(self._only("T#"))
        self.world.time.pass_seconds(60)
        self.world.auditor(gc=True, scheduled=True).run_once()
        yield "tombstone-noted", self._only("T#")

    def _people(self) -> Iterator[tuple[str, WireItem]]:
        self.engine.heartbeats.beat("host:7:aa", "0.1.0", self._deadline())
        yield "heartbeat", self._stored(SYSTEM, "M", "host:7:aa")
        entry = self._entry(putting("x"))
        self.engine.operators.retry(entry.write_id, operator="ann@desk", reason="fixed")
        yield "deed-retry", self._only("A")
        self.engine.operators.skip(entry.write_id, ["operations[0]"], operator="ann@desk", reason="gone")
        yield "deed-skip", self._only("A")

    # --- items of others ----------------------------------------------------------------------------------------

    def _counters(self) -> Iterator[tuple[str, WireItem]]:
        counter = AtomicCounter(self.writer, COUNTERS, "orders")
        counter.add(5)
        yield "counter", self._stored(COUNTERS, "orders")
        self.world.time.pass_seconds(90 * 86_400)
        AtomicCounter(self.writer, COUNTERS, "orders").add(2)  # another handle, which collects the slot of the first
        yield "counter-collected", self._stored(COUNTERS, "orders")
        Counter(self.writer, COUNTERS, "visits", 3)
        yield "counter-handle", self._stored(COUNTERS, "visits")
        ShardedCounter(self.writer, COUNTERS, "hits", shards=2).add(1)
        yield "counter-shards", self._stored(COUNTERS, "hits#_rw0")
        AtomicCounter(self.writer, COUNTERS, "ids").next_ids(3, idempotency_key="order-7")
        yield (
            "counter-block",
            next(item for name, item in self.world.tables.tables[COUNTERS].items.items() if "#_rwk" in name),
        )

    def _locks(self) -> Iterator[tuple[str, WireItem]]:
        lock = Lock(self.writer, LOCKS, "job", owner="ann", lease_seconds=20, heartbeat=False, delete_on_release=False)
        lease = lock.acquire(data={"step": 3, "raw": b"\x00\xff"})
        lease.renew()
        yield "lock-held", self._stored(LOCKS, "job")
        lock.release()
        yield "lock-free", self._stored(LOCKS, "job")

    def _uploads(self) -> Iterator[tuple[str, WireItem]]:
        ledger, time = Ledger(self.engine, LEDGER), self.world.time
        first = first_of(OBJECT, "0" * 64, 7, "host:7:aa", 60.0, time)
        ledger.claim(first)
        second = next_of(first, time, upload="upload-1")
        ledger.move(first, second)
        yield "upload-sending", self._stored(LEDGER, OBJECT)
        ledger.finish(done_of(second, By.SENT, time))
        yield "upload-done", self._stored(LEDGER, OBJECT)

    def _records(self) -> Iterator[tuple[str, WireItem]]:
        for kind, record in (("record-numbered", Numbered(id="n")), ("record-dated", Dated(id="d"))):
            with ReliableWriteScope(self.writer) as scope:
                scope.put(record)
                scope.commit()
            yield kind, self._stored(RECORDS, record.id)
        yield "record-mark", encode_item({"id": "m", "version": 2, **mark(1_700_000_000.5)}, "mark")

    def _deeds_of_the_command_line(self) -> Iterator[tuple[str, WireItem]]:
        with patch("getpass.getuser", return_value="ann"), patch("socket.gethostname", return_value="desk"):
            yield "deed-release-lock", self._release_lock()
            self.world.time.pass_seconds(1)
            yield "deed-repair-stamp", self._repair_stamp()

    def _release_lock(self) -> WireItem:
        Lock(self.writer, LOCKS, "left", owner="bob", lease_seconds=20, heartbeat=False).acquire()
        desk: Any = SimpleNamespace(engine=self.engine, deadline=self._deadline)
        release_seen(desk, look_at(desk, LOCKS, "left", None), "host is gone")
        return self._only("A")

    def _repair_stamp(self) -> WireItem:
        self.world.tables.tables[TABLE].items["odd"] = {"id": {"S": "odd"}, "_rw": {"S": "mine"}}
        calls: Any = self.world.tables
        time: Any = self.world.time
        connection = Connection(Settings(system_table=SYSTEM), None, calls, self.engine.store, time)
        Repair(connection).take_off(find_foreign_stamps(connection, TABLE, '{"id": "odd"}'), "copied")
        return self._only("A")


# --- freezing -----------------------------------------------------------------------------------------------------

FROZEN = Path(__file__).with_name("frozen")


def frozen() -> dict[str, WireItem]:
    """All frozen items by the names of their files: the kind, and the number of its format."""
    return {file.stem: _thawed(json.loads(file.read_text())) for file in sorted(FROZEN.glob("*.json"))}


def _thawed(item: dict[str, Any]) -> WireItem:
    return {name: _value(value) for name, value in item.items()}


def _value(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "B":
        return {"B": base64.b64decode(content)}
    return {"M": _thawed(content)} if kind == "M" else value


def freeze() -> list[str]:
    """Write a file for each kind that has none. A file that is there is never written again."""
    made = []
    for kind, item in Life().items().items():
        file = FROZEN / f"{kind}-1.json"
        if not any(FROZEN.glob(f"{kind}-[0-9]*.json")):
            file.write_text(json.dumps(item, indent=1, default=lambda part: base64.b64encode(part).decode()) + "\n")
            made.append(file.name)
    return made


if __name__ == "__main__":
    print("\n".join(freeze()) or "all kinds are frozen already")
