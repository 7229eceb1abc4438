"""Why updates need transactions: what a marker in the item itself cannot keep, as the shortest interleavings tell.

On an engine without transactions an update can be one conditional UpdateItem that carries its own marker: a repeated
request is refused by it, so nothing is doubled, and what became of a lost answer stands in the item. Three such
protocols are tried here, from a marker alone to all that one request can ask, on every interleaving of an update,
another one, a delete and late copies of requests. Each loses: what is not in the item, the tombstone, cannot be asked
in the same step. The protocol of `transaction.py`, tried in the same way, has no such interleaving.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from reliable_write.clock import Deadline, HybridClock, Stamp
from reliable_write.dynamodb import Condition, ConditionRefused, Store, TransactionCancelled
from reliable_write.ghosts import Ghosts
from reliable_write.operations import Delete, StampNames
from reliable_write.policy import Reading, read_stamps, stamp_of
from reliable_write.tombstones import Tombstone, Tombstones, tombstone_key
from reliable_write.values import WireItem
from tests.simulation.memory import MemoryTables
from tests.unit.fakes import ManualTime

TABLE, SYSTEM = "people", "system"
KEY: WireItem = {"id": {"S": "x"}}
NAMES = StampNames()
DELETE = Delete(TABLE, ("id",), KEY)
OLDER = "(attribute_not_exists(#full) OR #full < :mine) AND (attribute_not_exists(#upd) OR #upd < :mine)"
NO_GHOST = "(attribute_not_exists(id) OR #full >= :tomb OR #upd >= :tomb)"
Request = dict[str, Any]


class Machine(ManualTime):
    """One process, whose wall clock is wrong by so many seconds; what it draws tells its stamps apart."""

    def __init__(self, name: str, skew_seconds: float) -> None:
        super().__init__()
        self.wall += skew_seconds
        self._name = name

    def random_bytes(self, count: int) -> bytes:
        return self._name.encode().ljust(count, b"\0")


@dataclass
class Bench:
    """One item, its tombstone, and what happened to them."""

    tables: MemoryTables = field(default_factory=MemoryTables)
    told: list[tuple[Stamp, str]] = field(default_factory=list)
    """Acknowledged writes by their stamps."""
    is_conflict: bool = False
    """An operator is asked what holds."""

    def __post_init__(self) -> None:
        self.tables.create(TABLE, "id")
        self.tables.create(SYSTEM, "pk", "sk")
        time = ManualTime()
        self.deadline = Deadline.after(1e6, time)
        self.store = Store(self.tables, time)
        self.tombstones = Tombstones(self.store, SYSTEM, time)
        self.ghosts = Ghosts(self.store, self.tombstones, time, NAMES)
        self.time = time

    def look(self) -> tuple[WireItem | None, Stamp | None]:
        """The witness: a ghost is removed first; then item and tombstone, as one strong BatchGetItem sees them."""
        self.audit()
        return self.store.get(TABLE, KEY, self.deadline), self.tombstones.stamp(DELETE, self.deadline)

    def audit(self) -> None:
        stamp = self.tombstones.stamp(DELETE, self.deadline)
        if stamp is not None:
            name = tombstone_key(DELETE)["pk"]["S"]
            self.ghosts.audit(Tombstone(name, stamp, TABLE, KEY), self.deadline)

    def shown(self) -> set[str] | None:
        """Whose attributes the item has; None where there is none."""
        item = self.store.get(TABLE, KEY, self.deadline)
        return None if item is None else {name for name in item if name in "puv"}


# --- the protocols ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What an update witnessed, and the stamp it took above it."""

    name: str
    mine: Stamp
    item: WireItem | None
    tombstone: Stamp | None


Protocol = Callable[[Bench, Seen], Request]
"""The one request that is an update, with everything in its condition that it can ask."""


def marked(_bench: Bench, seen: Seen) -> Request:
    """A marker for each write, and nothing else."""
    condition = Condition("attribute_not_exists(#n)", {"#n": seen.name}, {":one": {"N": "1"}})
    return _update("SET #n = :one", condition)


def guarded(_bench: Bench, seen: Seen) -> Request:
    """Both stamps older than mine, no ghost as far as was witnessed, the tombstone handed on: what an item can say."""
    return _update(*_guards(seen))


