"""G5 for idempotency keys: one effect, whoever commits the key, how often, and whatever becomes of the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from reliable_write import (
    IdempotencyMismatchError,
    InvalidKeyError,
    Outcome,
    PropagationPendingError,
    Receipt,
    ReliableWriter,
    ReliableWriteScope,
)
from reliable_write.limits import IDEMPOTENCY_KEY_BYTES_MAX, RECEIPT_RETENTION_SECONDS
from reliable_write.recovery import Resumed, WriteState
from reliable_write.testing.faults import Fault, FaultPlan, SimulatedCrash, crash, deny, throttle
from tests.chaos.committers import Answer, Death, Request, commit_at_once, commit_once
from tests.chaos.processes import KILLED, Child, run, start
from tests.chaos.victims import Home
from tests.clocks import SkippingTime
from tests.world import World

ROUNDS = int(os.environ.get("RELIABLE_WRITE_IDEMPOTENCY_ROUNDS", "3"))
PROCESSES = 5
THREADS = 10
DEATHS = (None, None, Death(1, "before"), Death(1, "after"), Death(4, "after"))
"""Of the five: two live, one dies before it sends anything, two when theirs may have been applied."""


class Desk:
    """A world with a table to count in and one to put rows in."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.home = Home(world.engine.endpoint_url, world.system_table)
        self.counters, self.rows = world.table("counters"), world.table("rows")

    def request(self, key: str, amount: int = 1) -> Request:
        return Request(self.counters, self.rows, key, amount)

    def commit(self, writer: ReliableWriter, key: str, amount: int = 1) -> Receipt:
        with ReliableWriteScope(writer, idempotency_key=key) as scope:
            self.request(key, amount).record(scope)
            return scope.commit()

    def stall(self, writer: ReliableWriter, fault: Fault) -> FaultPlan:
        """Whatever this writer does, its row is not put."""
        return FaultPlan(writer.client).on("PutItem", fault, having=f'"{self.rows}"'.encode())

    def shown(self, key: str) -> tuple[str | None, str | None]:
        """What the counter shows, and the stamp of the row; None for what is absent."""
        counter = self.world.item(self.counters, id={"S": key}) or {}
        row = self.world.item(self.rows, id={"S": key}) or {}
        return counter.get("n", {}).get("N"), row.get("_rw", {}).get("S")

    def receipts(self, key: str) -> list[Any]:
        return [item for item in self.world.records("R#") if item["pk"]["S"] == f"R#{key}"]


@pytest.fixture
def desk(world: World) -> Desk:
    return Desk(world)


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


# --- at once ------------------------------------------------------------------------------------------------------


def test_g5_fifty_commits_of_one_key_at_once_by_processes_some_of_them_killed_have_one_effect(
    desk: Desk, cleanup: ExitStack
) -> None:
    deaths = duplicates = 0
    for number in range(ROUNDS):
        request = desk.request(f"order-{number}")
        children = [start(commit_at_once, desk.home, request, THREADS, death) for death in DEATHS]
        for child in children:
            cleanup.callback(child.close)
            assert child.receive() == "ready"
        for child in children:
            child.pipe.send("go")
        answers = [answer for child in children for answer in _answers(child)]
        deaths += sum(child.ended() == KILLED for child in children)
        duplicates += _check_one_effect(desk, request, answers)
    assert deaths >= 2 * ROUNDS
    assert duplicates >= ROUNDS * THREADS


def _answers(child: Child) -> list[Answer]:
    """All it said before it ended or died."""
    answers = []
    try:
        while (answer := child.receive()) is not None:
            answers.append(answer)
    except EOFError:
        pass
    return answers


def _check_one_effect(desk: Desk, request: Request, answers: list[Answer]) -> int:
    """One effect under one stamp, and nobody was told otherwise; how many were told that they were not the first."""
    desk.world.writer().recovery.resume_all()
    (receipt,) = desk.receipts(request.key)
    assert desk.shown(request.key) == ("1", receipt["stamp"]["S"])
    assert desk.world.records("J#") == []
    assert len(answers) >= 2 * THREADS
    assert {answer.outcome for answer in answers} <= {Outcome.WRITTEN, Outcome.WILL_BE_WRITTEN, Outcome.UNKNOWN}
    written = [answer for answer in answers if answer.outcome is Outcome.WRITTEN]
    assert {answer.stamp for answer in written} == {receipt["stamp"]["S"]}
    duplicates = sum(answer.duplicate for answer in written)
    assert len(written) - duplicates <= 1  # the first may have died before it could tell
    later = run(commit_once, desk.home, request)
    assert later == Answer(Outcome.WRITTEN, receipt["stamp"]["S"], duplicate=True)
    return duplicates


# --- one after the other ------------------------------------------------------------------------------------------


def test_the_same_key_with_other_operations_is_refused_in_another_process(desk: Desk) -> None:
    first = desk.commit(desk.world.writer(), "order")
    other = run(commit_once, desk.home, desk.request("order", amount=2))
    assert (other.outcome, other.error) == (Outcome.NOT_WRITTEN, "IdempotencyMismatchError")
    assert desk.shown("order") == ("1", first.stamp)
    # A refusal uses nothing up: the right operations still find the first receipt.
    assert run(commit_once, desk.home, desk.request("order")) == Answer(Outcome.WRITTEN, first.stamp, duplicate=True)


def test_the_refusal_names_the_key_and_no_values(desk: Desk) -> None:
    desk.commit(desk.world.writer(), "order", amount=4711)
    with pytest.raises(IdempotencyMismatchError, match="'order' was used before") as refused:
        desk.commit(desk.world.writer(), "order", amount=4712)
    assert refused.value.write_id == "order"
    assert "471" not in str(refused.value)


