"""Tombstone audits and collection: what late writes left at deleted keys goes, then what nobody needs any more.

T is a tombstone, W `AuditSettings.collection_wait_seconds`; all waits are counted on this process's own elapsed clock,
from when it first saw T with this very stamp.

- *Early audit.* Once attempts begun before T are out of time, a ghost at its key is removed, see
  `reliable_write.ghosts`. What came even later is found by the audit before the collection; where an older entry puts
  that off, perhaps for months (it is quarantined), the key is audited again after W, 2 W, 4 W..., at last daily.
- *Collection.* Nothing with a stamp as old as T's may be able to land any more. A first wait of W, after which no
  commit that did not witness T can reach its commit point; then a complete pass over the journal that shows no entry,
  in whatever state or format, with a stamp up to T's; a second wait of W, in which what the last attempts at such
  entries sent lands or dies; then one more audit; then T goes if it still is the one audited. An older entry seen on
  the way begins both waits anew. A pass that did not see everything proves nothing.
- *Chunks* go 2 W after their head was last seen.
- *Receipts* go two weeks after their write, see `monitor.receipts`.

Nothing is remembered but in this process: a new one begins its waits anew, so a crash at any point costs time alone.
Scheduled audits (`AuditSettings.scheduled`) end long before any wait does, so they write down in the table what they
have seen, see `monitor.notes`. They go by the wall clock, with a day added to each wait for what two clocks may differ,
and by the same rules. Three facts are seen by three runs, however far apart: T was there; W later nothing older was; W
later still the key is in order. What may have come and gone between two runs is no commit that could touch T's key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from monitor.audits import AuditReport, AuditSettings, Stop
from monitor.notes import Headless, Notes, Watch, batches
from monitor.receipts import ReceiptCollector
from reliable_write import limits
from reliable_write.clock import is_too_far_ahead
from reliable_write.dynamodb import CallFailed
from reliable_write.engine import Engine
from reliable_write.events import Event
from reliable_write.ghosts import Ghosts, Sight
from reliable_write.inventory import Glimpse, Inventory
from reliable_write.policy import FailureKind
from reliable_write.tombstones import Tombstone


@dataclass(slots=True)
class _Round:
    """One pass, and what it has shown so far."""

    number: int
    began: float
    report: AuditReport = field(default_factory=AuditReport)
    oldest_entry: str | None = None
    entries: set[str] = field(default_factory=set)
    """All that were seen, as far as there is room; scheduled audits only."""
    due: list[Tombstone] = field(default_factory=list)
    """Tombstones whose waits are over, if the rest of the pass does not object."""
    table_troubles: Counter[str] = field(default_factory=Counter)
    refused_in_a_row: Counter[str] = field(default_factory=Counter)
    """Keys, by table."""


class Auditor:
    """Audits and collects in one system table. For one thread; any number of processes."""

    def __init__(self, engine: Engine, settings: AuditSettings | None = None) -> None:
        self._engine = engine
        self._settings = settings if settings is not None else AuditSettings()
        self._wait_seconds = self._settings.collection_wait_seconds
        if self._settings.scheduled:
            self._wait_seconds += self._settings.clock_margin_seconds
        self._inventory = Inventory(engine.store, engine.journal.table)
        self._notes = Notes(engine, self._settings)
        self._receipts = ReceiptCollector(engine, self._settings)
        self._ghosts = Ghosts(engine.store, engine.tombstones, engine.time, engine.installation.names)
        self._watches: dict[str, Watch] = {}
        self._groups: dict[str, Headless] = {}
        self._unreadable: set[str] = set()
        self._rounds = 0
        if self._settings.gc:
            engine.events.info(
                Event.COLLECTION_ON,
                told="tombstones and chunks that nobody needs any more are removed. The setting gc must be off where "
                "the engine checks no signatures.",
            )
        else:
            engine.events.warning(
                Event.COLLECTION_OFF,
                told="tombstones and chunks are kept for ever: gc is off, as it must be where the engine checks no "
                "signatures. Where it does, AWS's own endpoints and those in front of them, set gc to true.",
            )

    def run_once(self, stop: Stop = lambda: False) -> AuditReport:
        """One round: a pass over the system table, early audits on the way, collection after a complete one.

        Never raises for what DynamoDB answers; the report and the events tell.
        """
        if self._settings.scheduled:  # another run may have been here since
            self._watches.clear()
            self._groups.clear()
        begun = self._engine.time.elapsed_seconds()
        self._rounds += 1
        current = _Round(self._rounds, self._now())
        report = current.report
        try:
            report.complete = self._pass_through(current, stop)
        except CallFailed as failure:
            report.reason = str(failure)
            self._engine.events.warning(Event.AUDIT_INCOMPLETE, reason=report.reason)
        self._judge_waits(current)
        report.troubles += self._notes.write(self._watches.items(), stop)
        report.troubles += self._notes.write_about_chunks(self._groups.items(), stop)
        if report.complete:
            self._collect(current, stop)
        report.seconds = self._engine.time.elapsed_seconds() - begun
        self._tell(report)
        return report

    # --- the pass -----------------------------------------------------------------------------------------------

    def _pass_through(self, current: _Round, stop: Stop) -> bool:
        for glimpse in self._inventory.glimpses(self._engine.attempt_deadline):
            if stop():
                current.report.reason = "stopped"
                return False
            self._note_entries(current, glimpse.entries)
            self._note_chunk_groups(current, glimpse)
            self._note_unreadable(current, glimpse)
            self._receipts.note(glimpse.receipts)
            early = [tombstone for tombstone in glimpse.tombstones if self._note_tombstone(current, tombstone)]
            self._audit_early(current, early, stop)
            self._write_notes(current, glimpse.tombstones, stop)
        return True

    def _note_entries(self, current: _Round, sort_keys: Iterable[str]) -> None:
        for sort_key in sort_keys:
            if current.oldest_entry is None or sort_key < current.oldest_entry:
                current.oldest_entry = sort_key
            if sort_key in self._groups:
                self._groups[sort_key].head_in_round = current.number
            if self._settings.scheduled and len(current.entries) < self._settings.entries_max:
                current.entries.add(sort_key)

    def _note_chunk_groups(self, current: _Round, glimpse: Glimpse) -> None:
        """A group new to us may have had its head on an earlier page: this round can say nothing about it, unless it
        remembers all heads.
        """
        for name in glimpse.chunk_groups:
            if name not in self._groups:
                if len(self._groups) >= self._settings.chunk_groups_max:
                    continue
                judged = name not in current.entries and self._remembers_all_entries(current)
                self._groups[name] = Headless(head_in_round=0 if judged else current.number)
            self._groups[name].seen_in_round = current.number
        for name, text in glimpse.chunk_notes.items():
            if name in self._groups:
                self._notes.take_over(self._groups[name], text, self._now())

    def _remembers_all_entries(self, current: _Round) -> bool:
        return self._settings.scheduled and len(current.entries) < self._settings.entries_max

    def _note_unreadable(self, current: _Round, glimpse: Glimpse) -> None:
        for name in glimpse.unreadable_tombstones:
            current.report.tombstones_unreadable += 1
            self._alarm_unreadable(name)

    def _alarm_unreadable(self, name: str) -> None:
        if name not in self._unreadable and len(self._unreadable) < _ALARMS_MAX:
            self._unreadable.add(name)
            self._engine.events.error(Event.TOMBSTONE_UNREADABLE, tombstone=name, told="left alone")

    def _note_tombstone(self, current: _Round, tombstone: Tombstone) -> bool:
        """Watch it; whether its early audit is due. The clock is read after the page: it was there by then."""
        now = self._now()
        report = current.report
        report.tombstones += 1
        if is_too_far_ahead(tombstone.stamp, self._engine.time):
            # No order with it is known, so nothing may be called older than it.
            report.tombstones_unreadable += 1
            self._alarm_unreadable(tombstone.name)
            return False
        watch = self._watches.get(tombstone.name)
        if watch is None and len(self._watches) >= self._settings.tombstones_max:
            report.tombstones_unwatched += 1
            return False
        if watch is None or watch.stamp != tombstone.stamp:
            watch = self._watches[tombstone.name] = self._notes.begin_watch(tombstone, now)
        watch.seen_in_round = current.number
        if self._waits_are_over(watch, current) and len(current.due) < self._settings.collections_max:
            current.due.append(tombstone)
            return False
        return watch.audit_at is not None and now >= watch.audit_at

    def _waits_are_over(self, watch: Watch, current: _Round) -> bool:
        return self._settings.gc and watch.clear_at is not None and current.began >= watch.clear_at + self._wait_seconds

    # --- audits -------------------------------------------------------------------------------------------------

    def _audit_early(self, current: _Round, tombstones: Sequence[Tombstone], stop: Stop) -> None:
        """What was looked at is noted at once: a run that is out of time must not leave it all to the next again."""
        for batch in batches(tombstones, self._settings.parallel_max):
            for tombstone, sight in self._look(current, batch, stop):
                if sight is not Sight.MOVED:
                    watch = self._watches[tombstone.name]
                    watch.audit_at, watch.audited_at = None, self._now()
            self._write_notes(current, batch, lambda: False)

    def _write_notes(self, current: _Round, tombstones: Iterable[Tombstone], stop: Stop) -> None:
        watches = [(one.name, self._watches[one.name]) for one in tombstones if one.name in self._watches]
        current.report.troubles += self._notes.write(watches, stop)

    def _look(self, current: _Round, tombstones: Sequence[Tombstone], stop: Stop) -> Iterable[tuple[Tombstone, Sight]]:
        """Audit these keys, a few at a time; those that could be looked at, with what was seen."""
        for batch in batches(tombstones, self._settings.parallel_max):
            if stop():
                current.report.skipped += len(batch)
                continue
            tried = [tombstone for tombstone in batch if self._may_try(current, tombstone)]
            current.report.skipped += len(batch) - len(tried)
            seen = self._engine.workers.run_all([partial(self._audit, tombstone) for tombstone in tried])
            for tombstone, sight in zip(tried, seen, strict=True):
                if isinstance(sight, CallFailed):
                    self._note_trouble(current, tombstone, sight)
                else:
                    current.refused_in_a_row[tombstone.table] = 0
                    self._note_sight(current, tombstone, sight)
                    yield tombstone, sight

    def _audit(self, tombstone: Tombstone) -> Sight | CallFailed:
        try:
            return self._ghosts.audit(tombstone, self._engine.attempt_deadline())
        except CallFailed as failure:
            return failure

    def _may_try(self, current: _Round, tombstone: Tombstone) -> bool:
        if current.table_troubles[tombstone.table] >= self._settings.table_troubles_max:
            return False
        if current.refused_in_a_row[tombstone.table] < self._settings.table_refusals_max:
            return True
        # Those refused may be others than those behind them, and come first in every round: chance passes by them.
        return self._engine.time.jitter(_ONE_IN) < 1

    def _note_sight(self, current: _Round, tombstone: Tombstone, sight: Sight) -> None:
        current.report.audited += 1
        if sight is Sight.REMOVED:
            current.report.ghosts_removed += 1
            self._engine.events.info(Event.GHOST_REMOVED, table=tombstone.table, tombstone=tombstone.name)
        elif sight is Sight.FOREIGN:
            current.report.foreign += 1
            self._alarm_foreign(tombstone)

    def _alarm_foreign(self, tombstone: Tombstone) -> None:
        watch = self._watches[tombstone.name]
        if not watch.alarmed:
            watch.alarmed = True
            self._engine.events.error(
                Event.AUDIT_FOREIGN_STAMP,
                table=tombstone.table,
                tombstone=tombstone.name,
                told="an item at a deleted key carries a stamp this library did not write; it is left alone",
            )

    def _note_trouble(self, current: _Round, tombstone: Tombstone, failure: CallFailed) -> None:
        current.report.troubles += 1
        if failure.kind in _ABOUT_THE_TABLE:
            counts, most = current.table_troubles, self._settings.table_troubles_max
        else:
            counts, most = current.refused_in_a_row, self._settings.table_refusals_max
        counts[tombstone.table] += 1
        if counts[tombstone.table] == most:
            self._engine.events.warning(
                Event.AUDIT_SKIPPED_TABLE, table=tombstone.table, reason=str(failure), told="until the next round"
            )

    # --- waits --------------------------------------------------------------------------------------------------

    def _judge_waits(self, current: _Round) -> None:
        """What the pass means for each wait. An older entry that was seen counts even where the pass broke off; that
        none was seen counts only after a complete one.
        """
        now = self._now()
        for name, watch in list(self._watches.items()):
            if self._has_older_entry(watch, current):
                self._begin_waits_anew(watch, now)
                current.report.held_back += 1
                self._audit_again(watch)
            elif current.report.complete and watch.seen_in_round != current.number:
                del self._watches[name]  # collected by another auditor
            elif current.report.complete and watch.clear_at is None and current.began >= self._first_wait_end(watch):
                watch.clear_at = now
            if not self._settings.gc:
                self._audit_again(watch)
        self._judge_groups(current, now)

    def _audit_again(self, watch: Watch) -> None:
        """The audit before the collection may be months away: have another one meanwhile, each time after a longer
        pause. A ghost is seldom so late; reading half a million keys again and again would cost more than what is held
        back. Scheduled audits remember no pauses: chance tells which of the keys the next one looks at.
        """
        if watch.audit_at is not None:
            return
        if self._settings.scheduled:
            if self._engine.time.jitter(_ONE_IN) < 1:
                watch.audit_at = watch.quiet_since
            return
        watch.audit_at = watch.audited_at + watch.pause_seconds
        watch.pause_seconds = min(limits.AUDIT_PAUSE_SECONDS_MAX, 2 * watch.pause_seconds)

    def _begin_waits_anew(self, watch: Watch, now: float) -> None:
        """Always safe. Scheduled audits do it only where the second wait was under way, or each of them would write
        each held-back tombstone anew; and to a time never noted before, so that no run mistakes it for what it read.
        """
        if self._settings.scheduled:
            if watch.clear_at is None:
                return
            now = max(now, watch.quiet_since + 0.001)
        watch.quiet_since, watch.clear_at = now, None

    def _has_older_entry(self, watch: Watch, current: _Round) -> bool:
        return current.oldest_entry is not None and current.oldest_entry <= watch.stamp

    def _first_wait_end(self, watch: Watch) -> float:
        more_seconds = self._settings.clock_order_seconds if self._engine.installation.order == "clock" else 0.0
        return watch.quiet_since + self._wait_seconds + more_seconds

    def _judge_groups(self, current: _Round, now: float) -> None:
        for name, group in list(self._groups.items()):
            if group.head_in_round == current.number:
                group.headless_since = None
            elif current.report.complete and group.seen_in_round != current.number:
                del self._groups[name]
            elif current.report.complete and group.headless_since is None:
                group.headless_since = now
        current.report.chunk_groups = len(self._groups)

    # --- collection ---------------------------------------------------------------------------------------------

    def _collect(self, current: _Round, stop: Stop) -> None:
        if not self._settings.gc:
            return
        due = [tombstone for tombstone in current.due if self._waits_are_over(self._watches[tombstone.name], current)]
        for batch in batches(due, self._settings.parallel_max):
            audited = [tombstone for tombstone, sight in self._look(current, batch, stop) if sight in _SETTLED]
            ended = self._engine.workers.run_all([partial(self._collect_tombstone, tombstone) for tombstone in audited])
            current.report.tombstones_collected += ended.count(True)
            current.report.troubles += ended.count(None)
            for tombstone, collected in zip(audited, ended, strict=True):
                if collected:
                    del self._watches[tombstone.name]
        self._collect_chunks(current, stop)
        gone, troubles = self._receipts.collect(stop)
        current.report.receipts_collected += gone
        current.report.troubles += troubles

    def _collect_tombstone(self, tombstone: Tombstone) -> bool | None:
        try:
            return self._engine.tombstones.collect(tombstone, self._engine.attempt_deadline())
        except CallFailed:
            return None

    def _collect_chunks(self, current: _Round, stop: Stop) -> None:
        for name, group in list(self._groups.items()):
            since = group.headless_since
            if since is None or current.began < since + 2 * self._wait_seconds:
                continue
            if stop():
                return
            try:
                current.report.chunks_collected += self._engine.journal.collect_chunks(
                    name, self._engine.attempt_deadline
                )
            except CallFailed:
                current.report.troubles += 1
            else:
                del self._groups[name]

    # --- small parts --------------------------------------------------------------------------------------------

    def _tell(self, report: AuditReport) -> None:
        if report.tombstones_collected or report.chunks_collected or report.receipts_collected:
            self._engine.events.info(
                Event.COLLECTED,
                tombstones=report.tombstones_collected,
                chunks=report.chunks_collected,
                receipts=report.receipts_collected,
            )
        if report.held_back:
            self._engine.events.debug(Event.COLLECTION_HELD_BACK, tombstones=report.held_back)
        if report.tombstones_unwatched:
            self._engine.events.warning(Event.COLLECTION_OVERFULL, tombstones=report.tombstones_unwatched)

    def _now(self) -> float:
        """The clock that waits go by."""
        time = self._engine.time
        return time.wall_seconds() if self._settings.scheduled else time.elapsed_seconds()


_ALARMS_MAX = 1000
_ONE_IN = 50
_SETTLED = frozenset({Sight.NOTHING, Sight.LATER, Sight.UNSTAMPED, Sight.REMOVED})
"""After one of these nothing at the key needs its tombstone. A foreign stamp may be repaired, and then it might."""
_ABOUT_THE_TABLE = frozenset(
    {
        FailureKind.TABLE_MISSING,
        FailureKind.THROTTLED,
        FailureKind.UNREACHABLE,
        FailureKind.TIMEOUT,
        FailureKind.SERVER,
        FailureKind.DEADLINE,
        FailureKind.CREDENTIALS,
        FailureKind.DESTINATION_UNKNOWN,
    }
)
"""Failures that the table's next key would meet as well; others may be about the one item."""


__all__ = ["AuditReport", "AuditSettings", "Auditor"]
