"""Fault plans on botocore's public events: what goes wrong, at which call, before it is sent or after it was applied.

    plan = FaultPlan(client)
    plan.at(3, when=After, fault=lose_answer)      # the third call is applied, its answer never arrives
    plan.on("PutItem", fault=throttle)             # every PutItem is refused

Calls are numbered from 1 in the order in which they reach the wire, over all threads of the client. A plan acts on one
client, or on several that share its numbers, and is taken off with `remove()` (or by leaving its `with` block).

What can go wrong, and how it is said:

    crash before it is sent, crash after it was applied     crash, as `before` or `after` (kill: for real)
    an error, a refusal                                     answer("..."), server_error, deny, refuse_connection
    throttled                                               throttle
    in conflict with a transaction                          collide: of a single write, or of a transaction
    a timeout, not applied; a timeout, applied              lose_answer, as `before` or `after`
    a timeout, applied, before an SDK that retries          lose_answer_on_the_way
    a timeout, applied later                                InFlight, then land()
    it arrives twice, at once; the second time later        duplicate; Echo, then land()
    the process stalls, and wakes                           Stall, then wake()
"""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

When = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way."""

    number: int
    operation: str
    """botocore's name, for instance `PutItem`."""
    body: bytes
    """The signed request's body."""
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    method: str = "POST"

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that a request to DynamoDB names, each once, in its order; none for other services."""
        if "x-amz-target" not in {name.lower() for name in self.headers}:
            return ()
        return tuple(dict.fromkeys(_tables_of(json.loads(self.body or b"{}"))))


Fault = Callable[[Call], Any]
"""Raises, kills, waits, or returns an AWSResponse to answer with. Returning None lets the call go on."""


class SimulatedCrash(BaseException):
    """The process is dead from here on, as far as the plan's client can tell: no later call is sent either."""


