"""Random interleavings of writes with operations at commit, on the engine itself: G5, G6 and their order hold.

Processes with clocks hours apart update, put and delete two keys, with conditions and without, with idempotency keys
that others use as well and without; between any two calls somebody else may act; requests get lost, arrive late or
twice, or their answers never come; processes die, or are interrupted and commit the same scope again. Tokens are not
honoured: what keeps a write from taking effect twice is its receipt.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from reliable_write import Outcome, Receipt, ReliableWriteError, ReliableWriteScope, receipts, transaction
from reliable_write.clock import Stamp
from reliable_write.dynamodb import CallFailed, CallName, TransactionCancelled
from reliable_write.dynamodb.failures import CancelReason
from reliable_write.engine import Engine
from reliable_write.entry import State
from reliable_write.operations import AtCommit, Delete
from reliable_write.policy import FailureKind
from reliable_write.receipts import Receipts, StoredReceipt
from reliable_write.tombstones import tombstone_item, tombstone_key
from reliable_write.transacted import Transacted
from reliable_write.transaction import Part, Transaction
from reliable_write.values import WireItem
from reliable_write.witness import Witness
from tests.simulation.memory import Request
from tests.simulation.memory_world import SYSTEM, TABLE, MemoryWorld
from tests.unit.test_auditor_model import SKEWS, Died, SeededTime

SEEDS = 400
DEPTH_MAX = 3
KEYS = ("x", "y")
AT_COMMIT = ("update", "update", "update", "put at commit", "delete at commit")
CLOSE = ("update", "update", "update", "put", "delete", "delete", "delete")
KINDS = (*AT_COMMIT, "put", "put", "delete", "delete")
EXISTS, ABSENT = "attribute_exists(id)", "attribute_not_exists(id)"


@dataclass(frozen=True)
class Deed:
    """One operation; what it leaves carries the name of its write."""

    kind: str
    key: str
    condition: str | None = None

    def record(self, scope: ReliableWriteScope, name: str) -> None:
        key = {"id": self.key}
        if self.kind == "update":
            scope.update_item(TABLE, key, ConditionExpression=self.condition, add={name: 1})
        elif self.kind.startswith("put"):
            scope.put_item(TABLE, {**key, name: 1}, self.condition, at_commit=self.kind != "put")
        else:
            scope.delete_item(TABLE, key, self.condition, at_commit=self.kind != "delete")


@dataclass
class Write:
    """One scope, and what its caller knows."""

    name: str
    key: str | None
    deeds: tuple[Deed, ...]
    engine: Engine
    scope: ReliableWriteScope
    outcome: Outcome = Outcome.UNKNOWN
    """The last word; until one is said, nothing is known."""
    receipts: list[Receipt] = field(default_factory=list)
    begun: int = 0
    """When its scope began to be committed, in calls of all."""
    told: int | None = None
    """When it was first acknowledged."""
    is_running: bool = False
    """In the middle of a commit, between two calls of which others act."""

    @property
    def is_open(self) -> bool:
        """Whether it may be committed again."""
        return "may or may not" in self.scope._state.value

    @property
    def mark(self) -> str | None:
        """Which scope it is, in receipts; None where nothing was ever sent, or nothing with a receipt."""
        prepared = self.scope._prepared
        return prepared.transaction.receipt.scope if isinstance(prepared, Transacted) else None


@dataclass(frozen=True)
class Landed:
    """A write that reached its commit point, as the tables saw it."""

    write_id: str
    stamp: str
    mark: str | None


class Life:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = MemoryWorld(time=SeededTime(random.Random(seed)), page_items=10)
        self.engines = [self.world.process(skew) for skew in SKEWS]
        self.flights: list[tuple[CallName, Request]] = []
        self.writes: list[Write] = []
        self.landed: list[Landed] = []
        self.depth = 0
        self.numbers = itertools.count()
        self.calls = 0
        # Half of the lives are short and turn closely around one key, where updates and journalled writes meet.
        is_close = seed % 2 == 0
        self.keys: Sequence[str] = KEYS[:1] if is_close else KEYS
        self.kinds: Sequence[str] = CLOSE if is_close else KINDS
        self.steps, self.haste = (6, 0.4) if is_close else (14, 0.15)
        self.seen: Counter[str] = Counter()
        self.calm = False
        self.world.tables.before = self.trouble
        self.apply = self.world.tables.apply
        self.world.tables.apply = self.log  # type: ignore[method-assign]

    def run(self) -> None:
        for _ in range(self.steps):
            self.act()
        self.settle()
        self.judge()

    # --- what may happen ----------------------------------------------------------------------------------------

    def act(self) -> None:
        actions: list[tuple[int, Callable[[], object]]] = [
            (8, self.begin),
            (4, self.twin),
            (4, self.again),
            (4, self.land),
            (2, self.recover),
        ]
        weights, deeds = zip(*actions, strict=True)
        self.random.choices(deeds, weights)[0]()
        self.world.time.pass_seconds(self.random.choice([0.0, 0.1, 5.0]))

    def begin(self) -> None:
        number = next(self.numbers)
        keyed = self.random.random() < 0.4
        keys = self.random.sample(self.keys, min(len(self.keys), self.random.choice([1, 1, 2])))
        # One journalled deed at most, so that a conflict of the write tells which of its deeds was not done.
        deeds = (self.deed(keys[0], self.kinds), *(self.deed(key, AT_COMMIT) for key in keys[1:]))
        self.start(f"w{number}", f"key-{number}" if keyed else None, deeds)

    def deed(self, key: str, kinds: Sequence[str]) -> Deed:
        kind = self.random.choice(kinds)
        conditions = [None, None, EXISTS, ABSENT] if kind not in ("put", "delete") else [None]
        return Deed(kind, key, self.random.choice(conditions))

    def twin(self) -> None:
        """Another process uses a key that is in use, for the same write."""
        keyed = [write for write in self.writes if write.key is not None]
        if keyed:
            write = self.random.choice(keyed)
            self.seen["twins"] += 1
            self.start(write.name, write.key, write.deeds)

    def start(self, name: str, key: str | None, deeds: tuple[Deed, ...]) -> None:
        engine = self.random.choice(self.engines)
        scope = ReliableWriteScope(_Writer(engine), idempotency_key=key)
        try:
            for deed in deeds:
                deed.record(scope, name)
        except (Died, ReliableWriteError):
            scope.discard()
            return
        write = Write(name, key, deeds, engine, scope, begun=self.calls)
        self.writes.append(write)
        self.commit(write)

    def again(self) -> None:
        """The caller of an unknown write tries once more."""
        unknown = [write for write in self.writes if write.is_open and not write.is_running]
        if unknown:
            self.seen["again"] += 1
            self.commit(self.random.choice(unknown))

    def commit(self, write: Write) -> None:
        write.is_running = True
        try:
            receipt = write.scope.commit()
        except Died:
            self.seen["interrupted"] += 1
        except ReliableWriteError as error:
            write.outcome = error.outcome
            self.seen[error.outcome.name] += 1
        else:
            write.outcome = Outcome.WRITTEN
            write.receipts.append(receipt)
            write.told = self.calls if write.told is None else write.told
            self.seen["duplicate" if receipt.duplicate else "written"] += 1
        finally:
            write.is_running = False

    def land(self) -> None:
        """Something that was on its way arrives; perhaps once more later."""
        if not self.flights:
            return
        flight = self.random.choice(self.flights)
        if self.random.random() < 0.7:
            self.flights.remove(flight)
        try:
            self.world.tables.apply(*flight)
        except Exception:  # noqa: BLE001 - nobody is left to read the answer
            self.seen["landed in vain"] += 1
        else:
            self.seen["landed late"] += 1

    def recover(self) -> None:
        try:
            self.random.choice(self.engines).recovery.resume_all()
        except Died:
            self.seen["died recovering"] += 1

    # --- how it is made to happen -------------------------------------------------------------------------------

    def trouble(self, call: CallName, request: Request) -> None:
        """Before any call: somebody else acts, or this call goes wrong."""
        self.calls += 1
        if self.calm or call in ("describe_table", "get_item"):
            return
        if self.random.random() < self.haste and self.depth < DEPTH_MAX:
            self.depth += 1
            self.seen["in between"] += 1
            self.act()
            self.depth -= 1
        if call == "transact_write_items" or (call in ("put_item", "delete_item") and self.random.random() < 0.3):
            self.random.choices(
                [lambda *_: None, self.hold, self.lose_answer, self.cancel, self.interrupt], [12, 3, 3, 1, 2]
            )[0](call, request)

    def hold(self, call: CallName, request: Request) -> None:
        self.flights.append((call, request))
        raise CallFailed(FailureKind.TIMEOUT, "held", None)

    def lose_answer(self, call: CallName, request: Request) -> None:
        self.world.tables.apply(call, request)
        self.seen["answer lost"] += 1
        raise CallFailed(FailureKind.TIMEOUT, "lost", None)

    def cancel(self, call: CallName, request: Request) -> None:
        if call == "transact_write_items":
            self.seen["conflict"] += 1
            raise TransactionCancelled([CancelReason(FailureKind.CONFLICT) for _ in request["TransactItems"]])

    def interrupt(self, call: CallName, request: Request) -> None:
        if self.random.random() < 0.5:
            self.flights.append((call, request))
        raise Died

    def log(self, call: CallName, request: Request) -> dict[str, Any]:
        """Note what reaches its commit point."""
        answer = self.apply(call, request)
        if call == "transact_write_items":
            puts = [action["Put"]["Item"] for action in request["TransactItems"] if "Put" in action]
            self.landed += [_receipt(item) for item in puts if _pk(item).startswith("R#")]
        elif call == "put_item" and _pk(request["Item"]).startswith("J#"):
            stamp = request["Item"]["sk"]["S"]
            self.landed.append(Landed(stamp, stamp, None))
        return answer

    # --- the end ------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Whatever flies lands; what was left behind is finished; ghosts give way to one more update."""
        self.calm = True
        while self.flights:
            self.land()
        for _ in range(3):
            self.world.time.pass_seconds(60.0)
            self.world.engine.recovery.resume_all()
        scope = ReliableWriteScope(_Writer(self.world.engine))
        for key in KEYS:
            scope.update_item(TABLE, {"id": key}, add={"last": 1})
        scope.commit()

    def judge(self) -> None:
        by_id: defaultdict[str, set[Landed]] = defaultdict(set)
        for landed in self.landed:
            by_id[landed.write_id].add(landed)
        for write in self.writes:
            self.judge_claims(write, by_id.get(write.scope.write_id or "", set()))
        for number in Counter((one.write_id, one.mark) for one in self.landed if one.mark is not None).values():
            assert number == 1, "a write took effect twice"
        for key in KEYS:
            self.judge_key(key, by_id)
        self.judge_real_time()

    def judge_real_time(self) -> None:
        """G4: what began after another was acknowledged comes after it."""
        told = [(write, write.receipts[0]) for write in self.writes if write.receipts]
        firsts = [(write, receipt) for write, receipt in told if not receipt.duplicate]
        for (one, earlier), (other, later) in itertools.permutations(firsts, 2):
            meet = {deed.key for deed in one.deeds} & {deed.key for deed in other.deeds}
            if meet and one.told is not None and one.told < other.begun and not _deletes_only(other, meet):
                assert earlier.stamp < later.stamp, f"{other.name} came after {one.name} and is before it"

    def judge_claims(self, write: Write, landed: set[Landed]) -> None:
        assert len(landed) <= 1, f"{write.name} took effect {len(landed)} times"
        mine = {one for one in landed if one.mark == write.mark}
        if write.outcome in (Outcome.WRITTEN, Outcome.WILL_BE_WRITTEN):
            assert landed, f"{write.name} was acknowledged and is lost"
        if write.outcome is Outcome.NOT_WRITTEN:
            assert not mine, f"{write.name} was said not to be written, and is"
        for receipt in write.receipts:
            assert {receipt.stamp} == {one.stamp for one in landed}
            assert receipt.duplicate == (not mine), f"{write.name} tells wrongly who wrote it"

    def judge_key(self, key: str, by_id: dict[str, set[Landed]]) -> None:
        """The item is what its writes make of it in the order of their stamps."""
        entries = self.world.records("J#")
        assert all(entry["state"]["S"] == State.QUARANTINED for entry in entries)
        conflicts = {entry["sk"]["S"] for entry in entries}
        self.seen["conflicts"] += len(conflicts)
        ids = {write.scope.write_id: write for write in self.writes if write.scope.write_id is not None}
        rows = sorted((one.stamp, ids[one.write_id]) for ones in by_id.values() for one in ones if one.write_id in ids)
        due: Counter[str] = Counter()
        for stamp, write in rows:
            for deed in write.deeds:
                if deed.key == key and not (deed.kind in ("put", "delete") and stamp in conflicts):
                    _do(due, deed, write.name)
        item = self.world.shown(key) or {}
        shown = {name: int(value["N"]) for name, value in item.items() if name.startswith("w")}
        assert shown == dict(due), f"{key} shows {shown} and not {dict(due)}"


