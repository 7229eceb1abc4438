"""Narrow lives: one key or two, and the network's troubles where they hurt.

A wide life spreads its troubles over all that a service does; what a single guard keeps off needs four or five things
to meet at one key, and a million wide lives may never see it. So each narrow life has a theme, and a focus: the calls
that its theme turns upon go wrong far more often than others. Everything else is a wide life's, the judge as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from reliable_write import limits
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallName
from tests.simulation.history import Change, LatePut
from tests.simulation.life import ABSENT, EXISTS, SKEWS, Life, Member, W
from tests.simulation.memory import Request
from tests.simulation.timeline import Process
from tests.simulation.wire import FAULTS, SYSTEM, Answer, Weather, Wire, target

RETENTION: Final = limits.RECEIPT_RETENTION_SECONDS
DAY: Final = 86_400.0

Call = tuple[str, str, str]
"""A role, a call, and what it is about."""
Focus = Mapping[Call, tuple[float, tuple[str, ...]]]
"""How often these calls meet one of these faults, before the weather is asked."""


@dataclass(frozen=True)
class Theme:
    """What a narrow life turns upon."""

    name: str
    kinds: tuple[str, ...]
    focus: Focus
    kinds_of_slow: tuple[str, ...] = ()
    """Of processes whose clocks are behind, where those do something else."""
    start_seconds: float = 1.0
    conditions: tuple[str | None, ...] = (None, None, EXISTS, ABSENT)
    is_slow: bool = False
    pauses: tuple[float, ...] = (0.0, 0.01, 0.1, 1.0, 9.0)
    skews: tuple[float, ...] = SKEWS
    committers: tuple[int, ...] = (2, 3, 4)
    scopes_each: tuple[int, ...] = (2, 3, 4)
    auditors: tuple[int, ...] = (1,)
    audit_pauses: tuple[float, ...] = (30.0, W / 2, W + 1)
    operator_rate: float = 0.2
    operator_pauses: tuple[float, ...] = ()
    """Where they are not a wide life's."""
    deciding_rate: float = 0.3
    keyed_rate: float = 0.1
    twin_rate: float = 0.05
    idle_seconds_max: float = 900.0


