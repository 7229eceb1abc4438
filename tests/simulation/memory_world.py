"""An installation in memory on a time line that moves only when told, and the writes that tests make there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from structlog.testing import CapturingLogger

from monitor.auditor import Auditor, AuditSettings
from reliable_write import ReliableWriter, Settings
from reliable_write.clock import Deadline, HybridClock, Stamp
from reliable_write.commit import Prepared
from reliable_write.dynamodb import RoutedCalls, Store
from reliable_write.engine import Engine, assemble
from reliable_write.events import Events
from reliable_write.first_attempt import Receipt
from reliable_write.operations import Delete, Operation, Put
from reliable_write.system_table import Installation, write_installation
from reliable_write.values import WireItem
from tests.simulation.memory import MemoryTables
from tests.unit.fakes import InlineWorkers, ManualTime

SYSTEM = "system"
TABLE = "people"


class SkewedTime(ManualTime):
    """Another machine on the same time line, whose wall clock is wrong by so much."""

    def __init__(self, line: ManualTime, skew: float = 0.0) -> None:
        super().__init__()
        self.line, self.skew = line, skew

    def wall_seconds(self) -> float:
        return self.line.wall + self.skew

    def elapsed_seconds(self) -> float:
        return self.line.elapsed

    def pass_seconds(self, seconds: float) -> None:
        self.line.pass_seconds(seconds)

    def jitter(self, seconds_max: float) -> float:
        return self.line.jitter(seconds_max)

    def random_bytes(self, count: int) -> bytes:
        return self.line.random_bytes(count)


class _AtHome:
    """`BotoCalls` over tables in memory."""

    def __init__(self, tables: MemoryTables) -> None:
        self.send = tables.send
        config = SimpleNamespace(max_pool_connections=4, connect_timeout=1.0, read_timeout=2.0)
        self.client = SimpleNamespace(meta=SimpleNamespace(config=config, region_name="us-east-1"))


class MemoryWorld:
    def __init__(
        self, *, order: Any = "strict", shards: int = 4, time: ManualTime | None = None, **tables: Any
    ) -> None:
        self.time = time if time is not None else ManualTime()
        self.tables = MemoryTables(**tables)
        self.tables.create(SYSTEM, "pk", "sk")
        self.tables.create(TABLE, "id")
        deadline = Deadline.after(5, self.time)
        write_installation(Store(self.tables, self.time), SYSTEM, Installation(shards, order), deadline)
        self.logger = CapturingLogger()
        self.engine = self.process()

    def process(self, skew: float = 0.0) -> Engine:
        """The parts of one more process."""
        settings = Settings(system_table=SYSTEM, delete_finished_inline=True)
        return assemble(self.tables, settings, SkewedTime(self.time, skew), InlineWorkers(), Events(self.logger))

    def writer(self, **settings: Any) -> ReliableWriter:
        """What services hold, on these tables."""
        chosen = Settings(system_table=SYSTEM, region="us-east-1", delete_finished_inline=True, **settings)
        made = ReliableWriter(chosen, time=self.time, workers=InlineWorkers(), logger=self.logger)
        made._process.calls = RoutedCalls(_AtHome(self.tables), {})  # type: ignore[arg-type]  # what it takes of one
        return made

    def auditor(self, **settings: Any) -> Auditor:
        return Auditor(self.process(), AuditSettings(**settings))

    def told(self) -> list[str]:
        return [call.args[0] for call in self.logger.calls]

    # --- writes -------------------------------------------------------------------------------------------------

    def prepare(self, action: Put | Delete, engine: Engine | None = None) -> Prepared:
        engine = engine or self.engine
        verb: Any = "put_item" if isinstance(action, Put) else "delete_item"
        return engine.committer.prepare([Operation(verb, (action,))], engine.attempt_deadline())

    def commit(self, prepared: Prepared, engine: Engine | None = None) -> Receipt:
        engine = engine or self.engine
        return engine.committer.commit(prepared, engine.attempt_deadline())

    def put(self, key: str = "x", *, table: str = TABLE, engine: Engine | None = None, **values: str) -> Receipt:
        return self.commit(self.prepare(putting(key, table, **values), engine), engine)

    def delete(self, key: str = "x", *, table: str = TABLE, engine: Engine | None = None) -> Receipt:
        return self.commit(self.prepare(deleting(key, table), engine), engine)

    def ghost(self, key: str = "x", table: str = TABLE) -> None:
        """What a first attempt leaves that was stalled between its witness and its put while a delete ran."""
        older = self.stamp()
        self.delete(key, table=table)
        self.plant(key, table=table, _rw=older)

    def plant(self, key: str = "x", table: str = TABLE, **strings: str) -> None:
        """Somebody's item, put without the library."""
        item: WireItem = {"id": {"S": key}, **{name: {"S": value} for name, value in strings.items()}}
        self.tables.tables[table].items[key] = item

    def stamp(self) -> Stamp:
        """One of now; every later write of this world gets a greater one."""
        self.time.pass_seconds(0.01)
        stamp = HybridClock(self.time).stamp()
        self.time.pass_seconds(0.01)
        return stamp

    # --- what is there ------------------------------------------------------------------------------------------

    def shown(self, key: str = "x", table: str = TABLE) -> WireItem | None:
        return self.tables.tables[table].items.get(key)

    def records(self, prefix: str) -> list[WireItem]:
        return [item for item in self.tables.items(SYSTEM) if item["pk"]["S"].startswith(prefix)]

    def record(self, partition: str, sort_key: str, **attributes: Any) -> None:
        item: WireItem = {"pk": {"S": partition}, "sk": {"S": sort_key}, **attributes}
        self.tables.tables[SYSTEM].items[f"{partition}\0{sort_key}"] = item

    def forget(self, partition: str, sort_key: str) -> None:
        del self.tables.tables[SYSTEM].items[f"{partition}\0{sort_key}"]


def putting(key: str = "x", table: str = TABLE, **values: str) -> Put:
    return Put(table, ("id",), {"id": {"S": key}, **{name: {"S": value} for name, value in values.items()}})


def deleting(key: str = "x", table: str = TABLE) -> Delete:
    return Delete(table, ("id",), {"id": {"S": key}})
