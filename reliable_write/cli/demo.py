"""`reliable-write demo`: a service is killed half way through a write; what it left is shown, finished and checked.

Every number told is measured in this run, and what is expected in the tables comes from two sources only: the orders
whose commit the service acknowledged before it died, and the entries that the journal holds. The engine belongs to this
process, never to the one that is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self

from reliable_write import ReliableWriter, Settings
from reliable_write.cli import shop
from reliable_write.cli.exits import CommandError, ExitCode
from reliable_write.embedded import EmbeddedEngine
from reliable_write.entry import Entry
from reliable_write.operations import Put, StampNames
from reliable_write.recovery import Resumed
from reliable_write.values import WireItem, encode_item

REGION: Final = "us-east-1"
SYSTEM_TABLE: Final = "reliable_write"
_SERVICE: Final = "reliable_write.cli.shop"
_SERVICE_SECONDS_MAX: Final = 120.0
"""Far more than it takes; a service that hangs must not hang the demo."""
_CONNECTIONS: Final = 40


# --- what is told -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """The engine, ready, with its tables."""

    name: str
    pid: int
    endpoint_url: str
    tables: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """The service, from its start to its end."""

    pid: int
    returncode: int
    """As the kernel told it: minus the number of the signal."""
    killed_by: str | None
    orders_planned: int
    orders_acknowledged: int
    commit_milliseconds_median: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class TableState:
    """One table against what should be in it."""

    table: str
    expected: int
    found: int
    """Items that are there exactly as expected, stamp included."""
    missing: tuple[str, ...]
    """Keys, as text."""
    surplus: int
    """Items that should not be there."""

    @property
    def whole(self) -> bool:
        """Whether it holds what it should and nothing else."""
        return not self.missing and not self.surplus


@dataclass(frozen=True, slots=True)
class HalfWritten:
    """What the killed service left of the write it was in."""

    write_id: str
    order: str
    tables: tuple[TableState, ...]

    @property
    def found(self) -> int:
        """Items that are there."""
        return sum(state.found for state in self.tables)

    @property
    def expected(self) -> int:
        """Items the write has."""
        return sum(state.expected for state in self.tables)


@dataclass(frozen=True, slots=True)
class JournalFacts:
    """The journal as the killed service left it."""

    entries: int
    half_written: int
    not_begun: int
    whole: int
    """Applied everywhere; only their removal, which is done in batches, had not been sent."""
    seconds: float
    """For reading all of it."""


@dataclass(frozen=True, slots=True)
class RecoveryFacts:
    """What `writer.recovery.resume_all()` did."""

    resumed: dict[str, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold, and whether it does."""

    name: str
    ok: bool


@dataclass(frozen=True, slots=True)
class DemoFacts:
    """The whole run."""

    engine: EngineFacts
    service: ServiceFacts
    journal: JournalFacts
    half_written: HalfWritten
    recovery: RecoveryFacts
    tables: tuple[TableState, ...]
    orders_committed: int
    """Acknowledged, or found in the journal."""
    orders_whole: int
    """Of these, with every item in its table."""
    journal_entries_after: int
    checks: tuple[Check, ...]
    verified_seconds: float
    """For reading every table back and comparing it."""
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    def facts(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "ok": self.ok}


class Audience(Protocol):
    """Is told of each act when it is over."""

    def waiting(self, what: str) -> None:
        """Something begins that takes a moment."""
        ...

    def engine_ready(self, facts: EngineFacts) -> None:
        """The tables are made."""
        ...

    def service_ended(self, service: ServiceFacts, half: HalfWritten) -> None:
        """The service is dead and what it left was read."""
        ...

    def recovered(self, journal: JournalFacts, facts: RecoveryFacts, journal_entries_after: int) -> None:
        """The journal was worked through."""
        ...


# --- the run ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Write:
    """A committed write: what it must have put where."""

    write_id: str
    order: str
    items: dict[str, frozenset[str]]
    """Items by table, each as text with its stamp, so that equal means equal."""


