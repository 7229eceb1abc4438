"""What is in the journal, as rows: read by heads alone, so that thousands of entries are a matter of seconds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from reliable_write import limits
from reliable_write.cli.desk import Desk
from reliable_write.cli.exits import CommandError, ExitCode
from reliable_write.cli.options import SECONDS_MAX
from reliable_write.dynamodb import CallFailed
from reliable_write.entry import Entry, State, UnreadableEntry, check_format, check_state, read_entry, shard_name
from reliable_write.heartbeats import Heartbeat
from reliable_write.policy import FailureKind
from reliable_write.values import WireItem

UNREADABLE: Final = "unreadable"
STATES: Final = (State.PENDING.value, State.QUARANTINED.value, UNREADABLE)
OVERDUE_SECONDS: Final = 4 * limits.LEASE_SECONDS
"""A pending write older than this should have been finished by a monitor."""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of the journal, without what it writes."""

    write_id: str
    state: str
    age_seconds: float | None = None
    """Since its commit, by this machine's clock; None where its head cannot be read."""
    attempts: int = 0
    epoch: int | None = None
    owner: str | None = None
    next_in_seconds: float | None = None
    reason: str | None = None
    """The last error, or why it cannot be read."""
    tables: tuple[str, ...] | None = None
    """Only where they were asked for."""

    def facts(self) -> dict[str, Any]:
        """For `--json`."""
        facts: dict[str, Any] = {
            "write_id": self.write_id,
            "state": self.state,
            "age_seconds": None if self.age_seconds is None else round(self.age_seconds, 3),
            "attempts": self.attempts,
            "epoch": self.epoch,
            "owner": self.owner,
            "next_in_seconds": None if self.next_in_seconds is None else round(self.next_in_seconds, 3),
            "reason": self.reason,
        }
        return facts if self.tables is None else {**facts, "tables": list(self.tables)}


@dataclass(frozen=True, slots=True)
class Filters:
    """Which entries are meant; what is empty does not filter."""

    states: frozenset[str] = frozenset()
    table: str | None = None
    older_than_seconds: float | None = None
    error: str | None = None

    @property
    def any(self) -> bool:
        """Whether anything is filtered at all."""
        return bool(self.states or self.table or self.older_than_seconds is not None or self.error)

    def match(self, row: Row) -> bool:
        """Whether the row is meant, as far as its head tells (all but the table)."""
        if self.states and row.state not in self.states:
            return False
        if self.older_than_seconds is not None and (row.age_seconds or 0.0) < self.older_than_seconds:
            return False
        return self.error is None or self.error.casefold() in (row.reason or "").casefold()


@dataclass(frozen=True, slots=True)
class Listing:
    """The rows found, oldest first."""

    rows: tuple[Row, ...]
    unread_shards: tuple[str, ...] = ()
    """Shards that could not be read, with the reason: then nothing here is complete."""
    without_tables: int = 0
    """Entries left out because what they write cannot be read, where a table was asked for."""
    other_tables: tuple[str, ...] = ()
    """What the entries do write to, where a table was asked for that none of them writes to."""

    @property
    def counts(self) -> dict[str, int]:
        """By state, all three named."""
        found = Counter(row.state for row in self.rows)
        return {state: found[state] for state in STATES}

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """The last errors, the most frequent first."""
        return Counter(row.reason for row in self.rows if row.reason).most_common()

    def oldest(self, state: str) -> Row | None:
        """The oldest row in this state."""
        rows = [row for row in self.rows if row.state == state and row.age_seconds is not None]
        return max(rows, key=lambda row: row.age_seconds or 0.0, default=None)


