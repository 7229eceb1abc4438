"""Operations at commit whose transaction is disturbed: hasty writers, lost answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reliable_write import CommitUnknownError, Outcome, ReliableWriter, ReliableWriteScope
from reliable_write.testing.faults import Fault, FaultPlan
from tests.world import World

TRANSACT = "TransactWriteItems"


def hasty(world: World, **more: Any) -> ReliableWriter:
    """One that waits for nothing: sleeping moves its clocks on."""
    return world.hasty(delete_finished_inline=True, **more)


def mixed(writer: ReliableWriter, counter: str, other: str, **scope: Any) -> ReliableWriteScope:
    """An increment at commit, and a put that is journalled."""
    recording = ReliableWriteScope(writer, **scope)
    recording.update_item(counter, Key={"id": "x"}, add={"n": 1})
    recording.put_item(other, Item={"id": "x", "v": "mine"})
    return recording


def on_commit(writer: ReliableWriter, table: str, fault: Fault, when: Any = "before", **more: Any) -> FaultPlan:
    """Act on the transactions that touch a table."""
    return FaultPlan(writer.client).on(TRANSACT, fault, when, having=f'"{table}"'.encode(), **more)


def lost(scope: ReliableWriteScope, writer: ReliableWriter, table: str, fault: Fault, when: Any = "before") -> None:
    """Commit, without an answer."""
    with on_commit(writer, table, fault, when) as plan, pytest.raises(CommitUnknownError) as caught:
        scope.commit()
    assert plan.injected
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.retryable
    assert caught.value.write_id == scope.write_id


def refusing(wanted: type[Exception], call: Callable[[], object]) -> Any:
    with pytest.raises(wanted) as caught:
        call()
    return caught.value
