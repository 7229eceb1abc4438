"""The policies and the calls each role really makes, compared at the wire: nothing is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from monitor import MonitorSettings, WriteMonitor
from monitor.auditor import Auditor, AuditSettings
from reliable_write import ReliableWriter, ReliableWriteScope
from reliable_write.permissions import DESTINATION_ACTIONS, SYSTEM_TABLE_ACTIONS, Role
from reliable_write.testing.faults import FaultPlan, SimulatedCrash, crash
from tests.world import World


class Used:
    """Which actions reached which kind of table."""

    def __init__(self, plan: FaultPlan, world: World) -> None:
        self.system: set[str] = set()
        self.destinations: set[str] = set()
        for call in plan.calls:
            for table in tables_of(json.loads(call.body)):
                (self.system if table == world.system_table else self.destinations).add(call.operation)

    def missing(self, role: Role) -> dict[str, set[str]]:
        return {
            "system": self.system - set(SYSTEM_TABLE_ACTIONS[role]),
            "destinations": self.destinations - set(DESTINATION_ACTIONS[role]),
        }


def tables_of(request: dict[str, Any]) -> list[str]:
    return [request["TableName"]] if "TableName" in request else list(request["RequestItems"])


def write(writer: ReliableWriter, tables: list[str], key: str, *, delete: str | None = None) -> None:
    with ReliableWriteScope(writer) as scope:
        for table in tables:
            scope.put_item(table, Item={"id": key})
        if delete is not None:
            scope.delete_item(tables[0], Key={"id": delete})
        scope.commit()


def leave(world: World, tables: list[str], key: str, *, delete: str | None = None) -> None:
    writer = world.writer(propagation_threads=1)
    with FaultPlan(writer.client) as plan:
        plan.on("PutItem", crash, "after", having=f'"{tables[0]}"'.encode())
        with pytest.raises(SimulatedCrash):
            write(writer, tables, key, delete=delete)


def test_an_app_may_do_all_that_a_scope_does(world: World) -> None:
    tables = [world.table("a"), world.table("b")]
    writer = world.writer()
    with FaultPlan(writer.client) as plan:
        write(writer, tables, "1")
        write(writer, tables, "2", delete="1")
        writer.close()
    used = Used(plan, world)
    assert used.missing("app") == {"system": set(), "destinations": set()}
    assert {"PutItem", "BatchWriteItem", "BatchGetItem"} <= used.system
    assert {"PutItem", "DeleteItem", "DescribeTable", "BatchGetItem"} <= used.destinations


def test_an_app_may_finish_its_own_writes_after_a_restart(world: World) -> None:
    leave(world, [world.table("a"), world.table("b")], "1")
    writer = world.writer()
    with FaultPlan(writer.client) as plan:
        (report,) = writer.recovery.resume_all()
        assert report.resumed == "finished"
    assert Used(plan, world).missing("app") == {"system": set(), "destinations": set()}


def test_a_monitor_may_do_all_that_sweeps_and_audits_do(world: World) -> None:
    tables = [world.table("a"), world.table("b")]
    write(world.writer(), tables, "1")
    leave(world, tables, "2", delete="1")
    writer = world.writer()
    with FaultPlan(writer.client) as plan:
        monitor = WriteMonitor(writer, MonitorSettings())
        monitor.run_once()
        writer.recovery.resume_all()
        at_once = AuditSettings(early_audit_after_seconds=0, collection_wait_seconds=0)
        auditor = Auditor(writer.engine(), at_once)
        collected = sum(auditor.run_once().tombstones_collected for _ in range(4))
        monitor.drain()
    assert collected == 1, "or the audit has tried nothing"
    used = Used(plan, world)
    assert used.missing("monitor") == {"system": set(), "destinations": set()}
    assert {"Scan", "Query", "UpdateItem", "DeleteItem", "PutItem"} <= used.system
    assert {"GetItem", "PutItem", "DeleteItem"} & used.destinations


def test_who_looks_and_who_decides_may_do_that_and_the_looker_no_more(world: World) -> None:
    tables = [world.table("a"), world.table("b")]
    leave(world, tables, "1")
    writer = world.hasty()
    engine = writer.engine()
    (entry,) = writer.recovery.look().entries
    with FaultPlan(writer.client) as looking:
        engine.operators.examine(entry.write_id)
        engine.heartbeats.all(engine.attempt_deadline())
        writer.recovery.look()
    with FaultPlan(writer.client) as acting:
        who = {"operator": "me", "reason": "a test"}
        engine.operators.retry(entry.write_id, **who)  # type: ignore[arg-type]  # both are strings
        engine.operators.skip(entry.write_id, ["operations[0]"], **who)  # type: ignore[arg-type]
        engine.operators.quarantine(entry.write_id, **who)  # type: ignore[arg-type]
        engine.operators.discard(entry.write_id, **who)  # type: ignore[arg-type]
    nothing: dict[str, set[str]] = {"system": set(), "destinations": set()}
    assert Used(looking, world).missing("admin-read") == nothing
    assert Used(acting, world).missing("admin-act") == nothing
    assert Used(acting, world).missing("admin-read")["system"] == {"PutItem", "UpdateItem", "DeleteItem"}
