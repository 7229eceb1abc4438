"""Receipts are kept for their retention, on two clocks, and while anything of their write is left."""

from __future__ import annotations

from typing import Any

import pytest

from monitor import MonitorSettings, WriteMonitor
from monitor.auditor import Auditor
from monitor.audits import AuditReport
from reliable_write import limits
from reliable_write.clock import HybridClock
from reliable_write.dynamodb import CallFailed
from reliable_write.entry import shard_name, shard_of
from reliable_write.policy import FailureKind
from reliable_write.receipts import StoredReceipt, receipt_item
from tests.simulation.memory_world import MemoryWorld

W = limits.COLLECTION_WAIT_SECONDS
KEPT = limits.RECEIPT_RETENTION_SECONDS + limits.SCHEDULED_AUDIT_MARGIN_SECONDS


class Kept(MemoryWorld):
    """A world with one receipt of now."""

    def __init__(self, **facts: Any) -> None:
        super().__init__()
        stamp = HybridClock(self.time).stamp()
        at = int(self.time.wall_seconds() * 1000)
        values = {"request_hash": "0" * 40, "scope": stamp, "operations": 1, "at_milliseconds": at, "has_entry": False}
        self.receipt = StoredReceipt("order-1", stamp, **{**values, **facts})
        self.record("R#order-1", "R", **{k: v for k, v in receipt_item(self.receipt).items() if k not in ("pk", "sk")})

    def audit(self, auditor: Auditor, after: float = 0.0) -> AuditReport:
        self.time.pass_seconds(after)
        return auditor.run_once()


def test_it_goes_after_its_retention_and_one_wait_more() -> None:
    world = Kept()
    auditor = world.auditor()
    assert world.audit(auditor).receipts_collected == 0
    assert world.audit(auditor, KEPT - 1).receipts_collected == 0
    assert world.audit(auditor, 2 * W).receipts_collected == 0, "only now it is old enough, and the wait begins"
    assert world.audit(auditor, W - 1).receipts_collected == 0
    assert world.records("R#") != []
    assert world.audit(auditor, 1).receipts_collected == 1
    assert world.records("R#") == []
    assert "collected" in world.told()


def test_a_clock_that_is_years_off_costs_the_wait_at_least() -> None:
    """By its writer's clock the receipt is as old as can be; what its commit sent may still be under way."""
    world = Kept(at_milliseconds=0)
    auditor = world.auditor()
    assert world.audit(auditor).receipts_collected == 0
    assert world.audit(auditor, W - 1).receipts_collected == 0
    assert world.audit(auditor, 1).receipts_collected == 1


def test_a_clock_that_is_ahead_keeps_it() -> None:
    world = Kept(at_milliseconds=10**15)
    auditor = world.auditor()
    for _ in range(3):
        assert world.audit(auditor, KEPT).receipts_collected == 0


def test_it_stays_while_its_entry_does() -> None:
    """The entry of an idempotency key is found through it."""
    world = Kept(has_entry=True)
    stamp = world.receipt.stamp
    shard = shard_of(stamp, world.engine.journal.shards)
    world.record(shard_name(shard), stamp, quarantined={"S": "garbled or not"})
    auditor = world.auditor()
    world.audit(auditor, KEPT + 1)
    assert world.audit(auditor, W).receipts_collected == 0
    world.forget(shard_name(shard), stamp)
    assert world.audit(auditor).receipts_collected == 1


def test_one_that_was_renewed_since_it_was_seen_stays() -> None:
    world = Kept()
    auditor = world.auditor()
    world.audit(auditor, KEPT + 1)
    auditor._receipts.note([])
    world.record("R#order-1", "R", stamp={"S": world.stamp()})
    world.audit(auditor, W)
    assert world.records("R#") != []


@pytest.mark.parametrize("attribute", ["stamp", "request", "scope", "operations", "at", "entry"])
def test_one_that_cannot_be_read_stays(attribute: str) -> None:
    world = Kept()
    (item,) = world.records("R#")
    rest = {name: value for name, value in item.items() if name not in (attribute, "pk", "sk")}
    world.record("R#order-1", "R", **rest)
    auditor = world.auditor()
    world.audit(auditor, KEPT + 1)
    assert world.audit(auditor, W).receipts_collected == 0


def test_a_void_one_goes_as_the_others_do() -> None:
    world = Kept(void=True)
    auditor = world.auditor()
    world.audit(auditor, KEPT + 1)
    assert world.audit(auditor, W).receipts_collected == 1


def test_nothing_is_collected_where_requests_do_not_age() -> None:
    world = Kept()
    auditor = world.auditor(gc=False)
    world.audit(auditor, KEPT + 1)
    assert world.audit(auditor, W).receipts_collected == 0


def test_a_scheduled_audit_goes_by_age_alone() -> None:
    world = Kept()
    assert world.audit(world.auditor(scheduled=True), KEPT - 1).receipts_collected == 0
    assert world.audit(world.auditor(scheduled=True), 2).receipts_collected == 1


def test_one_that_dynamodb_keeps_is_tried_again() -> None:
    world = Kept()
    auditor = world.auditor()
    world.audit(auditor, KEPT + 1)

    def deny(call: str, _request: Any) -> None:
        if call == "delete_item":
            raise CallFailed(FailureKind.ACCESS_DENIED, "AccessDeniedException", "system")

    world.tables.before = deny
    report = world.audit(auditor, W)
    assert (report.receipts_collected, report.troubles) == (0, 1)
    world.tables.before = lambda _call, _request: None
    assert world.audit(auditor).receipts_collected == 1


def test_memory_is_bounded() -> None:
    world = Kept()
    auditor = world.auditor(receipts_max=0)
    world.audit(auditor, KEPT + 1)
    assert world.audit(auditor, W).receipts_collected == 0


def test_the_retention_set_is_the_auditors() -> None:
    monitor = WriteMonitor(_Writer(), MonitorSettings(receipt_retention_seconds=30 * 86_400, gc=True))  # type: ignore[arg-type]
    assert monitor._audit_settings().receipt_retention_seconds == 30 * 86_400


class _Writer:
    class settings:  # noqa: N801 - as the writer has it
        attempt_deadline_seconds = 8.0
        attempt_seconds_max = 26.0
