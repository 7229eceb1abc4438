"""One simulated life of an installation: committers, monitors, an auditor and an operator, on the real code.

All that is random comes from the seed. First everything may go wrong; then nothing does any more, and within so many
sweeps all that is committed must be applied, or set aside for a reason that no waiting mends. Then the judge is asked.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from monitor.auditor import Auditor
from monitor.audits import AuditSettings
from monitor.settings import MonitorSettings
from monitor.sweeper import Sweeper
from reliable_write import Outcome, ReliableWriteError, ReliableWriteScope, Settings, limits
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed, CallName, Store
from reliable_write.engine import Engine, assemble
from reliable_write.entry import State
from reliable_write.events import Events
from reliable_write.system_table import Installation, write_installation
from reliable_write.transacted import Transacted
from tests.simulation.checkers import judge
from tests.simulation.history import Change, Did, History, Landed, Place, Tomb, Write
from tests.simulation.memory import MemoryTables, Request
from tests.simulation.timeline import GreenCondition, GreenCrew, GreenWorkers, Process, Timeline, end
from tests.simulation.wire import SYSTEM, WRITES, Weather, Wire, target

W: Final = limits.COLLECTION_WAIT_SECONDS
FAULTS_MIN: Final = 5
"""In each life: who has met no trouble has shown nothing."""
TABLES: Final = ("people", "places", "things")
SKEWS: Final = (0.0, 0.0, 0.3, -0.3, 30.0, -30.0, 3600.0, -3600.0)
PLAIN: Final = ("put", "put", "put", "delete", "delete")
KINDS: Final = (*PLAIN, "update", "update", "put at commit", "delete at commit", "check")
SHARDS: Final = 2
SETTINGS: Final = Settings(system_table=SYSTEM, delete_finished_inline=True)
MONITOR: Final = MonitorSettings(workers=4)
EXISTS, ABSENT = "attribute_exists(id)", "attribute_not_exists(id)"
SWEEPS_OF_NOTHING: Final = 0.2
"""The share played of those that begin when the journal is empty: they took most of the time and told the least."""
HEALING: Final = (0.0, 11.0, 25.0, 100.0, 320.0, 320.0, 320.0, 320.0, 320.0, 320.0)
"""Pauses between the sweeps in which everything must be finished: the longest is longer than any back-off."""


class Silent:
    """A logger that says nothing."""

    def _nothing(self, _event: str, **_facts: object) -> None:
        return

    debug = info = warning = error = _nothing


@dataclass
class Member:
    """A process and its parts."""

    process: Process
    engine: Engine
    cells: list[tuple[str, ...]] = field(default_factory=list)
    """What went wrong since its scope began."""


@dataclass
class Writer:
    """What a scope takes for its writer."""

    parts: Engine

    def engine(self) -> Engine:
        return self.parts


class Life:
    """What a seed brings about. The figures that it draws from are attributes: directed lives have others, see
    `tests.simulation.narrow`.
    """

    shards = SHARDS
    skews: tuple[float, ...] = SKEWS
    committers: tuple[int, ...] = (2, 2, 3)
    scopes_each: tuple[int, ...] = (2, 3, 4)
    start_seconds = 1.0
    monitors: tuple[int, ...] = (1, 1, 2)
    auditor_count = 1
    """Where the life is slow."""
    operator_rate = 0.3
    deciding_rate = 0.2
    """How often an operator does more than to retry."""
    twin_rate, keyed_rate = 0.2, 0.25
    conditions: tuple[str | None, ...] = (None, None, EXISTS, ABSENT)
    idle_after_seconds, idle_seconds_max = 60.0, 900.0
    audit_pauses: tuple[float, ...] = (30.0, W / 2, W + 1)

    def __init__(self, seed: int, *, fingerprint: bool = False) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.line = Timeline(self.random)
        self.weather = Weather.drawn(self.random)
        self.away: dict[str, float] = {}
        self.seen: Counter[str] = Counter()
        self.cells: Counter[tuple[str, ...]] = Counter()
        self.history = History(born=self.line.born)
        self.calls = 0
        self.log: list[tuple[Any, ...]] | None = [] if fingerprint else None
        self.numbers = itertools.count()
        self.names = itertools.count()
        self.members: list[Member] = []
        self.by_process: dict[int, Member] = {}
        self.keyed: list[tuple[str, str, tuple[Did, ...]]] = []
        self.tomb_places: dict[str, Place] = {}
        """By the names of the tombstones."""
        self.opened: list[ReliableWriteScope] = []
        self.scopes: list[tuple[ReliableWriteScope, Write]] = []
        self.is_slow = self.random.random() < 0.25
        """Hours pass, and tombstones are collected."""
        self.committing = 0
        self.buried = 0
        self.over = False
        self.last_begun = 0.0
        table_count = self.random.choice((1, 2, 2, 3))
        keys = "xy"[: self.random.choice((1, 2, 2))]
        self.table_names = TABLES[:table_count]
        self.places: tuple[Place, ...] = tuple((table, key) for table in self.table_names for key in keys)
        self.kinds: tuple[str, ...] = KINDS if self.random.random() < 0.7 else PLAIN
        self.tables = MemoryTables(page_items=10, tells_old_items=self.random.random() < 0.8)
        self.tables.create(SYSTEM, "pk", "sk")
        for table in self.table_names:
            self.tables.create(table, "id")
        self.install()

    def install(self) -> None:
        process = Process(self.line, "installer", "operator")
        deadline = Deadline.after(5, process)
        write_installation(Store(Wire(process, self), process), SYSTEM, Installation(self.shards, "strict"), deadline)

    # --- the whole ----------------------------------------------------------------------------------------------

    def run(self) -> list[str]:
        """What the judge complains about."""
        try:
            self.live()
            self.heal()
            return judge(self.history)
        finally:
            end(self.line, [member.process for member in self.members])
            for scope in self.opened:
                scope.discard()  # of those that died before their commit

    def live(self) -> None:
        for _ in range(self.random.choice(self.committers)):
            self.committer()
        for _ in range(self.random.choice(self.monitors)):
            self.monitor()
        if self.is_slow:
            for _ in range(self.auditor_count):
                self.auditor()
        if self.random.random() < self.operator_rate:
            self.operator()
        extra = 0
        while True:
            while self.committing > 0:
                at = self.line.next_at()
                assert at is not None, "somebody waits for ever"
                self.line.run_until(at)
                self.look_for_dead()
            if self.faults >= FAULTS_MIN:
                break
            extra += 1
            assert extra < 60, "no trouble comes"
            if extra > 2:
                self.weather.rate = 0.5
            self.committer()
        self.over = True

    @property
    def faults(self) -> int:
        """How many went wrong so far."""
        return sum(self.weather.counts.values())

    def member(self, role: str) -> Member:
        skew = self.random.choice(self.skews)
        process = Process(self.line, f"{role}-{next(self.names)}", role, skew)
        engine = assemble(self.wire(process), SETTINGS, process, GreenWorkers(process), Events(Silent()))
        member = Member(process, engine)
        self.members.append(member)
        self.by_process[id(process)] = member
        return member

    def wire(self, process: Process) -> Wire:
        """Its network."""
        return Wire(process, self)

    def look_for_dead(self) -> None:
        """A dead process is replaced by another one."""
        if self.line.killed == self.buried:
            return
        self.buried = self.line.killed
        for member in self.members:
            process = member.process
            if process.killed and process.role != "gone":
                role, process.role = process.role, "gone"
                self.seen[f"kills: {role}"] += 1
                for cell in member.cells:
                    self.cells[(*cell, "killed")] += 1
                if role == "committer":
                    self.committing -= 1
                elif role == "monitor":
                    self.monitor(delay=5 * self.random.random())
                elif role == "auditor":
                    self.auditor()

    # --- committers ---------------------------------------------------------------------------------------------

    def committer(self) -> None:
        member = self.member("committer")
        self.committing += 1
        count = self.random.choice(self.scopes_each)
        member.process.spawn(lambda: self.commit_scopes(member, count), delay=self.start_seconds * self.random.random())

    def commit_scopes(self, member: Member, count: int) -> None:
        for _ in range(count):
            self.commit_scope(member)
            member.process.sleep(self.random.choice(self.pauses()) * self.random.random())
        self.committing -= 1

    def pauses(self) -> tuple[float, ...]:
        """Between the scopes of a committer, at most."""
        return (0.0, 0.1, 5.0, W / 2, 2 * W + 100) if self.is_slow else (0.0, 0.01, 0.1, 1.0, 9.0)

    def commit_scope(self, member: Member) -> None:
        name, key, deeds = self.plan()
        scope = ReliableWriteScope(Writer(member.engine), idempotency_key=key)
        self.opened.append(scope)
        try:
            _record(scope, name, deeds, batched=self.random.random() < 0.3)
        except ReliableWriteError:
            scope.discard()
            return
        member.cells = []
        write = Write(name, deeds, self.line.step)
        self.history.writes.append(write)
        self.scopes.append((scope, write))
        self.last_begun = self.line.now
        strategy: Any = "transaction" if self.random.random() < 0.1 else "journal"
        for tries in range(4):
            self.try_commit(member, scope, write, strategy if tries == 0 else "journal")
            if write.outcome is not Outcome.UNKNOWN or self.random.random() < 0.2:
                return
            member.process.sleep(self.random.choice((0.1, 2.0, 20.0, 200.0, 590.0)) * self.random.random())
            self.seen["replays: commit again"] += 1

    def plan(self) -> tuple[str, str | None, tuple[Did, ...]]:
        if self.keyed and self.random.random() < self.twin_rate:
            self.seen["replays: twin"] += 1
            return self.random.choice(self.keyed)
        name = f"w{next(self.numbers)}"
        most = min(len(self.places), 4)
        places = self.random.sample(self.places, self.random.randint(1, most))
        deeds = tuple(self.deed(place) for place in places)
        key = f"key-{name}" if self.random.random() < self.keyed_rate else None
        if key is not None:
            self.keyed.append((name, key, deeds))
        return name, key, deeds

    def deed(self, place: Place) -> Did:
        kind = self.random.choice(self.kinds)
        if kind == "check":
            return Did(kind, place, self.random.choice((EXISTS, ABSENT)))
        condition = None if kind in ("put", "delete") else self.random.choice(self.conditions)
        return Did(kind, place, condition)

    def try_commit(self, member: Member, scope: ReliableWriteScope, write: Write, strategy: Any) -> None:
        again = scope.write_id is not None
        try:
            receipt = scope.commit() if again else scope.commit(strategy=strategy)
        except ReliableWriteError as error:
            write.outcome = error.outcome
        else:
            write.outcome, write.stamp, write.duplicate = Outcome.WRITTEN, receipt.stamp, receipt.duplicate
            write.told = self.line.step
            self.seen["duplicates told"] += receipt.duplicate
        assert write.outcome is not None
        self.seen[f"outcomes: {write.outcome.name}"] += 1
        for cell in member.cells:
            self.cells[(*cell, write.outcome.name)] += 1
        member.cells = []

    def note_identity(self, scope: ReliableWriteScope, write: Write) -> None:
        prepared = scope._prepared
        if prepared is not None:
            write.write_id = prepared.write_id
            if isinstance(prepared, Transacted):
                write.mark = prepared.transaction.receipt.scope

    # --- those who finish and clean up ----------------------------------------------------------------------------

    def sweeper(self, member: Member) -> Sweeper:
        sweeper: Any = Sweeper(member.engine, MONITOR, member.process.name)
        sweeper._crew.shutdown(wait=False)
        sweeper._readers.close()
        sweeper._readers = member.engine.workers
        sweeper._crew = GreenCrew(member.process)
        sweeper._changed = GreenCondition(member.process)
        found: Sweeper = sweeper
        return found

    def monitor(self, *, delay: float = 0.0) -> None:
        member = self.member("monitor")
        member.process.spawn(lambda: self.sweep_for_long(member), delay=delay)

    def sweep_for_long(self, member: Member) -> None:
        sweeper = self.sweeper(member)
        pause = 4.0
        while not self.over:
            if self.records("J#") or self.random.random() < SWEEPS_OF_NOTHING:
                monitors = [one.process.name for one in self.members if one.process.role == "monitor"]
                sweeper.sweep(monitors, one_shot=False, wait=True)
                self.seen["sweeps"] += 1
            idle = self.line.now - self.last_begun > self.idle_after_seconds
            pause = min(self.idle_seconds_max, pause * 1.6) if idle else 4.0
            member.process.sleep(pause * (0.75 + 0.25 * self.random.random()))

    def auditor(self) -> None:
        member = self.member("auditor")
        member.process.spawn(lambda: self.audit_for_long(member))

    def audit_for_long(self, member: Member) -> None:
        auditor = Auditor(member.engine, AuditSettings())
        while not self.over:
            self.note_audit(auditor)
            member.process.sleep(self.random.choice(self.audit_pauses) * (0.5 + self.random.random()))

    def note_audit(self, auditor: Auditor) -> None:
        report = auditor.run_once()
        self.seen["audits"] += 1
        self.seen["ghosts removed"] += report.ghosts_removed
        self.seen["tombstones collected"] += report.tombstones_collected
        self.seen["receipts collected"] += report.receipts_collected

    def operator(self) -> None:
        member = self.member("operator")
        member.process.spawn(lambda: self.operate_for_long(member), delay=5 * self.random.random())

    def operate_for_long(self, member: Member) -> None:
        while not self.over:
            entries = member.engine.recovery.look().entries
            if entries:
                entry = self.random.choice(entries)
                deeds = (
                    ("retry", "retry", "quarantine", "discard")
                    if self.random.random() < self.deciding_rate
                    else ("retry",)
                )
                self.operate(member, self.random.choice(deeds), entry.write_id)
            member.process.sleep(self.operator_pause())

    def operator_pause(self) -> float:
        """Until the next look."""
        return self.random.choice((3.0, 15.0, 60.0)) + (W / 2 if self.is_slow else 0.0)

    def operate(self, member: Member, deed: str, write_id: str) -> None:
        try:
            getattr(member.engine.operators, deed)(write_id, operator="ada", reason="simulated")
        except (ReliableWriteError, CallFailed):
            self.seen["operator too late"] += 1
        else:
            self.seen[f"operator: {deed}"] += 1

    # --- healing ------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Nothing goes wrong any more; what is on its way lands; then so many sweeps."""
        self.weather.calm = True
        self.away.clear()
        self.line.run_all(events_max=50_000)
        healer = self.member("monitor")
        healer.process.skew = 0.0
        sweeper = self.sweeper(healer)
        for number, pause in enumerate(HEALING):
            self.line.run_until(self.line.now + pause)
            if number in (1, 2, 3):
                self.retry_all(healer)
            sweeper.sweep([healer.process.name], one_shot=False, wait=True)
            if number > 3 and not self.entries(State.PENDING):
                break
        for scope, write in self.scopes:  # also of those whose process is gone
            self.note_identity(scope, write)
        self.history.pending = self.entries(State.PENDING)
        self.history.set_aside = self.entries(State.QUARANTINED)
        self.seen["set aside for good"] += len(self.history.set_aside)
        self.clean_up(healer)

    def retry_all(self, healer: Member) -> None:
        for entry in healer.engine.recovery.look().entries:
            if entry.state == State.QUARANTINED:
                self.operate(healer, "retry", entry.write_id)

    def clean_up(self, healer: Member) -> None:
        auditor = Auditor(healer.engine, AuditSettings())
        for pause in (0.0, 60.0, *((W + 100, W + 100, W + 100) if self.is_slow else ())):
            self.line.run_until(self.line.now + pause)
            self.note_audit(auditor)
        if self.is_slow and not self.history.set_aside and self.records("T#"):
            self.history.pending.add("a tombstone that is never collected")

    def entries(self, state: State) -> set[str]:
        return {item["sk"]["S"] for item in self.records("J#") if item.get("state", {}).get("S") == state.value}

    def records(self, prefix: str) -> list[Mapping[str, Any]]:
        return [item for item in self.tables.tables[SYSTEM].items.values() if item["pk"]["S"].startswith(prefix)]

    # --- what the tables see ------------------------------------------------------------------------------------

    def note(self, process: Process, call: CallName, request: Request, fault: str | None) -> None:
        self.calls += 1
        if self.log is not None:
            about = hashlib.blake2b(_text(request).encode(), digest_size=6).hexdigest()
            self.log.append((round(self.line.now, 6), process.name, call, target(call, request), about, fault))
        if fault is not None:
            self.weather.counts[fault] += 1
            cell = (fault, process.role, call, target(call, request))
            member = self.by_process.get(id(process))
            if process.role == "committer" and member is not None:
                member.cells.append(cell)
            else:
                self.cells[(*cell, "-")] += 1

    def apply(self, call: CallName, request: Request) -> dict[str, Any]:
        self.line.step += 1
        answer = self.tables.apply(call, request)
        if call in WRITES:
            self.record(call, request)
        return answer

    def record(self, call: CallName, request: Request) -> None:
        if call == "transact_write_items":
            for action in request["TransactItems"]:
                kind, part = next(iter(action.items()))
                if kind != "ConditionCheck":
                    self.record_part(part, kind == "Delete")
        elif call != "batch_write_item":
            self.record_part(request, call == "delete_item")

    def record_part(self, part: Request, deletes: bool) -> None:
        if part["TableName"] == SYSTEM:
            self.record_system(part, deletes)
            return
        table, key = part["TableName"], (part.get("Item") or part["Key"])["id"]["S"]
        item = self.tables.tables[table].items.get(key)
        values = part.get("ExpressionAttributeValues", {})
        mine = values.get(":rw_mine") or values.get(":mine")
        stamp = mine["S"] if mine is not None and not (deletes and ":tomb" in values) else None
        self.history.changes[table, key].append(_change(self.line.step, (table, key), stamp, item))

    def record_system(self, part: Request, deletes: bool) -> None:
        item = part.get("Item")
        kind = (item or part["Key"])["pk"]["S"][:2]
        if kind == "J#" and item is not None and "TransactItems" not in part:
            self.record_entry(item)
        elif kind == "J#" and deletes:
            self.history.discarded.add(part["Key"]["sk"]["S"])
        elif kind == "R#" and item is not None and "void" not in item:
            mark = item["scope"]["S"]
            stamp = item["stamp"]["S"]
            self.history.landed = [one for one in self.history.landed if one.stamp != stamp or one.mark is not None]
            self.history.landed.append(Landed(self.line.step, item["pk"]["S"].removeprefix("R#"), stamp, mark))
        elif kind == "T#":
            self.record_tombstone(part, deletes)

    def record_entry(self, item: Mapping[str, Any]) -> None:
        write_id = item.get("write_id", item["sk"])["S"]
        stamp = item["sk"]["S"]
        if write_id == stamp:
            self.history.landed.append(Landed(self.line.step, write_id, stamp, None))

    def record_tombstone(self, part: Request, deletes: bool) -> None:
        name = (part.get("Item") or part["Key"])["pk"]["S"]
        if not deletes:
            if "Item" not in part:
                return
            item = part["Item"]
            place = (item["table"]["S"], item["key"]["M"]["id"]["S"])
            self.tomb_places[name] = place
            self.history.tombs[place].append(Tomb(self.line.step, place, item["stamp"]["S"]))
        else:
            stamp = part["ExpressionAttributeValues"][":audited"]["S"]
            place = self.tomb_places[name]
            self.history.tombs[place].append(Tomb(self.line.step, place, stamp, collected=True))

    def digest(self) -> str:
        """Of all calls, in order."""
        return hashlib.blake2b(_text(self.log).encode(), digest_size=16).hexdigest()


