"""The wire between one process and the tables: it counts requests, and at the chosen ones something goes wrong."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed, CallName, ConditionRefused, TransactionCancelled
from reliable_write.dynamodb.failures import CancelReason
from reliable_write.policy import FailureKind
from tests.simulation.memory import Request

CALL_SECONDS = 0.02
READS = frozenset({"get_item", "query", "scan", "batch_get_item", "describe_table", "list_tags_of_resource"})


class Died(BaseException):
    """The process that made this call is gone."""


class Fault(enum.StrEnum):
    """What may happen to one request."""

    CRASH_BEFORE = "crash before send"
    CRASH_AFTER = "crash after apply"
    ERROR = "server error, not applied"
    ERROR_APPLIED = "server error, applied"
    DENIED = "denied from now on"
    THROTTLED = "throttled once"
    THROTTLED_ON = "throttled from now on"
    CONFLICT = "conflict"
    TIMEOUT = "timeout, not applied"
    TIMEOUT_APPLIED = "timeout, applied"
    UNANSWERED = "no answers from now on, not applied"
    UNANSWERED_APPLIED = "no answers from now on, applied"
    UNANSWERED_LATE = "no answers from now on, and the first lands at last"
    LATE = "timeout, and it lands at last"
    LATE_DEAD = "crash, and it lands at last"
    LATE_UNDER_DELETE = "crash, somebody deletes the keys, and it lands as late as can be"
    TWICE = "duplicate at once"
    TWICE_LATE = "duplicate at last"
    STALL = "stall over leases, and wake"
    OTHERS = "others finish first"
    RIVAL_PUTS = "somebody puts the keys"
    RIVAL_DELETES = "somebody deletes the keys"
    RIVAL_UPDATES = "somebody updates the keys"


OF_WRITES = frozenset(
    {
        Fault.CRASH_AFTER,
        Fault.ERROR_APPLIED,
        Fault.CONFLICT,
        Fault.TIMEOUT_APPLIED,
        Fault.UNANSWERED_APPLIED,
        Fault.UNANSWERED_LATE,
        Fault.LATE,
        Fault.LATE_DEAD,
        Fault.LATE_UNDER_DELETE,
        Fault.TWICE,
        Fault.TWICE_LATE,
    }
)
"""They say nothing of a request that changes nothing: applied or not, once or twice, is the same."""


def faults_of(call: CallName) -> list[Fault]:
    return [fault for fault in Fault if call not in READS or fault not in OF_WRITES]


class Around(Protocol):
    """The world as a fault moves it."""

    def apply(self, call: CallName, request: Request) -> dict[str, Any]: ...
    def pass_seconds(self, seconds: float) -> None: ...
    def flies(self, call: CallName, request: Request, *, long: bool) -> None: ...
    def stall(self) -> None: ...
    def others_finish(self) -> None: ...
    def rival(self, kind: str) -> None: ...


@dataclass
class Wire:
    """`Calls` of one process. Requests are counted from 1."""

    around: Around
    faults: Mapping[int, Fault] = field(default_factory=dict)
    dies_committed: bool = False
    """Strand it: it dies as soon as its commit point was applied."""
    trace: list[CallName] = field(default_factory=list)
    struck: list[Fault] = field(default_factory=list)
    broken: dict[tuple[CallName, str], Fault] = field(default_factory=dict)

    def send(self, call: CallName, request: Request, deadline: Deadline) -> dict[str, Any]:
        self.around.pass_seconds(CALL_SECONDS)
        _check(deadline)
        self.trace.append(call)
        fault = self.faults.get(len(self.trace))
        if fault is not None:
            self.struck.append(fault)
            return self._strike(fault, call, request, deadline)
        if (call, _table(request)) in self.broken:
            self._break(self.broken[call, _table(request)], call, request)
        answer = self.around.apply(call, request)
        if self.dies_committed and is_commit_point(call, request):
            raise Died
        return answer

    def _strike(self, fault: Fault, call: CallName, request: Request, deadline: Deadline) -> dict[str, Any]:
        if fault in _BEFORE:
            _BEFORE[fault](self.around)
            _check(deadline)
            return self.around.apply(call, request)
        if fault in _FLIES:
            self.around.flies(call, request, long=fault is Fault.LATE_UNDER_DELETE)
        if fault in _BREAKS:
            self.broken[call, _table(request)] = fault
            self._break(fault, call, request)
        if fault is Fault.LATE_UNDER_DELETE:
            self.around.rival("delete")
        if fault in (Fault.TWICE, Fault.TWICE_LATE):
            answer = self.around.apply(call, request)
            if fault is Fault.TWICE:
                self._lands(call, request)
            return answer
        if fault in (Fault.CRASH_AFTER, Fault.ERROR_APPLIED, Fault.TIMEOUT_APPLIED):
            self._lands(call, request)
        if fault is Fault.CONFLICT and call == "transact_write_items":
            raise TransactionCancelled([CancelReason(FailureKind.CONFLICT) for _ in request["TransactItems"]])
        if fault in _ERRORS:
            raise CallFailed(_ERRORS[fault], "Injected", _table(request))
        raise Died

    def _break(self, fault: Fault, call: CallName, request: Request) -> None:
        if fault is Fault.UNANSWERED_APPLIED:
            self._lands(call, request)
        raise CallFailed(_BREAKS[fault], "Broken", _table(request))

    def _lands(self, call: CallName, request: Request) -> None:
        """Nobody reads its answer."""
        with contextlib.suppress(ConditionRefused, TransactionCancelled, CallFailed):
            self.around.apply(call, request)


_BEFORE: dict[Fault, Callable[[Around], None]] = {
    Fault.STALL: lambda around: around.stall(),
    Fault.OTHERS: lambda around: around.others_finish(),
    Fault.RIVAL_PUTS: lambda around: around.rival("put"),
    Fault.RIVAL_DELETES: lambda around: around.rival("delete"),
    Fault.RIVAL_UPDATES: lambda around: around.rival("update"),
}
_BREAKS = {
    Fault.DENIED: FailureKind.ACCESS_DENIED,
    Fault.THROTTLED_ON: FailureKind.THROTTLED,
    Fault.UNANSWERED: FailureKind.TIMEOUT,
    Fault.UNANSWERED_APPLIED: FailureKind.TIMEOUT,
    Fault.UNANSWERED_LATE: FailureKind.TIMEOUT,
}
_FLIES = (Fault.UNANSWERED_LATE, Fault.LATE, Fault.LATE_DEAD, Fault.LATE_UNDER_DELETE, Fault.TWICE_LATE)
_ERRORS = {
    Fault.ERROR: FailureKind.SERVER,
    Fault.ERROR_APPLIED: FailureKind.SERVER,
    Fault.THROTTLED: FailureKind.THROTTLED,
    Fault.CONFLICT: FailureKind.CONFLICT,
    Fault.TIMEOUT: FailureKind.TIMEOUT,
    Fault.TIMEOUT_APPLIED: FailureKind.TIMEOUT,
    Fault.LATE: FailureKind.TIMEOUT,
}


def is_commit_point(call: CallName, request: Request) -> bool:
    """Also a transaction that asks whether there are transactions has no receipt in it."""
    if call == "transact_write_items":
        return any("R#" in str(action.get("Put", {}).get("Item", {}).get("pk")) for action in request["TransactItems"])
    return call == "put_item" and str(request["Item"].get("pk", {}).get("S", "")).startswith("J#")


def _check(deadline: Deadline) -> None:
    if deadline.passed():
        raise CallFailed(FailureKind.DEADLINE, "DeadlinePassed", None)


def _table(request: Request) -> str:
    return str(request.get("TableName", ""))
