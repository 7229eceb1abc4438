"""No line of a monitor's log holds an item's value, whatever raises, and wherever.

Defects are made by stand-ins that raise what botocore raises for a parameter it refuses: its message quotes the value.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from botocore.exceptions import ParamValidationError

from monitor import MonitorSettings, SilentObserver, SweepReport, WriteMonitor
from monitor.auditor import Auditor
from reliable_write.dynamodb import CallFailed
from reliable_write.entry import UnreadableEntry, read_entry
from reliable_write.policy import FailureKind
from reliable_write.recovery import Recovery
from tests.chaos.stragglers import LEASE, Ear, Left, put
from tests.clocks import SkippingTime
from tests.world import SHARDS, World, world

__all__ = ["world"]

SECRET = "4111-1111-1111-1111"


def fails(*_: Any, **__: Any) -> NoReturn:
    raise ParamValidationError(report=f"Invalid type for parameter Item.card, value: {SECRET}")


def fails_later(*_: Any, **__: Any) -> NoReturn:
    """As a cause, which `repr` of the last one does not show but a careless log line may."""
    try:
        fails()
    except ParamValidationError as error:
        raise ValueError(f"cannot use {SECRET}") from error


class Bad(SilentObserver):
    def sweep_finished(self, report: SweepReport) -> None:
        del report
        fails_later()


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def monitored(world: World, ear: Ear) -> WriteMonitor:
    """A monitor with one straggler before it."""
    left, time = Left(world), SkippingTime()
    left.leave(left.entry(put(world.table("cards"), "a", card={"S": SECRET})))
    monitor = WriteMonitor(world.writer(logger=ear, time=time), MonitorSettings(lease_seconds=LEASE))
    monitor.run_once()
    time.skip(LEASE)
    return monitor


def told(ear: Ear) -> str:
    text = json.dumps(ear.heard, default=str)
    assert SECRET not in text
    return text


@pytest.mark.parametrize("raised", [fails, fails_later])
def test_a_shard_that_cannot_be_read_for_a_reason_nobody_foresaw(
    monitored: WriteMonitor, ear: Ear, raised: Callable[..., NoReturn]
) -> None:
    monitored._writer.engine().journal.heads = raised  # type: ignore[method-assign]
    assert len(monitored.run_once().unread_shards) == SHARDS
    assert ear.of("shard_not_read")[0]["reason"].endswith(f"in {raised.__name__}")
    assert "ParamValidationError" in told(ear)


def test_an_attempt_that_ends_in_an_exception_nobody_foresaw(
    monitored: WriteMonitor, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recovery, "resume_head", fails_later)
    monitored.run_once()
    (facts,) = ear.of("monitor_failed")
    assert facts["reason"] == "ValueError; caused by ParamValidationError"
    assert "in fails_later" in facts["where"]
    told(ear)


def test_an_observer_that_fails(world: World, ear: Ear) -> None:
    WriteMonitor(world.writer(logger=ear), observers=[Bad()]).run_once()
    assert "observer: ValueError; caused by ParamValidationError" in told(ear)


def test_a_heartbeat_that_fails(monitored: WriteMonitor, ear: Ear) -> None:
    monitored._writer.engine().heartbeats.beat = fails  # type: ignore[method-assign]
    monitored._guarded("a test", monitored._beat)
    assert ear.of("monitor_failed")[0]["reason"] == "ParamValidationError"
    told(ear)


def test_an_audit_that_fails(monitored: WriteMonitor, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Auditor, "run_once", fails)
    monitored._guarded("a test", monitored.audit_once)
    assert ear.of("monitor_failed")[0]["reason"] == "ParamValidationError"
    told(ear)


def test_our_own_words_are_kept(monitored: WriteMonitor, ear: Ear) -> None:
    """They never hold a value, and say what to do."""

    def denied() -> None:
        raise CallFailed(FailureKind.ACCESS_DENIED, "AccessDeniedException", "cards")

    monitored._guarded("a test", denied)
    assert ear.of("monitor_hindered")[0]["reason"] == "access denied (AccessDeniedException) on table cards"


def test_a_value_that_dynamodb_refuses_by_quoting_it(world: World, ear: Ear) -> None:
    """A number that is none: the service answers with the text; the entry is quarantined with the kind of refusal."""
    left, time = Left(world), SkippingTime()
    left.leave(left.entry(put(world.table("cards"), "a", card={"N": SECRET})))
    monitor = WriteMonitor(world.writer(logger=ear, time=time), MonitorSettings(lease_seconds=LEASE))
    monitor.run_once()
    time.skip(LEASE)
    monitor.run_once()
    assert ear.of("entry_quarantined")[0]["reason"].startswith("refused as invalid (ValidationException)")
    (entry,) = world.records("J#")
    assert SECRET not in entry["last_error"]["S"]
    told(ear)


def test_a_head_that_holds_something_else_than_it_should() -> None:
    head = {"pk": {"S": "J#000"}, "sk": {"S": "0" * 36}, "write_id": {"S": "w"}, "format": {"N": SECRET}}
    with pytest.raises(UnreadableEntry) as caught:
        read_entry(head)
    assert caught.value.reason == "its head lacks or garbles an attribute (ValueError)"
    del head["format"]
    with pytest.raises(UnreadableEntry, match=r"attribute \('format'\)"):
        read_entry(head)
