"""The network between the processes and the tables, and all that goes wrong on it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from reliable_write import limits
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed, CallName, ConditionRefused, TransactionCancelled
from reliable_write.dynamodb.failures import CancelReason
from reliable_write.policy import FailureKind
from tests.simulation.memory import Request
from tests.simulation.timeline import Process, Timeline

FAULTS: Final = (
    "crash before send",
    "crash after apply",
    "denied",
    "throttled",
    "conflict",
    "timeout, not applied",
    "timeout after apply",
    "late landing",
    "duplicate",
    "stall",
    "clock jump",
    "kill on the way",
    "table away",
)
STALLS: Final = (1.0, 6.0, 12.0, 40.0, 700.0, limits.COLLECTION_WAIT_SECONDS)
DELAYS: Final = (0.05, 1.0, 6.0, 15.0, 60.0, 600.0, limits.SIGNED_REQUEST_SECONDS, 3 * limits.SIGNED_REQUEST_SECONDS)
"""How late something lands; what comes later than a signature lives is refused."""
JUMPS: Final = (-3600.0, -60.0, -5.0, 5.0, 60.0, 3600.0)
SKEW_MAX: Final = 7200.0
WRITES: Final = frozenset({"put_item", "update_item", "delete_item", "transact_write_items", "batch_write_item"})
SYSTEM: Final = "system"

Answer = tuple[dict[str, Any] | None, Exception | None]


@dataclass
class Weather:
    """What goes wrong in one life, and how often: some lives have but a few kinds of trouble."""

    chance: random.Random
    rate: float
    kinds: tuple[str, ...]
    weights: tuple[float, ...]
    signature_seconds: float = limits.SIGNED_REQUEST_SECONDS
    calm: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def drawn(cls, chance: random.Random) -> Weather:
        count = chance.choice((1, 2, 3, 4, 6, len(FAULTS)))
        kinds = tuple(sorted(chance.sample(FAULTS, count)))
        weights = tuple(0.1 + chance.random() for _ in kinds)
        if all(kind in _DEADLY for kind in kinds):  # or nobody would be left to meet the others
            kinds, weights = (*kinds, "timeout after apply", "late landing"), (*weights, 1.0, 1.0)
        return cls(chance, chance.choice((0.04, 0.08, 0.15, 0.25)), kinds, weights)

    def draw(self) -> str | None:
        """What goes wrong with the next call."""
        if self.calm or self.chance.random() >= self.rate:
            return None
        return self.chance.choices(self.kinds, self.weights)[0]


_DEADLY: Final = frozenset({"crash before send", "crash after apply", "kill on the way"})


class Wire:
    """`Calls` of one process."""

    def __init__(self, process: Process, world: Any) -> None:
        self._process = process
        self._world = world
        self._line: Timeline = process.line
        self._chance = process.line.chance
        self._weather: Weather = world.weather

    def send(self, call: CallName, request: Request, deadline: Deadline) -> dict[str, Any]:
        self._process.check()
        if deadline.passed():
            raise CallFailed(FailureKind.DEADLINE, "DeadlinePassed", request.get("TableName"))
        if self._line.in_hub or call == "describe_table":
            self._world.note(self._process, call, request, None)
            found: dict[str, Any] = self._world.apply(call, request)
            return found
        fault = self._weather.draw()
        if fault in ("conflict", "late landing", "duplicate") and call not in WRITES:
            fault = None
        self._world.note(self._process, call, request, fault)
        answer, error = self._meet(fault, call, request)
        if error is not None:
            raise error
        assert answer is not None
        return answer

    # --- what may happen to one request -------------------------------------------------------------------------

    def _meet(self, fault: str | None, call: CallName, request: Request) -> Answer:
        if fault in _INSTEAD:
            answer: Answer = getattr(self, _INSTEAD[fault])(call, request)
            return answer
        if fault is not None:
            getattr(self, _BESIDE[fault])(call, request)
        return self._exchange(call, request)

    def _exchange_twice(self, call: CallName, request: Request) -> Answer:
        """It lands once more, later. Not a transaction that was answered with a refusal: no connection repeats what it
        has answered, and a refusal that is told must be able to be believed.
        """
        answer, error = self._exchange(call, request)
        if error is None or call != "transact_write_items":
            self._fly(call, request, self._chance.choice(DELAYS) * self._chance.random())
        else:
            self._world.seen["refused transactions not repeated"] += 1
        return answer, error

    def _crash_before_send(self, _call: CallName, _request: Request) -> NoReturn:
        self._process.die()

    def _crash_after_apply(self, call: CallName, request: Request) -> NoReturn:
        self._fly(call, request, self._latency())
        self._process.die()

    def _deny(self, _call: CallName, request: Request) -> Answer:
        return self._refused(FailureKind.ACCESS_DENIED, request)

    def _throttle(self, _call: CallName, request: Request) -> Answer:
        return self._refused(FailureKind.THROTTLED, request)

    def _conflict(self, call: CallName, request: Request) -> Answer:
        if call != "transact_write_items":
            return self._refused(FailureKind.CONFLICT, request)
        self._wait(self._latency())
        reason = CancelReason(FailureKind.CONFLICT, "TransactionConflict")
        return None, TransactionCancelled([reason] * len(request["TransactItems"]))

    def _silence(self, _call: CallName, request: Request) -> Answer:
        self._wait(limits.READ_TIMEOUT_SECONDS)
        return None, CallFailed(FailureKind.TIMEOUT, "ReadTimeoutError", request.get("TableName"))

    def _lose_answer(self, call: CallName, request: Request) -> Answer:
        self._fly(call, request, self._latency())
        return self._silence(call, request)

    def _land_late(self, call: CallName, request: Request) -> Answer:
        self._fly(call, request, self._chance.choice(DELAYS) * (0.2 + 0.8 * self._chance.random()))
        return self._silence(call, request)

    def _stall(self, _call: CallName, _request: Request) -> None:
        """The request is on its way; the answer waits for the one who asked."""
        self._process.stall(self._chance.choice(STALLS) * (0.2 + self._chance.random()))

    def _jump(self, _call: CallName, _request: Request) -> None:
        skew = self._process.skew + self._chance.choice(JUMPS)
        self._process.skew = max(-SKEW_MAX, min(SKEW_MAX, skew))

    def _kill(self, _call: CallName, _request: Request) -> None:
        self._line.after(2 * self._chance.random() * self._latency(), self._process.kill)

    def _take_away(self, _call: CallName, _request: Request) -> None:
        table = self._chance.choice(self._world.table_names)
        self._world.away[table] = self._line.now + self._chance.choice((3.0, 20.0, 90.0))

    # --- how it goes ----------------------------------------------------------------------------------------------

    def _exchange(self, call: CallName, request: Request) -> Answer:
        """There and back: the request lands whatever becomes of its sender."""
        if self._is_away(request):
            self._wait(limits.CONNECT_TIMEOUT_SECONDS)
            return None, CallFailed(FailureKind.UNREACHABLE, "EndpointConnectionError", request.get("TableName"))
        task, back = self._line.current(), self._latency()

        def land() -> None:
            answer = self._applied(call, request)
            self._line.after(back, lambda: self._process.resume(task, answer))

        self._line.after(self._latency(), land)
        answer: Answer = self._line.park()
        self._process.check()
        return answer

    def _applied(self, call: CallName, request: Request) -> Answer:
        try:
            return self._world.apply(call, request), None
        except (CallFailed, ConditionRefused, TransactionCancelled) as error:
            return None, error

    def _fly(self, call: CallName, request: Request, seconds: float) -> None:
        """On its way, and nobody waits for the answer."""
        sent_at = self._line.now

        def land() -> None:
            if self._line.now - sent_at > self._weather.signature_seconds or self._is_away(request):
                self._world.seen["refused as too old"] += 1
                return
            answer, _ = self._applied(call, request)
            self._world.seen["landed late" if answer is not None else "landed in vain"] += 1

        self._line.after(seconds, land)

    def _refused(self, kind: FailureKind, request: Request) -> Answer:
        self._wait(self._latency())
        return None, CallFailed(kind, "injected", request.get("TableName"))

    def _wait(self, seconds: float) -> None:
        self._process.sleep(seconds)

    def _latency(self) -> float:
        return self._line.chance.expovariate(50.0)

    def _is_away(self, request: Request) -> bool:
        away = self._world.away
        return bool(away) and any(self._line.now < away.get(table, 0.0) for table in _tables(request))


def _tables(request: Request) -> list[str]:
    if "TableName" in request:
        return [request["TableName"]]
    if "RequestItems" in request:
        return list(request["RequestItems"])
    return [part["TableName"] for action in request.get("TransactItems", ()) for part in action.values()]


def target(call: CallName, request: Mapping[str, Any]) -> str:
    """What a request is about: the kind of record, or `item` for an application's table."""
    if call == "transact_write_items":
        return "commit point"
    if call == "batch_get_item":
        return "witness"
    if call == "scan":
        return "pass"
    if call == "query":
        return _kind(request["ExpressionAttributeValues"][":pk"])
    if call == "batch_write_item":
        table, rows = next(iter(request["RequestItems"].items()))
        key = rows[0]["DeleteRequest"]["Key"]
    else:
        table, key = request["TableName"], request.get("Item") or request.get("Key") or {}
    return _kind(key.get("pk", {"S": "?"})) if table == SYSTEM else "item"


_KINDS: Final = {"J#": "entry", "C#": "chunk", "T#": "tombstone", "R#": "receipt", "M#": "heartbeat", "A#": "deed"}


def _kind(partition: Mapping[str, str]) -> str:
    return _KINDS.get(partition["S"][:2], "other")


_INSTEAD: Final[dict[str | None, str]] = {
    "crash before send": "_crash_before_send",
    "crash after apply": "_crash_after_apply",
    "denied": "_deny",
    "throttled": "_throttle",
    "conflict": "_conflict",
    "timeout, not applied": "_silence",
    "timeout after apply": "_lose_answer",
    "late landing": "_land_late",
    "duplicate": "_exchange_twice",
}
"""Instead of a plain exchange."""
_BESIDE: Final = {
    "stall": "_stall",
    "clock jump": "_jump",
    "kill on the way": "_kill",
    "table away": "_take_away",
}
assert {*_INSTEAD, *_BESIDE} == {*FAULTS}
