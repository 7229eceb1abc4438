"""Collection of receipts: each goes two weeks after its write, and not while anything of that write is left.

A receipt keeps a repeated write from taking effect twice. What a commit sends can land for W at most, see
`limits.COLLECTION_WAIT_SECONDS`; two weeks are for callers that repeat an idempotency key. Its age is told by the wall
clock of the machine that wrote it, so a day is added; and a monitor that stays waits W on its own clock as well, so
that no clock alone, however wrong, can make a write happen twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from monitor.audits import AuditSettings, Stop
from reliable_write.clock import Stamp
from reliable_write.dynamodb import CallFailed
from reliable_write.engine import Engine
from reliable_write.entry import UnreadableEntry, shard_of
from reliable_write.receipts import StoredReceipt


@dataclass(slots=True)
class _Watch:
    stamp: Stamp
    has_entry: bool
    seen_at: float
    """Elapsed time of this process when it was first seen to be old enough."""


class ReceiptCollector:
    """Watches receipts that are old enough and removes them. For one thread; any number of processes."""

    def __init__(self, engine: Engine, settings: AuditSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._watches: dict[str, _Watch] = {}

    def note(self, receipts: Iterable[StoredReceipt]) -> None:
        """What a pass over the system table has shown."""
        oldest_kept = self._engine.time.wall_seconds() - self._kept_seconds()
        for receipt in receipts:
            known = self._watches.get(receipt.write_id)
            if known is not None and known.stamp == receipt.stamp:
                continue
            if receipt.at_milliseconds / 1000 < oldest_kept and len(self._watches) < self._settings.receipts_max:
                now = self._engine.time.elapsed_seconds()
                self._watches[receipt.write_id] = _Watch(receipt.stamp, receipt.has_entry, now)

    def collect(self, stop: Stop) -> tuple[int, int]:
        """Remove those whose wait is over; how many went, and how many could not be looked at or removed."""
        due = self._due()
        gone = troubles = 0
        for start in range(0, len(due), self._settings.parallel_max):
            if stop():
                break
            ended = self._engine.workers.run_all(
                [partial(self._collect, name) for name in due[start : start + self._settings.parallel_max]]
            )
            gone += sum(one is True for one in ended)
            troubles += sum(one is None for one in ended)
        return gone, troubles

    def _due(self) -> Sequence[str]:
        # A scheduled audit lives for one look; two weeks are a hundred times as long as anything sent can take.
        wait_seconds = 0.0 if self._settings.scheduled else self._settings.collection_wait_seconds
        over = self._engine.time.elapsed_seconds() - wait_seconds
        return [name for name, watch in self._watches.items() if watch.seen_at <= over]

    def _collect(self, name: str) -> bool | None:
        """Whether it went; None where DynamoDB did not let us, and it stays for the next round."""
        watch = self._watches[name]
        try:
            if watch.has_entry and self._has_entry(watch.stamp):
                return False  # it is how the entry is found by its idempotency key
            self._engine.receipts.collect(name, watch.stamp, self._engine.attempt_deadline())
        except CallFailed:
            return None
        del self._watches[name]
        return True

    def _has_entry(self, stamp: Stamp) -> bool:
        journal = self._engine.journal
        try:
            return journal.read(shard_of(stamp, journal.shards), stamp, self._engine.attempt_deadline()) is not None
        except UnreadableEntry:
            return True

    def _kept_seconds(self) -> float:
        return self._settings.receipt_retention_seconds + self._settings.receipt_margin_seconds