LOST: Final = ("late landing", "timeout after apply", "timeout, not applied")
DEATHS: Final = ("crash before send", "crash after apply", "kill on the way")
CROSSING: Final = Theme(
    "writers cross at one key, and die in the middle",
    kinds=("put", "put", "delete", "delete", "update", "update", "update", "put at commit", "delete at commit"),
    focus={
        ("committer", "put_item", "item"): (0.25, (*DEATHS, "throttled", "late landing")),
        ("committer", "put_item", "tombstone"): (0.35, (*DEATHS, "throttled", "late landing")),
        ("committer", "transact_write_items", "commit point"): (0.3, (*LOST, "conflict")),
        ("committer", "batch_write_item", "entry"): (0.3, (*DEATHS, "throttled")),
        ("monitor", "put_item", "item"): (0.1, ("late landing", "duplicate", "stall")),
    },
)
ORPHANS: Final = Theme(
    "what the dead left behind is finished at once, around an update",
    kinds=("put", "delete", "update"),
    conditions=(None,),
    skews=(0.0, 0.3),
    committers=(3, 4, 5),
    scopes_each=(1,),
    start_seconds=2.0,
    keyed_rate=0.0,
    focus={
        ("committer", "batch_write_item", "entry"): (0.8, ("crash before send",)),
        ("committer", "put_item", "tombstone"): (0.8, ("crash before send",)),
        ("monitor", "get_item", "tombstone"): (0.2, ("throttled", "timeout, not applied")),
        ("monitor", "put_item", "item"): (0.2, ("throttled", "timeout after apply")),
    },
)
DOUBTS: Final = Theme(
    "commits that nobody answered",
    kinds=("update", "update", "put at commit", "put", "put", "delete"),
    conditions=(EXISTS, EXISTS, EXISTS, ABSENT, None),
    skews=(3600.0, 0.0, -3600.0),
    pauses=(0.1, 5.0, 20.0, 60.0),
    scopes_each=(1, 2, 2),
    focus={
        ("committer", "transact_write_items", "commit point"): (0.6, (*LOST, *["late landing"] * 4)),
        ("committer", "batch_get_item", "witness"): (0.1, ("denied", "throttled", "stall")),
    },
    keyed_rate=0.2,
    twin_rate=0.2,
)
HOPES: Final = Theme(
    "refused and still under way, when a slow clock makes its condition true",
    kinds=("update", "update", "put at commit"),
    kinds_of_slow=("put",),
    conditions=(EXISTS,),
    skews=(3600.0, -3600.0),
    start_seconds=40.0,
    pauses=(5.0, 20.0, 60.0),
    scopes_each=(1, 2),
    focus={("committer", "transact_write_items", "commit point"): (0.45, (*LOST, *["late landing"] * 6))},
    keyed_rate=0.0,
)
AGEING: Final = Theme(
    "late puts, deletes and collections, hours apart",
    kinds=("put", "put", "put", "delete", "delete", "delete", "update"),
    is_slow=True,
    pauses=(0.1, 20.0, 20.0, 60.0, 700.0, W / 2, 2 * W + 100),
    committers=(2, 2, 3),
    auditors=(1, 2),
    audit_pauses=(30.0, 30.0, 200.0, W / 2, W + 1),
    operator_rate=0.5,
    focus={
        ("committer", "put_item", "entry"): (0.2, (*DEATHS, "late landing", "timeout after apply")),
        ("committer", "put_item", "item"): (0.4, ("late landing", "late landing", "duplicate", "throttled", *DEATHS)),
        ("monitor", "put_item", "item"): (0.4, ("late landing", "duplicate", "stall", *DEATHS)),
        ("committer", "put_item", "tombstone"): (0.1, (*DEATHS, "late landing", "stall")),
        ("committer", "delete_item", "item"): (0.1, (*DEATHS, "late landing", "stall")),
    },
)
DECISIONS: Final = Theme(
    "people set entries aside, try them again and give them up, while deletes and audits run",
    kinds=("put", "put", "delete", "delete", "update"),
    conditions=(None,),
    is_slow=True,
    pauses=(0.1, 5.0, 15.0, 60.0, W, 2 * W + 100),
    auditors=(1, 2),
    audit_pauses=(30.0, 200.0, W / 2, W + 1),
    operator_rate=1.0,
    operator_pauses=(0.5, 3.0, 10.0, 60.0, W),
    deciding_rate=0.8,
    focus={
        ("committer", "put_item", "item"): (0.5, (*DEATHS, "denied", "late landing")),
        ("committer", "put_item", "tombstone"): (0.4, (*DEATHS, "denied", "late landing", "stall")),
        ("committer", "delete_item", "item"): (0.3, (*DEATHS, "denied", "late landing", "stall")),
        ("monitor", "put_item", "item"): (0.5, ("throttled", "late landing", "duplicate", "stall", "denied")),
        ("operator", "update_item", "entry"): (0.2, (*LOST, "stall")),
    },
)
RECEIPTS: Final = Theme(
    "receipts that grow old, and keys that are used again weeks later",
    kinds=("update", "update", "put at commit", "delete at commit", "put", "delete"),
    is_slow=True,
    pauses=(0.1, 60.0, W, DAY, RETENTION, RETENTION + 4 * DAY),
    committers=(2, 3),
    audit_pauses=(W / 2, W + 1, DAY),
    focus={("committer", "transact_write_items", "commit point"): (0.3, (*LOST, "duplicate"))},
    keyed_rate=0.6,
    twin_rate=0.5,
    idle_seconds_max=DAY / 2,
)
THEMES: Final = (CROSSING, CROSSING, DECISIONS, ORPHANS, ORPHANS, DOUBTS, HOPES, AGEING, AGEING, RECEIPTS)


class FocusedWeather(Weather):
    """Asked for a fault, it looks first at what the call is about."""

    focus: Focus
    about: Call = ("", "", "")

    def draw(self) -> str | None:
        rate, kinds = self.focus.get(self.about, (0.0, ()))
        if not self.calm and rate and self.chance.random() < rate:
            return self.chance.choice(kinds)
        return super().draw()

    @classmethod
    def around(cls, theme: Theme, chance: Any) -> FocusedWeather:
        """A light weather of everything, and the theme's focus; now and then only the one or only the other."""
        weather = cls(chance, chance.choice((0.0, 0.03, 0.03, 0.08)), FAULTS, (1.0,) * len(FAULTS))
        weather.focus = theme.focus if weather.rate == 0.0 or chance.random() < 0.8 else {}
        return weather