def test_the_same_key_after_its_entry_is_finished_writes_nothing(desk: Desk) -> None:
    writer = desk.world.writer(delete_finished_inline=True)
    first = desk.commit(writer, "order")
    assert desk.world.records("J#") == []
    desk.world.client.delete_item(TableName=desk.rows, Key={"id": {"S": "order"}})
    again = desk.commit(desk.world.writer(), "order")
    assert (again.stamp, again.duplicate) == (first.stamp, True)
    assert desk.shown("order") == ("1", None)  # what others did since is not undone


def test_the_same_key_while_the_first_is_pending_finishes_it(desk: Desk) -> None:
    """The first stalls after its commit point; the second propagates what is left, and success is then true."""
    writer = desk.world.hasty()
    with desk.stall(writer, throttle), pytest.raises(PropagationPendingError) as pending:
        desk.commit(writer, "order")
    assert pending.value.write_id == "order"
    assert desk.shown("order") == ("1", None)
    assert desk.world.writer().status("order") is WriteState.PENDING
    second = desk.commit(desk.world.writer(delete_finished_inline=True), "order")
    assert second.duplicate
    assert desk.shown("order") == ("1", second.stamp)
    assert desk.world.records("J#") == []


def test_the_same_key_while_the_first_stays_pending_is_told_pending(desk: Desk) -> None:
    for _ in range(2):
        writer = desk.world.hasty()
        with desk.stall(writer, throttle), pytest.raises(PropagationPendingError) as pending:
            desk.commit(writer, "order")
        assert pending.value.outcome is Outcome.WILL_BE_WRITTEN
        assert not pending.value.needs_operator
        assert desk.shown("order") == ("1", None)
    assert len(desk.world.records("J#")) == 1
    assert desk.world.writer().recovery.resume("order").resumed is Resumed.FINISHED
    assert desk.commit(desk.world.writer(), "order").duplicate
    assert desk.shown("order") == ("1", desk.receipts("order")[0]["stamp"]["S"])


def test_the_same_key_after_quarantine_is_told_that_an_operator_must_decide(desk: Desk) -> None:
    writer = desk.world.hasty()
    with desk.stall(writer, deny):
        with pytest.raises(PropagationPendingError):
            desk.commit(writer, "order")
        assert writer.recovery.resume("order").resumed is Resumed.QUARANTINED
    with pytest.raises(PropagationPendingError, match="quarantined") as pending:
        desk.commit(desk.world.writer(), "order")
    assert pending.value.needs_operator
    assert desk.shown("order") == ("1", None)  # an operator's decision is not forestalled
    desk.world.writer().engine().operators.retry("order", operator="ada", reason="mended")
    desk.world.writer().recovery.resume_all()
    again = desk.commit(desk.world.writer(), "order")
    assert again.duplicate
    assert desk.shown("order") == ("1", again.stamp)


def test_the_same_key_where_the_first_left_an_entry_that_cannot_be_read_is_told_pending(desk: Desk) -> None:
    """By a damaged entry, or one of a later version: nobody may say that it is applied, or go over it."""
    writer = desk.world.writer()
    with desk.stall(writer, crash), pytest.raises(SimulatedCrash):
        desk.commit(writer, "order")
    (entry,) = desk.world.records("J#")
    desk.world.client.put_item(TableName=desk.world.system_table, Item={**entry, "epoch": {"S": "garbled"}})
    with pytest.raises(PropagationPendingError, match="cannot be read") as pending:
        desk.commit(desk.world.writer(), "order")
    assert pending.value.outcome is Outcome.WILL_BE_WRITTEN
    assert pending.value.needs_operator
    assert desk.shown("order") == ("1", None)


def test_a_key_holds_for_as_long_as_receipts_are_kept(desk: Desk) -> None:
    time = SkippingTime()
    first = desk.commit(desk.world.writer(), "order")
    for _ in range(2):
        time.skip(RECEIPT_RETENTION_SECONDS / 2 - 3600)
        again = desk.commit(desk.world.writer(time=time), "order")
        assert (again.stamp, again.duplicate) == (first.stamp, True)
    assert desk.shown("order") == ("1", first.stamp)


# --- keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("", "not empty"),
        ("two\nlines", "printable"),
        ("nul\x00", "printable"),
        ("\ud800", "printable"),
        (b"bytes", "a string"),
        (4711, "a string"),
        ("x" * (IDEMPOTENCY_KEY_BYTES_MAX + 1), "takes 256 bytes; this has 257"),
        ("é" * (IDEMPOTENCY_KEY_BYTES_MAX // 2 + 1), "takes 256 bytes; this has 258"),
        ("0123456789abcdef0123456789abcdef0123", "look like a stamp"),
    ],
)
def test_keys_of_odd_shapes_are_refused_when_the_scope_is_made(desk: Desk, key: Any, told: str) -> None:
    with pytest.raises(InvalidKeyError, match=told) as refused:
        ReliableWriteScope(desk.world.writer(), idempotency_key=key)
    assert refused.value.outcome is Outcome.NOT_WRITTEN


@pytest.mark.parametrize("key", ["x", "é" * 128, "R#a/b c:d", " ", "'quoted'", "0123456789ABCDEF0123456789ABCDEF0123"])
def test_other_keys_are_taken_as_they_are(desk: Desk, key: str) -> None:
    first = desk.commit(desk.world.writer(), key)
    again = desk.commit(desk.world.writer(), key)
    assert (first.write_id, first.duplicate, again.duplicate) == (key, False, True)
    assert desk.world.writer().status(key) in (WriteState.APPLIED, WriteState.PENDING)
