"""What a table's locks are, from outside: one look tells who holds them, a second one who lives.

Nothing here believes a clock of a holder's machine: what is said of life comes from the record version, seen twice on
this machine's own clock.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from reliable_write.cli.desk import Desk
from reliable_write.cli.exits import CommandError, ExitCode
from reliable_write.cli.showing import jsonable
from reliable_write.errors import ReadFailedError
from reliable_write.locks.items import ATTRIBUTES, DATA, TOKEN, LockItem, LockState, read_state
from reliable_write.operations import KeyAttribute, TableSchema, make_key
from reliable_write.values import WireItem, decode_item


class Life(enum.StrEnum):
    """What is known of a lock's holder."""

    FREE = "free"
    HELD = "held"
    """Seen once: he may be dead."""
    RENEWED = "renewed"
    """He gave a sign of life between two looks."""
    UNCHANGED = "unchanged"
    """He gave none, for less than a lease."""
    LAPSED = "lapsed"
    """None for a whole lease: whoever waits takes it over."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One lock, as it was seen."""

    table: str
    key: WireItem
    state: LockState
    life: Life
    unchanged_seconds: float | None = None
    """How long it was watched without a change; None where it was seen once, or has changed."""

    @property
    def name(self) -> str:
        """Its key in one line."""
        return " / ".join(str(jsonable(part)) for value in self.key.values() for part in value.values())

    def facts(self) -> dict[str, Any]:
        """For `--json`: all but the data."""
        state = self.state
        return {
            "table": self.table,
            "key": jsonable(self.key),
            "life": str(self.life),
            "owner": state.owner,
            "token": state.token,
            "lease_seconds": state.lease_seconds,
            "since_milliseconds": state.since_milliseconds,
            "record_version": state.record_version,
            "unchanged_seconds": None if self.unchanged_seconds is None else round(self.unchanged_seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class Listing:
    """The locks of one table."""

    table: str
    locks: tuple[Seen, ...]
    items: int
    """Read, whatever they were."""
    unreadable: int
    """Items with attributes of locks that no lock wrote."""

    @property
    def counts(self) -> dict[str, int]:
        """By what is known of them."""
        return {str(life): sum(lock.life is life for lock in self.locks) for life in Life}


def list_all(desk: Desk, table: str, *, everything: bool, progress: Callable[[int], None]) -> Listing:
    """All locks of a table, strongly read, each once. `progress` is told how many items were read."""
    schema = desk.engine.schemas.get(table)
    wanted = (*schema.key_names, *(name for name in ATTRIBUTES if name != DATA))
    found: list[Seen] = []
    items = unreadable = 0
    start: WireItem | None = None
    while True:
        page = desk.engine.store.scan(table, desk.deadline(), start=start, attributes=wanted)
        items += len(page.items)
        for item in page.items:
            try:
                found += _locks_in(schema, item, everything=everything)
            except ReadFailedError:
                unreadable += 1
        progress(items)
        start = page.next_key
        if start is None:
            break
    found.sort(key=lambda seen: seen.name)
    return Listing(table, tuple(found), items, unreadable)


def _locks_in(schema: TableSchema, item: WireItem, *, everything: bool) -> list[Seen]:
    if TOKEN not in item:
        return []
    key = {name: item[name] for name in schema.key_names}
    seen = first_sight(schema.table, key, read_state(decode_item(item), schema.table))
    return [seen] if everything or seen.state.held else []


def first_sight(table: str, key: WireItem, state: LockState) -> Seen:
    """A lock that was seen once."""
    return Seen(table, key, state, Life.HELD if state.held else Life.FREE)


def look_at(desk: Desk, table: str, key: str, sort_key: str | None) -> Seen:
    """One lock. Raises `CommandError` where there is none, or the key is none of this table."""
    schema = desk.engine.schemas.get(table)
    item = LockItem(desk.engine.store, table, _key(schema, key, sort_key))
    state = item.read(desk.deadline())
    if state.token is None:
        raise CommandError(ExitCode.NOT_FOUND, f"Table {table} has no lock with this key, and never had one.")
    return first_sight(table, item.key, state)


def look_again(desk: Desk, seen: tuple[Seen, ...], seconds: float) -> tuple[Seen, ...]:
    """The same locks so long after; as they were where there is nothing to wait for."""
    held = [one for one in seen if one.state.held]
    if seconds <= 0 or not held:
        return seen
    begun = desk.engine.time.elapsed_seconds()
    desk.engine.time.sleep(seconds)
    now = desk.outer.run_all([partial(_again, desk, one, begun) for one in held])
    changed = {id(before): after for before, after in zip(held, now, strict=True)}
    return tuple(changed.get(id(one), one) for one in seen)


def _again(desk: Desk, before: Seen, begun_seconds: float) -> Seen:
    state = LockItem(desk.engine.store, before.table, before.key).read(desk.deadline())
    watched = desk.engine.time.elapsed_seconds() - begun_seconds
    if not state.held:
        return replace(before, state=state, life=Life.FREE)
    if state.record_version != before.state.record_version:
        return replace(before, state=state, life=Life.RENEWED)
    life = Life.LAPSED if watched >= (state.lease_seconds or 0.0) else Life.UNCHANGED
    return replace(before, state=state, life=life, unchanged_seconds=watched)


def _key(schema: TableSchema, key: str, sort_key: str | None) -> WireItem:
    given = [key] if sort_key is None else [key, sort_key]
    if len(given) != len(schema.key):
        needed = "KEY and --sort-key" if len(schema.key) > 1 else "KEY alone"
        names = " and ".join(schema.key_names)
        raise CommandError(ExitCode.USAGE, f"The key of {schema.table} is {names}: give {needed}. Nothing was changed.")
    parts = zip(schema.key, given, strict=True)
    return make_key(schema, {part.name: _typed(part, text) for part, text in parts}, f"key of {schema.table}")


def _typed(part: KeyAttribute, text: str) -> str | Decimal | bytes:
    if part.type == "S":
        return text
    with contextlib.suppress(InvalidOperation, binascii.Error):
        return Decimal(text) if part.type == "N" else base64.b64decode(text, validate=True)
    kind = "a number" if part.type == "N" else "base64"
    raise CommandError(ExitCode.USAGE, f"{part.name} is {kind}, and {text[:64]!r} is not. Nothing was changed.")
