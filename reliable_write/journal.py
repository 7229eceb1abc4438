"""The journal in the system table: each verb one conditional write.

Invariants, which every verb keeps:

- Only a commit ever PUTs an entry. Everything after is an update of what is there, under
  `attribute_exists(sk) AND epoch = :seen`; so nobody re-creates a finished entry, and of two who act on the same
  sight of an entry one is told "too late".
- An entry's operations and stamp never change. Quarantine moves the bytes into chunks; it does not rewrite them.
- The removal of a finished entry is the only unconditional write: stamps are never used twice, so it can only hit the
  entry it means.
- Chunks are written before the head that names them and are left to collection: a late duplicate of the head's put may
  still bring the head back, and it must find them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from reliable_write import limits
from reliable_write.clock import Deadline, Stamp, is_stamp
from reliable_write.dynamodb import CallFailed, Condition, ConditionRefused, Page, Store
from reliable_write.entry import (
    CHUNK_NOTE,
    HEAD_ATTRIBUTES,
    NOTE_ATTRIBUTE,
    Entry,
    State,
    UnreadableEntry,
    check_format,
    chunk_group,
    chunk_key,
    chunk_note_key,
    decode_operations,
    entry_item,
    entry_key,
    read_entry,
    shard_name,
    shard_of,
)
from reliable_write.errors import EntryNotFoundError, TooLateError
from reliable_write.operations import Operation, located_actions
from reliable_write.receipts import Receipts
from reliable_write.values import WireItem
from reliable_write.workers import Workers

_KEY = ("pk", "sk")
_FRESH = Condition("attribute_not_exists(sk)")


class Journal:
    """Entries and chunks of one system table."""

    def __init__(self, store: Store, workers: Workers, table: str, shards: int) -> None:
        self._store = store
        self._workers = workers
        self.table = table
        self.shards = shards
        self.receipts = Receipts(store, table)

    # --- the commit point ---------------------------------------------------------------------------------------

    def commit(self, entry: Entry, deadline: Deadline) -> None:
        """Put the entry; on return it is durable. Repeating it with the same entry is the same commit.

        A payload too large for one item goes to chunks first, so that the one put of the head stays the commit point.
        Raises `CallFailed`, whose `ambiguous` is about the head alone: chunks without a head are nothing.
        """
        self._put_fresh(entry_item(self.stage(entry, deadline)), deadline)

    def stage(self, entry: Entry, deadline: Deadline) -> Entry:
        """The entry as its head will be put: a payload too large for one item is in chunks by then."""
        if not _is_large(entry):
            return entry
        parts = _split(entry.payload or b"")
        try:
            self._put_chunks(entry.stamp, parts, deadline)
        except CallFailed as failure:
            raise CallFailed(failure.kind, failure.code, failure.table, ambiguous=False) from failure.__cause__
        return dataclasses.replace(entry, payload=None, chunks=len(parts))

    def _put_chunks(self, stamp: Stamp, parts: Sequence[bytes], deadline: Deadline) -> None:
        items = [{**chunk_key(stamp, index), "part": {"B": part}} for index, part in enumerate(parts)]
        self._workers.run_all([partial(self._put_fresh, item, deadline) for item in items])

    def _put_fresh(self, item: WireItem, deadline: Deadline) -> None:
        """Put if absent; already there under our stamp is our own earlier try, whose answer was lost."""
        try:
            self._store.put(self.table, item, _FRESH, deadline)
        except ConditionRefused:
            # Keys hold a stamp, and nobody else makes ours.
            return

    # --- changes in place ---------------------------------------------------------------------------------------

    def claim(self, entry: Entry, owner: str, deadline: Deadline) -> Entry:
        """Take the entry for one attempt: owner, epoch + 1, attempts + 1. Raises `TooLateError` if it has moved."""
        return self._change(
            entry,
            "SET #owner = :owner, epoch = epoch + :one, attempts = if_not_exists(attempts, :zero) + :one",
            {"#owner": "owner"},
            {":owner": {"S": owner}, ":one": {"N": "1"}, ":zero": {"N": "0"}},
            deadline,
        )

    def postpone(self, entry: Entry, error: str, next_at_milliseconds: int, deadline: Deadline) -> Entry:
        """Note why the attempt did not finish and when the next one is due."""
        return self._change(
            entry,
            "SET last_error = :error, next_at = :next",
            {},
            {
                ":error": {"S": error[: limits.ERROR_CHARACTERS_MAX]},
                ":next": {"N": str(next_at_milliseconds)},
            },
            deadline,
        )

    def quarantine(self, entry: Entry, error: str, deadline: Deadline) -> Entry:
        """Set the entry aside for an operator, in place. Its payload goes to chunks first, so that the head is tiny and
        those who walk the partition do not read it again and again.
        """
        chunks = entry.chunks
        if entry.payload is not None:
            parts = _split(entry.payload)
            self._put_chunks(entry.stamp, parts, deadline)
            chunks = len(parts)
        return self._change(
            entry,
            "SET #state = :state, last_error = :error, chunks = :chunks, epoch = epoch + :one REMOVE payload, next_at",
            {"#state": "state"},
            {
                ":one": {"N": "1"},
                ":state": {"S": State.QUARANTINED.value},
                ":error": {"S": error[: limits.ERROR_CHARACTERS_MAX]},
                ":chunks": {"N": str(chunks)},
            },
            deadline,
        )

    def retry(self, entry: Entry, deadline: Deadline) -> Entry:
        """An operator's: pending again and due at once, with the same stamp and operations."""
        return self._change(
            entry,
            "SET #state = :state, epoch = epoch + :one REMOVE next_at",
            {"#state": "state"},
            {":state": {"S": State.PENDING.value}, ":one": {"N": "1"}},
            deadline,
        )

    def skip(self, entry: Entry, places: Iterable[str], deadline: Deadline) -> Entry:
        """An operator's: these operations are given up, the others go on."""
        return self._change(
            entry,
            "SET epoch = epoch + :one ADD skipped :places",
            {},
            {":one": {"N": "1"}, ":places": {"SS": sorted(places)}},
            deadline,
        )

    def discard(self, entry: Entry, deadline: Deadline) -> None:
        """An operator's: stop trying, for good. What was applied stays. Raises `TooLateError` if it has moved."""
        seen = Condition("attribute_exists(sk) AND epoch = :seen", {}, {":seen": {"N": str(entry.epoch)}})
        try:
            self._store.delete(self.table, entry_key(entry.shard, entry.stamp), seen, deadline)
        except ConditionRefused as refused:
            raise _too_late(entry, refused) from refused

    def _change(self, entry: Entry, update: str, names: dict[str, str], values: WireItem, deadline: Deadline) -> Entry:
        condition = Condition(
            "attribute_exists(sk) AND epoch = :seen", names, {**values, ":seen": {"N": str(entry.epoch)}}
        )
        key = entry_key(entry.shard, entry.stamp)
        try:
            return read_entry(self._store.update(self.table, key, update, condition, deadline))
        except ConditionRefused as refused:
            raise _too_late(entry, refused) from refused

    def finish(self, entries: Iterable[tuple[int, Stamp]], deadline: Deadline) -> None:
        """Remove finished entries, up to 25, each given as shard and stamp."""
        self._store.delete_many(self.table, [entry_key(shard, stamp) for shard, stamp in entries], deadline)

    def collect_chunks(self, group: str, deadline: Callable[[], Deadline]) -> int:
        """Remove the chunks of an entry that is gone for good; how many there were.

        Whoever calls has proved that its head is not there and that no put of it can land any more (CE15: a head whose
        chunks were removed under it is a committed write without its payload).
        """
        removed = 0
        while True:
            page = self._store.query(
                self.table, chunk_group(group), deadline(), limit=limits.BATCH_WRITE_REQUESTS_MAX, attributes=_KEY
            )
            if not page.items:
                return removed
            self._store.delete_many(self.table, page.items, deadline())
            removed += sum(item["sk"]["S"] != CHUNK_NOTE for item in page.items)

    def annotate_chunks(self, group: str, seen: str | None, note: str | None, deadline: Deadline) -> None:
        """Write a note beside the chunks of an entry, or take it away, if the one there still is that given.

        It lies in their partition: their removal takes it along. Who reads chunks names them, and never sees it.
        """
        names, values = {"#n": NOTE_ATTRIBUTE}, {":seen": {"S": seen or ""}}
        as_seen = _FRESH if seen is None else Condition("#n = :seen", names, values)
        key = chunk_note_key(group)
        with contextlib.suppress(ConditionRefused):
            if note is None:
                self._store.delete(self.table, key, as_seen, deadline)
            else:
                self._store.put(self.table, {**key, NOTE_ATTRIBUTE: {"S": note}}, as_seen, deadline)

    # --- looking ------------------------------------------------------------------------------------------------

    def find(self, write_id: str, deadline: Deadline) -> Entry:
        """The entry of a write id. Raises `EntryNotFoundError`, or `UnreadableEntry` for a garbled head."""
        if is_stamp(write_id):
            entry = self.read(shard_of(Stamp(write_id), self.shards), Stamp(write_id), deadline)
            if entry is not None:
                return entry
        # Under a stamp of its own: the id is an idempotency key, or the transaction took a new stamp.
        receipt = self.receipts.find(write_id, deadline)
        if receipt is not None and receipt.has_entry:
            entry = self.read(shard_of(receipt.stamp, self.shards), receipt.stamp, deadline)
            if entry is not None:
                return entry
        raise EntryNotFoundError(
            f"No journal entry has the write id {write_id[:64]!r}: it is finished, was never committed, or was "
            "discarded.",
            write_id=write_id,
        )

    def read(self, shard: int, stamp: Stamp, deadline: Deadline) -> Entry | None:
        """The entry at this place, or None. Raises `UnreadableEntry` for a garbled head."""
        item = self._store.get(self.table, entry_key(shard, stamp), deadline)
        return None if item is None else read_entry(item)

    def heads(self, shard: int, deadline: Deadline, start: WireItem | None = None) -> Page:
        """One page of a shard, oldest first, without payloads."""
        return self._store.query(self.table, shard_name(shard), deadline, start=start, attributes=HEAD_ATTRIBUTES)

    def partition(self, shard: int, deadline: Callable[[], Deadline]) -> Iterator[WireItem]:
        """All entries of one shard as stored, oldest first, page by page, each page with a deadline of its own."""
        start: WireItem | None = None
        while True:
            page = self._store.query(self.table, shard_name(shard), deadline(), start=start)
            yield from page.items
            if page.next_key is None:
                return
            start = page.next_key

    def operations(self, entry: Entry, deadline: Deadline) -> tuple[Operation, ...]:
        """The operations of an entry. Raises `UnreadableEntry`; then the entry stays as it is."""
        check_format(entry)
        payload = entry.payload if entry.payload is not None else self._join_chunks(entry, deadline)
        operations = decode_operations(entry, payload)
        self._refuse_what_no_scope_records(entry, operations)
        return operations

    def _refuse_what_no_scope_records(self, entry: Entry, operations: Sequence[Operation]) -> None:
        """What operators skipped lies outside of the checksum: one garbled there would have it applied after all."""
        if any(operation.table == self.table for operation in operations):
            raise UnreadableEntry("it would write to the system table itself")
        if entry.skipped and not entry.skipped <= {place for place, _ in located_actions(operations)}:
            raise UnreadableEntry("it gives up an operation that it does not hold")

    def _join_chunks(self, entry: Entry, deadline: Deadline) -> bytes:
        if not 0 < entry.chunks <= _CHUNKS_MAX:
            raise UnreadableEntry(f"it names {entry.chunks} chunks")
        keys = [chunk_key(entry.stamp, index) for index in range(entry.chunks)]
        found = self._workers.run_all([partial(self._store.get, self.table, key, deadline) for key in keys])
        parts = [_part(item) for item in found]
        bad = [index for index, part in enumerate(parts) if part is None]
        if bad:
            raise UnreadableEntry(f"chunk {bad[0]} of {entry.chunks} is missing or damaged")
        return b"".join(part for part in parts if part is not None)


_CHUNKS_MAX = limits.ENTRY_BYTES_DECODED_MAX // limits.CHUNK_BYTES_MAX


def _too_late(entry: Entry, refused: ConditionRefused) -> TooLateError:
    """Who moved it is known only if every earlier try of our request was answered."""
    if refused.ambiguous:
        told = "has moved and an answer was lost, so it was this request or somebody else"
    else:
        told = "was moved on by somebody else, or is finished"
    return TooLateError(
        f"Write {entry.write_id} {told}. Look again.", write_id=entry.write_id, ambiguous=refused.ambiguous
    )


def _part(chunk: WireItem | None) -> bytes | None:
    part = (chunk or {}).get("part", {}).get("B")
    return bytes(part) if isinstance(part, bytes | bytearray) else None


def _is_large(entry: Entry) -> bool:
    return entry.payload is not None and len(entry.payload) > limits.CHUNK_BYTES_MAX


def _split(payload: bytes) -> list[bytes]:
    return [payload[start : start + limits.CHUNK_BYTES_MAX] for start in range(0, len(payload), limits.CHUNK_BYTES_MAX)]