@dataclass
class _Writer:
    parts: Engine

    def engine(self) -> Engine:
        return self.parts


def _deletes_only(write: Write, keys: set[str]) -> bool:
    """A journalled delete need not come after the delete it repeats."""
    return all(deed.kind == "delete" for deed in write.deeds if deed.key in keys)


def _do(due: Counter[str], deed: Deed, name: str) -> None:
    if deed.kind != "update":
        due.clear()
    if not deed.kind.startswith("delete"):
        due[name] += 1


def _pk(item: dict[str, Any]) -> str:
    return str(item.get("pk", {}).get("S", ""))


def _receipt(item: dict[str, Any]) -> Landed:
    return Landed(_pk(item).removeprefix("R#"), item["stamp"]["S"], item["scope"]["S"])


def live(seeds: Iterable[int]) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        life = Life(seed)
        try:
            life.run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        seen += life.seen
    return seen


def test_g5_whatever_happens_each_write_takes_effect_once_and_nobody_is_told_otherwise() -> None:
    seen = live(range(SEEDS))
    for kind in (
        *("written", "duplicate", "NOT_WRITTEN", "UNKNOWN", "WILL_BE_WRITTEN", "twins", "again", "in between"),
        *("landed late", "landed in vain", "answer lost", "conflict", "interrupted", "conflicts"),
    ):
        assert seen[kind] >= SEEDS / 20, (kind, seen)


