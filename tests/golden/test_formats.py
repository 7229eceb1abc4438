"""Every frozen format is read to what it meant when it was written, and today's code writes what was frozen last."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from monitor.notes import Note, read_note
from reliable_write import limits
from reliable_write.audit_log import Deed
from reliable_write.clock import Deadline, Stamp
from reliable_write.counters.place import Place
from reliable_write.counters.slots import Slot, Standing, dead_slots, found_slots
from reliable_write.entry import Entry, State, read_entry
from reliable_write.heartbeats import Heartbeat
from reliable_write.locks.data import plain
from reliable_write.locks.items import LockState, read_state
from reliable_write.operations import Delete, Operation, Put, StampNames
from reliable_write.policy import is_foreign, stamp_of
from reliable_write.receipts import StoredReceipt, read_receipt
from reliable_write.records.marks import is_marked, is_told
from reliable_write.system_table import Installation, read_installation
from reliable_write.tombstones import Tombstone, read_tombstone
from reliable_write.uploads.ledger import By, Intent, Ledger
from reliable_write.uploads.ledger import State as UploadState
from reliable_write.values import WireItem, decode_item
from tests.golden.life import COUNTERS, LEDGER, LOCKS, OBJECT, Dated, Life, Numbered, frozen
from tests.simulation.memory_world import SYSTEM, TABLE, MemoryWorld

FROZEN = frozen()
ENTRY = "018bcfe568000000ebaf5ccd6f37291d34ba"
PUT = Operation("put_item", (Put(TABLE, ("id",), {"id": {"S": "a"}, "name": {"S": "Ada"}}),))
DELETE = Operation("delete_item", (Delete(TABLE, ("id",), {"id": {"S": "b"}}),))
GONE = "T#09b0e89c82a36a8defc1c1e1cd52d17ea668a666"
LATER = 1_800_000_000.0


class Reading:
    """An installation that holds one frozen item, for what is only read through the store."""

    def __init__(self, item: WireItem, table: str = SYSTEM) -> None:
        self.world = MemoryWorld(shards=4)
        if table not in self.world.tables.tables:
            self.world.tables.create(table, "object" if table == LEDGER else "name")
        made = self.world.tables.tables[table]
        made.items[made.place(item)] = item
        self.item = item

    def deadline(self) -> Deadline:
        return Deadline.after(8, self.world.time)


def head(item: WireItem) -> Any:
    entry = read_entry(item)
    facts = (entry.shard, entry.stamp, entry.write_id, entry.format, entry.committed_at_milliseconds)
    assert facts == (2, ENTRY, ENTRY, 1, 1_700_000_000_123)
    return entry


def operations(item: WireItem, entry: Entry) -> Any:
    reading = Reading(item)
    return reading.world.engine.journal.operations(entry, reading.deadline())


def read_fresh_entry(item: WireItem) -> None:
    entry = head(item)
    assert (entry.state, entry.epoch, entry.owner, entry.attempts, entry.skipped) == (
        State.PENDING,
        0,
        None,
        0,
        frozenset(),
    )
    assert operations(item, entry) == (PUT, DELETE)


def read_tried_entry(item: WireItem) -> None:
    entry = head(item)
    assert (entry.state, entry.epoch, entry.owner, entry.attempts) == (State.PENDING, 2, "host:7", 1)
    assert (entry.next_at_milliseconds, entry.last_error) == (1_700_000_005_000, "throttled")
    assert entry.skipped == {"operations[1]"}
    assert operations(item, entry) == (PUT, DELETE)


def read_quarantined_entry(item: WireItem) -> None:
    entry = head(item)
    assert (entry.state, entry.epoch, entry.chunks, entry.payload) == (State.QUARANTINED, 3, 1, None)
    assert (entry.last_error, entry.skipped) == ("refused as invalid", {"operations[1]"})
    assert operations(FROZEN["chunk-1"], entry) == (PUT, DELETE)


def read_chunk(item: WireItem) -> None:
    entry = read_entry(FROZEN["entry-quarantined-1"])
    assert operations(item, entry) == (PUT, DELETE)


def read_chunk_note(item: WireItem) -> None:
    assert (item["pk"]["S"], item["sk"]["S"]) == (f"C#{ENTRY}", "~note")
    assert read_note(item["note"]["S"], LATER) == Note(1_700_000_000.001)


def read_config(item: WireItem) -> None:
    reading = Reading(item)
    found = read_installation(reading.world.engine.store, SYSTEM, reading.deadline())
    assert found == Installation(4, "strict", StampNames("_rw", "_rwu"))


def read_first_receipt(item: WireItem) -> None:
    stamp = Stamp("018bcfe573c200000a7fddc22e37eaf05b74")
    request = "aedbbc1c5ac34bdcc4fbc7bfb964786ccbbb1e1c"
    assert read_receipt(item) == StoredReceipt("order-7", stamp, request, stamp, 1, 1_700_000_003_010, has_entry=True)


def read_void_receipt(item: WireItem) -> None:
    stamp = Stamp("018bcfe57f7a0000b485d77fdc221ecb3202")
    assert read_receipt(item) == StoredReceipt("order-8", stamp, "0" * 40, "scope", 2, 7, has_entry=False, void=True)


def read_plain_tombstone(item: WireItem) -> None:
    stamp = Stamp("018bcfe58362000021d93093fe84db44c4d2")
    assert read_tombstone(item) == Tombstone(GONE, stamp, TABLE, {"id": {"S": "gone"}}, None)


def read_noted_tombstone(item: WireItem) -> None:
    found = read_tombstone(item)
    assert found is not None
    assert (found.name, found.key) == (GONE, {"id": {"S": "gone"}})
    assert read_note(found.note, LATER) == Note(1_700_000_067.01)


def read_heartbeat(item: WireItem) -> None:
    reading = Reading(item)
    (found,) = reading.world.engine.heartbeats.all(reading.deadline())
    assert found == Heartbeat("host:7:aa", 1_700_000_067_010, reading.world.time.wall - 1_700_000_067.01, "0.1.0", 20.0)
    assert item["expires_at"] == {"N": "1700086467"}


def deed(item: WireItem, kept_until: str, at_milliseconds: int) -> Deed:
    reading = Reading(item)
    (found,) = reading.world.engine.audit_log.deeds(reading.deadline())
    assert (found.operator, found.at_milliseconds) == ("ann@desk", at_milliseconds)
    assert item["expires_at"] == {"N": kept_until}
    return found


def deed_on_a_write(item: WireItem) -> Deed:
    found = deed(item, "1731536068", 1_700_000_068_020)
    assert found.facts["write_id"] == {"S": "018bcfe671aa0000f99079a8eac6f051fac4"}
    return found


def read_retry(item: WireItem) -> None:
    found = deed_on_a_write(item)
    assert (found.action, found.reason, found.facts["epoch"]) == ("retry", "fixed", {"N": "0"})


def read_skip(item: WireItem) -> None:
    found = deed_on_a_write(item)
    assert (found.action, found.reason, found.facts["skipped"]) == ("skip", "gone", {"SS": ["operations[0]"]})


def read_release(item: WireItem) -> None:
    found = deed(item, "1739312078", 1_707_776_078_020)
    assert (found.action, found.reason) == ("release-lock", "host is gone")
    assert (found.facts["table"], found.facts["key"]) == ({"S": LOCKS}, {"M": {"key": {"S": "left"}}})
    assert (found.facts["owner"], found.facts["unchanged_seconds"]) == ({"S": "bob"}, {"N": "0.000"})


def read_repair(item: WireItem) -> None:
    found = deed(item, "1739312079", 1_707_776_079_020)
    assert (found.action, found.reason) == ("repair-stamp", "copied")
    assert (found.facts["table"], found.facts["key"]) == ({"S": TABLE}, {"M": {"id": {"S": "odd"}}})
    assert found.facts["removed"] == {"M": {"_rw": {"S": "mine"}}}


def read_put_item(item: WireItem) -> None:
    assert stamp_of(item, "_rw") == "018bcfe573c200000a7fddc22e37eaf05b74"
    assert "_rwu" not in item
    assert not is_foreign(item, StampNames(), MemoryWorld().time)


def read_updated_item(item: WireItem) -> None:
    assert stamp_of(item, "_rw") == "018bcfe573c200000a7fddc22e37eaf05b74"
    assert stamp_of(item, "_rwu") == "018bcfe57b920000f7275a1ebcf0a3d7fc46"
    assert item["n"] == {"N": "3"}


def counted(item: WireItem, name: str = "orders") -> int:
    return Place(Reading(item, COUNTERS).world.writer(), COUNTERS, name, "value").value_in(item, 0)


def read_counter(item: WireItem) -> None:
    slot, stamp = Slot("x2hlepbv"), Stamp("018bcfe671b400008c41157da527aeb2c811")
    assert counted(item) == 5
    assert found_slots(item) == [(stamp, slot)]
    assert slot.standing(item, stamp, Stamp("f" * 36)) is Standing.APPLIED
    assert slot.standing(item, Stamp("0" * 36), Stamp("f" * 36)) is Standing.GONE
    assert item[slot.result_name] == {"N": "5"}
    assert not dead_slots(item, 1_700_000_068_020)
    assert dead_slots(item, LATER * 1000) == [(stamp, slot)]


def read_collected_counter(item: WireItem) -> None:
    """The floor and the mark of collection: the last step of the slot that was removed cannot be told any more."""
    gone, floor = Slot("x2hlepbv"), Stamp("018bcfe671b400008c41157da527aeb2c811")
    assert counted(item) == 7
    assert (stamp_of(item, "_rwf"), stamp_of(item, "_rwc")) == (floor, floor)
    assert gone.standing(item, floor, Stamp("f" * 36)) is Standing.GONE
    assert gone.standing(item, Stamp("f" * 36), Stamp("f" * 36)) is Standing.OPEN
    assert [slot.id for _, slot in found_slots(item)] == ["mszg4hxw"]


def read_handle(item: WireItem) -> None:
    assert counted(item, "visits") == 3
    assert datetime.fromisoformat(item["timestamp"]["S"]) == datetime(2024, 2, 12, 22, 14, 30, 20_000, UTC)


def read_shards(item: WireItem) -> None:
    assert item["name"] == {"S": "hits#_rw0"}
    assert (item["_rwn"], counted(item, "hits")) == ({"N": "2"}, 1)


def read_block(item: WireItem) -> None:
    world = Reading(item, COUNTERS).world
    from reliable_write import AtomicCounter  # noqa: PLC0415

    assert AtomicCounter(world.writer(), COUNTERS, "ids").next_ids(3, idempotency_key="order-7") == range(1, 4)


def read_held_lock(item: WireItem) -> None:
    found = read_state(decode_item(item), "locks")
    assert found == LockState(
        owner="ann",
        token=1_707_776_072_021,
        lease_seconds=20.0,
        since_milliseconds=1_707_776_072_020,
        data=plain({"step": 3, "raw": b"\x00\xff"}),
        lease_id="6ef0e1b840c9495264bff571acb021ae",
        beat=1,
    )
    assert found.record_version == "6ef0e1b840c9495264bff571acb021ae.1707776072021.1"


def read_free_lock(item: WireItem) -> None:
    assert read_state(decode_item(item), "locks") == LockState(
        token=1_707_776_072_021, data={"step": 3, "raw": b"\x00\xff"}
    )


def looked_up(item: WireItem) -> Intent:
    return Ledger(Reading(item, LEDGER).world.engine, LEDGER).look([OBJECT], consistent=True)[OBJECT]


def read_sending(item: WireItem) -> None:
    expected = Intent(
        OBJECT,
        "0" * 64,
        7,
        "b2dd7c8d8faeb236f67110062d7be9ea",
        1_707_776_074_020,
        UploadState.SENDING,
        2,
        "host:7:aa",
        60.0,
        "upload-1",
    )
    assert looked_up(item) == expected


def read_done(item: WireItem) -> None:
    found = looked_up(item)
    assert (found.state, found.by, found.version, found.owner, found.upload) == (
        UploadState.DONE,
        By.SENT,
        3,
        None,
        None,
    )


def read_numbered(item: WireItem) -> None:
    assert Numbered.from_item(decode_item(item)) == Numbered(id="n", version=1)


def read_dated(item: WireItem) -> None:
    found = Dated.from_item(decode_item(item))
    assert found == Dated(id="d", changed=datetime(2024, 2, 12, 22, 14, 37, 20_000, UTC))


def read_mark(item: WireItem) -> None:
    found = decode_item(item)
    assert is_marked(item)
    assert is_told(found, 1_700_000_000)
    assert not is_told(found, 1_700_000_001)
    assert found["version"] == 2


READERS: dict[str, Callable[[WireItem], None]] = {
    "config-1": read_config,
    "entry-1": read_fresh_entry,
    "entry-tried-1": read_tried_entry,
    "entry-quarantined-1": read_quarantined_entry,
    "chunk-1": read_chunk,
    "chunk-note-1": read_chunk_note,
    "receipt-1": read_first_receipt,
    "receipt-void-1": read_void_receipt,
    "tombstone-1": read_plain_tombstone,
    "tombstone-noted-1": read_noted_tombstone,
    "heartbeat-1": read_heartbeat,
    "deed-retry-1": read_retry,
    "deed-skip-1": read_skip,
    "deed-release-lock-1": read_release,
    "deed-repair-stamp-1": read_repair,
    "item-put-1": read_put_item,
    "item-updated-1": read_updated_item,
    "counter-1": read_counter,
    "counter-collected-1": read_collected_counter,
    "counter-handle-1": read_handle,
    "counter-shards-1": read_shards,
    "counter-block-1": read_block,
    "lock-held-1": read_held_lock,
    "lock-free-1": read_free_lock,
    "upload-sending-1": read_sending,
    "upload-done-1": read_done,
    "record-numbered-1": read_numbered,
    "record-dated-1": read_dated,
    "record-mark-1": read_mark,
}
assert limits.HEARTBEAT_ALIVE_SECONDS == 20.0, "then the frozen heartbeat is not today's any more"


@pytest.mark.parametrize("name", READERS)
def test_a_frozen_item_is_read_to_what_it_meant(name: str) -> None:
    READERS[name](FROZEN[name])


def test_every_frozen_item_is_read() -> None:
    assert set(READERS) == set(FROZEN)


COMPRESSED = ("payload", "part")
"""Another version of the compressor may give other bytes; what is in them is compared by the readers."""


def test_todays_code_writes_what_was_frozen_last() -> None:
    today = Life().items()
    kinds = {re.sub(r"-\d+$", "", name) for name in FROZEN}
    assert kinds == set(today), "a kind that is not frozen: python -m tests.golden.life"
    for kind, item in today.items():
        number = max(int(name.rpartition("-")[2]) for name in FROZEN if name.rpartition("-")[0] == kind)
        last = FROZEN[f"{kind}-{number}"]
        if without_bytes(item) != without_bytes(last):
            pytest.fail(
                f"The format of {kind!r} has changed: {differences(last, item)}. Older versions run beside this one, "
                f"and what they wrote stays: keep {kind}-{number}.json and its reader as they are, put "
                f"{kind}-{number + 1}.json beside it, and read both."
            )


def test_what_is_compressed_today_is_read_to_the_same() -> None:
    today = Life().items()
    read_fresh_entry(today["entry"])
    read_tried_entry(today["entry-tried"])
    read_chunk(today["chunk"])


def without_bytes(item: WireItem) -> dict[str, Any]:
    return {name: value if name not in COMPRESSED else sorted(value) for name, value in item.items()}


def differences(before: WireItem, now: WireItem) -> str:
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return ", ".join(f"{name} was {before.get(name, 'not there')}, is {now.get(name, 'gone')}" for name in names)