class Demo:
    """One run; use it with `with`, which ends the engine."""

    def __init__(self, orders: int, audience: Audience) -> None:
        self._orders = orders
        self._killed_in = min(orders, orders * 2 // 3 + 1)
        self._audience = audience
        self._begun = time.perf_counter()
        self._stack = contextlib.ExitStack()

    @property
    def endpoint_url(self) -> str:
        """Where the engine answers."""
        return self._engine.endpoint_url

    def run(self) -> DemoFacts:
        """All acts in order."""
        engine = self._make_tables()
        service, acknowledged = self._run_service()
        entries, looked_seconds = self._read_journal()
        before = self._read_tables()
        journaled = [self._write_of(entry) for entry in entries]
        journal = _journal_facts(journaled, before, looked_seconds)
        half = _half_written(journaled, before)
        self._audience.service_ended(service, half)
        recovery = self._recover()
        entries_after = len(self._read_journal()[0])
        self._audience.recovered(journal, recovery, entries_after)
        begun = time.perf_counter()
        writes = _merge([*acknowledged, *journaled])
        found = self._read_tables()
        tables = _compare(writes, found)
        done = time.perf_counter()
        never_told = half.write_id not in {write.write_id for write in acknowledged}
        checks = (
            *_checks_before(service, half, never_told=never_told),
            *_checks_after(recovery, tables, entries_after),
        )
        return DemoFacts(
            engine=engine,
            service=service,
            journal=journal,
            half_written=half,
            recovery=recovery,
            tables=tables,
            orders_whole=sum(_present(write, found)[0] == _present(write, found)[1] for write in writes),
            orders_committed=len(writes),
            journal_entries_after=entries_after,
            checks=checks,
            verified_seconds=done - begun,
            seconds=done - self._begun,
        )

    def wait_for_interrupt(self) -> None:
        """Until Ctrl-C or SIGTERM."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return

    def __enter__(self) -> Self:
        self._leave_the_callers_aws_alone()
        self._audience.waiting("starting an engine")
        with self._stack as stack:
            self._engine = stack.enter_context(EmbeddedEngine.start())
            self._client = stack.enter_context(
                contextlib.closing(self._engine.client(max_pool_connections=_CONNECTIONS))
            )
            settings = Settings(endpoint_url=self._engine.endpoint_url, region=REGION, system_table=SYSTEM_TABLE)
            self._writer = stack.enter_context(ReliableWriter(settings, client=self._client))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @staticmethod
    def _leave_the_callers_aws_alone() -> None:
        """A profile that is set but missing, or a proxy, would come between us and loopback."""
        for name in [name for name in os.environ if name.startswith(("AWS_", "RELIABLE_WRITE_"))]:
            del os.environ[name]
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"

    # --- acts ---------------------------------------------------------------------------------------------------

    def _make_tables(self) -> EngineFacts:
        self._writer.init()
        for table, key in shop.KEYS.items():
            roles = zip(key, ("HASH", "RANGE"), strict=False)
            self._client.create_table(
                TableName=table,
                KeySchema=[{"AttributeName": name, "KeyType": role} for (name, _), role in roles],
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind in key],
                BillingMode="PAY_PER_REQUEST",
            )
        facts = EngineFacts(
            "MiniStack",
            self._engine.pid,
            self._engine.endpoint_url,
            tuple(shop.KEYS),
            time.perf_counter() - self._begun,
        )
        self._audience.engine_ready(facts)
        return facts

    def _run_service(self) -> tuple[ServiceFacts, list[Write]]:
        self._audience.waiting("the service is writing orders")
        begun = time.perf_counter()
        service = subprocess.Popen(  # noqa: S603 - our own module under our own interpreter
            [
                *(sys.executable, "-m", _SERVICE),
                *("--orders", str(self._orders), "--killed-in", str(self._killed_in)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._service_environment(),
            text=True,
        )
        try:
            said, complaints = service.communicate(timeout=_SERVICE_SECONDS_MAX)
        finally:
            service.kill()
        if service.returncode >= 0:
            last = (complaints.strip().splitlines() or ["it said nothing"])[-1]
            raise CommandError(
                ExitCode.PARTLY,
                f"The service ended by itself (exit {service.returncode}) instead of being killed: {last}",
            )
        rows = [json.loads(line) for line in said.splitlines()]
        acknowledged = [_write(row["write_id"], shop.order_content(row["order"])) for row in rows]
        return ServiceFacts(
            service.pid,
            service.returncode,
            signal.Signals(-service.returncode).name,
            self._orders,
            len(rows),
            statistics.median(row["milliseconds"] for row in rows) if rows else None,
            time.perf_counter() - begun,
        ), acknowledged

    def _service_environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "RELIABLE_WRITE_REGION": REGION,
            "RELIABLE_WRITE_ENDPOINT_URL": self._engine.endpoint_url,
            "RELIABLE_WRITE_SYSTEM_TABLE": SYSTEM_TABLE,
        }

    def _recover(self) -> RecoveryFacts:
        self._audience.waiting("finishing what is in the journal")
        begun = time.perf_counter()
        reports = self._writer.recovery.resume_all()
        seconds = time.perf_counter() - begun
        kinds = [report.resumed.value for report in reports]
        return RecoveryFacts({kind: kinds.count(kind) for kind in sorted(set(kinds))}, seconds)

    # --- looking ------------------------------------------------------------------------------------------------

    def _read_journal(self) -> tuple[tuple[Entry, ...], float]:
        begun = time.perf_counter()
        entries = self._writer.recovery.look().entries
        return entries, time.perf_counter() - begun

    def _read_tables(self) -> dict[str, frozenset[str]]:
        """Every item of every table, read strongly, as text."""
        return {table: frozenset(_text(item) for item in self._scan(table)) for table in shop.KEYS}

    def _scan(self, table: str) -> list[WireItem]:
        pages = self._client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    def _write_of(self, entry: Entry) -> Write:
        """What the journal says this write is."""
        engine = self._writer.engine()
        operations = engine.journal.operations(entry, engine.attempt_deadline())
        puts = [action for operation in operations for action in operation.actions if isinstance(action, Put)]
        items = {
            table: frozenset(_stamped(put.item, entry.stamp) for put in puts if put.table == table)
            for table in shop.KEYS
        }
        return Write(entry.write_id, puts[0].item["order"]["S"], items)


# --- judging ------------------------------------------------------------------------------------------------------


def _checks_before(service: ServiceFacts, half: HalfWritten, *, never_told: bool) -> tuple[Check, ...]:
    return (
        Check("the service was ended by SIGKILL", service.returncode == -signal.SIGKILL),
        Check("its last order was half in the tables", 0 < half.found < half.expected),
        Check("it was committed, and never acknowledged", never_told),
    )


def _checks_after(recovery: RecoveryFacts, tables: Sequence[TableState], entries_after: int) -> tuple[Check, ...]:
    return (
        Check("recovery finished every entry", set(recovery.resumed) == {Resumed.FINISHED}),
        Check("every committed order is whole in all four tables", not any(state.missing for state in tables)),
        Check("nothing else is in them", not any(state.surplus for state in tables)),
        Check("the journal is empty", entries_after == 0),
    )


# --- comparing ----------------------------------------------------------------------------------------------------


def _write(write_id: str, content: shop.Content) -> Write:
    """What an acknowledged order must have put: its write id is its stamp."""
    items = {
        table: frozenset(_stamped(encode_item(item, table), write_id) for item in rows)
        for table, rows in content.items()
    }
    return Write(write_id, str(content[shop.ORDERS][0]["order"]), items)


def _stamped(item: WireItem, stamp: str) -> str:
    return _text({**item, StampNames().full: {"S": stamp}})


def _text(item: WireItem) -> str:
    return json.dumps(item, sort_keys=True)


def _merge(writes: Iterable[Write]) -> list[Write]:
    """Each write once: an acknowledged one may still be in the journal, where it must say the same."""
    merged: dict[str, Write] = {}
    for write in writes:
        if merged.setdefault(write.write_id, write) != write:
            raise CommandError(ExitCode.PARTLY, f"The journal holds another write under the id {write.write_id}.")
    return list(merged.values())


def _compare(writes: Sequence[Write], found: dict[str, frozenset[str]]) -> tuple[TableState, ...]:
    return tuple(_state(table, _all_items(writes, table), found[table]) for table in shop.KEYS)


def _all_items(writes: Sequence[Write], table: str) -> frozenset[str]:
    return frozenset().union(*(write.items[table] for write in writes))


def _state(table: str, expected: frozenset[str], found: frozenset[str]) -> TableState:
    missing = tuple(sorted(_key_text(table, text) for text in expected - found))
    return TableState(table, len(expected), len(expected & found), missing, len(found - expected))


def _key_text(table: str, text: str) -> str:
    item = json.loads(text)
    parts = [(name, kind, str(item[name][kind])) for name, kind in shop.KEYS[table]]
    return " / ".join(f"{name} {value}" if kind == "N" else value for name, kind, value in parts)


def _present(write: Write, found: dict[str, frozenset[str]]) -> tuple[int, int]:
    """How many of a write's items are there, of how many."""
    there = sum(len(items & found[table]) for table, items in write.items.items())
    return there, sum(len(items) for items in write.items.values())


def _journal_facts(writes: Sequence[Write], found: dict[str, frozenset[str]], seconds: float) -> JournalFacts:
    counts = [_present(write, found) for write in writes]
    return JournalFacts(
        entries=len(counts),
        half_written=sum(0 < there < of for there, of in counts),
        not_begun=sum(there == 0 for there, _ in counts),
        whole=sum(there == of for there, of in counts),
        seconds=seconds,
    )


def _half_written(writes: Sequence[Write], found: dict[str, frozenset[str]]) -> HalfWritten:
    """The one write that is not whole; the service writes one at a time."""
    open_writes = [write for write in writes if _present(write, found)[0] < _present(write, found)[1]]
    if len(open_writes) != 1:
        raise CommandError(
            ExitCode.PARTLY, f"The killed service left {len(open_writes)} unfinished writes where one was to be."
        )
    write = open_writes[0]
    states = tuple(_state(table, write.items[table], found[table] & write.items[table]) for table in shop.KEYS)
    return HalfWritten(write.write_id, write.order, states)
