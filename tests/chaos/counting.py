"""Processes that count: every scope adds to counters at its commit point and journals a row of the ledger with it.

The ledger's row carries the stamp of its write, so the rows tell, in the order of all writes, what each counter must
show. What a scope does follows from its number alone, so whoever takes over a number does the same again.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

from reliable_write import Outcome, PropagationPendingError, ReliableWriteError, ReliableWriter, ReliableWriteScope
from reliable_write.testing.faults import Call, Fault, FaultPlan, InFlight, cancel, kill, lose_answer
from reliable_write.transaction import Transaction
from tests.chaos.victims import Home

Deed = Literal["add", "put at commit", "delete at commit", "put", "delete"]
RESETS: tuple[Deed, ...] = ("put at commit", "delete at commit", "put", "delete")
HOT = tuple(f"hot-{number}" for number in range(12))
"""Counters that are only added to."""
MIXED = tuple(f"mixed-{number}" for number in range(3))
"""Counters that are also put and deleted."""
PUT_TO = 1_000
COMMITS_MAX = 20


@dataclass(frozen=True, slots=True)
class Turn:
    """One scope."""

    number: int
    deed: Deed
    counters: tuple[str, ...]

    @property
    def mark(self) -> str:
        return f"turn-{self.number}"

    @property
    def increments(self) -> int:
        return len(self.counters) if self.deed == "add" else 0

    def record(self, scope: ReliableWriteScope, desk: Desk) -> None:
        row = {"id": self.mark, "deed": self.deed, "counters": list(self.counters)}
        for counter in self.counters:
            if self.deed == "add":
                scope.update_item(desk.counters, Key={"id": counter}, add={"n": 1})
            elif self.deed.startswith("put"):
                scope.put_item(desk.counters, {"id": counter, "n": PUT_TO}, at_commit=self.deed != "put")
            else:
                scope.delete_item(desk.counters, {"id": counter}, at_commit=self.deed != "delete")
        scope.put_item(desk.ledger, Item=row)


def turn(seed: int, number: int) -> Turn:
    """The scope with this number."""
    chance = random.Random(f"{seed}-{number}")
    if chance.random() < 0.75:
        return Turn(number, "add", tuple(chance.sample(HOT, chance.randint(1, 4))))
    if chance.random() < 0.6:
        return Turn(number, "add", tuple(chance.sample(MIXED, chance.randint(1, 2))))
    return Turn(number, chance.choice(RESETS), (chance.choice(MIXED),))


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a process counts, and how."""

    home: Home
    counters: str
    ledger: str
    seed: int
    keyed: bool
    """Each scope has its mark as idempotency key."""
    without_receipt: bool = False
    """The mutant: no transaction leaves a receipt."""


@dataclass(frozen=True, slots=True)
class Word:
    """What a process says: `begin` before a scope's first commit, and after its last one how that ended."""

    number: int
    said: Literal["begin", "done", "pending", "unknown", "refused"]
    duplicate: bool = False
    events: Counter[str] | None = None
    """What went wrong on the way."""


def count_on(desk: Desk, numbers: Sequence[int], pipe: Connection) -> None:
    """Commit these scopes one after the other."""
    if desk.without_receipt:
        drop_receipts()
    client = desk.home.client()
    forget_tokens(client)
    troubles = Troubles(random.Random(f"{desk.seed}-{numbers[0]}-{os.getpid()}"), desk.counters)
    with (
        desk.home.writer(client, attempt_deadline_seconds=4, read_timeout_seconds=2) as writer,
        FaultPlan(client) as plan,
    ):
        troubles.plague(plan)
        for number in numbers:
            pipe.send(Word(number, "begin"))
            pipe.send(_take(turn(desk.seed, number), desk, writer, troubles))
    pipe.send(None)


