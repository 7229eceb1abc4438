"""One case: a scope is committed, recovered, audited or operated upon, and something goes wrong at one request.

Then nothing goes wrong any more: what is under way lands, monitors and auditors do their work, an operator tries again
what was set aside. At the end each promise is judged, see `Case.judge`.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from unittest import mock

from monitor.auditor import Auditor
from reliable_write import Outcome, Receipt, ReliableWriteError, ReliableWriteScope, Settings, limits
from reliable_write.clock import HybridClock
from reliable_write.dynamodb import CallFailed, CallName, ConditionRefused, TransactionCancelled
from reliable_write.engine import Engine, assemble
from reliable_write.entry import Entry, State, read_entry
from reliable_write.errors import EntryNotFoundError, TooLateError
from reliable_write.events import Events
from reliable_write.recovery import Resumed
from tests.proof.history import History, check
from tests.proof.shapes import TABLES, Deed, Shape, table_of
from tests.proof.wire import CALL_SECONDS, Died, Fault, Wire
from tests.simulation.memory import Request
from tests.simulation.memory_world import MemoryWorld, SkewedTime
from tests.unit.fakes import InlineWorkers, ManualTime

W = limits.COLLECTION_WAIT_SECONDS
REQUESTS_MAX = 10_000
"""In one case. Where more are made, somebody asks the same again and again, and no deadline ends it."""
AHEAD_SECONDS = 3600.0
"""By so much the clock is wrong of those who were here before: whoever does not look takes a stamp too low."""
SMALL_CHUNK_BYTES = 300
"""Chunks are cut small, so that thousands of cases of them take no hours; the sizes themselves are tried elsewhere."""
LANDS_SECONDS = 290.0
"""What was sent lands while its signature is accepted: 5 minutes."""
LANDS_LATE_SECONDS = limits.SIGNED_REQUEST_SECONDS - 20

Actor = Literal[
    "committer",
    "monitor",
    "sweeper",
    "resume",
    "retry",
    "skip",
    "quarantine",
    "discard",
    "audit",
    "audit, held back",
    "repair-stamp",
]
VERBS: tuple[Actor, ...] = ("resume", "retry", "skip", "quarantine", "discard")
Again = Literal["never", "at once", "later"]


class FixedTime(ManualTime):
    """Whose chance is always the same."""

    def __init__(self) -> None:
        super().__init__()
        self._random = random.Random(0)

    def random_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


@dataclass
class Writer:
    parts: Engine

    def engine(self) -> Engine:
        return self.parts


@dataclass
class Flight:
    call: CallName
    request: Request
    lands_at: float


@dataclass(frozen=True)
class Plan:
    """What goes wrong, and where."""

    shape: Shape
    actor: Actor
    faults: Mapping[int, Fault] = field(default_factory=dict)
    """By the number of the actor's request."""
    recovery_faults: Mapping[int, Fault] = field(default_factory=dict)
    """In the first recovery after it."""
    again: Again = "never"
    """When the caller of an unknown commit commits again."""


