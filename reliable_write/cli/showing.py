"""One write in full: each operation beside what is in its table now. Keys and values only on demand."""

from __future__ import annotations

import base64
import shlex
from collections import Counter
from dataclasses import dataclass
from typing import Any

from reliable_write.audit_log import Deed
from reliable_write.cli.desk import Desk
from reliable_write.cli.exits import CommandError, ExitCode
from reliable_write.cli.listing import Row, row_of
from reliable_write.errors import EntryNotFoundError, UnsupportedOperationError
from reliable_write.explain import Explanation
from reliable_write.operations import Put
from reliable_write.operators import Comparison, Examination
from reliable_write.values import WireItem


@dataclass(frozen=True, slots=True)
class Shown:
    """A write as `writes show` tells it."""

    examination: Examination
    row: Row
    reveal: bool

    @property
    def counts(self) -> dict[str, int]:
        """Items by what was found."""
        return {str(found): count for found, count in Counter(c.found for c in self.examination.comparisons).items()}

    def facts(self) -> dict[str, Any]:
        """For `--json`."""
        entry = self.examination.entry
        return {
            **self.row.facts(),
            "stamp": entry.stamp,
            "format": entry.format,
            "shard": entry.shard,
            "chunks": entry.chunks,
            "committed_at_milliseconds": entry.committed_at_milliseconds,
            "skipped": sorted(entry.skipped),
            "unreadable": self.examination.unreadable,
            "revealed": self.reveal,
            "counts": self.counts,
            "operations": [_facts(comparison, reveal=self.reveal) for comparison in self.examination.comparisons],
        }


def examined(desk: Desk, write_id: str) -> Examination:
    """Raises `CommandError` with the command that tells more where there is nothing to show."""
    try:
        return desk.engine.operators.examine(write_id)
    except (EntryNotFoundError, UnsupportedOperationError) as error:
        code = ExitCode.NOT_FOUND if isinstance(error, EntryNotFoundError) else ExitCode.PARTLY
        run = desk.told(f"reliable-write writes explain {shlex.quote(write_id)}")
        raise CommandError(code, f"{error.message} Run: {run}") from error


def shown(examination: Examination, now_milliseconds: int, *, reveal: bool) -> Shown:
    """What to show of it."""
    return Shown(examination, row_of(examination.entry, now_milliseconds), reveal)


def verb(comparison: Comparison) -> str:
    """What the operation wants to do."""
    return "put" if isinstance(comparison.action, Put) else "delete"


def _facts(comparison: Comparison, *, reveal: bool) -> dict[str, Any]:
    action = comparison.action
    facts: dict[str, Any] = {
        "place": comparison.place,
        "verb": verb(comparison),
        "table": action.table,
        "key_names": list(action.key_names),
        "found": str(comparison.found),
        "by": comparison.by,
        "told": comparison.reason,
    }
    if not reveal:
        return facts
    return {
        **facts,
        "key": jsonable(action.key),
        "journal_item": jsonable(action.item) if isinstance(action, Put) else None,
        "table_item": None if comparison.item is None else jsonable(comparison.item),
    }


def jsonable(value: Any) -> Any:
    """An attribute value in DynamoDB's own JSON: typed, binary as base64."""
    if isinstance(value, dict):
        return {name: jsonable(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(part) for part in value]
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(bytes(value)).decode()
    return value


def explanation_facts(explanation: Explanation, commands: list[str]) -> dict[str, Any]:
    """For `--json`; the commands as they must be typed here."""
    return {
        "write_id": explanation.write_id,
        "headline": explanation.headline,
        "happened": list(explanation.happened),
        "holds": list(explanation.holds),
        "will_happen": list(explanation.will_happen),
        "advice": [
            {"why": advice.why, "command": command}
            for advice, command in zip(explanation.advice, commands, strict=True)
        ],
    }


def deed_facts(deed: Deed, *, reveal: bool) -> dict[str, Any]:
    """One audit record for `--json`; keys and what was taken off an item only on demand."""
    facts: WireItem = deed.facts
    write_id = facts.get("write_id", {}).get("S")
    more: dict[str, Any] = {
        "id": deed.id,
        "at_milliseconds": deed.at_milliseconds,
        "action": deed.action,
        "operator": deed.operator,
        "reason": deed.reason,
        "write_id": write_id,
        "epoch": int(facts["epoch"]["N"]) if "epoch" in facts else None,
        "table": facts.get("table", {}).get("S"),
        "skipped": sorted(facts.get("skipped", {}).get("SS", [])),
    }
    if reveal:
        told = {"write_id", "epoch", "table", "skipped"}
        more["facts"] = jsonable({name: value for name, value in facts.items() if name not in told})
    return more
