"""Random interleavings of everything that touches deleted keys, on the engine itself: G3 and its neighbours hold.

Processes with clocks hours apart put and delete two keys; they stall and die at any call; what they had sent lands
later, up to the age at which a signature is refused; monitors recover, die, are overtaken; entries are quarantined and
tried again; auditors run, die and begin anew, and anything else may happen between any two of their calls.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from monitor.auditor import Auditor
from monitor.audits import AuditSettings
from reliable_write import limits
from reliable_write.clock import Stamp
from reliable_write.commit import Prepared
from reliable_write.dynamodb import CallName
from reliable_write.engine import Engine
from reliable_write.entry import State
from reliable_write.errors import EntryNotFoundError, ReliableWriteError, TooLateError
from tests.simulation.memory import Request
from tests.simulation.memory_world import MemoryWorld, deleting, putting
from tests.unit.fakes import ManualTime

W = limits.COLLECTION_WAIT_SECONDS
KEYS: tuple[str, ...] = ("x", "y")
PACES = ((30.0, 100.0, 300.0), (1.0, 30.0, 700.0, 1700.0, W / 2, W), (W / 2, W, W))
"""Lives in which everything happens within the life of a request, and lives in which hours pass."""
SKEWS = (0.0, -7200.0, 7200.0)
APART = max(SKEWS) - min(SKEWS)
"""What the clocks differ by, and so the least margin of scheduled audits."""
SEEDS = 100
STEPS = 60


class SeededTime(ManualTime):
    """Whose chance is a seed's."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance

    def random_bytes(self, count: int) -> bytes:
        return self.chance.randbytes(count)


class Died(BaseException):
    """The process that made this call is gone."""


@dataclass
class Flight:
    """A request on its way, sent by a process that is gone."""

    call: CallName
    request: Request
    lands_until: float


@dataclass
class Write:
    """What is known of one write, for the judgement at the end."""

    key: str
    prepared: Prepared
    engine: Engine
    is_delete: bool
    begun: int
    """Step of the world at which it witnessed."""
    told: int | None = None
    """Step at which its success was returned."""
    superseded: bool = False

    @property
    def stamp(self) -> Stamp:
        return self.prepared.entry.stamp


def quiet(_call: CallName, _request: Request) -> None:
    """Nothing interrupts this call."""


