"""Audits on a time line that moves only when told. W is the collection's wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monitor.auditor import Auditor, AuditReport
from reliable_write import limits
from reliable_write.clock import Stamp
from reliable_write.dynamodb import CallFailed
from reliable_write.entry import Entry, State, entry_item
from reliable_write.policy import FailureKind
from tests.simulation.memory_world import SYSTEM, MemoryWorld

W = limits.COLLECTION_WAIT_SECONDS
EARLY = limits.EARLY_AUDIT_SECONDS
DAY = 86_400.0


def after(world: MemoryWorld, auditor: Auditor, *waits: float) -> list[AuditReport]:
    """One round now, and one after each of the waits."""
    reports = [auditor.run_once()]
    for seconds in waits:
        world.time.pass_seconds(seconds)
        reports.append(auditor.run_once())
    return reports


def collected(reports: Sequence[AuditReport]) -> list[int]:
    return [report.tombstones_collected for report in reports]


def auditor_collects(world: MemoryWorld) -> bool:
    return after(world, world.auditor(), W, W)[-1].tombstones_collected == 1


def entry_of(stamp: Stamp, **more: Any) -> dict[str, Any]:
    return entry_item(Entry(0, stamp, stamp, 1, 0, b"payload", **more))


def pending(stamp: Stamp) -> dict[str, Any]:
    return entry_of(stamp)


def quarantined(stamp: Stamp) -> dict[str, Any]:
    return entry_of(stamp, state=State.QUARANTINED)


def unknown_format(stamp: Stamp) -> dict[str, Any]:
    return {**entry_of(stamp), "format": {"N": "99"}}


def unknown_state(stamp: Stamp) -> dict[str, Any]:
    return {**entry_of(stamp), "state": {"S": "frozen"}}


def unreadable(stamp: Stamp) -> dict[str, Any]:
    return {"pk": {"S": "J#000"}, "sk": {"S": stamp}, "junk": {"N": "1"}}


def no_stamp(_stamp: Stamp) -> dict[str, Any]:
    return {"pk": {"S": "J#003"}, "sk": {"S": "!garbage"}}


def beyond_the_shards(stamp: Stamp) -> dict[str, Any]:
    return {**entry_of(stamp), "pk": {"S": "J#900"}}


def refuse_second_page(call: str, request: Any) -> None:
    if call == "scan" and "ExclusiveStartKey" in request:
        raise CallFailed(FailureKind.ACCESS_DENIED, "AccessDeniedException", SYSTEM)


def chunked(world: MemoryWorld, *, chunks: int = 3) -> Stamp:
    stamp = world.stamp()
    for number in range(chunks):
        world.record(f"C#{stamp}", f"{number:04d}", part={"B": b"part"})
    return stamp