class Case:
    """The world of one plan. `run` raises `Violation`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.shape = plan.shape
        self.history = History()
        self.time = FixedTime()
        self.world = MemoryWorld(shards=1, time=self.time, page_items=100)
        self.tables = self.world.tables
        self.tables.create(TABLES[1], "id")
        self.tables.apply = self.apply  # type: ignore[method-assign]
        self.flights: list[Flight] = []
        self.names = itertools.count()
        self.requests = 0
        self.helper = self.process()
        self.auditor = Auditor(self.process())
        self.wire = Wire(self)
        self.recovery_wire = Wire(self)
        self.scope: ReliableWriteScope | None = None
        self.outcome: Outcome | None = None
        """The last word; None: whoever committed is gone."""
        self.doubtful: set[tuple[str, str]] = set()
        """What an operator may or may not have given up: the answer was lost."""
        self.before: list[str] = []
        """Stamps of acknowledged writes that were there before ours began."""
        self.rival_deletes: set[tuple[str, str]] = set()
        """Stamps and keys."""
        self.outcomes: Counter[str] = Counter()

    def run(self) -> None:
        chunk_bytes = SMALL_CHUNK_BYTES if self.shape.chunked else limits.CHUNK_BYTES_MAX
        with mock.patch.object(limits, "CHUNK_BYTES_MAX", chunk_bytes):
            self.begin()
            self.act()
            self.heal()
            self.judge()

    # --- processes ----------------------------------------------------------------------------------------------

    def process(self, wire: Wire | None = None, *, skew: float = 0.0) -> Engine:
        """One more; its own start is not among what a wire counts."""
        settings = Settings(system_table="system", delete_finished_inline=True)
        time = SkewedTime(self.time, skew)
        calls = wire if wire is not None else self.tables
        engine = assemble(calls, settings, time, InlineWorkers(), Events(self.world.logger))
        if wire is not None:
            wire.trace.clear()
        return engine

    def write(self, engine: Engine, name: str, deeds: Iterable[Deed]) -> Receipt:
        """A whole write of somebody's, with nothing going wrong."""
        scope = ReliableWriteScope(Writer(engine))
        deeds = tuple(deeds)
        for deed in deeds:
            deed.record(scope, name)
        try:
            return scope.commit()
        finally:
            self.register(scope, name, deeds)

    def register(self, scope: ReliableWriteScope, name: str, deeds: tuple[Deed, ...]) -> None:
        if scope.write_id is not None:
            self.history.deeds[scope.write_id] = (name, deeds)

    def everywhere(self, kind: Any) -> Iterator[Deed]:
        """One operation, or as few as it takes, at every key of the shape."""
        if kind == "update":
            yield from (Deed("update", (key,)) for key in self.shape.keys)
            return
        for table in TABLES:
            keys = tuple(key for key in self.shape.keys if table_of(key) == table)
            if keys:
                yield Deed(kind, keys)

    # --- `Around` -----------------------------------------------------------------------------------------------

    def apply(self, call: CallName, request: Request) -> dict[str, Any]:
        """As the tables' own, which copies more thoroughly than thousands of cases have time for."""
        self.requests += 1
        check(self.requests <= REQUESTS_MAX, f"liveness: {self.requests} requests, and no end")
        answer: dict[str, Any] = _copied(getattr(self.tables, f"_{call}")(_copied(request)))
        self.history.note(call, request)
        return answer

    def pass_seconds(self, seconds: float) -> None:
        self.time.pass_seconds(seconds)

    def flies(self, call: CallName, request: Request, *, long: bool) -> None:
        after = LANDS_LATE_SECONDS if long else LANDS_SECONDS
        self.flights.append(Flight(call, request, self.time.elapsed + after))

    def stall(self) -> None:
        self.pass_seconds(3 * limits.LEASE_SECONDS)
        self.others_finish()
        self.pass_seconds(CALL_SECONDS)

    def others_finish(self) -> None:
        self.recover()
        self.auditor.run_once()

    def rival(self, kind: str) -> None:
        self.pass_seconds(CALL_SECONDS)
        receipt = self.write(self.helper, f"rival{next(self.names)}", self.everywhere(kind))
        if kind == "delete":
            self.history.rival_deletes = True
            self.rival_deletes |= {(receipt.stamp, key) for key in self.shape.keys}
        self.pass_seconds(CALL_SECONDS)

    # --- the beginning ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        getattr(self, f"_begin_{self.shape.start}")()
        self.before = [one.stamp for one in self.history.landed]
        self.pass_seconds(1.0)

    def _begin_fresh(self) -> None:
        pass

    def _begin_overwrite(self) -> None:
        self.write(self.process(skew=AHEAD_SECONDS), "first", self.everywhere("put"))

    def _begin_deleted(self) -> None:
        self._begin_overwrite()
        self.write(self.process(skew=AHEAD_SECONDS), "cleared", self.everywhere("delete"))

    def _begin_collected(self) -> None:
        self.write(self.helper, "first", self.everywhere("put"))
        self.write(self.helper, "cleared", self.everywhere("delete"))
        self.collect()
        check(not self.world.records("T#"), "its tombstones are collected")

    def _begin_ghost(self) -> None:
        older = HybridClock(SkewedTime(self.time, AHEAD_SECONDS)).stamp()
        self._begin_deleted()
        for key in self.shape.keys:
            self.plant(key, older)

    def _begin_unstamped(self) -> None:
        for key in self.shape.keys:
            self.plant(key, None)
            self.history.base[key] = Counter({"foreign": 1})

    def plant(self, key: str, stamp: str | None) -> None:
        """An item that no write of the history left."""
        item: dict[str, Any] = {"id": {"S": key}, "foreign": {"N": "1"}}
        self.tables.tables[table_of(key)].items[key] = item | ({"_rw": {"S": stamp}} if stamp is not None else {})

    # --- acting -------------------------------------------------------------------------------------------------

    def act(self) -> None:
        actor = self.plan.actor
        if actor == "committer":
            self.commit()
        elif actor.startswith("audit"):
            self.audit(held_back=actor != "audit")
        else:
            self.strand(self.shape.deeds)
            self.pass_seconds(30.0)
            with contextlib.suppress(Died):
                if actor == "monitor":
                    self.active().recovery.resume_all()
                elif actor == "sweeper":
                    self.sweep(self.active())
                else:
                    self.operate(actor)

    def active(self) -> Engine:
        """The process in which it goes wrong."""
        engine = self.process(self.wire)
        self.wire.faults = self.plan.faults
        return engine

    def record(self, engine: Engine, key: str | None = None) -> ReliableWriteScope:
        scope = ReliableWriteScope(Writer(engine), idempotency_key=key or ("key-1" if self.shape.keyed else None))
        try:
            for deed in self.shape.deeds:
                deed.record(scope, "ours")
        except BaseException:
            scope.discard()
            raise
        return scope

    def commit(self) -> None:
        try:
            self.scope = self.record(self.active())
            self._commit(self.scope)
        except Died:
            self.outcomes["died"] += 1
        except ReliableWriteError as error:  # refused when it was recorded
            self._told(error.outcome)
        if self.outcome is Outcome.UNKNOWN and self.plan.again == "at once":
            self._again()

    def _commit(self, scope: ReliableWriteScope) -> None:
        outcome: Outcome | None = None
        try:
            receipt = scope.commit(strategy=self.shape.strategy)
            outcome = Outcome.WRITTEN
        except ReliableWriteError as error:
            outcome = error.outcome
        finally:
            scope.discard()  # where it was refused before anything was sent
            self.register(scope, "ours", self.shape.deeds)
        self._told(outcome)
        if outcome is Outcome.WRITTEN:
            check(not self.shape.in_vain or self.wire.struck, "written, though its condition is false")
            check(self.history.of(scope.write_id), "told to be written before its commit point")
            check(receipt.stamp in {one.stamp for one in self.history.of(scope.write_id)}, "another stamp was told")
            check(self.wire.struck or not self.has_entry(receipt.stamp), "all is applied, and its entry is left")
            self.check_told()
        if outcome is Outcome.NOT_WRITTEN:
            check(not self.ours(), "told not to be written, and is")

    def _told(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.outcomes[outcome.name] += 1

    def _again(self) -> None:
        assert self.scope is not None
        self.outcomes["again"] += 1
        self.wire.broken.clear()
        with contextlib.suppress(Died):
            self._commit(self.scope)

    def strand(self, deeds: tuple[Deed, ...], name: str = "ours") -> str:
        """A committer that dies just after its commit point."""
        wire = Wire(self)
        engine = self.process(wire)
        wire.dies_committed = True
        key = "key-1" if self.shape.keyed and name == "ours" else None
        scope = ReliableWriteScope(Writer(engine), idempotency_key=key)
        for deed in deeds:
            deed.record(scope, name)
        strategy = self.shape.strategy if name == "ours" else "journal"
        with contextlib.suppress(Died, ReliableWriteError):
            scope.commit(strategy=strategy)
        self.register(scope, name, deeds)
        return scope.write_id or ""

    def sweep(self, engine: Engine) -> None:
        """As the daemon does: heads first, then one attempt at each."""
        for shard in range(engine.journal.shards):
            with contextlib.suppress(CallFailed):
                for head in engine.journal.heads(shard, engine.attempt_deadline()).items:
                    engine.recovery.resume_head(read_entry(head), lambda _tables: True)

    def operate(self, verb: Actor) -> None:
        entries = self.helper.recovery.look().entries
        if not entries:
            return
        entry = entries[0]
        who: dict[str, Any] = {"operator": "ada", "reason": "enumeration"}
        operators = self.helper.operators
        place, action = next((one.place, one.action) for one in operators.examine(entry.write_id).comparisons)
        if verb == "retry":
            operators.quarantine(entry.write_id, **who)
        engine = self.active()
        given_up = {(str(entry.stamp), key) for deed in self.shape.deeds if deed.journalled for key in deed.keys}
        if verb == "resume":
            with contextlib.suppress(EntryNotFoundError):
                report = engine.recovery.resume(entry.write_id)
                if report.resumed is Resumed.FINISHED:
                    self.check_keys()  # a late attempt leaves no ghost, whoever deleted the key meanwhile
        elif verb == "skip":
            done = self.done(lambda: engine.operators.skip(entry.write_id, [place], **who))
            self.give_up({(entry.stamp, action.key["id"]["S"])}, done)
        elif verb == "discard":
            done = self.done(lambda: engine.operators.discard(entry.write_id, **who))
            self.give_up(given_up, done)
            check(done is not True or not self.world.records("J#"), "told to be discarded, and is not")
        else:
            done = self.done(lambda: getattr(engine.operators, verb)(entry.write_id, **who))
            wanted = State.QUARANTINED if verb == "quarantine" else State.PENDING
            states = [one.state for one in self.helper.recovery.look().entries if one.stamp == entry.stamp]
            check(done is not True or states == [wanted], f"told to be {wanted} and is {states}")

    def done(self, deed: Callable[[], object]) -> bool | None:
        """Whether an operator's deed was done, as far as was told."""
        told: bool | None = True
        try:
            deed()
        except (TooLateError, CallFailed) as error:
            told = None if error.ambiguous else False
        except EntryNotFoundError:
            told = False
        except Died:
            told = None
        self.outcomes[f"deed {'perhaps ' if told is None else 'not ' if not told else ''}done"] += 1
        return told

    def give_up(self, what: set[tuple[str, str]], done: bool | None) -> None:
        if done:
            self.history.given_up |= what
        elif done is None:
            self.doubtful |= what

    def audit(self, *, held_back: bool) -> None:
        """Rounds of one auditor over a finished write, with a ghost at each key it deleted; with `held_back`, while an
        older write of the same keys is set aside.
        """
        if held_back:
            older = self.strand(tuple(self.everywhere("put")), "older")
            self.helper.operators.quarantine(older, operator="ada", reason="enumeration")
            self.pass_seconds(1.0)
        self.scope = self.record(self.process(skew=AHEAD_SECONDS + 60.0))  # later in order than all before
        self._commit(self.scope)
        for one in self.ours():
            for deed in self.shape.deeds:
                if deed.kind == "delete":
                    self.plant(deed.keys[0], f"{int(one.stamp[:12], 16) - 1:012x}{one.stamp[12:]}")
        auditor = Auditor(self.active())
        with contextlib.suppress(Died):
            for pause in (0.0, limits.EARLY_AUDIT_SECONDS + 1, W + 1, W + 1, W + 1):
                self.pass_seconds(pause)
                auditor.run_once()

    # --- healing ------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        self.wire.faults, self.wire.broken = {}, {}
        with contextlib.suppress(Died):
            self.pass_seconds(11.0)
            engine = self.process(self.recovery_wire) if self.plan.recovery_faults else self.helper
            self.recovery_wire.faults = self.plan.recovery_faults
            engine.recovery.resume_all()
        self.recovery_wire.faults, self.recovery_wire.broken = {}, {}
        self.recover()
        if self.outcome is Outcome.UNKNOWN and self.plan.again == "later":
            self._again()
        if self.shape.keyed and self.plan.actor == "committer":
            self.twin()
        self.land()
        for _ in range(2):
            self.pass_seconds(400.0)
            self.retry_set_aside()
        self.tell_conflicts()
        self.collect()

    def recover(self) -> None:
        self.helper.recovery.resume_all()

    def twin(self) -> None:
        """Another process uses the same key for the same write, as a task queue does."""
        landed = self.history.of("key-1")
        scope = self.record(self.helper, "key-1")
        try:
            receipt = scope.commit(strategy=self.shape.strategy)
        except ReliableWriteError as error:
            check(error.outcome is not Outcome.UNKNOWN, "nothing went wrong, and the twin does not know")
            return
        finally:
            self.register(scope, "ours", self.shape.deeds)
        self.outcomes["twin, duplicate" if receipt.duplicate else "twin, written"] += 1
        check(receipt.duplicate == bool(landed), "a twin was told wrongly who wrote it")
        check(receipt.stamp in {one.stamp for one in self.history.of("key-1")}, "a twin was told another stamp")

    def land(self) -> None:
        """What is under way lands, last of all; auditors look on all the while."""
        for flight in sorted(self.flights, key=lambda one: one.lands_at):
            while self.time.elapsed < flight.lands_at:
                self.pass_seconds(min(150.0, flight.lands_at - self.time.elapsed))
                self.auditor.run_once()
            with contextlib.suppress(ConditionRefused, TransactionCancelled, CallFailed):
                self.tables.apply(flight.call, flight.request)
                self.outcomes["landed late"] += 1
            self.recover()

    def set_aside(self) -> list[Entry]:
        return [one for one in self.helper.recovery.look().entries if one.state == State.QUARANTINED]

    def retry_set_aside(self) -> None:
        for entry in self.set_aside():
            self.helper.operators.retry(entry.write_id, operator="ada", reason="healed")
        self.recover()

    def tell_conflicts(self) -> None:
        """What is set aside now was overtaken by an update; an operator leaves it at that."""
        for entry in self.set_aside():
            _, deeds = self.history.deeds[entry.write_id]
            keys = {key for deed in deeds if deed.journalled for key in deed.keys}
            overtaken = {key for key in keys if self._is_updated_after(key, entry.stamp)}
            check(overtaken, "set aside, and nobody had overtaken it")
            self.history.loose |= {(entry.stamp, key) for key in overtaken}
            self.outcomes["conflict"] += 1
            self.helper.operators.discard(entry.write_id, operator="ada", reason="the update holds")

    def _is_updated_after(self, key: str, stamp: str) -> bool:
        return any(
            deed.kind == "update" and key in deed.keys
            for one in self.history.landed
            if one.stamp > stamp and one.write_id in self.history.deeds
            for deed in self.history.deeds[one.write_id][1]
        )

    def collect(self) -> None:
        """Until nothing is left that nobody needs; then past the life of receipts."""
        for pause in (31.0, *[W + 1] * 4, 16 * 86_400.0, W + 1):
            self.pass_seconds(pause)
            self.auditor.run_once()

    # --- judging ------------------------------------------------------------------------------------------------

    def ours(self) -> set[Any]:
        """Where our scope, and no other one with the same key, reached its commit point."""
        if self.scope is None or self.scope.write_id is None:
            return set()
        prepared: Any = self.scope._prepared
        mark = prepared.transaction.receipt.scope if hasattr(prepared, "transaction") else None
        return {one for one in self.history.of(self.scope.write_id) if one.scope == mark}

    def has_entry(self, stamp: str) -> bool:
        return any(item["sk"]["S"] == stamp for item in self.tables.tables["system"].items.values() if "state" in item)

    def judge(self) -> None:
        self.history.check_once()
        self.check_outcome()
        self.check_order()
        self.check_keys()
        for prefix, what in (("J#", "entries"), ("C#", "chunks"), ("T#", "tombstones"), ("R#", "receipts")):
            check(not self.world.records(prefix), f"{what} are left")

    def check_outcome(self) -> None:
        landed = self.ours()
        if self.outcome is Outcome.NOT_WRITTEN:
            check(not landed, "told not to be written, and is")
        if self.outcome is Outcome.WILL_BE_WRITTEN:
            check(landed, "told to be committed, and is not")
        if self.outcome is Outcome.WRITTEN:
            check(self.history.of(self.scope.write_id if self.scope else None), "told to be written, and is not")

    def check_order(self) -> None:
        """G4: ours comes after what was acknowledged before it began, whatever the clocks say."""
        was_deleted = self.shape.start in ("deleted", "ghost") or self.rival_deletes
        if self.before and not (self.shape.only_deletes and was_deleted):
            for stamp in self.history.stamps_by_name().get("ours", []):
                check(stamp > max(self.before), "it is before a write that was acknowledged before it began")

    def check_told(self) -> None:
        """All is applied now. A delete that came while it was may leave a ghost for a while: of any write before it."""
        before = self.history.loose
        wiped = {
            (one.stamp, key) for one in self.history.landed for last, key in self.rival_deletes if one.stamp < last
        }
        self.history.loose = before | self.rival_deletes | wiped
        try:
            self.check_keys()
        finally:
            self.history.loose = before

    def check_keys(self) -> None:
        """All or nothing: one alternative must hold for every key."""
        certain, violation = set(self.history.given_up), None
        for given_up in (certain, certain | self.doubtful):
            self.history.given_up = given_up
            try:
                for key in self.shape.keys:
                    self.history.check_key(key, self.tables.tables[table_of(key)].items.get(key))
            except AssertionError as error:
                violation = error
            else:
                return
            finally:
                self.history.given_up = certain
        assert violation is not None
        raise violation


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(one) for name, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value