def _record(scope: ReliableWriteScope, name: str, deeds: tuple[Did, ...], *, batched: bool) -> None:
    puts = [deed for deed in deeds if deed.kind == "put"]
    if batched and len(puts) > 1:
        for table in dict.fromkeys(deed.place[0] for deed in puts):
            scope.put_items(table, [{"id": deed.place[1], name: 1} for deed in puts if deed.place[0] == table])
        deeds = tuple(deed for deed in deeds if deed.kind != "put")
    for deed in deeds:
        table, key = deed.place[0], {"id": deed.place[1]}
        if deed.kind == "update":
            scope.update_item(table, key, ConditionExpression=deed.condition, add={name: 1})
        elif deed.kind == "check":
            assert deed.condition is not None
            scope.condition_check(table, key, deed.condition)
        elif deed.kind.startswith("put"):
            scope.put_item(table, {**key, name: 1}, deed.condition, at_commit=deed.kind != "put")
        else:
            scope.delete_item(table, key, deed.condition, at_commit=deed.kind != "delete")


def _change(step: int, place: Place, stamp: str | None, item: Mapping[str, Any] | None) -> Change:
    if item is None:
        return Change(step, place, stamp, None, None, None)
    marks = {name: int(value["N"]) for name, value in item.items() if name.startswith("w")}
    return Change(step, place, stamp, _stamp(item, "_rw"), _stamp(item, "_rwu"), marks)


def _stamp(item: Mapping[str, Any], name: str) -> str | None:
    value = item.get(name)
    return None if value is None else str(value["S"])


def _text(value: Any) -> str:
    return repr(value)
