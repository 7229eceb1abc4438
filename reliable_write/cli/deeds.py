"""From a command line to a plan: which writes are meant, what they are now, and the person's word for it."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from reliable_write.cli import person
from reliable_write.cli.bulk import Audience, Outcome, Pace, carry_out
from reliable_write.cli.desk import Desk
from reliable_write.cli.exits import CommandError, ExitCode
from reliable_write.cli.listing import UNREADABLE, Filters, look, row_of
from reliable_write.cli.plans import Plan, Reviewed, reviewed, write_plan
from reliable_write.cli.showing import examined
from reliable_write.entry import State, UnreadableEntry
from reliable_write.errors import EntryNotFoundError
from reliable_write.operations import located_actions

_NOT_FOUND: Final = "not found"
_MEANT_BY: Final = {
    "retry": frozenset({State.PENDING.value, State.QUARANTINED.value}),
    "quarantine": frozenset({State.PENDING.value}),
    "discard": frozenset({State.PENDING.value, State.QUARANTINED.value}),
}
"""States that a filter reaches unless it names others: what a deed can change."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The writes meant, as they are now."""

    writes: tuple[Reviewed, ...]
    oldest_seconds: float | None = None
    unread_shards: tuple[str, ...] = ()
    without_tables: int = 0
    other_tables: tuple[str, ...] = ()
    """As in `Listing`."""

    @property
    def counts(self) -> dict[str, int]:
        """By state."""
        return dict(Counter(write.state for write in self.writes))

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Last errors, the most frequent first."""
        return Counter(write.reason for write in self.writes if write.reason).most_common(5)


def select_ids(desk: Desk, write_ids: Sequence[str]) -> Selection:
    """These writes. Raises `CommandError` where the journal has none of them."""
    found = desk.outer.run_all([partial(_find, desk, write_id) for write_id in dict.fromkeys(write_ids)])
    writes = tuple(write for write, _ in found)
    if all(write.state == _NOT_FOUND for write in writes):
        several = f"any of these {len(writes)} write ids" if len(writes) > 1 else f"the write id {write_ids[0]}"
        raise CommandError(
            ExitCode.NOT_FOUND,
            f"The journal has no entry for {several}: finished, never committed, or discarded. Nothing was changed. "
            f"Run: {desk.told(f'reliable-write writes explain {write_ids[0]}')}",
        )
    return Selection(writes, max((age for _, age in found if age is not None), default=None))


def _find(desk: Desk, write_id: str) -> tuple[Reviewed, float | None]:
    try:
        entry = desk.engine.journal.find(write_id, desk.deadline())
    except EntryNotFoundError:
        return Reviewed(write_id, None, _NOT_FOUND), None
    except UnreadableEntry as error:
        return Reviewed(write_id, None, UNREADABLE, error.reason), None
    row = row_of(entry, desk.now_milliseconds())
    return reviewed(row), row.age_seconds


def select_filtered(desk: Desk, action: str, filters: Filters) -> Selection:
    """All writes that match and that the deed can change. Entries whose head cannot be read are never among them."""
    if not filters.states:
        filters = replace(filters, states=_MEANT_BY[action])
    listing = look(desk, filters)
    rows = [row for row in listing.rows if row.epoch is not None]
    oldest = max((row.age_seconds or 0.0 for row in rows), default=None)
    return Selection(
        tuple(map(reviewed, rows)), oldest, listing.unread_shards, listing.without_tables, listing.other_tables
    )


def places_of(desk: Desk, write_id: str, asked: Sequence[str]) -> tuple[Reviewed, tuple[str, ...]]:
    """The write, and the places that `--op` names: `3` for all of an operation, `3.4` or a full place for one item."""
    entry = examined(desk, write_id)
    if entry.unreadable is not None:
        raise CommandError(
            ExitCode.PARTLY,
            f"The operations of {write_id} cannot be read: {entry.unreadable}. Nothing was changed. "
            f"Run: {desk.told(f'reliable-write writes explain {write_id}')}",
        )
    known = [place for place, _ in located_actions(desk.engine.operators.operations(entry.entry))]
    places = [place for wish in asked for place in _matching(wish, known, write_id)]
    return reviewed(row_of(entry.entry, desk.now_milliseconds())), tuple(dict.fromkeys(places))


def _matching(wish: str, known: Sequence[str], write_id: str) -> list[str]:
    short = re.fullmatch(r"(\d+)(?:\.(\d+))?", wish)
    if short is not None:
        operation = f"operations[{short[1]}]"
        wish = operation if short[2] is None else f"{operation}.items[{short[2]}]"
    found = [place for place in known if place == wish or place.startswith(f"{wish}.")]
    if not found:
        last = re.match(r"operations\[(\d+)\]", known[-1])
        raise CommandError(
            ExitCode.USAGE,
            f"Write {write_id} has no {wish}; its operations are 0 to {last[1] if last else 0}. Nothing was changed.",
        )
    return found


# --- doing it -----------------------------------------------------------------------------------------------------


def keep_plan(path: str, plan: Plan) -> Plan:
    """Store what can be acted on later; what was never seen has no epoch and stays out."""
    seen = replace(plan, writes=tuple(write for write in plan.writes if write.epoch is not None))
    write_plan(path, seen)
    return seen


def act(
    desk: Desk, plan: Plan, rate: float | None, stop: threading.Event, audience: Audience
) -> tuple[Outcome, str | None]:
    """Carry the plan out; the file that holds what remains, if anything does and it could be written."""
    pace = Pace(desk.engine.time, rate)
    outcome = carry_out(desk, plan, person.operator_name(), pace=pace, stop=stop, audience=audience)
    if not outcome.remaining or len(plan.writes) == 1:
        return outcome, None
    path = _rest_path(plan, desk.now_milliseconds())
    try:
        keep_plan(path, replace(outcome.plan, writes=outcome.remaining))
    except CommandError:
        return outcome, None
    return outcome, path


def _rest_path(plan: Plan, now_milliseconds: int) -> str:
    """In the directory the command runs in, under a name that sorts by time."""
    name = f"reliable-write-{plan.action}-rest-{now_milliseconds}.json"
    return name if not Path(name).exists() else f"{now_milliseconds}-{name}"


def plan_facts(plan: Plan, selection: Selection, *, written_to: str | None) -> dict[str, Any]:
    """For `--json` of a dry run or of a plan that was only written."""
    return {
        "action": plan.action,
        "dry_run": True,
        "plan_file": written_to,
        "counts": selection.counts,
        "operations": list(plan.operations),
        "writes": [
            {"write_id": write.write_id, "epoch": write.epoch, "state": write.state, "reason": write.reason}
            for write in plan.writes
        ],
    }


def outcome_facts(outcome: Outcome, rest: str | None) -> dict[str, Any]:
    """For `--json` of a deed that was done."""
    return {
        "action": outcome.plan.action,
        "dry_run": False,
        "reason": outcome.plan.reason,
        "operator": person.operator_name(),
        "counts": outcome.counts,
        "stopped": outcome.stopped or None,
        "remaining": len(outcome.remaining),
        "rest_plan": rest,
        "results": [result.facts() for result in outcome.results],
    }