# --- an adversary who finds nothing has shown nothing -------------------------------------------------------------


def without_receipts(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(action: dict[str, Any], _transaction: Transaction) -> dict[str, Any]:
        if not _pk(action.get("Put", {}).get("Item", {})).startswith("R#"):
            return action
        return {"Put": {**action["Put"], "ConditionExpression": "attribute_not_exists(nothing)"}}

    _change_actions(monkeypatch, change)


def receipts_keyed_by_the_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    """CE21."""
    real = receipts.receipt_item

    def keyed_by_stamp(receipt: StoredReceipt) -> WireItem:
        return {**real(receipt), "pk": {"S": f"R#{receipt.stamp}"}}

    monkeypatch.setattr(transaction, "receipt_item", keyed_by_stamp)


def tombstones_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """CE20: an update of a deleted key, by a clock that is slow."""
    real = Witness._see
    monkeypatch.setattr(
        Witness, "_see", lambda self, wanted, deadline: real(self, [(one, False) for one, _ in wanted], deadline)
    )
    monkeypatch.setattr(Transaction, "_tombstone", _nothing_checked)


def ghosts_built_upon(monkeypatch: pytest.MonkeyPatch) -> None:
    """CE20."""
    monkeypatch.setattr(transaction, "_NO_GHOST", "attribute_not_exists(nothing)")
    monkeypatch.setattr(Witness, "_remove_ghosts", lambda *_: None)


def any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """CE9, CE25."""
    monkeypatch.setattr(transaction, "_OLDER", "attribute_not_exists(nothing)")


def nothing_fenced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Receipts, "fence", lambda *_: None)