class FaultPlan:
    """Faults on the calls of a boto3 client, for DynamoDB or for S3, and a record of every call it made."""

    def __init__(self, *clients: Any) -> None:
        self._taps: list[tuple[Any, str]] = []
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._thread = threading.local()
        self._dead = False
        self._over = False
        self.calls: list[Call] = []
        """Every call that reached the wire, faulted ones included."""
        self.injected = 0
        """How many faults were injected: a test whose plan injected none has tested nothing."""
        self._id = f"reliable-write-faults-{id(self)}"
        self.watch(*clients)

    def watch(self, *clients: Any) -> Self:
        """Act on these clients too; one that is watched already is not watched twice."""
        for client in clients:
            events, service = client.meta.events, client.meta.service_model.service_name
            events.register_last(f"before-send.{service}", self._before, unique_id=self._id)
            events.register(f"response-received.{service}", self._after, unique_id=self._id + "-after")
            self._taps.append((events, service))
        return self

    def release(self, *clients: Any) -> None:
        """Act on these clients no more."""
        for client in clients:
            self._untap(client.meta.events, client.meta.service_model.service_name)

    @property
    def crashed(self) -> bool:
        """Whether one of its faults was a crash."""
        return self._dead

    def end(self) -> None:
        """The process is over, whether it crashed or not: whatever its threads still try is refused, for good.

        As by a network that is gone, and not by a crash: nobody is left who could be told of one.
        """
        self._over = True

    def at(self, number: int, fault: Fault, when: When = "before") -> Self:
        """Inject at the n-th call."""
        return self._add(_Rule(fault, when, lambda call: call.number == number))

    def on(
        self,
        operation: str,
        fault: Fault,
        when: When = "before",
        *,
        times: int | None = None,
        having: bytes = b"",
    ) -> Self:
        """Inject at every call of this operation whose body holds `having`, at most so many times."""
        return self._add(_Rule(fault, when, lambda call: call.operation == operation and having in call.body, times))

    def remove(self) -> None:
        """Take the plan off its clients."""
        for events, service in self._taps:
            self._untap(events, service)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()

    def count(self, operation: str) -> int:
        """Calls of this operation that reached the wire."""
        with self._lock:
            return sum(call.operation == operation for call in self.calls)

    def _untap(self, events: Any, service: str) -> None:
        events.unregister(f"before-send.{service}", unique_id=self._id)
        events.unregister(f"response-received.{service}", unique_id=self._id + "-after")

    def _add(self, rule: _Rule) -> Self:
        self._rules.append(rule)
        return self

    def _before(self, request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        call = self._number(event_name.rpartition(".")[2], request)
        self._thread.call = call
        return self._inject(call, "before")

    def _after(self, exception: Exception | None = None, **_: Any) -> None:
        call = getattr(self._thread, "call", None)
        if call is not None and exception is None:
            self._inject(call, "after")

    def _number(self, operation: str, request: Any) -> Call:
        body = _bytes_of(request.body)
        headers = {name: _text(value) for name, value in request.headers.items()}
        with self._lock:
            # With the numbering: no call gets a number, and so to the wire, once the crash is told.
            if self._over:
                raise EndpointConnectionError(endpoint_url=f"{operation} (its process is over)")
            if self._dead:
                raise SimulatedCrash
            call = Call(len(self.calls) + 1, operation, body, request.url, headers, request.method)
            self.calls.append(call)
            return call

    def _inject(self, call: Call, when: When) -> AWSResponse | None:
        for rule in self._rules:
            with self._lock:
                chosen = rule.takes(call, when)
                self.injected += chosen
            if chosen:
                return self._run(rule.fault, call)
        return None

    def _run(self, fault: Fault, call: Call) -> AWSResponse | None:
        try:
            answer = fault(call)
        except SimulatedCrash:
            with self._lock:
                self._dead = True
            raise
        return answer if isinstance(answer, AWSResponse) else None


@dataclass(slots=True)
class _Rule:
    fault: Fault
    when: When
    matches: Callable[[Call], bool]
    times: int | None = None
    _used: int = field(default=0)

    def takes(self, call: Call, when: When) -> bool:
        if when != self.when or not self.matches(call) or self._used == self.times:
            return False
        self._used += 1
        return True


# --- what can go wrong --------------------------------------------------------------------------------------------


def crash(_call: Call) -> None:
    """The process is gone; nothing of it runs any more (in this process: no call of this client is sent any more)."""
    raise SimulatedCrash


def kill(_call: Call) -> None:
    """SIGKILL this process, for real."""
    os.kill(os.getpid(), signal.SIGKILL)


def lose_answer(call: Call) -> None:
    """As `after`: applied, and nobody is told. As `before`: never arrived, and nobody is told either."""
    raise ReadTimeoutError(endpoint_url=f"{call.operation} (injected)")


def refuse_connection(call: Call) -> None:
    """The endpoint does not take connections: certainly not applied. Only as `before`."""
    raise EndpointConnectionError(endpoint_url=f"{call.operation} (injected)")


def answer(code: str, status: int = 400, **members: Any) -> Fault:
    """Answer with this error, which may have `members`, in place of the engine. Only as `before`."""
    error = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "injected", **members}
    body = json.dumps(error).encode()

    def fault(_call: Call) -> AWSResponse:
        return AWSResponse("http://injected", status, HTTPHeaders(), _Raw(body))

    return fault


def answer_xml(code: str, status: int) -> Fault:
    """The same as S3 answers."""
    body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()

    def fault(_call: Call) -> AWSResponse:
        return AWSResponse("http://injected", status, HTTPHeaders(), _Raw(body))

    return fault


def cancel(code: str = "TransactionConflict", *, at: int = -1) -> Fault:
    """Cancel a TransactWriteItems: its action number `at` (from 0, or from the end) objects with this reason."""

    def fault(call: Call) -> AWSResponse:
        reasons = [{"Code": "None"} for _ in json.loads(call.body)["TransactItems"]]
        reasons[at] = {"Code": code, "Message": "injected"}
        response: AWSResponse = answer("TransactionCanceledException", CancellationReasons=reasons)(call)
        return response

    return fault


