"""Every crash point of a service's own function: run it once for each call it makes, let it die there, recover, look.

    def run() -> None:
        place_order(sandbox.writer(), "o-1")

    def whole_or_not_at_all(after: Aftermath) -> None:
        assert len(sandbox.items("orders")) == len(sandbox.items("parcels"))

    every_crash_point(run, whole_or_not_at_all, sandbox=sandbox)

The way of SQLite's out-of-memory tests and of ALICE: not a few faults where somebody suspects trouble, but one at every
place there is. A crash point is a number: the n-th request that reaches the wire, over all clients and threads.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from unittest import mock

import botocore.client
import botocore.session

from reliable_write.testing.faults import Call, FaultPlan, SimulatedCrash
from reliable_write.testing.kinds import CRASHES, Kind, Meanwhile
from reliable_write.testing.sandbox import Sandbox

_CALLS_SHOWN_MAX: Final = 40


class CrashPointsError(AssertionError):
    """The crash points were not tried, or what they left could not be recovered; the message says which and why."""


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """One place at which a run is struck, and with what."""

    index: int
    """From 1, over all points of one `every_crash_point`."""
    points: int
    kind: Kind
    number: int
    """Which call of the run, from 1."""
    calls: int
    """How many it makes when nothing goes wrong."""

    def __str__(self) -> str:
        return f"crash point {self.index} of {self.points}: {self.kind.name} call {self.number} of {self.calls}"


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a run told, for the check to compare with what is in the tables after recovery."""

    point: CrashPoint | None
    """None for the first run, in which nothing goes wrong."""
    calls: tuple[Call, ...] = field(repr=False)
    """All that reached the wire; the struck one is `calls[point.number - 1]`."""
    crashed: bool = False
    """It died, and told nobody anything."""
    returned: Any = None
    """What the function returned, if it did."""
    raised: Exception | None = None
    """What it raised, if it did."""


@dataclass(frozen=True, slots=True)
class CrashPoints:
    """What was tried. `every_crash_point` returns it when all checks have passed."""

    calls: tuple[Call, ...]
    """Of the run without a fault."""
    points: tuple[CrashPoint, ...]
    crashed: int
    """Runs that died."""
    returned: int
    """Struck runs that returned all the same."""
    raised: int
    """Struck runs that raised."""

    def __str__(self) -> str:
        return (
            f"{len(self.points)} crash points at {len(self.calls)} calls: {self.crashed} runs died, "
            f"{self.returned} returned, {self.raised} raised"
        )


def every_crash_point(
    run: Callable[[], object],
    check: Callable[[Aftermath], object],
    *,
    sandbox: Sandbox,
    setup: Callable[[], object] | None = None,
    kinds: Sequence[Kind] = CRASHES,
) -> CrashPoints:
    """Strike `run` at each call it makes, once with each kind of fault; recover; let `check` look.

    Each run begins with the sandbox's tables empty, then `setup`; its calls count for nothing. `run` stands for a
    process from its start: it makes its own writer and clients, because those of a run that is over never send again.
    Clients of any AWS service that are older than the run are watched too, and stop for the rest of a run that crashes.
    A crash is a `SimulatedCrash`, which no `except Exception` holds up; `finally` blocks do run, but reach no table.

    `check` is called once without a fault (`after.point` is None), then for each point, when the monitor has done its
    work. What it raises gets a note that names the point and lists the calls. `kinds`: `CRASHES`, `EVERY_KIND`, or
    some.

    Raises `CrashPointsError` where there is nothing to strike, where runs differ so that a point is not reached, where
    `run` uses tables that the sandbox does not empty, and where a monitor cannot finish what was left.
    """
    __tracebackhide__ = True
    stage = _Stage(run, check, sandbox, setup)
    with stage.clients.noticed():
        calls = stage.rehearse()
        points = _points(calls, kinds)
        ends = []
        for point in points:  # no comprehension, which would be one more frame between a failure and its reader
            ends.append(stage.strike(point))  # noqa: PERF401
    return CrashPoints(
        calls,
        tuple(points),
        crashed=sum(end.crashed for end in ends),
        returned=sum(not end.crashed and end.raised is None for end in ends),
        raised=sum(not end.crashed and end.raised is not None for end in ends),
    )


def _points(calls: Sequence[Call], kinds: Sequence[Kind]) -> list[CrashPoint]:
    chosen = [(kind, call) for call in calls for kind in kinds if kind.strikes(call)]
    if not chosen:
        raise CrashPointsError(f"There are no crash points: {_none(calls)}")
    return [
        CrashPoint(index, len(chosen), kind, call.number, len(calls))
        for index, (kind, call) in enumerate(chosen, start=1)
    ]