def exact(_bench: Bench, seen: Seen) -> Request:
    """The item is there and has exactly the stamps that were witnessed. Refused for good where there was none."""
    if seen.item is None:
        raise Refused
    update, older = _guards(seen)
    parts, values = ["attribute_exists(id)", older.expression], dict(older.values)
    for place, name in (("#full", NAMES.full), ("#upd", NAMES.update)):
        stamp = stamp_of(seen.item, name)
        parts.append(f"attribute_not_exists({place})" if stamp is None else f"{place} = :seen_{place[1:]}")
        values |= {} if stamp is None else {f":seen_{place[1:]}": {"S": stamp}}
    return _update(update, Condition(" AND ".join(parts), older.names, values))


def transacted(_bench: Bench, seen: Seen) -> Request:
    """The same guards, and a check that the tombstone is as witnessed, in one transaction with a receipt."""
    check: Request = {
        "TableName": SYSTEM,
        "Key": tombstone_key(DELETE),
        "ConditionExpression": "attribute_not_exists(pk)",
    }
    if seen.tombstone is not None:
        check["ConditionExpression"] = "#s = :seen"
        check["ExpressionAttributeNames"] = {"#s": "stamp"}
        check["ExpressionAttributeValues"] = {":seen": {"S": seen.tombstone}}
    receipt = {"pk": {"S": f"R#{seen.name}"}, "sk": {"S": "R"}, "stamp": {"S": seen.mine}}
    fresh = {"TableName": SYSTEM, "Item": receipt, "ConditionExpression": "attribute_not_exists(pk)"}
    return {"TransactItems": [{"Put": fresh}, {"Update": guarded(_bench, seen)}, {"ConditionCheck": check}]}


def _guards(seen: Seen) -> tuple[str, Condition]:
    parts: list[str] = [OLDER]
    values: WireItem = {":mine": {"S": seen.mine}, ":one": {"N": "1"}}
    update = "SET #n = :one, #upd = :mine"
    if seen.tombstone is not None:
        parts.append(NO_GHOST)
        values[":tomb"] = {"S": seen.tombstone}
        if seen.item is None:
            update += ", #full = if_not_exists(#full, :tomb)"
        else:
            parts.append("attribute_exists(id)")
    names = {"#n": seen.name, "#full": NAMES.full, "#upd": NAMES.update}
    return update, Condition(" AND ".join(parts), names, values)


def _update(update: str, condition: Condition) -> Request:
    return {
        "TableName": TABLE,
        "Key": KEY,
        "UpdateExpression": update,
        "ConditionExpression": condition.expression,
        "ExpressionAttributeNames": dict(condition.names),
        "ExpressionAttributeValues": dict(condition.values),
    }


class Refused(Exception):
    """The protocol does not do this at all."""


# --- who does what ------------------------------------------------------------------------------------------------

Steps = Iterator[None]
"""Somebody's life: one step a request."""


def send(bench: Bench, request: Request) -> bool:
    """Whether it took effect."""
    try:
        bench.tables.apply("transact_write_items" if "TransactItems" in request else "update_item", request)
    except (ConditionRefused, TransactionCancelled):
        return False
    return True


def update(bench: Bench, name: str, clock: HybridClock, protocol: Protocol, sent: list[Request]) -> Steps:
    """Witness, send, and witness again where a guard refused; every request is kept, for a copy may come late."""
    while True:
        item, tombstone = bench.look()
        _follow(clock, item, tombstone)
        mine = clock.stamp()
        yield
        try:
            request = protocol(bench, Seen(name, mine, item, tombstone))
        except Refused:
            return
        sent.append(request)
        if send(bench, request):
            bench.told.append((mine, name))
            return
        yield


def delete(bench: Bench, clock: HybridClock) -> Steps:
    """Witness, tombstone, delete: what a journalled delete sends. A conflict is told, and leaves the item."""
    item, tombstone = bench.look()
    _follow(clock, item, tombstone)
    mine = clock.stamp()
    yield
    bench.tombstones.mark(DELETE, mine, bench.deadline)
    yield
    values = {":mine": {"S": mine}}
    older = Condition(OLDER, {"#full": NAMES.full, "#upd": NAMES.update}, values)
    try:
        bench.store.delete(TABLE, KEY, older, bench.deadline)
    except ConditionRefused as refused:
        if read_stamps(refused.found or {}, mine, NAMES, bench.time) is Reading.OVERTAKEN:
            bench.is_conflict = True
            return
    bench.told.append((mine, "delete"))


