"""Reads that know of committed writes that are not finished: what is at a key, what is to come, what is half done.

**The order of reads** is all there is to it:

1. the journal: every shard, strongly, to its end;
2. the keys asked for, and all keys of the writes found that touch them: items, tombstones, receipts, strongly;
3. the journal entries of the writes that the keys asked for were just seen to show, by their stamps.

**What is settled is complete.** If a look is `settled`, every write that passed its commit point before the look began
(an acknowledged one has) is in `item`, applied or superseded by a write later in order. For such a write W:

- W's entry was there when its shard was read. Entries never move, so it was seen. It could be read (`unreadable` is 0),
  so if it touches the key, its operations were compared with what step 2 found, and W is not in `writes` only where all
  of them are done, the one on this key in the very item that is returned.
- W's entry was gone by then. Entries are removed once every operation is done, and the item is read after that. (Or an
  operator discarded W: that gives it up, and the promise with it.)
- W never had one, or its entry does not name this key: what it did here was done at its commit point, before step 1.

A first attempt that a delete ran past may leave a *ghost*, older than the key's tombstone, until the monitor's audit
takes it away. It is not shown: the tombstone is read as well. That the two are not read in one moment does no
harm. W's own effect is there from before step 2: a ghost's tombstone is later than the item, so no item that is as late
as W and its successors is taken for a ghost unless a delete still later has passed its commit point, too.

**What is not fractured is whole, or not begun.** Being done is for ever, so reads of different moments can be put
together: where none of a write's operations was found done, none was done when the first of them was looked at; where
all were, all are done now. A write with some of each is `fractured`. What took effect in the commit point itself
counts as done: the entry does not hold it, but the receipt, which came with the entry, tells how many operations there
were. And the write that `item` shows may touch this key in no other way, or have committed after step 1: hence step 3.
If its entry is gone, it was whole before step 3.

What is not found: a write that did something to this key at its commit point, is unfinished elsewhere, and whose stamp
a later write has replaced here. Its entry does not name the key.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from reliable_write import limits
from reliable_write.clock import Deadline, Stamp, TimeSource
from reliable_write.dynamodb import CallFailed, Schemas, Store, batch_get_pages
from reliable_write.entry import (
    HEAD_ATTRIBUTES,
    Entry,
    State,
    UnreadableEntry,
    check_state,
    entry_key,
    read_entry,
    shard_of,
)
from reliable_write.errors import InvalidKeyError
from reliable_write.journal import Journal
from reliable_write.operations import (
    Action,
    Delete,
    Put,
    StampNames,
    canonical_key,
    located_actions,
)
from reliable_write.policy import retry_pause_seconds
from reliable_write.receipts import RECEIPT_ATTRIBUTES, read_receipt, receipt_key
from reliable_write.sights import Place, Sight, SightReader, is_done
from reliable_write.values import WireItem
from reliable_write.workers import Workers

_RECEIPT = ("pk", "stamp", *RECEIPT_ATTRIBUTES)
_ENTRY = (*HEAD_ATTRIBUTES, "payload")


@dataclass(frozen=True, slots=True)
class PendingWrite:
    """A committed write that touches the key and is not finished: at least one of its operations is not done."""

    write_id: str
    stamp: Stamp
    state: State
    operation: str
    """The place of its operation on this key, `operations[3].items[4]`; empty where that took effect in the commit
    point itself, of which the journal keeps no places."""
    deletes: bool
    """Whether the key is gone once it is applied."""
    applied_here: bool
    """Whether its operation on this key is done: applied, or superseded by a write later in order."""
    fractured: bool
    """Whether some of its operations are done and others not, or `unreached` ones keep that from being ruled out."""
    committed_at_milliseconds: int
    """Wall time of the machine that committed it; for people."""
    item: WireItem | None = field(repr=False)
    """What the key shows once it is applied, its stamp included; None for a delete."""
    unreached: int = 0
    """Operations whose tables could not be read in time."""


@dataclass(frozen=True, slots=True)
class PendingLook:
    """One key, and the committed writes that touch it and are not finished. See the module for what holds."""

    item: WireItem | None = field(repr=False)
    """Read strongly after the journal, stamps included; None where the key is absent or a ghost stands there."""
    writes: tuple[PendingWrite, ...]
    """Oldest first; where nothing else comes, the last that is not `applied_here` is the one that will show."""
    unreadable: int
    """Entries of the journal that this version cannot read: any of them may touch the key."""

    @property
    def fractured(self) -> bool:
        """Whether a write that touches the key is done in part."""
        return any(write.fractured for write in self.writes)

    @property
    def settled(self) -> bool:
        """Whether `item` holds all that was committed before the look began."""
        return not self.writes and not self.unreadable


class PendingReader:
    """Looks at keys with the journal in view. Safe for threads."""

    def __init__(
        self, *, journal: Journal, store: Store, schemas: Schemas, workers: Workers, time: TimeSource, names: StampNames
    ) -> None:
        self._journal = journal
        self._store = store
        self._schemas = schemas
        self._workers = workers
        self._time = time
        self._names = names
        self._sights = SightReader(store=store, system_table=journal.table, workers=workers, time=time, names=names)
        self._chunked = _KeysInChunks(limits.LOOK_KEYS_REMEMBERED_MAX)

    def look(self, table: str, key: WireItem, deadline: Deadline, *, wait_seconds: float = 0.0) -> PendingLook:
        """Look at one key; see `look_many`."""
        return self.look_many([(table, key)], deadline, wait_seconds=wait_seconds)[0]

    def look_many(
        self, keys: Sequence[tuple[str, WireItem]], deadline: Deadline, *, wait_seconds: float = 0.0
    ) -> tuple[PendingLook, ...]:
        """Look at up to `limits.LOOK_KEYS_MAX` keys of any tables, with one walk over the journal; in the order given.

        With `wait_seconds`, looks again, in jittered pauses, until no pending write touches any of the keys, or until
        those that do are quarantined and so wait for a person. `deadline` bounds all of it, the waiting included; time
        that runs out while it waits ends it with what was seen last. Raises `ValueError` for too many keys,
        `InvalidKeyError`, `CallFailed` where journal or keys cannot be read, and what `Schemas.get` raises.
        """
        if len(keys) > limits.LOOK_KEYS_MAX:
            raise ValueError(f"A look takes {limits.LOOK_KEYS_MAX} keys; these are {len(keys)}. Look several times.")
        asked = [self._asked(table, key) for table, key in keys]
        places = [canonical_key(action) for action in asked]
        if not places:
            return ()
        waiting = Deadline.after(wait_seconds, self._time)
        looks = self._until_nothing_is_pending(dict(zip(places, asked, strict=True)), deadline, waiting)
        return tuple(looks[place] for place in places)

    def _asked(self, table: str, key: WireItem) -> Delete:
        """The key as an action: nothing is deleted, it only stands for the key."""
        names = self._schemas.get(table).key_names
        if set(key) != set(names):
            raise InvalidKeyError(f"The key of {table} is {', '.join(names)}.", table=table)
        return Delete(table, names, key)

    # --- waiting ------------------------------------------------------------------------------------------------

    def _until_nothing_is_pending(
        self, asked: Mapping[Place, Delete], deadline: Deadline, waiting: Deadline
    ) -> Mapping[Place, PendingLook]:
        """Between two looks at everything only the shards of the writes waited for are read."""
        looks, awaited = self._look(asked, range(self._journal.shards), deadline)
        for tries in itertools.count(1):
            if not awaited or waiting.passed():
                break
            self._time.sleep(min(retry_pause_seconds(tries, self._time), waiting.remaining_seconds()))
            try:
                if not waiting.passed() and self._look(asked, sorted(awaited), deadline)[1]:
                    continue
                looks, awaited = self._look(asked, range(self._journal.shards), deadline)
            except CallFailed:
                break
        return looks

    # --- one look -----------------------------------------------------------------------------------------------

    def _look(
        self, asked: Mapping[Place, Delete], shards: Iterable[int], deadline: Deadline
    ) -> tuple[dict[Place, PendingLook], frozenset[int]]:
        """What is at the keys, and the shards of the pending writes that may be finished soon."""
        writes, unreadable = self._walk(frozenset(asked), shards, deadline)
        sights = self._sights.read(asked, _keys_of(writes, but=asked), deadline)
        shown = {place: sights[place].stamps(self._names) for place in asked}
        stamps = frozenset(itertools.chain.from_iterable(shown.values()))
        more, garbled = self._named(stamps - {write.entry.stamp for write in writes}, deadline)
        writes += more
        sights |= self._sights.read({}, _keys_of(more, but=sights), deadline)
        unfinished = self._unfinished(writes, sights, deadline)
        looks = {
            place: PendingLook(
                sights[place].item,
                tuple(
                    self._pending(write, place, sights[place], standing)
                    for write, standing in unfinished
                    if write.has_to_do(place) or write.entry.stamp in shown[place]
                ),
                len(unreadable | garbled),
            )
            for place in asked
        }
        return looks, frozenset(write.entry.shard for write, _ in unfinished if write.entry.state == State.PENDING)

    def _unfinished(
        self, writes: Sequence[_Write], sights: Mapping[Place, Sight], deadline: Deadline
    ) -> list[tuple[_Write, _Standing]]:
        """Those of which not all is done, oldest first, and how far they are."""
        standings = {write.entry.stamp: self._standing(write, sights) for write in writes}
        unfinished = [write for write in writes if not standings[write.entry.stamp].complete]
        unbegun = [write for write in unfinished if not standings[write.entry.stamp].fractured]
        for stamp in self._begun_at_commit(unbegun, deadline):
            standings[stamp] = replace(standings[stamp], begun=True)
        unfinished.sort(key=lambda write: write.entry.stamp)
        return [(write, standings[write.entry.stamp]) for write in unfinished]

    def _standing(self, write: _Write, sights: Mapping[Place, Sight]) -> _Standing:
        """How far what was journalled of a write is."""
        stamp = write.entry.stamp
        to_do = write.to_do()
        done = [
            is_done(action, stamp, sights[place], self._names, self._time)
            for place, action in to_do.items()
            if place in sights
        ]
        return _Standing(any(done), unreached=len(to_do) - len(done), missing=done.count(False))

    def _begun_at_commit(self, writes: Sequence[_Write], deadline: Deadline) -> list[Stamp]:
        """Those that had more operations than are in their entries: the others took effect in the commit point."""
        table = self._journal.table
        keys = [(table, receipt_key(write_id)) for write_id in {write.entry.write_id for write in writes}]
        receipts = [read_receipt(item) for _, item in self._read(keys, _RECEIPT, deadline)]
        operations = {receipt.write_id: receipt.operations for receipt in receipts if receipt is not None}
        return [write.entry.stamp for write in writes if operations.get(write.entry.write_id, 0) > write.operations]

    def _pending(self, write: _Write, place: Place, sight: Sight, standing: _Standing) -> PendingWrite:
        entry = write.entry
        where, action = write.actions.get(place, ("", None))
        if action is None:
            applied_here, item = True, None if sight.tombstone == entry.stamp else sight.item
        else:
            applied_here = is_done(action, entry.stamp, sight, self._names, self._time)
            item = {**action.item, self._names.full: {"S": entry.stamp}} if isinstance(action, Put) else None
        return PendingWrite(
            write_id=entry.write_id,
            stamp=entry.stamp,
            state=State(entry.state),
            operation=where,
            deletes=item is None,
            applied_here=applied_here,
            fractured=standing.fractured,
            committed_at_milliseconds=entry.committed_at_milliseconds,
            item=item,
            unreached=standing.unreached,
        )

    # --- the journal --------------------------------------------------------------------------------------------

    def _walk(
        self, places: frozenset[Place], shards: Iterable[int], deadline: Deadline
    ) -> tuple[list[_Write], frozenset[str]]:
        walked = self._workers.run_all([partial(self._walk_shard, places, shard, deadline) for shard in shards])
        unreadable = frozenset(itertools.chain.from_iterable(bad for _, bad in walked))
        return [write for writes, _ in walked for write in writes], unreadable

    def _walk_shard(
        self, places: frozenset[Place], shard: int, deadline: Deadline
    ) -> tuple[list[_Write], frozenset[str]]:
        """Page by page: a backlog of large entries is never in memory as a whole."""
        return self._opened(self._journal.partition(shard, lambda: deadline), places, deadline)

    def _named(self, stamps: frozenset[Stamp], deadline: Deadline) -> tuple[list[_Write], frozenset[str]]:
        """The writes of these stamps that still have an entry."""
        keys = [(self._journal.table, entry_key(shard_of(one, self._journal.shards), one)) for one in stamps]
        return self._opened((item for _, item in self._read(keys, _ENTRY, deadline)), None, deadline)

    def _read(
        self, keys: Sequence[tuple[str, WireItem]], attributes: Sequence[str], deadline: Deadline
    ) -> list[tuple[str, WireItem]]:
        """Records of the system table."""
        read = partial(self._store.batch_get, attributes={self._journal.table: attributes}, deadline=deadline)
        found = self._workers.run_all([partial(read, page) for page in batch_get_pages(keys)])
        return list(itertools.chain.from_iterable(found))

    def _opened(
        self, items: Iterable[WireItem], places: frozenset[Place] | None, deadline: Deadline
    ) -> tuple[list[_Write], frozenset[str]]:
        """The writes of these entries that touch one of the places, and the sort keys of those that cannot be read."""
        writes: list[_Write] = []
        unreadable: set[str] = set()
        for item in items:
            try:
                write = self._open(read_entry(item), places, deadline)
            except UnreadableEntry:
                unreadable.add(item["sk"]["S"])
                continue
            if write is not None:
                writes.append(write)
        return writes, frozenset(unreadable)

    def _open(self, entry: Entry, places: frozenset[Place] | None, deadline: Deadline) -> _Write | None:
        """Chunks are fetched once in the life of a process, unless the entry touches one of the places."""
        check_state(entry)
        if places is not None and self._chunked.misses(entry.stamp, places):
            return None
        operations = self._journal.operations(entry, deadline)
        actions = {canonical_key(action): (where, action) for where, action in located_actions(operations)}
        if entry.chunks:
            self._chunked.remember(entry.stamp, actions)
        write = _Write(entry, actions, len(operations))
        return write if places is None or any(map(write.has_to_do, places)) else None


@dataclass(frozen=True, slots=True)
class _Write:
    """A write whose entry is in the journal."""

    entry: Entry
    actions: Mapping[Place, tuple[str, Action]]
    """All its journalled operations, each with its place in the scope."""
    operations: int
    """How many sub-operations they are: a batch is one."""

    def has_to_do(self, place: Place) -> bool:
        """Whether it has an operation on this key that no operator gave up."""
        return place in self.actions and self.actions[place][0] not in self.entry.skipped

    def to_do(self) -> dict[Place, Action]:
        """All of them."""
        return {place: action for place, (_, action) in self.actions.items() if self.has_to_do(place)}


@dataclass(frozen=True, slots=True)
class _Standing:
    """How far a write is."""

    begun: bool
    unreached: int
    missing: int

    @property
    def complete(self) -> bool:
        return not self.unreached and not self.missing

    @property
    def fractured(self) -> bool:
        """Also where it cannot be ruled out."""
        return not self.complete and (self.begun or self.unreached > 0)


class _KeysInChunks:
    """What entries in chunks touch, by their stamps: neither ever changes. Safe for threads.

    Entries that stay in the journal are quarantined, and have their payload in chunks: with each look they would be
    fetched anew. The key itself is not kept; a hash that is there by chance costs a fetch.
    """

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self._lock = threading.Lock()
        self._known: OrderedDict[Stamp, frozenset[int]] = OrderedDict()
        self._keys = 0

    def misses(self, stamp: Stamp, places: Iterable[Place]) -> bool:
        """Whether the entry is known and touches none of them."""
        with self._lock:
            known = self._known.get(stamp)
            if known is not None:
                self._known.move_to_end(stamp)
        return known is not None and known.isdisjoint(map(hash, places))

    def remember(self, stamp: Stamp, places: Iterable[Place]) -> None:
        """Note what an entry touches; those not asked about for longest go."""
        hashes = frozenset(map(hash, places))
        with self._lock:
            self._keys += len(hashes) - len(self._known.get(stamp, ()))
            self._known[stamp] = hashes
            while self._keys > self._keys_max:
                self._keys -= len(self._known.popitem(last=False)[1])


def _keys_of(writes: Iterable[_Write], *, but: Mapping[Place, object]) -> dict[Place, Action]:
    """The keys on which the writes have something to do."""
    return {place: action for write in writes for place, action in write.to_do().items() if place not in but}