class InFlight:
    """Requests that are under way for longer than their sender waits: `before` faults that keep them for later.

        late = InFlight()
        plan.on("TransactWriteItems", late, times=1)
        ...
        late.land()     # they arrive now, in the order in which they were sent

    Engines must take signatures of any date, as emulators do.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __call__(self, call: Call) -> None:
        """Keep it; the sender gets no answer."""
        self.calls.append(call)
        lose_answer(call)

    def land(self) -> list[int]:
        """Let all of them arrive; their HTTP statuses."""
        calls, self.calls = self.calls, []
        return [_arrive(call) for call in calls]


class Echo:
    """Requests that arrive a second time, later: `before` faults that let them go and keep a copy.

        echo = Echo()
        plan.on("PutItem", echo, times=1)
        ...
        echo.land()     # the copies arrive now

    `duplicate` is the same at once. Engines must take signatures of any date, as emulators do.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __call__(self, call: Call) -> None:
        """Keep a copy."""
        self.calls.append(call)

    def land(self) -> list[int]:
        """Let all copies arrive; their HTTP statuses."""
        calls, self.calls = self.calls, []
        return [_arrive(call) for call in calls]


class Stall:
    """The thread that sends stands still, as in a frozen process, until somebody wakes it.

    stall = Stall()
    plan.at(3, stall)           # in a thread of its own:
    stall.wait_until_reached()
    ...                         # what others do meanwhile
    stall.wake()
    """

    def __init__(self, seconds_max: float = 30.0) -> None:
        self._seconds_max = seconds_max
        self._reached = threading.Event()
        self._woken = threading.Event()

    def __call__(self, _call: Call) -> None:
        """Stand still."""
        self._reached.set()
        if not self._woken.wait(self._seconds_max):
            raise TimeoutError(f"nobody called wake() within {self._seconds_max:.0f} s")

    def wait_until_reached(self) -> None:
        """Return when a thread stands still. Raises `TimeoutError`."""
        if not self._reached.wait(self._seconds_max):
            raise TimeoutError(f"no call came to the stall within {self._seconds_max:.0f} s")

    def wake(self) -> None:
        """Let it go on, and all that come later."""
        self._woken.set()


def duplicate(call: Call) -> None:
    """The request arrives twice, one after the other; the answer is the second one's. Only as `before`."""
    _arrive(call)


def lose_answer_on_the_way(call: Call) -> None:
    """The request is applied and its answer lost inside of botocore, whose own retries see it, where it has any.

    `lose_answer` as `after` is the same to clients without retries; with them, it passes them by. Only as `before`.
    """
    _arrive(call)
    lose_answer(call)


def collide(call: Call) -> AWSResponse:
    """Another transaction holds one of the items, as DynamoDB says it of a single write, or of a transaction."""
    fault = cancel() if call.operation in ("TransactWriteItems", "TransactGetItems") else conflict
    response: AWSResponse = fault(call)
    return response


def _arrive(call: Call) -> int:
    request = urllib.request.Request(call.url, call.body, dict(call.headers), method=call.method)  # noqa: S310 - an engine's
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


throttle = answer("ThrottlingException")
conflict = answer("TransactionConflictException")
server_error = answer("InternalServerError", 500)
deny = answer("AccessDeniedException")


def wait_for(event: threading.Event, seconds_max: float = 30.0) -> Fault:
    """Stall until the event is set."""

    def fault(_call: Call) -> None:
        event.wait(seconds_max)

    return fault


def _tables_of(request: Mapping[str, Any]) -> list[str]:
    if "TransactItems" in request:
        return [part["TableName"] for action in request["TransactItems"] for part in action.values()]
    named = request.get("TableName")
    return [named] if named is not None else list(request.get("RequestItems", {}))


def _bytes_of(body: Any) -> bytes:
    """S3's bodies are streams."""
    if hasattr(body, "read"):
        body.seek(0)
        read: bytes = body.read()
        body.seek(0)
        return read
    return body if isinstance(body, bytes) else str(body).encode()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class _Raw:
    """A response body as urllib3 hands it on."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Any:
        """All of it in one piece."""
        yield self._body
