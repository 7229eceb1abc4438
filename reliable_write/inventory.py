"""One strong pass over the whole system table, page by page: what is there of each kind, and nothing decided.

The pass is no snapshot. What it promises: a record that is there from before its first page until after its last one
is among what it shows. Whoever needs "there is none" must know that none can appear meanwhile, and must have seen the
last page; a pass that ends by an exception has shown nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from reliable_write.clock import Deadline
from reliable_write.dynamodb import Store
from reliable_write.entry import CHUNK_NOTE, CHUNK_PREFIX, NOTE_ATTRIBUTE, SHARD_PREFIX
from reliable_write.receipts import RECEIPT_ATTRIBUTES, RECEIPT_PREFIX, StoredReceipt, read_receipt
from reliable_write.tombstones import TOMBSTONE_PREFIX, Tombstone, read_tombstone
from reliable_write.values import WireItem

_ATTRIBUTES = ("pk", "sk", "stamp", "table", "key", NOTE_ATTRIBUTE, *RECEIPT_ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class Glimpse:
    """The records on one page."""

    entries: tuple[str, ...]
    """Sort keys of everything in a shard, of whatever state, format or shape."""
    chunk_groups: frozenset[str]
    """Stamps, as in the partition names, of entries whose payload lies in chunks, or did."""
    chunk_notes: Mapping[str, str]
    """What scheduled audits wrote about such groups."""
    tombstones: tuple[Tombstone, ...]
    unreadable_tombstones: tuple[str, ...]
    """Partition names of tombstones that hold no stamp, table or key."""
    receipts: tuple[StoredReceipt, ...]
    """Those that can be read; others are never collected."""


class Inventory:
    """Reads all of one system table."""

    def __init__(self, store: Store, table: str) -> None:
        self._store = store
        self._table = table

    def glimpses(self, deadline: Callable[[], Deadline]) -> Iterator[Glimpse]:
        """All pages, each with a deadline of its own. Raises `CallFailed`."""
        start: WireItem | None = None
        while True:
            page = self._store.scan(self._table, deadline(), start=start, attributes=_ATTRIBUTES)
            yield _sorted_by_kind(page.items)
            if page.next_key is None:
                return
            start = page.next_key


def _sorted_by_kind(items: list[WireItem]) -> Glimpse:
    named = [(item["pk"]["S"], item) for item in items]
    tombstones = {name: read_tombstone(item) for name, item in named if name.startswith(TOMBSTONE_PREFIX)}
    receipts = [read_receipt(item) for name, item in named if name.startswith(RECEIPT_PREFIX)]
    return Glimpse(
        entries=tuple(item["sk"]["S"] for name, item in named if name.startswith(SHARD_PREFIX)),
        chunk_groups=frozenset(name.removeprefix(CHUNK_PREFIX) for name, _ in named if name.startswith(CHUNK_PREFIX)),
        chunk_notes={
            name.removeprefix(CHUNK_PREFIX): item.get(NOTE_ATTRIBUTE, {}).get("S", "")
            for name, item in named
            if name.startswith(CHUNK_PREFIX) and item["sk"]["S"] == CHUNK_NOTE
        },
        tombstones=tuple(tombstone for tombstone in tombstones.values() if tombstone is not None),
        unreadable_tombstones=tuple(name for name, tombstone in tombstones.items() if tombstone is None),
        receipts=tuple(receipt for receipt in receipts if receipt is not None),
    )