def a_tombstone_handed_on_to_what_outlived_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """CE26: the delete that an update had overtaken then takes itself for done, and nobody is told."""
    real = Part.__init__

    def unseen(part: Part, operation: AtCommit, tombstone: Stamp | None, **_: bool) -> None:
        real(part, operation, tombstone, item_seen=False)

    monkeypatch.setattr(Part, "__init__", unseen)


def _nothing_checked(self: Transaction, part: Part) -> dict[str, Any]:
    if isinstance(part.operation.action, Delete):
        item = tombstone_item(part.operation.action, self.stamp)
        return {"Put": {"TableName": SYSTEM, "Item": item, "ConditionExpression": "attribute_not_exists(nothing)"}}
    key = tombstone_key(part.operation.action)
    check = {"TableName": SYSTEM, "Key": key, "ConditionExpression": "attribute_not_exists(nothing)"}
    return {"ConditionCheck": check}


def _change_actions(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any], Transaction], dict[str, Any]]
) -> None:
    real = Transaction.actions
    monkeypatch.setattr(Transaction, "actions", lambda self: [change(action, self) for action in real(self)])


@pytest.mark.parametrize(
    "mutant",
    [
        without_receipts,
        receipts_keyed_by_the_stamp,
        tombstones_unseen,
        ghosts_built_upon,
        any_order,
        nothing_fenced,
        a_tombstone_handed_on_to_what_outlived_it,
    ],
)
def test_the_adversary_finds_what_a_guard_less_lets_through(
    monkeypatch: pytest.MonkeyPatch, mutant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match="seed"):
        live(range(5 * SEEDS))
