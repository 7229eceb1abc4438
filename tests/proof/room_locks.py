"""Locks: tokens only grow, no two holders by their own clocks, a dead one is succeeded, a zombie's write is refused."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

from reliable_write import (
    CommitFailedError,
    Lease,
    Lock,
    LockLostError,
    LockNotAcquiredError,
    Outcome,
    ReliableWriteError,
    ReliableWriteScope,
    acquire_all,
    limits,
)
from reliable_write.cli import lock_errands
from reliable_write.cli.exits import CommandError
from reliable_write.cli.lock_looks import look_again, look_at
from reliable_write.dynamodb import CallFailed, CallName
from reliable_write.errors import CommitUnknownError, TooLateError
from tests.proof.history import check
from tests.proof.room_world import RoomCase, RoomPlan, Scenario, Writer
from tests.simulation.memory import Request

TABLE, REPORTS, KEY, SECOND = "locks", "reports", "l-1", "l-2"
LEASE = limits.LOCK_LEASE_SECONDS
PATIENCE = LEASE + 5.0
"""So long waits who finds a dead holder, at most: docs/locks.md."""


@dataclass
class Guarded:
    """A scope that commits only while a lease holds, and what was said of it."""

    scope: ReliableWriteScope
    name: str
    outcome: Outcome | None = None


class LockCase(RoomCase):
    """A lock or two, those who hold them, and what they write under their guard."""

    room = "locks"
    tables_made: ClassVar = {TABLE: ("id",), REPORTS: ("id",)}
    stall_seconds = 3 * LEASE

    def __init__(self, plan: RoomPlan) -> None:
        self.tokens: defaultdict[str, list[int]] = defaultdict(list)
        """As they were given, by key."""
        self.leases: list[Lease] = []
        self.forced: set[tuple[str, int]] = set()
        """Holdings that an operator took from somebody: he may have told two that they hold it."""
        self.taken_over: set[tuple[str, int]] = set()
        self.keeps: list[Lease] = []
        """Held by others, until they let go."""
        self.writes: list[Guarded] = []
        self.landed: Counter[str] = Counter()
        self.unknown: list[Lock] = []
        """Of whom it is not known whether they took it."""
        self.lost_told = 0
        self.deed: bool | None = False
        self.looks = 0
        self.alive_at: dict[str, float] = {}
        """When the last sign of life was seen in the table, by key."""
        self.slow: list[Lease] = []
        """Of somebody who is taken for dead; his heartbeat is under way all the same."""
        super().__init__(plan)

    # --- holding ------------------------------------------------------------------------------------------------

    def lock(self, writer: Writer, key: str = KEY, **more: Any) -> Lock:
        return Lock(writer, TABLE, key, **{"heartbeat": False, "poll_seconds": 4.0, **more})

    def take(self, lock: Lock, timeout: float = 0.0, **more: Any) -> Lease | None:
        """What anybody does who wants it."""
        try:
            lease = lock.acquire(timeout=timeout, **more)
        except LockNotAcquiredError:
            self.outcomes["not acquired"] += 1
            return None
        except CommitFailedError as failed:
            if failed.outcome is Outcome.UNKNOWN:
                self.unknown.append(lock)
            raise
        self.taken(lease)
        return lease

    def taken(self, lease: Lease) -> None:
        key = lease.key["id"]
        check(lease.token > max(self.tokens[key], default=0), f"token {lease.token} after {self.tokens[key]}")
        self.tokens[key].append(lease.token)
        self.leases.append(lease)
        self.check_alone()

    def check_alone(self) -> None:
        for key in (KEY, SECOND):
            sure = [one for one in self.leases if one.key["id"] == key and one.is_held() and not self.was_forced(one)]
            check(len(sure) <= 1, f"{len(sure)} hold {key} at once")

    def was_forced(self, lease: Lease) -> bool:
        return (lease.key["id"], lease.token) in self.forced

    def release(self, lease: Lease, **more: Any) -> None:
        """True says that nobody else had it; False that somebody had, or was given it by an operator."""
        kept, place = lease.release(**more), (lease.key["id"], lease.token)
        if kept:
            check(place not in self.taken_over, "told that it was held alone, and somebody had taken over")
        else:
            check(place in self.taken_over or place in self.forced, "told to be lost, and nobody had it")

    def renew(self, lease: Lease, **more: Any) -> None:
        lease.renew(**more)
        check((lease.key["id"], lease.token) not in self.taken_over, "renewed, and somebody has it")

    # --- writing under a guard ----------------------------------------------------------------------------------

    def guarded(
        self, writer: Writer, lease: Lease, guard: Callable[[ReliableWriteScope], None] | None = None
    ) -> Guarded:
        name = f"w{next(self.names)}"
        scope = ReliableWriteScope(writer)
        try:
            (guard or lease.guard)(scope)
            scope.put_item(REPORTS, {"id": lease.key["id"], "by": lease.token, "name": name}, at_commit=True)
        except BaseException:
            scope.discard()
            raise
        write = Guarded(scope, name)
        self.writes.append(write)
        return write

    def commit(self, write: Guarded) -> None:
        try:
            write.scope.commit()
        except ReliableWriteError as error:
            write.outcome = error.outcome
            if not isinstance(error, CommitUnknownError | CommitFailedError | LockLostError):
                raise
        else:
            write.outcome = Outcome.WRITTEN
        if self.playing:
            self.outcomes[write.outcome.name] += 1

    # --- others -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def aside(self) -> Iterator[Writer]:
        """Another process, whatever ours is at."""
        playing, self.playing = self.playing, False
        try:
            yield self.process()
        finally:
            self.playing = playing

    def interfere(self, kind: str) -> None:
        with self.aside() as writer:
            if kind == "delete":
                self.force(writer)
            elif kind == "put" and self.slow:
                self.beat_late(self.slow[0])
            elif kind == "put":
                self.visit(writer, 0.0)
            elif not any(one.is_held() for one in self.keeps):
                lease = self.take(self.lock(writer), PATIENCE)
                self.keeps += [lease] if lease is not None else []

    @staticmethod
    def beat_late(lease: Lease) -> None:
        """A heartbeat lands that its holder has sent before he stood still."""
        hold: Any = lease._hold
        hold.terms.item.renew(hold.holding, hold._beat + 1, None, hold.terms.engine.attempt_deadline())

    def go_on(self) -> None:
        self.let_go()
        with self.aside() as writer:
            self.visit(writer, PATIENCE)

    def visit(self, writer: Writer, timeout: float, key: str = KEY) -> bool:
        """Take it, write something under its guard, let it go."""
        lease = self.take(self.lock(writer, key), timeout)
        if lease is None:
            return False
        write = self.guarded(writer, lease)
        self.commit(write)
        check(write.outcome is Outcome.WRITTEN, f"a holder's write is told to be {write.outcome}")
        self.release(lease)
        return True

    def force(self, writer: Writer, reason: str = "rival") -> bool:
        """As `reliable-write locks release` does once its questions are answered; whether there was one to release."""
        desk: Any = SimpleNamespace(engine=writer.engine(), deadline=writer.engine().attempt_deadline)
        try:
            (seen,) = look_again(desk, (look_at(desk, TABLE, KEY, None),), 0.0)
        except CommandError:  # there has been none yet
            return False
        if seen.state.held:
            self.forced |= {(KEY, seen.state.token or 0)}
            lock_errands.release_seen(desk, seen, reason)
        return seen.state.held

    def let_go(self) -> None:
        for lease in self.keeps:
            self.release(lease)
        self.keeps = []

    def heal(self) -> None:
        self.let_go()
        for key in (KEY, SECOND) if self.tokens[SECOND] else (KEY,):
            with self.aside() as writer:
                check(self.visit(writer, PATIENCE, key), "nobody lives who holds it, and it was not had after a lease")

    def find_out(self) -> None:
        for write in self.writes:
            if write.outcome is Outcome.UNKNOWN:
                self.commit(write)
                check(write.outcome is not Outcome.UNKNOWN, "nothing goes wrong, and it does not know")
                self.outcomes[f"found out: {write.outcome}"] += 1
        while self.unknown:
            self.take_again(self.unknown.pop())

    def take_again(self, lock: Lock) -> None:
        """The handle knows its own holding again, and need not wait for itself."""
        try:
            lease = lock.acquire(timeout=0)
        except LockNotAcquiredError as refused:
            check(refused.owner != lock.owner, "it waits for itself")
            return
        self.taken(lease)
        self.outcomes["found out: ours"] += 1
        self.release(lease)

    # --- noticing and judging -----------------------------------------------------------------------------------

    def apply(self, call: CallName, request: Request) -> dict[str, Any]:
        before = {key: self.item(TABLE, key) for key in (KEY, SECOND)}
        answer = super().apply(call, request)
        for key, item in before.items():
            now = self.item(TABLE, key)
            if "lock_id" in item and "lock_id" in now and item["lock_id"] != now["lock_id"]:
                self.taken_over.add((key, int(item["lock_token"]["N"])))
                ours = item["lock_owner"] == now["lock_owner"]
                check(ours or self.time.elapsed - self.alive_at[key] >= LEASE, "taken from one who lives")
            if now != item:
                self.alive_at[key] = self.time.elapsed
            check(_token(now) >= _token(item), "a token went back")
        return answer

    def noticed(self, call: CallName, request: Request) -> None:
        self.check_alone()
        if call == "transact_write_items":
            for put in (action["Put"] for action in request["TransactItems"] if "Put" in action):
                if put["TableName"] == REPORTS:
                    self.check_guard(put["Item"])
        if self.playing and call == "get_item" and request["TableName"] == TABLE:
            self.looks += 1
            if self.looks % 3 == 0:
                self.let_go()

    def check_guard(self, item: dict[str, Any]) -> None:
        found = self.item(TABLE, item["id"]["S"])
        held = "lock_id" in found and found["lock_token"] == item["by"]
        check(held, f"{item['name']['S']} was written by a zombie")
        self.landed[item["name"]["S"]] += 1

    def judge(self) -> None:
        for write in self.writes:
            times = self.landed[write.name]
            check(times <= 1, f"{write.name} was written {times} times")
            if write.outcome is Outcome.WRITTEN:
                check(times == 1, f"{write.name} was told to be written, and is not")
            if write.outcome is Outcome.NOT_WRITTEN:
                check(times == 0, f"{write.name} was told not to be written, and is")
        self.check_unwritten()
        check(not self.world.records("J#"), "entries are left")
        if self.deed is not None:
            records = [one for one in self.world.records("A") if one["reason"]["S"] == "ours"]
            check(len(records) == int(self.deed), f"{len(records)} records of a deed that was told as {self.deed}")

    # --- scenarios ----------------------------------------------------------------------------------------------

    def take_and_release(self) -> None:
        with self.honestly():
            lease = self.take(self.lock(self.me), data="ours")
        if lease is not None:
            lease.check()
            with self.honestly():
                self.release(lease)

    def take_patiently(self) -> None:
        lease = self.take(self.lock(self.me), 3 * LEASE)
        if lease is not None:
            self.commit(self.guarded(self.me, lease))
            self.release(lease)

    def block(self) -> None:
        lock = self.lock(self.me)
        try:
            with lock as lease:
                self.taken(lease)
                self.commit(self.guarded(self.me, lease))
                alone = (KEY, lease.token) not in self.taken_over
        except LockLostError:
            self.outcomes["lost"] += 1
        else:
            check(alone, "a block that was not alone is told to be")

    def renewals(self) -> None:
        lease = self.take(self.lock(self.me))
        if lease is None:
            return
        for renew in (partial(self.renew, lease), partial(self.renew, lease, data=2), partial(lease.ensure, LEASE)):
            self.pass_seconds(LEASE / 4)
            with contextlib.suppress(ReliableWriteError), self.honestly():
                renew()
                check(not lease.in_danger(), "renewed, and in danger")
        self.commit(self.guarded(self.me, lease)) if lease.is_held() else None
        self.release(lease, delete=True)

    def beats(self) -> None:
        """Heartbeats, turn by turn, of a holder who works for three leases."""
        lock = self.lock(self.me, heartbeat=True, on_lost=self._lost)
        lease = self.take(lock)
        if lease is None:
            return
        workers: Any = self.me.engine().workers
        beat = workers.loops[-1].__self__
        until, end = self.time.elapsed + 3 * LEASE, self.time.elapsed + 10 * LEASE
        pause: float | None = LEASE / 4
        while pause is not None and (self.time.elapsed < until or not lease.is_held()):
            self.pass_seconds(pause)
            pause = beat.turn()
            check(self.time.elapsed < end, "its lease is over, and nobody was told")
        check(lease.is_held() or self.lost_told == 1, f"it was lost, and that was told {self.lost_told} times")
        self.release(lease)

    def _lost(self, _lease: Lease) -> None:
        self.lost_told += 1

    def both(self) -> None:
        locks = [self.lock(self.me, SECOND), self.lock(self.me)]
        self.tokens[SECOND] += [0]
        try:
            leases = acquire_all(locks, timeout=0)
        except LockNotAcquiredError:
            check(all(lock.lease is None for lock in locks), "all or none: one is held")
            return
        except CommitFailedError:
            check(all(lock.lease is None for lock in locks), "all or none: one is held")
            raise
        for lease in leases:
            self.taken(lease)
        leases.check()
        self.commit(self.guarded(self.me, leases[1], leases.guard))
        leases.release()

    def once_more(self) -> None:
        """By the thread that has it."""
        lock = self.lock(self.me, reentrant=True)
        lease = lock.try_acquire()
        if lease is None:
            return
        self.taken(lease)
        with contextlib.suppress(ReliableWriteError):
            again = lock.acquire(data="again")
            check(again is lease, "another lease of the same lock")
            self.release(again)
        self.commit(self.guarded(self.me, lease, lock.guard))
        lock.release()

    def zombie(self, meanwhile: Callable[[Writer], object]) -> None:
        lease = self.take(self.lock(self.me))
        if lease is None:
            return
        write = self.guarded(self.me, lease)
        with self.aside() as writer:
            meanwhile(writer)
        self.commit(write)
        check(write.outcome is not Outcome.WRITTEN, "a zombie's write is told to be written")
        try:
            self.renew(lease)
        except LockLostError:
            self.outcomes["lost"] += 1
        self.release(lease)

    def zombie_by_time(self) -> None:
        self.zombie(lambda writer: self.visit(writer, PATIENCE))

    def zombie_by_force(self) -> None:
        self.zombie(lambda writer: self.force(writer) and self.visit(writer, 0.0))

    def looking(self) -> None:
        lock = self.lock(self.me)
        check(lock.peek().token == self.tokens[KEY][-1], "another token is shown")
        check(lock.locked() or self.outcomes["not acquired"] == 0, "it is shown as free")

    def operate(self) -> None:
        """An operator releases the lock of a host that is gone."""
        self.deed = None
        try:
            self.deed = self.force(self.me, "ours")
        except (TooLateError, CallFailed) as error:
            self.deed = None if error.ambiguous else False

    # --- beginnings ---------------------------------------------------------------------------------------------

    def begin_used(self) -> None:
        with self.aside() as writer:
            self.visit(writer, 0.0)

    def begin_dead(self) -> None:
        with self.aside() as writer:
            lease = self.take(self.lock(writer), data="left behind")
            self.slow += [lease] if lease is not None else []

    def begin_held(self) -> None:
        """By somebody who lets go of it when we look for the third time."""
        with self.aside() as writer:
            lease = self.take(self.lock(writer))
            assert lease is not None
            self.keeps.append(lease)


def _token(item: dict[str, Any]) -> int:
    return int(item.get("lock_token", {"N": "0"})["N"])


LockCase.scenarios = (
    Scenario("take and release, fresh", LockCase.take_and_release),
    Scenario("take and release", LockCase.take_and_release, LockCase.begin_used),
    Scenario("take over from the dead", LockCase.take_patiently, LockCase.begin_dead),
    Scenario("wait for the living", LockCase.take_patiently, LockCase.begin_held),
    Scenario("a block with a guarded scope", LockCase.block, LockCase.begin_used),
    Scenario("a block by a slow clock", LockCase.block, LockCase.begin_used, -3600.0),
    Scenario("renew", LockCase.renewals, LockCase.begin_used),
    Scenario("heartbeats", LockCase.beats, LockCase.begin_used),
    Scenario("two at once", LockCase.both),
    Scenario("reentrant", LockCase.once_more),
    Scenario("a zombie whose time is over", LockCase.zombie_by_time),
    Scenario("a zombie by an operator", LockCase.zombie_by_force),
    Scenario("look", LockCase.looking, LockCase.begin_dead),
    Scenario("an operator's release", LockCase.operate, LockCase.begin_dead),
)