class Chaos:
    def __init__(self, seed: int, **settings: Any) -> None:
        self.random = random.Random(seed)
        self.settings = settings
        self.world = MemoryWorld(time=SeededTime(random.Random(seed)), page_items=4, tells_old_items=bool(seed % 2))
        self.engines = [self.world.process(skew) for skew in SKEWS]
        self.auditors = [self.auditor(), self.auditor(), self.auditor()]
        self.keys = KEYS
        self.pace = self.random.choice(PACES)
        self.busy: list[int] = []
        self.flights: list[Flight] = []
        self.writes: list[Write] = []
        self.steps = 0
        self.seen: Counter[str] = Counter()
        self.world.tables.before = quiet
        self.actions: list[tuple[int, Callable[[], None]]] = [
            (2, self.put_or_delete),
            (2, self.stall_while_writing),
            (3, self.die_while_writing),
            (3, self.land),
            (2, self.recover),
            (4, self.die_while_recovering),
            (1, self.set_aside),
            (1, self.try_again),
            (1, self.commit_again),
            (8, self.pass_time),
            (4, self.audit),
            (1, self.die_while_auditing),
        ]

    def run(self) -> None:
        """Half of the lives are a long mixture; the other half turn closely around one tombstone."""
        if self.random.random() < 0.5:
            for _ in range(STEPS):
                self.act()
        else:
            self.delete_under_a_put()
        self.settle()
        self.judge()

    def delete_under_a_put(self) -> None:
        put = self.begin("x", is_delete=False)
        self.steps += 1
        stalls = self.random.random() < 0.5
        if not stalls:
            self.dying(lambda: self.attempt(put), self.random.choice([1, 2, 2, 3]))  # journal, put, removal
        self.attempt(self.begin("x", is_delete=True))
        self.steps += 1
        if stalls:
            self.attempt(put)
        elif self.random.random() < 0.7:
            self.recover()
        self.keys = ("x",)
        self.actions = [
            (9, self.pass_time),
            (2, self.land),
            (2, self.recover),
            (2, self.die_while_recovering),
            (1, self.commit_again),
            (1, self.put_or_delete),
            (1, self.set_aside),
            (1, self.try_again),
        ]
        for _ in range(self.random.randint(5, 12)):
            self.act()

    def act(self) -> None:
        self.steps += 1
        weights, actions = zip(*self.actions, strict=True)
        self.random.choices(actions, weights)[0]()

    # --- what may happen ----------------------------------------------------------------------------------------

    def put_or_delete(self) -> None:
        self.attempt(self.begin(self.random.choice(self.keys), is_delete=self.random.random() < 0.5))

    def begin(self, key: str, *, is_delete: bool) -> Write:
        engine = self.engines[self.random.choice([0, 0, 0, 1, 2])]
        action = deleting(key) if is_delete else putting(key, v=str(self.steps))
        write = Write(key, self.world.prepare(action, engine), engine, is_delete, self.steps)
        self.writes.append(write)
        return write

    def attempt(self, write: Write) -> None:
        try:
            receipt = self.world.commit(write.prepared, write.engine)
        except ReliableWriteError:
            return
        write.told, write.superseded = self.steps, bool(receipt.superseded)
        self.seen["told"] += 1

    def stalled(self) -> Write:
        """A put between its witness and its first request, while others act: of such stalls ghosts are made. No time
        passes, for past its deadline an attempt sends nothing.
        """
        key = self.random.choice(self.keys)
        write = self.begin(key, is_delete=False)
        self.steps += 1
        self.attempt(self.begin(key, is_delete=self.random.random() < 0.8))
        self.steps += 1
        return write

    def stall_while_writing(self) -> None:
        self.attempt(self.stalled())

    def die_while_writing(self) -> None:
        key = self.random.choice(self.keys)
        write = self.stalled() if self.random.random() < 0.5 else self.begin(key, is_delete=self.random.random() < 0.5)
        self.dying(lambda: self.attempt(write), self.random.randint(1, 4))

    def commit_again(self) -> None:
        again = [write for write in self.writes if write.told is None and write.prepared.begun.remaining_seconds() > 0]
        if again:
            self.seen["again"] += 1
            self.attempt(self.random.choice(again))

    def recover(self) -> None:
        self.seen["recovered"] += len(self.random.choice(self.engines).recovery.resume_all())

    def die_while_recovering(self) -> None:
        self.dying(self.recover, self.random.randint(5, 11))  # the four shards are looked at first
        if self.random.random() < 0.5:
            self.recover()

    def set_aside(self) -> None:
        self.operate("quarantine", State.PENDING)

    def try_again(self) -> None:
        self.operate("retry", State.QUARANTINED)

    def operate(self, deed: str, state: State) -> None:
        entries = [entry for entry in self.world.engine.recovery.look().entries if entry.state == state]
        if entries:
            write_id = self.random.choice(entries).write_id
            try:
                getattr(self.world.engine.operators, deed)(write_id, operator="ada", reason="chaos")
            except (TooLateError, EntryNotFoundError):
                return
            self.seen[deed] += 1

    def land(self) -> None:
        now = self.world.time.elapsed
        self.flights = [flight for flight in self.flights if now <= flight.lands_until]
        if self.flights:
            flight = self.random.choice(self.flights)  # and perhaps once more: networks repeat themselves
            if self.random.random() < 0.7:
                self.flights.remove(flight)
            self.seen["landed"] += 1
            try:
                self.world.tables.apply(flight.call, flight.request)
            except Exception:  # noqa: BLE001 - nobody is left to read the answer
                return

    def pass_time(self) -> None:
        """Auditors follow each other closely, as where several monitors run."""
        self.world.time.pass_seconds(self.random.choice(self.pace))
        for place in range(len(self.auditors)):
            if place not in self.busy and self.random.random() < 0.6:
                self.audit()

    def audit(self) -> None:
        """Between any two calls of the audit something else may happen."""
        place = self.idle_auditor()
        at = self.random.randint(1, 9) if self.random.random() < 0.5 else 0
        self.between(lambda: self.count(place), at, self.elsewhere)

    def idle_auditor(self) -> int | None:
        """One that is not in the middle of a round: each is of one thread."""
        idle = [place for place in range(len(self.auditors)) if place not in self.busy]
        return self.random.choice(idle) if idle else None

    def auditor(self) -> Auditor:
        skew = self.random.choice(SKEWS) if self.settings.get("scheduled") else 0.0
        return Auditor(self.world.process(skew), AuditSettings(**self.settings))

    def count(self, place: int | None) -> None:
        if place is None:
            return
        self.busy.append(place)
        if self.settings.get("scheduled"):  # each run is another process, on another machine
            self.auditors[place] = self.auditor()
        try:
            report = self.auditors[place].run_once()
        finally:
            self.busy.pop()
        self.seen["ghosts"] += report.ghosts_removed
        self.seen["collected"] += report.tombstones_collected
        self.seen["held back"] += report.held_back

    def elsewhere(self) -> None:
        for _ in range(self.random.randint(1, 2)):
            self.act()

    def die_while_auditing(self) -> None:
        place = self.idle_auditor()
        self.dying(lambda: self.count(place), self.random.randint(1, 12))
        if place is not None:
            self.auditors[place] = self.auditor()

    # --- how it is made to happen -------------------------------------------------------------------------------

    def between(self, work: Callable[[], Any], at: int, event: Callable[[], Any]) -> None:
        """Do the work, and the event just before its n-th call. Only the outermost work is interrupted."""
        outer, calls = self.world.tables.before, 0

        def count(_call: CallName, _request: Request) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                self.world.tables.before = quiet
                self.seen["interrupted"] += 1
                event()

        if at and outer is quiet:
            self.world.tables.before = count
        try:
            work()
        finally:
            self.world.tables.before = outer

    def dying(self, work: Callable[[], Any], at: int) -> None:
        """Do the work until its n-th call: that one is on its way, or lost, and its process is gone."""
        outer, calls = self.world.tables.before, 0

        def die(call: CallName, request: Request) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                if call in ("put_item", "delete_item", "batch_write_item", "update_item"):
                    lands_until = self.world.time.elapsed + limits.SIGNED_REQUEST_SECONDS
                    self.flights.append(Flight(call, request, lands_until))
                raise Died

        self.world.tables.before = die
        try:
            work()
        except Died:
            self.seen["died"] += 1
        finally:
            self.world.tables.before = outer

    # --- the end ------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Whatever flies lands or dies; everything is tried again, recovered, audited and collected."""
        self.world.tables.before = quiet
        while self.flights:
            self.land()
            self.world.time.pass_seconds(200.0)
        for _ in range(20):
            self.try_again()
        for _ in range(2):
            self.world.time.pass_seconds(60.0)
            self.world.engine.recovery.resume_all()
        self.auditors.append(self.auditor())
        # A delete by a clock that was ahead is held back by nothing but older entries: none is left.
        for _ in range(12):
            self.count(len(self.auditors) - 1)
            self.world.time.pass_seconds(2 * W + 2 * APART)

    def judge(self) -> None:
        assert self.world.records("J#") == [], "recovered"
        assert self.world.records("T#") == [], "collected"
        assert self.world.records("C#") == [], "collected"
        for key in KEYS:
            self.judge_key([write for write in self.writes if write.key == key], self.world.shown(key))

    def judge_key(self, writes: list[Write], item: Any) -> None:
        shown = None if item is None else item["_rw"]["S"]
        for write in writes:
            if write.told is None or write.superseded:
                continue
            if write.is_delete:
                # G3: nothing that began before the delete was finished, and is older, is there.
                older = [one.stamp for one in writes if one.stamp < write.stamp and one.begun <= write.told]
                assert shown not in older, f"{write.stamp} deleted {shown}, which is back"
            else:
                later = [one for one in writes if one.stamp > write.stamp and not _is_over(one, write)]
                assert shown == write.stamp or later, f"{write.stamp} was acknowledged and is lost"


