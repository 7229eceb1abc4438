"""A stuck write in plain sentences: what happened, what holds, what will happen, what to run. No I/O.

The command line and the page say the same words, so they are made here. Commands stand without connection options:
who shows them knows how it was reached. Item values and keys never appear.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from reliable_write import limits
from reliable_write.audit_log import Deed
from reliable_write.clock import is_stamp
from reliable_write.entry import FORMAT, Entry, State
from reliable_write.operations import Put
from reliable_write.operators import Comparison, Examination, Found
from reliable_write.policy import FailureKind
from reliable_write.receipts import StoredReceipt

_SETTLED: Final = (Found.APPLIED, Found.SUPERSEDED, Found.DELETED_LATER, Found.SKIPPED)
_TOLD_ONE_BY_ONE_MAX: Final = 5
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing a person may do, and what it brings."""

    why: str
    command: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A write, for somebody who was woken up by it."""

    write_id: str
    headline: str
    happened: tuple[str, ...]
    holds: tuple[str, ...]
    will_happen: tuple[str, ...]
    advice: tuple[Advice, ...]


def duration(seconds: float) -> str:
    """A span of time in the one or two units that matter."""
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def is_settled(comparison: Comparison) -> bool:
    """Whether nothing is left to do about this operation."""
    return comparison.found in _SETTLED


def explain(examination: Examination, *, monitors_alive: int, now_milliseconds: int) -> Explanation:
    """What is to be said about a write whose entry is in the journal."""
    entry = examination.entry
    return Explanation(
        write_id=entry.write_id,
        headline=_headline(examination),
        happened=tuple(_happened(examination, now_milliseconds)),
        holds=tuple(_holds(examination)),
        will_happen=tuple(_will_happen(examination, monitors_alive, now_milliseconds)),
        advice=tuple(_advice(examination, monitors_alive)),
    )


def explain_absent(write_id: str, deeds: Sequence[Deed], receipt: StoredReceipt | None = None) -> Explanation:
    """What is to be said where the journal has no entry; `deeds` are the records of what people did to this write,
    `receipt` is what its commit left, if it left one that is still kept.
    """
    last = max(deeds, key=_epoch_seen, default=None)
    if last is not None and last.action == "discard":
        return Explanation(
            write_id,
            "Given up by a person.",
            (f"{last.operator} discarded it. Reason: {last.reason}",),
            ("What was applied before stays applied; the rest was given up.",),
            ("Nothing.",),
            (Advice("See who did what to it", f"reliable-write audit list --write {shlex.quote(write_id)}"),),
        )
    if receipt is not None:
        return _explain_receipt(receipt)
    if not is_stamp(write_id):
        return Explanation(
            write_id,
            "Not a write id, nor an idempotency key with a receipt.",
            (
                "A write id has 36 characters, 0 to 9 and a to f; it is in the error and the log line of its service.",
                "If it is an idempotency key: no write has committed under it, or its receipt is no longer kept.",
            ),
            (),
            (),
            (Advice("See what is in the journal", "reliable-write writes list"),),
        )
    return Explanation(
        write_id,
        "The journal has no entry for it.",
        _finished_or_never_there(deeds, last),
        (
            "If it was committed, every operation of it is applied, or superseded by a later write.",
            "Look at the items: one that it put last carries this id in its stamp attribute (_rw).",
        ),
        (
            "Nothing.",
            "A service that was told UNKNOWN commits the same scope again, within ten minutes, and never anew.",
        ),
        (),
    )


def _finished_or_never_there(deeds: Sequence[Deed], last: Deed | None) -> tuple[str, ...]:
    discarded = next((deed for deed in deeds if deed.action == "discard"), None)
    if discarded is None or last is None:
        return (
            "Either it is finished (the usual case: finished entries are removed), or it was never committed.",
            "The journal cannot tell which. No record says that a person discarded it.",
        )
    return (
        f"{discarded.operator} began to discard it; {last.operator} chose to {last.action} it after that.",
        "So it was not given up then, and it is finished: finished entries are removed.",
    )


def _epoch_seen(deed: Deed) -> int:
    """The later of two deeds saw the higher epoch, whatever their clocks say; equal ones stay in their order."""
    return int(deed.facts.get("epoch", {}).get("N", 0))


def explain_garbled(write_id: str, reason: str) -> Explanation:
    """What is to be said about an entry of which not even the head makes sense."""
    return Explanation(
        write_id,
        "In the journal, but its entry cannot be read.",
        (f"Its entry is damaged: {reason}.",),
        ("What it wanted to write cannot be told.",),
        ("Nothing. It is left exactly as it is, by monitors and by these commands: none of them changes it.",),
        (
            Advice(
                "Restore the system table to a moment before the damage, beside the live one, and compare; to see "
                "whether others are damaged too",
                "reliable-write writes list --state unreadable",
            ),
        ),
    )


def _explain_receipt(receipt: StoredReceipt) -> Explanation:
    if receipt.void:
        return Explanation(
            receipt.write_id,
            "Never committed, for certain.",
            ("Its service gave it up: a condition was false, or others kept changing the same items.",),
            ("Nothing of it was written.",),
            ("Nothing. A request of it that is still under way is refused.",),
            (),
        )
    return Explanation(
        receipt.write_id,
        "Finished: its receipt is there, and no entry any more.",
        (f"It was committed with {receipt.operations} operation{'' if receipt.operations == 1 else 's'}.",),
        ("Every operation of it is applied, or superseded by a later write.",),
        ("Nothing.",),
        (),
    )


# --- the four parts -----------------------------------------------------------------------------------------------


def _headline(examination: Examination) -> str:
    entry = examination.entry
    if examination.unreadable is not None:
        return "In the journal, but its operations cannot be read."
    if entry.state == State.QUARANTINED:
        return "Quarantined: it waits for a person."
    if all(map(is_settled, examination.comparisons)):
        return "Everything is done; only its entry is still to be removed."
    return "Pending: committed, and not finished yet."


def _happened(examination: Examination, now_milliseconds: int) -> list[str]:
    entry = examination.entry
    age = duration((now_milliseconds - entry.committed_at_milliseconds) / 1000)
    sentences = [f"It was committed {age} ago{_about(examination)}."]
    if entry.attempts:
        sentences.append(f"{_attempts(entry.attempts)} made to finish it, the last by {entry.owner}.")
    elif entry.state == State.PENDING:
        sentences.append("Its own service has not finished it; no monitor has tried yet.")
    if entry.last_error:
        sentences.append(f"What stood in the way: {entry.last_error}.")
    if entry.skipped:
        sentences.append(f"A person gave up {_items(len(entry.skipped))} of it.")
    return sentences


def _about(examination: Examination) -> str:
    if not examination.comparisons:
        return ""
    tables = sorted({comparison.action.table for comparison in examination.comparisons})
    return f" with {_items(len(examination.comparisons))} for {_and(tables)}"


def _holds(examination: Examination) -> list[str]:
    if examination.unreadable is not None:
        return [f"What it wanted to write cannot be told: {examination.unreadable}."]
    comparisons = examination.comparisons
    counts = Counter(comparison.found for comparison in comparisons)
    told = ", ".join(f"{count} {found}" for found, count in counts.items())
    sentences = [f"Of {_items(len(comparisons))}, looked at just now: {told}."]
    unsettled = [comparison for comparison in comparisons if not is_settled(comparison)]
    sentences += [_one(comparison) for comparison in unsettled[:_TOLD_ONE_BY_ONE_MAX]]
    if len(unsettled) > _TOLD_ONE_BY_ONE_MAX:
        sentences.append(f"and {len(unsettled) - _TOLD_ONE_BY_ONE_MAX} more like these.")
    return sentences


def _one(comparison: Comparison) -> str:
    verb = "put into" if isinstance(comparison.action, Put) else "delete from"
    because = f" ({comparison.reason})" if comparison.reason else ""
    return f"{comparison.place}, {verb} {comparison.action.table}: {comparison.found}{because}."


def _will_happen(examination: Examination, monitors_alive: int, now_milliseconds: int) -> list[str]:
    entry = examination.entry
    if examination.unreadable is not None:
        return [_fate_of_unreadable(entry)]
    if entry.state == State.QUARANTINED:
        return ["Nothing by itself. It is kept, whole, until a person decides; other writes go on."]
    age_seconds = (now_milliseconds - entry.committed_at_milliseconds) / 1000
    if not entry.attempts and 0 <= age_seconds < limits.LEASE_SECONDS:
        return [
            "Its service may be working on it this moment.",
            f"A monitor takes over once it has seen it unchanged for {limits.LEASE_SECONDS:.0f} s.",
        ]
    if not monitors_alive:
        return ["Nothing, until a monitor runs: none has given a sign of life."]
    wait_seconds = (entry.next_at_milliseconds - now_milliseconds) / 1000
    due = f"in {duration(wait_seconds)}" if wait_seconds >= 1 else "with its next sweep"
    return [f"A monitor tries again {due}, and goes on trying until it is done or cannot be done."]


def _fate_of_unreadable(entry: Entry) -> str:
    if entry.format != FORMAT or entry.state not in list(State):
        return "Monitors of this version leave it alone; a newer version wrote it and can finish it."
    return "No monitor touches it: it is damaged. It is kept until a person decides."


def _advice(examination: Examination, monitors_alive: int) -> list[Advice]:
    entry = examination.entry
    if examination.unreadable is not None:
        return _advice_on_unreadable(entry)
    if entry.state == State.QUARANTINED:
        return [*_cure(examination), *_ways_out(examination)]
    if not monitors_alive:
        return [
            Advice("Start a monitor (best), or finish it from here", f"{_retry(entry.write_id)} --now"),
        ]
    return [Advice("To see it finished", f"reliable-write writes wait {shlex.quote(entry.write_id)}")]


def _advice_on_unreadable(entry: Entry) -> list[Advice]:
    if entry.format != FORMAT or entry.state not in list(State):
        return [Advice("Upgrade the monitors, and reliable-write here, then look again", "reliable-write --version")]
    return [
        Advice(
            "Restore the system table to a moment before the damage and compare; or, when the service has been "
            "told, give the write up for good",
            _discard(entry.write_id),
        )
    ]


def _cure(examination: Examination) -> list[Advice]:
    """What to put right before it is tried again."""
    reason = examination.entry.last_error or ""
    unsettled = [comparison for comparison in examination.comparisons if not is_settled(comparison)]
    foreign = [comparison for comparison in unsettled if comparison.found is Found.FOREIGN]
    if foreign:
        table = foreign[0].action.table
        return [
            Advice(
                "Take the stamp that is not ours off the item",
                f"reliable-write repair-stamp {table} --key '<the item's key as JSON>'",
            )
        ]
    if any(comparison.found is Found.OVERTAKEN for comparison in unsettled):
        return [
            Advice(
                "Compare both values and decide which holds; skipping keeps the one that is in the table",
                f"reliable-write writes show {shlex.quote(examination.entry.write_id)} --reveal",
            )
        ]
    if reason.startswith(FailureKind.DESTINATION_UNKNOWN):
        return [
            Advice(
                "Tell the monitor where that alias leads, in RELIABLE_WRITE_DESTINATIONS, and retry",
                "write-monitor config show --origin",
            )
        ]
    if reason.startswith(FailureKind.ACCESS_DENIED):
        table = _table_in(reason, unsettled[0].action.table if unsettled else "TABLE")
        return [
            Advice(
                "Let the monitor write there; its policy", f"reliable-write iam policy --role monitor --table {table}"
            )
        ]
    return []


def _ways_out(examination: Examination) -> list[Advice]:
    entry = examination.entry
    unsettled = [comparison for comparison in examination.comparisons if not is_settled(comparison)]
    retry = Advice(_retry_reason(entry.last_error or "", unsettled), _retry(entry.write_id))
    if not unsettled:
        return [retry]
    ways = [retry]
    if len(unsettled) < len(examination.comparisons) or len(unsettled) == 1:
        places = " ".join(f"--op '{comparison.place}'" for comparison in unsettled[:_TOLD_ONE_BY_ONE_MAX])
        ways.append(Advice("Or give up only what cannot be done, then retry", _skip(entry.write_id, places)))
    ways.append(Advice("Or stop trying, for good; not an undo", _discard(entry.write_id)))
    return ways


def _retry_reason(reason: str, unsettled: Sequence[Comparison]) -> str:
    if not unsettled:
        return "Let a monitor find that all is done and remove the entry"
    if reason.startswith(FailureKind.TABLE_MISSING):
        return f"When table {_table_in(reason, unsettled[0].action.table)} is there again"
    if reason.startswith(FailureKind.ACCESS_DENIED):
        return "Once it is allowed"
    if reason.startswith(FailureKind.VALIDATION):
        return f"If table {_table_in(reason, unsettled[0].action.table)} was changed so that it takes the item now"
    return "When the cause is put right"


def _retry(write_id: str) -> str:
    return f"reliable-write writes retry {shlex.quote(write_id)} --reason 'WHY'"


def _skip(write_id: str, places: str) -> str:
    return f"reliable-write writes skip {shlex.quote(write_id)} {places} --reason 'WHY'"


def _discard(write_id: str) -> str:
    return f"reliable-write writes discard {shlex.quote(write_id)} --reason 'WHY'"


def _attempts(count: int) -> str:
    return "One attempt was" if count == 1 else f"{count} attempts were"


def _table_in(reason: str, otherwise: str) -> str:
    """The table that a failed call was about, as its error tells it."""
    found = re.search(r" on table ([\w.-]+)", reason)
    return found[1] if found else otherwise


def _items(count: int) -> str:
    return f"{count} item{'' if count == 1 else 's'}"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "its table"
