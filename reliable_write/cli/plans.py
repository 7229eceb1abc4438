"""Plan files: what was reviewed, and nothing else. Each write stands with the epoch seen, so a moved one is left alone.

A plan names its installation; applied anywhere else it is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reliable_write.cli.exits import CommandError, ExitCode
from reliable_write.cli.listing import Row

FORMAT: Final = 1
ACTIONS: Final = ("retry", "skip", "quarantine", "discard")
_NO_PLAN: Final = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""Arithmetic: JSON as Python reads it has infinite numbers. Recursion: brackets in brackets, thousands of them."""
_PLACE: Final = ("system_table", "region", "endpoint_url")


@dataclass(frozen=True, slots=True)
class Reviewed:
    """One write as it was seen."""

    write_id: str
    epoch: int | None
    """None only where it was never seen: then it is looked at when its turn comes."""
    state: str = ""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to which writes, and why."""

    action: str
    reason: str
    place: dict[str, Any]
    writes: tuple[Reviewed, ...]
    operations: tuple[str, ...] = ()
    """For `skip`: the places given up."""
    attempt_now: bool = False
    """For `retry`: also make the attempt, from here."""
    preparing: bool = False
    """A first step towards another deed, which alone is told; never in a file."""
    made_by: str = ""
    made_at_milliseconds: int = 0

    def facts(self) -> dict[str, Any]:
        """The plan as it stands in its file."""
        return {
            "format": FORMAT,
            "action": self.action,
            "reason": self.reason,
            **self.place,
            "operations": list(self.operations),
            "attempt_now": self.attempt_now,
            "made_by": self.made_by,
            "made_at_milliseconds": self.made_at_milliseconds,
            "writes": [
                {"write_id": write.write_id, "epoch": write.epoch, "state": write.state, "reason": write.reason}
                for write in self.writes
            ],
        }


def reviewed(row: Row) -> Reviewed:
    """A row as it goes into a plan."""
    return Reviewed(row.write_id, row.epoch, row.state, row.reason)


def write_plan(path: str, plan: Plan) -> None:
    """Store the plan in a new file, for its owner only. Raises `CommandError`; never overwrites one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(plan.facts(), file, indent=1)
            file.write("\n")
    except FileExistsError as error:
        raise CommandError(
            ExitCode.USAGE, f"{path} is there already. Choose another name; nothing was changed."
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        why = error.strerror if isinstance(error, OSError) else error
        raise CommandError(ExitCode.USAGE, f"{path} cannot be written: {why}. Nothing was changed.") from error


def read_plan(path: str, place: dict[str, Any]) -> Plan:
    """The plan in this file. Raises `CommandError` for one that is damaged, newer, or of another installation."""
    try:
        facts = json.loads(Path(path).read_text(encoding="utf-8"))
        plan = _parse(path, facts)
    except OSError as error:
        raise CommandError(ExitCode.USAGE, f"{path} cannot be read: {error.strerror}. Nothing was changed.") from error
    except _NO_PLAN as error:
        raise CommandError(ExitCode.USAGE, f"{path} is no plan of this tool ({error}). Nothing was changed.") from error
    if plan.place != place:
        raise CommandError(
            ExitCode.USAGE,
            f"{path} was made for {_where(plan.place)}; this is {_where(place)}. Nothing was changed.",
        )
    return plan


def _parse(path: str, facts: dict[str, Any]) -> Plan:
    if facts["format"] != FORMAT or facts["action"] not in ACTIONS:
        raise CommandError(
            ExitCode.USAGE,
            f"{path} is a plan of format {facts['format']} to {facts['action']}, which this version does not know. "
            "Nothing was changed.",
        )
    return Plan(
        action=facts["action"],
        reason=str(facts["reason"]),
        place={name: facts[name] for name in _PLACE},
        writes=_unique([_write(write) for write in facts["writes"]]),
        operations=tuple(map(str, facts["operations"])),
        attempt_now=bool(facts["attempt_now"]),
        made_by=str(facts["made_by"]),
        made_at_milliseconds=int(facts["made_at_milliseconds"]),
    )


def _write(facts: dict[str, Any]) -> Reviewed:
    return Reviewed(str(facts["write_id"]), int(facts["epoch"]), str(facts["state"]), facts["reason"])


def _unique(writes: Sequence[Reviewed]) -> tuple[Reviewed, ...]:
    return tuple({write.write_id: write for write in writes}.values())


def _where(place: dict[str, Any]) -> str:
    return f"{place['system_table']} in {place['region']} at {place['endpoint_url']}"