def _take(turn: Turn, desk: Desk, writer: ReliableWriter, troubles: Troubles) -> Word:
    """One turn: what was refused for certain is recorded anew, what is unknown committed again."""
    for _ in range(COMMITS_MAX):
        with ReliableWriteScope(writer, idempotency_key=turn.mark if desk.keyed else None) as scope:
            turn.record(scope, desk)
            word = _commit(scope, turn.number, troubles)
        if word.said != "refused":
            break
        troubles.seen["refused"] += 1
    troubles.land()
    events, troubles.seen = troubles.seen, Counter()
    return Word(turn.number, word.said, word.duplicate, events)


def _commit(scope: ReliableWriteScope, number: int, troubles: Troubles) -> Word:
    for _ in range(COMMITS_MAX):
        try:
            receipt = scope.commit()
        except PropagationPendingError:
            return Word(number, "pending")
        except ReliableWriteError as error:
            if error.outcome is not Outcome.UNKNOWN:
                return Word(number, "refused")
        except Interrupted:
            pass
        else:
            return Word(number, "done", receipt.duplicate)
        troubles.seen["committed again"] += 1
    return Word(number, "unknown")


class Interrupted(BaseException):
    """As Ctrl-C would: the commit's caller learns nothing."""


class Troubles:
    """What goes wrong in one process, by chance."""

    def __init__(self, chance: random.Random, counters: str) -> None:
        self._chance = chance
        self._counters = f'"{counters}"'.encode()
        self._late = InFlight()
        self._looks = 0
        self.seen: Counter[str] = Counter()

    def plague(self, plan: FaultPlan) -> None:
        before = self._one_of(
            ("conflict", 0.03, cancel()),
            ("request lost", 0.02, lose_answer),
            ("held", 0.03, self._late),
            ("interrupted before", 0.02, interrupt),
        )
        after = self._one_of(
            ("answer lost", 0.03, lose_answer), ("interrupted after", 0.02, interrupt), ("killed", 0.01, kill)
        )
        # Only what has a receipt: a writer also asks once whether there are transactions, outside of any commit.
        plan.on("TransactWriteItems", before, having=b'"R#').on("TransactWriteItems", after, "after", having=b'"R#')
        plan.on("PutItem", self._one_of(("put held", 0.5, self._late)), having=self._counters)
        plan.on("DeleteItem", self._one_of(("delete lost", 0.1, lose_answer)), having=self._counters)
        plan.on("BatchGetItem", self._look)

    def land(self) -> None:
        """What was held arrives, sooner or later; some of it never."""
        if self._late.calls and self._chance.random() < 0.7:
            self.seen["landed late"] += len(self._late.land())
        self._looks = 0

    def _look(self, _call: Call) -> None:
        self._looks += 1
        self.seen["looked again"] += self._looks > 1

    def _one_of(self, *faults: tuple[str, float, Fault]) -> Fault:
        """At most one of these, each with its probability."""

        def by_chance(call: Call) -> Any:
            drawn = self._chance.random()
            for name, share, fault in faults:
                if drawn < share:
                    self.seen[name] += 1
                    return fault(call)
                drawn -= share
            return None

        return by_chance


def interrupt(_call: Call) -> None:
    raise Interrupted


def forget_tokens(client: Any) -> None:
    """Every request with a token of its own, as if ten minutes lay between any two: only receipts protect then."""

    def fresh(params: dict[str, Any], **_: Any) -> None:
        params["ClientRequestToken"] = os.urandom(16).hex()

    client.meta.events.register("before-parameter-build.dynamodb.TransactWriteItems", fresh)


def drop_receipts() -> None:
    """The mutant, in this process: where the receipt is put, only its absence is checked; it always holds."""
    real: Callable[[Transaction], list[dict[str, Any]]] = Transaction.actions

    def actions(transaction: Transaction) -> list[dict[str, Any]]:
        return [_unwritten(action) for action in real(transaction)]

    Transaction.actions = actions  # type: ignore[method-assign,assignment]


def _unwritten(action: dict[str, Any]) -> dict[str, Any]:
    put = action.get("Put", {})
    item = put.get("Item", {})
    if not item.get("pk", {}).get("S", "").startswith("R#"):
        return action
    key = {name: item[name] for name in ("pk", "sk")}
    return {"ConditionCheck": {**{name: value for name, value in put.items() if name != "Item"}, "Key": key}}