class _Stage:
    """One function, played again and again on empty tables."""

    def __init__(
        self,
        run: Callable[[], object],
        check: Callable[[Aftermath], object],
        sandbox: Sandbox,
        setup: Callable[[], object] | None,
    ) -> None:
        self._run = run
        self._check = check
        self._sandbox = sandbox
        self._setup = setup
        self.clients = _Clients(sandbox)
        self._usual: Counter[tuple[str, tuple[str, ...]]] = Counter()

    def rehearse(self) -> tuple[Call, ...]:
        """Without a fault: what it calls."""
        __tracebackhide__ = True
        self._prepare()
        plan = FaultPlan()
        try:
            end = self._play(plan, None)
            if end.raised is not None:
                raise end.raised
            self._refuse_foreign_tables(end.calls)
            self._look(end)
        except BaseException as error:
            error.add_note("in the run without a fault, which comes before all crash points")
            raise
        self._usual = _kinds_of(end.calls)
        return end.calls

    def strike(self, point: CrashPoint) -> Aftermath:
        """With one fault, at one call."""
        __tracebackhide__ = True
        self._prepare()
        meanwhile = Meanwhile(recover=self._sandbox.recover)
        plan = FaultPlan().at(point.number, point.kind.make(meanwhile), point.kind.when)
        end = self._play(plan, point)
        try:
            self._refuse_another_course(plan, point, end)
            if meanwhile.landings:
                self._sandbox.recover()
                for land in meanwhile.landings:
                    land()
            self._look(end)
        except BaseException as error:
            error.add_note(_told(point, end, self._sandbox.system_table))
            raise
        return end

    def _prepare(self) -> None:
        self._sandbox.empty()
        if self._setup is not None:
            self._setup()

    def _play(self, plan: FaultPlan, point: CrashPoint | None) -> Aftermath:
        returned, raised = None, None
        with self.clients.under(plan), _quiet_deaths():
            try:
                returned = self._run()
            except SimulatedCrash:
                pass
            except Exception as error:  # noqa: BLE001 - the check judges it
                raised = error
        calls = tuple(plan.calls)
        if plan.crashed:  # also where a bare `except` has caught it: the dead tell nothing
            return Aftermath(point, calls, crashed=True)
        return Aftermath(point, calls, returned=returned, raised=raised)

    def _look(self, end: Aftermath) -> None:
        __tracebackhide__ = True
        left = self._sandbox.recover()
        if left:
            writes = "\n  ".join(map(str, left))
            raise CrashPointsError(f"the monitor could not finish what the run left:\n  {writes}")
        self._check(end)

    def _refuse_foreign_tables(self, calls: Sequence[Call]) -> None:
        foreign = {table for call in calls for table in call.tables} - self._sandbox.tables
        if foreign:
            raise CrashPointsError(
                f"the run uses {', '.join(sorted(foreign))}, which the sandbox has not made and does not empty: what "
                "one run leaves there, the next would find. Name such tables when you make the sandbox."
            )

    def _refuse_another_course(self, plan: FaultPlan, point: CrashPoint, end: Aftermath) -> None:
        """Up to the fault it must do what it did without: in any order, because writes go out in parallel."""
        other = _kinds_of(end.calls[: point.number]) - self._usual
        if plan.injected and not other:
            return
        what = "it made a call that is new" if other else f"it ended after {len(end.calls)} calls"
        raise CrashPointsError(
            f"the run took another course than without a fault, before anything had gone wrong: {what}. It must make "
            "the same calls each time: make its writer and clients inside of the function, with "
            "Settings(delete_finished_inline=True), and let nothing be left to chance or kept from an earlier run."
        )


class _Clients:
    """The boto3 clients of this process but the sandbox's own, wherever they are kept and whenever they are made.

    Those that are there stand for what outlives a process: a later run may use them again. Those that a run makes end
    with it.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        own = {id(client) for client in sandbox.own_clients}
        # A service's module may have had clients since it was imported; only the collector knows them all.
        found = [thing for thing in gc.get_objects() if issubclass(type(thing), botocore.client.BaseClient)]
        self._older = [client for client in found if id(client) not in own]
        self._plan: FaultPlan | None = None

    @contextlib.contextmanager
    def noticed(self) -> Iterator[None]:
        """Notice all clients that are made in this block."""
        create = botocore.session.Session.create_client

        def create_noticed(session: botocore.session.Session, *args: Any, **kwargs: Any) -> Any:
            client = create(session, *args, **kwargs)
            self._notice(client)
            return client

        with mock.patch.object(botocore.session.Session, "create_client", create_noticed):
            yield

    @contextlib.contextmanager
    def under(self, plan: FaultPlan) -> Iterator[None]:
        """Let this plan act on all of them; its process ends with the block."""
        self._plan = plan.watch(*self._older)
        try:
            yield
        finally:
            self._plan = None
            plan.end()
            plan.release(*self._older)

    def _notice(self, client: Any) -> None:
        if self._plan is not None:
            self._plan.watch(client)
        else:
            self._older.append(client)


@contextlib.contextmanager
def _quiet_deaths() -> Iterator[None]:
    """A background thread of the dead process dies with it, and that is no news."""
    hook = threading.excepthook

    def quiet(args: threading.ExceptHookArgs) -> None:
        if not issubclass(args.exc_type, SimulatedCrash):
            hook(args)

    threading.excepthook = quiet
    try:
        yield
    finally:
        threading.excepthook = hook


def _kinds_of(calls: Sequence[Call]) -> Counter[tuple[str, tuple[str, ...]]]:
    return Counter((call.operation, tuple(sorted(set(call.tables)))) for call in calls)


def _none(calls: Sequence[Call]) -> str:
    if calls:
        return f"none of the kinds strikes any of the {len(calls)} calls."
    return (
        "the run sent no request that could be seen. Does it call the service at all? Requests are seen by events of "
        "boto3's clients: not those of other SDKs or processes, and not those that moto answers."
    )


def _told(point: CrashPoint, end: Aftermath, system_table: str) -> str:
    """One readable message: where it was struck, what came of it, and all calls."""
    ended = "died" if end.crashed else "returned" if end.raised is None else f"raised {type(end.raised).__name__}"
    lines = [f"at {point}, after which it {ended}. Its calls:"]
    shown = end.calls[max(0, point.number - _CALLS_SHOWN_MAX) : max(point.number, _CALLS_SHOWN_MAX)]
    for call in shown:
        struck = f"   <-- {point.kind.name} this one" if call.number == point.number else ""
        tables = ", ".join("the system table" if table == system_table else table for table in call.tables)
        lines.append(f"  {call.number:>3} {call.operation} {tables}{struck}")
    if len(shown) < len(end.calls):
        lines.append(f"  (of {len(end.calls)})")
    return "\n".join(lines)
