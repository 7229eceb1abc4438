"""`reliable-write repair-stamp` as an actor: what is foreign comes off one item, or nothing does, and the record tells.

Whoever writes the item meanwhile does so without this library: a foreign stamp keeps reliable writes away.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

from reliable_write import ReliableWriteError, Settings, limits
from reliable_write.cli.connect import Connection
from reliable_write.cli.exits import CommandError
from reliable_write.cli.repair import Repair, find_foreign_stamps
from reliable_write.dynamodb import CallFailed, CallName, Store
from reliable_write.errors import Outcome
from tests.proof.cases import Case, Plan
from tests.proof.history import check
from tests.proof.shapes import table_of
from tests.proof.wire import Died, Wire
from tests.simulation.memory import Request

YEAR_SECONDS = 365 * 86_400.0


class RepairCase(Case):
    """The first key of the shape has an item with a foreign stamp."""

    def __init__(self, plan: Plan) -> None:
        self.key = plan.shape.keys[0]
        self.table = table_of(self.key)
        self.told: bool | None = None
        """Whether it was done; None: nothing was said, or that it is not known."""
        self.taken_off = 0
        self.reasons = {"enumeration"}
        super().__init__(plan)

    # --- the item -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        super().begin()
        self.item.update(self.foreign())

    @property
    def item(self) -> dict[str, Any]:
        found: dict[str, Any] = self.tables.tables[self.table].items.get(self.key, {})
        return found

    def foreign(self) -> dict[str, Any]:
        """Each deed meets another kind of it."""
        future = f"{int((self.time.wall + YEAR_SECONDS) * 1000):012x}{0:024x}"
        kinds: dict[str, dict[str, Any]] = {
            "put": {"_rw": {"S": "v2"}},
            "delete": {"_rw": {"S": future}, "_rwu": {"S": f"{int(self.time.wall * 1000):012x}{0:024x}"}},
            "update": {"_rw": {"N": "7"}, "_rwu": {"S": "v3"}},
        }
        return kinds[self.shape.deeds[0].kind]

    def rival(self, kind: str) -> None:
        """Without this library."""
        items = self.tables.tables[self.table].items
        if kind == "delete":
            items.pop(self.key, None)
        elif kind == "put":
            items[self.key] = {"id": {"S": self.key}, "foreign": {"N": "2"}}
        elif self.key in items:
            items[self.key] = {**items[self.key], "foreign": {"N": "3"}, "_rw": {"S": "v4"}}

    def apply(self, call: CallName, request: Request) -> dict[str, Any]:
        before = dict(self.item)
        answer = super().apply(call, request)
        if call == "update_item" and request["TableName"] == self.table:
            self.check_taken_off(before, dict(self.item))
        return answer

    def check_taken_off(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        self.taken_off += 1
        gone = {name for name in before if name not in after}
        check(gone and gone <= {"_rw", "_rwu"}, f"taken off: {gone}")
        check(all(before[name] == value for name, value in after.items()), "more was changed than stamps")
        check(self.records(), "done, and there is no record of it")

    def records(self) -> list[dict[str, Any]]:
        return [one for one in self.world.records("A") if one["reason"]["S"] in self.reasons]

    # --- acting -------------------------------------------------------------------------------------------------

    def act(self) -> None:
        self.wire.faults = self.plan.faults
        try:
            self.repair(self.wire, "enumeration")
            self.told = True
        except Died:
            self.outcomes["died"] += 1
        except CallFailed as failure:
            self.told = None if failure.ambiguous else False
        except (CommandError, ReliableWriteError) as error:
            self.told = None if getattr(error, "outcome", None) is Outcome.UNKNOWN else False
        self.outcomes[f"deed {'perhaps ' if self.told is None else 'not ' if not self.told else ''}done"] += 1
        self.check_told_so()

    def check_told_so(self) -> None:
        if self.told is True:
            check(self.taken_off == 1 and len(self.records()) == 1, f"done {self.taken_off} times, told once")
        if self.told is False:
            check(not self.taken_off, "told not to be done, and is")
            check(not self.records(), "told not to be done, and there is a record of it")

    def repair(self, wire: Wire, reason: str) -> None:
        """As the command does once its questions are answered."""
        settings = Settings(system_table="system")
        time: Any = self.time
        calls: Any = wire
        connection = Connection(settings, None, calls, Store(wire, time), time)
        found = find_foreign_stamps(connection, self.table, f'{{"id": "{self.key}"}}')
        Repair(connection).take_off(found, reason)

    def heal(self) -> None:
        self.wire.faults, self.wire.broken = {}, {}
        self.land()
        if self.told is False:
            check(not self.taken_off, "told not to be done, and was done later")
        self.pass_seconds(limits.LEASE_SECONDS)
        self.reasons.add("again")
        with contextlib.suppress(CommandError):  # there is nothing to repair
            self.repair(Wire(self), "again")

    def judge(self) -> None:
        """Reliable writes go there again."""
        self.history.base.clear()
        if self.item:
            self.history.base[self.key] = Counter({"foreign": int(self.item["foreign"]["N"])})
        self.write(self.helper, "ours", self.shape.deeds)
        self.check_keys()
