"""The commands about locks, once their command line is parsed: look or do, tell, and give the exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from reliable_write.cli import person, render_locks, speech
from reliable_write.cli.desk import Desk, open_desk
from reliable_write.cli.exits import CommandError, ExitCode
from reliable_write.cli.lock_looks import Life, Seen, list_all, look_again, look_at
from reliable_write.cli.options import At, Form
from reliable_write.cli.showing import jsonable
from reliable_write.dynamodb import CallFailed
from reliable_write.errors import Outcome, TooLateError
from reliable_write.locks.items import LockItem
from reliable_write.values import WireItem, encode_item

ACTION: Final = "release-lock"
Place = tuple[str, str, str | None]
"""Table, key, and range key where there is one."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a release is to be done."""

    reason: str = ""
    dry_run: bool = False
    yes: bool = False


def list_locks(
    at: At, form: Form, table: str, *, everything: bool, watch_seconds: float, limit: int | None
) -> ExitCode:
    """The locks of a table, seen once or twice."""
    with open_desk(at) as desk:
        with render_locks.Scanning(table, silent=form.machine) as scanning:
            listing = list_all(desk, table, everything=everything, progress=scanning.read)
            scanning.waiting(watch_seconds)
            seen = look_again(desk, listing.locks, watch_seconds)
        if form.lines:
            speech.print_jsonl(one.facts() for one in (seen[:limit] if limit else seen))
        elif form.machine:
            counts = {str(life): sum(one.life is life for one in seen) for life in Life}
            speech.print_json(
                {
                    "table": table,
                    "items_read": listing.items,
                    "unreadable": listing.unreadable,
                    "watched_seconds": watch_seconds,
                    "counts": counts,
                    "locks": [one.facts() for one in (seen[:limit] if limit else seen)],
                }
            )
        else:
            render_locks.show_list(seen, speech.LIST_ROWS if limit is None else limit)
            render_locks.say_rest(desk, listing, watched=watch_seconds > 0)
        return ExitCode.PARTLY if listing.unreadable else ExitCode.DONE


def show(at: At, form: Form, place: Place, *, watch_seconds: float, reveal: bool) -> ExitCode:
    """One lock."""
    with open_desk(at) as desk:
        (seen,) = look_again(desk, (look_at(desk, *place),), watch_seconds)
        if form.machine:
            data = jsonable(encode_item({"data": seen.state.data}, "lock")["data"]) if reveal else None
            speech.print_json({**seen.facts(), "data": data, "told": render_locks.told(seen)})
        else:
            render_locks.show_lock(seen, reveal=reveal)
    return ExitCode.DONE


def release(at: At, form: Form, place: Place, manner: Manner, *, watch_seconds: float) -> ExitCode:
    """Take it from its holder, as it was seen. A holder who lives is told as too late."""
    with open_desk(at) as desk:
        before = look_at(desk, *place)
        (seen,) = look_again(desk, (before,), watch_seconds)
        _check(before, seen)
        if not form.machine:
            render_locks.preview(seen)
        if manner.dry_run:
            _tell(form, seen, reason=manner.reason.strip(), done=False)
            return ExitCode.DONE
        reason = person.asked_reason(manner.reason)
        if not manner.yes:
            person.confirm("Release it?")
        release_seen(desk, seen, reason)
        _tell(form, seen, reason=reason, done=True)
    return ExitCode.DONE


def _check(before: Seen, seen: Seen) -> None:
    if not before.state.held:
        raise CommandError(ExitCode.TOO_LATE, "Nobody holds this lock. Nothing was changed.")
    if seen.life in (Life.RENEWED, Life.FREE):
        what = "was released" if seen.life is Life.FREE else "got a sign of life, or another holder,"
        raise CommandError(ExitCode.TOO_LATE, f"The lock {what} while it was watched. Nothing was changed.")


def release_seen(desk: Desk, seen: Seen, reason: str) -> None:
    """The record first, as with every deed. Raises `TooLateError` where the lock is not as it was seen."""
    log = desk.engine.audit_log
    record = log.record(
        ACTION, operator=person.operator_name(), reason=reason, facts=_record(seen), deadline=desk.deadline()
    )
    try:
        released = LockItem(desk.engine.store, seen.table, seen.key).release_for(seen.state, desk.deadline())
    except CallFailed as failure:
        if not failure.ambiguous:
            log.withdraw(record)
        raise
    if released.done:
        return
    if not released.unclear:
        log.withdraw(record)
    raise TooLateError(
        "The lock is not as it was seen: it got a sign of life or another holder, or was released. It was left alone; "
        "look again.",
        outcome=Outcome.UNKNOWN if released.unclear else Outcome.NOT_WRITTEN,
        ambiguous=released.unclear,
    )


def _record(seen: Seen) -> WireItem:
    state = seen.state
    return {
        "table": {"S": seen.table},
        "key": {"M": seen.key},
        "owner": {"S": state.owner or ""},
        "record_version": {"S": state.record_version or ""},
        "unchanged_seconds": {"N": f"{seen.unchanged_seconds or 0.0:.3f}"},
    }


def _tell(form: Form, seen: Seen, *, reason: str, done: bool) -> None:
    if not form.machine:
        render_locks.show_release(seen, done=done)
        return
    facts = {"lock": seen.facts(), "released": done, "reason": reason, "operator": person.operator_name()}
    speech.print_json(facts)