def late_copy(bench: Bench, sent: list[Request]) -> Steps:
    """The first request of an update arrives once more."""
    yield from ()
    if sent:
        send(bench, sent[0])


def late_put(bench: Bench) -> Steps:
    """A copy of the put that made the item arrives once more."""
    put = {**KEY, "p": {"N": "1"}, NAMES.full: {"S": FIRST}}
    values = {":mine": {"S": FIRST}}
    request = {"TableName": TABLE, "Item": put, "ConditionExpression": OLDER, "ExpressionAttributeValues": values}
    request["ExpressionAttributeNames"] = {"#full": NAMES.full, "#upd": NAMES.update}
    yield from ()
    with contextlib.suppress(ConditionRefused):
        bench.tables.apply("put_item", request)


FIRST = HybridClock(Machine("p", -1000.0)).stamp()


def _follow(clock: HybridClock, item: WireItem | None, tombstone: Stamp | None) -> None:
    for stamp in (stamp_of(item or {}, NAMES.full), stamp_of(item or {}, NAMES.update), tombstone):
        if stamp is not None:
            clock.witness(stamp)


# --- every interleaving, the shortest first -----------------------------------------------------------------------

STEPS_OF = {"u": 2, "v": 2, "delete": 3, "copy of u": 1, "copy of p": 1}
CASTS = (
    ("u", "delete"),
    ("u", "delete", "copy of u"),
    ("v", "delete", "copy of p"),
    ("u", "v", "delete"),
)


@dataclass(frozen=True)
class Scene:
    order: tuple[str, ...]
    skews: tuple[float, ...]
    """Of the clocks of u, v and the delete, in seconds."""
    made: bool
    """Whether a put had made the item before."""


def scenes() -> Iterator[Scene]:
    for cast in CASTS:
        steps = [who for who in cast for _ in range(STEPS_OF[who])]
        for order in sorted(set(itertools.permutations(steps))):
            for made in (True, False) if "copy of p" not in cast else (True,):
                for skews in itertools.permutations((0.0, 10.0, 20.0)):
                    yield Scene(order, skews, made)


def fault_of(protocol: Protocol, scene: Scene) -> str | None:
    """Play it, let everybody end, audit; what is wrong with what the item shows and nobody was told."""
    bench = Bench()
    if scene.made:
        list(late_put(bench))
        bench.told.append((FIRST, "p"))
    clocks = [HybridClock(Machine(name, skew)) for name, skew in zip("uvd", scene.skews, strict=True)]
    sent: list[Request] = []
    lives: dict[str, Steps] = {
        "u": update(bench, "u", clocks[0], protocol, sent),
        "v": update(bench, "v", clocks[1], protocol, []),
        "delete": delete(bench, clocks[2]),
        "copy of u": late_copy(bench, sent),
        "copy of p": late_put(bench),
    }
    for who in scene.order:
        next(lives[who], None)
    for who in sorted({*scene.order} - {"copy of u", "copy of p"}):
        for _ in lives[who]:
            pass
    bench.audit()
    due: set[str] | None = None
    for _, name in sorted(bench.told):
        due = None if name == "delete" else {*(due or ()), name}
    shown = bench.shown()
    return None if shown == due or bench.is_conflict else f"shows {shown} where the order of the stamps says {due}"


@pytest.mark.parametrize(
    ("protocol", "order"),
    [
        # The delete, earlier in order, comes second, and nothing in the item tells it: the update is lost.
        (marked, ["delete", "delete", "u", "u", "delete"]),
        # The copy of the put stands in for the item that was witnessed, and is updated: it outlives its delete.
        (guarded, ["delete", "v", "delete", "delete", "copy of p", "v"]),
        (exact, ["delete", "v", "delete", "delete", "copy of p", "v"]),
    ],
)
def test_no_marker_in_the_item_is_enough_for_an_update(protocol: Protocol, order: list[str]) -> None:
    scene, fault = next((scene, fault) for scene in scenes() if (fault := fault_of(protocol, scene)) is not None)
    assert list(scene.order) == order, (scene, fault)


def test_with_a_transaction_no_interleaving_of_these_is_a_fault() -> None:
    played = 0
    for scene in scenes():
        assert fault_of(transacted, scene) is None, scene
        played += 1
    assert played == 120 + 720 + 360 + 2520