def parse_span(text: str) -> float:
    """Seconds from `90`, `90s`, `10m`, `2h` or `1d`. Raises `CommandError`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if found is None:
        raise CommandError(ExitCode.USAGE, f"{text!r} is no span of time. Write it as 90s, 10m, 2h or 1d.")
    seconds = float(found[1]) * _UNITS[found[2] or "s"]
    if seconds > SECONDS_MAX:
        raise CommandError(ExitCode.USAGE, f"{text[:40]!r} is longer than any span here: {SECONDS_MAX} s is the most.")
    return seconds


def look(desk: Desk, filters: Filters) -> Listing:
    """All entries that match, strongly read, oldest first."""
    journal = desk.engine.journal
    whole = filters.table is not None
    pointless = _Pointless()
    looks = [partial(_look_at, desk, shard, pointless, whole=whole) for shard in range(journal.shards)]
    seen = desk.outer.run_all(looks)
    unread = tuple(failed for _, failed in seen if failed is not None)
    heads = [head for found, _ in seen for head in found if filters.match(head.row)]
    heads.sort(key=lambda head: head.row.write_id if head.entry is None else head.entry.stamp)
    if filters.table is None:
        return Listing(tuple(head.row for head in heads), unread)
    rows = desk.outer.run_all([partial(_with_tables, desk, head) for head in heads])
    known = [row for row in rows if row.tables is not None]
    meant = tuple(row for row in known if filters.table in (row.tables or ()))
    others = () if meant else tuple(sorted({table for row in known for table in row.tables or ()}))
    return Listing(meant, unread, len(rows) - len(known), others)


@dataclass(frozen=True, slots=True)
class _Head:
    row: Row
    entry: Entry | None


class _Pointless:
    """Set once a shard failed in a way in which all will: sixty-four times the patience for one is no answer."""

    def __init__(self) -> None:
        self.because: CallFailed | None = None

    def learn(self, failure: CallFailed) -> None:
        if failure.kind in _ALL_ALIKE:
            self.because = failure


_ALL_ALIKE: Final = frozenset(
    {
        FailureKind.UNREACHABLE,
        FailureKind.TIMEOUT,
        FailureKind.CREDENTIALS,
        FailureKind.ACCESS_DENIED,
        FailureKind.TABLE_MISSING,
    }
)


def _look_at(desk: Desk, shard: int, pointless: _Pointless, *, whole: bool) -> tuple[list[_Head], str | None]:
    """One shard, as far as it could be read; with payloads where what they write is asked for."""
    if pointless.because is not None:
        return [], f"{shard_name(shard)}: {pointless.because}"
    found: list[_Head] = []
    items = desk.engine.journal.partition(shard, desk.deadline) if whole else _heads(desk, shard)
    try:
        found.extend(_head(desk, item) for item in items)
    except CallFailed as failure:
        pointless.learn(failure)
        return found, f"{shard_name(shard)}: {failure}"
    return found, None


def _heads(desk: Desk, shard: int) -> Iterator[WireItem]:
    start: WireItem | None = None
    while True:
        page = desk.engine.journal.heads(shard, desk.deadline(), start)
        yield from page.items
        start = page.next_key
        if start is None:
            return


def _head(desk: Desk, item: WireItem) -> _Head:
    try:
        entry = read_entry(item)
    except UnreadableEntry as error:
        return _Head(Row(item["sk"]["S"], UNREADABLE, reason=error.reason), None)
    return _Head(row_of(entry, desk.now_milliseconds()), entry)


def row_of(entry: Entry, now_milliseconds: int) -> Row:
    """The row of an entry; one that only a newer version understands is unreadable here."""
    state, reason = str(entry.state), entry.last_error
    try:
        check_format(entry)
        check_state(entry)
    except UnreadableEntry as error:
        state, reason = UNREADABLE, error.reason
    waits = (entry.next_at_milliseconds - now_milliseconds) / 1000 if entry.next_at_milliseconds else None
    return Row(
        write_id=entry.write_id,
        state=state,
        age_seconds=(now_milliseconds - entry.committed_at_milliseconds) / 1000,
        attempts=entry.attempts,
        epoch=entry.epoch,
        owner=entry.owner,
        next_in_seconds=waits,
        reason=reason,
    )


def _with_tables(desk: Desk, head: _Head) -> Row:
    """The row with the tables it writes to; as it is where they cannot be had."""
    if head.entry is None:
        return head.row
    try:
        operations = desk.engine.operators.operations(head.entry)
    except (UnreadableEntry, CallFailed):
        return head.row
    tables = tuple(sorted({operation.table for operation in operations}))
    return replace(head.row, tables=tables)


# --- the state of the whole ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Overview:
    """One look at an installation."""

    place: dict[str, Any]
    listing: Listing
    heartbeats: tuple[Heartbeat, ...]
    overdue_seconds: float = OVERDUE_SECONDS
    overdue: int = field(init=False)

    def __post_init__(self) -> None:
        late = [
            row
            for row in self.listing.rows
            if row.state == State.PENDING and (row.age_seconds or 0) > self.overdue_seconds
        ]
        object.__setattr__(self, "overdue", len(late))

    @property
    def monitors_alive(self) -> int:
        """Monitors with a fresh heartbeat."""
        return sum(heartbeat.alive for heartbeat in self.heartbeats)

    @property
    def stuck(self) -> bool:
        """Whether something waits for a person, or is not finished although it should be."""
        counts = self.listing.counts
        return bool(counts[State.QUARANTINED] or counts[UNREADABLE] or self.overdue or self.listing.unread_shards)

    def facts(self) -> dict[str, Any]:
        """For `--json`."""
        listing = self.listing
        return {
            **self.place,
            "stuck": self.stuck,
            "counts": listing.counts,
            "overdue": self.overdue,
            "overdue_after_seconds": self.overdue_seconds,
            "oldest_pending": _facts_of(listing.oldest(State.PENDING)),
            "oldest_quarantined": _facts_of(listing.oldest(State.QUARANTINED)),
            "reasons": [{"reason": reason, "writes": count} for reason, count in listing.reasons[:10]],
            "monitors_alive": self.monitors_alive,
            "monitors": [_heartbeat_facts(heartbeat) for heartbeat in self.heartbeats],
            "unread_shards": list(listing.unread_shards),
        }


def overview(desk: Desk, overdue_seconds: float = OVERDUE_SECONDS) -> Overview:
    """Look at everything once."""
    listing = look(desk, Filters())
    return Overview(desk.place(), listing, tuple(desk.heartbeats()), overdue_seconds)


def _facts_of(row: Row | None) -> dict[str, Any] | None:
    return None if row is None else row.facts()


def _heartbeat_facts(heartbeat: Heartbeat) -> dict[str, Any]:
    return {
        "monitor": heartbeat.monitor,
        "alive": heartbeat.alive,
        "age_seconds": round(heartbeat.age_seconds, 3),
        "version": heartbeat.version,
    }


def check_states(states: Sequence[str]) -> frozenset[str]:
    """States by name. Raises `CommandError`."""
    if unknown := sorted(set(states) - set(STATES)):
        raise CommandError(ExitCode.USAGE, f"There is no state {unknown[0]!r}; there are {', '.join(STATES)}.")
    return frozenset(states)