def live(seeds: Iterable[int], **settings: Any) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        chaos = Chaos(seed, **settings)
        chaos.run()
        seen += chaos.seen
    return seen


def _is_over(one: Write, other: Write) -> bool:
    """Whether the first had been told before the second began; then it is no excuse for the second's loss."""
    return one.told is not None and one.told < other.begun


def test_g3_whatever_happens_around_the_audits_nothing_comes_back_and_nothing_is_lost() -> None:
    seen = live(range(SEEDS))
    # An adversary who did nothing has shown nothing.
    assert seen["told"] > 10 * SEEDS
    for kind in ("ghosts", "collected", "held back", "landed", "died", "interrupted", "quarantine", "retry", "again"):
        assert seen[kind] >= SEEDS / 10, (kind, seen)


def test_g3_holds_as_well_where_scheduled_runs_audit_on_machines_whose_clocks_are_hours_apart() -> None:
    seen = live(range(SEEDS), scheduled=True, clock_margin_seconds=APART)
    for kind in ("ghosts", "collected", "landed", "died", "interrupted", "quarantine", "retry", "again"):
        assert seen[kind] >= SEEDS / 10, (kind, seen)


def test_the_adversary_finds_scheduled_audits_whose_margin_is_less_than_the_clocks_differ() -> None:
    with pytest.raises(AssertionError, match="which is back"):
        live(range(10 * SEEDS), scheduled=True, clock_margin_seconds=0.0)


def test_the_adversary_finds_an_auditor_that_hardly_waits() -> None:
    """Or the test above would show nothing."""
    with pytest.raises(AssertionError, match="which is back"):
        live(range(2 * SEEDS), collection_wait_seconds=1.0)


def test_the_same_seed_is_the_same_life() -> None:
    """Or a failure could not be looked into."""
    for seed in range(1000, 1010):
        one, two = Chaos(seed), Chaos(seed)
        one.run()
        two.run()
        assert one.seen == two.seen
        assert one.world.tables.tables == two.world.tables.tables