_BY: Final = "sent by"
"""A member of requests that nobody reads but a narrow life: who waits for this one's answer."""


class WatchedWire(Wire):
    """Tells the weather what a call is about, and the life which of the requests that land is whose."""

    def send(self, call: CallName, request: Request, deadline: Deadline) -> dict[str, Any]:
        self._world.weather.about = (self._process.role, call, target(call, request))
        return super().send(call, self._signed(request) if self._line.in_hub else request, deadline)

    def _exchange(self, call: CallName, request: Request) -> Answer:
        """Not what flies: the same bytes may be on their way as well, and nobody looks at what those leave."""
        return super()._exchange(call, self._signed(request))

    def _signed(self, request: Request) -> Request:
        return {**request, _BY: self._process.name} if self._process.role == "monitor" else request


class NarrowLife(Life):
    """A life with a theme."""

    shards = 1
    idle_after_seconds = 15.0

    def __init__(self, seed: int, *, fingerprint: bool = False) -> None:
        super().__init__(seed, fingerprint=fingerprint)
        chance = self.random
        self.theme = theme = chance.choice(THEMES)
        self.weather = FocusedWeather.around(theme, chance)
        self.places = self.places[: chance.choice((1, 1, 1, 2))]
        self.table_names = tuple(dict.fromkeys(table for table, _ in self.places))
        for name in _AS_THE_THEME_SAYS:
            setattr(self, name, getattr(theme, name))
        self.auditor_count = chance.choice(theme.auditors)
        self.seen[f"theme: {theme.name}"] += 1
        self.put_by: dict[tuple[str, str], list[Change]] = {}
        """What monitors put, by their names and the stamps."""
        self.landed_at: dict[str, float] = {}
        """When the last receipt of each write id was put."""

    def pauses(self) -> tuple[float, ...]:
        return self.theme.pauses

    def operator_pause(self) -> float:
        pauses = self.theme.operator_pauses
        return self.random.choice(pauses) if pauses else super().operator_pause()

    def commit_scope(self, member: Member) -> None:
        slow = self.theme.kinds_of_slow if member.process.skew < 0 else ()
        self.kinds = slow or self.theme.kinds
        super().commit_scope(member)

    def wire(self, process: Process) -> Wire:
        return WatchedWire(process, self)

    def note(self, process: Process, call: CallName, request: Request, fault: str | None) -> None:
        """A monitor that removes an entry says that all of it is done."""
        super().note(process, call, request, fault)
        if call == "batch_write_item" and process.role == "monitor":
            for row in request["RequestItems"][SYSTEM]:
                stamp = row["DeleteRequest"]["Key"]["sk"]["S"]
                for change in self.put_by.pop((process.name, stamp), ()):
                    late_put = LatePut(stamp, change.place, change.step, self.line.step)
                    self.history.late_puts.append(late_put)
                    self.seen["late puts"] += 1

    def record_part(self, part: Request, deletes: bool) -> None:
        super().record_part(part, deletes)
        if _BY in part and "Item" in part and part["TableName"] != SYSTEM:
            change = self.history.changes[part["TableName"], part["Item"]["id"]["S"]][-1]
            self.put_by.setdefault((part[_BY], change.stamp or ""), []).append(change)

    def record_system(self, part: Request, deletes: bool) -> None:
        super().record_system(part, deletes)
        name = (part.get("Item") or part["Key"])["pk"]["S"]
        if name.startswith("R#"):
            write_id = name.removeprefix("R#")
            if not deletes:
                self.landed_at[write_id] = self.line.now
            elif self.line.now - self.landed_at[write_id] >= RETENTION:
                self.history.forgotten[write_id].append(self.line.step)
                self.seen["receipts forgotten"] += 1


_AS_THE_THEME_SAYS: Final = (
    *("kinds", "conditions", "skews", "is_slow", "committers", "scopes_each", "audit_pauses", "idle_seconds_max"),
    "start_seconds",
    *("operator_rate", "deciding_rate", "keyed_rate", "twin_rate"),
)
