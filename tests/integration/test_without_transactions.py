"""An engine without transactions: at-commit operations and idempotency keys are refused by name when recorded.

That everything replayable keeps its promises there is shown by the tests that take `plain_world` or `every_world`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from reliable_write import Outcome, ReliableWriteScope, UnsupportedOperationError
from reliable_write.recovery import WriteState
from reliable_write.testing.engines import Engine
from reliable_write.testing.faults import FaultPlan
from tests.world import World

KEY = {"id": "x"}


@pytest.fixture
def bare(dynalite: Engine, unique_name: Callable[[str], str]) -> Iterator[World]:
    world = World(dynalite, unique_name)
    yield world
    world.close()


AT_COMMIT: dict[str, tuple[str, Callable[[ReliableWriteScope, str], None]]] = {
    "update": ("update_item", lambda scope, table: scope.update_item(table, Key=KEY, add={"n": 1})),
    "condition check": (
        "condition_check",
        lambda scope, table: scope.condition_check(table, KEY, "attribute_exists(id)"),
    ),
    "conditional put": ("put_item", lambda scope, table: scope.put_item(table, KEY, "attribute_not_exists(id)")),
    "conditional delete": ("delete_item", lambda scope, table: scope.delete_item(table, KEY, "attribute_exists(id)")),
    "put at commit": ("put_item", lambda scope, table: scope.put_item(table, KEY, at_commit=True)),
}


@pytest.mark.parametrize("case", AT_COMMIT)
def test_operations_at_commit_are_refused_when_recorded_and_the_rest_is_written(bare: World, case: str) -> None:
    verb, record = AT_COMMIT[case]
    table = bare.table("one")
    with ReliableWriteScope(bare.writer()) as scope:
        scope.put_item(table, Item={"id": "rest"})
        with pytest.raises(UnsupportedOperationError, match="needs TransactWriteItems, which this engine") as caught:
            record(scope, table)
        assert f"operations[1] {verb} on {table}" in caught.value.message
        assert (caught.value.operation, caught.value.table) == ("operations[1]", table)
        assert caught.value.outcome is Outcome.NOT_WRITTEN
        assert scope.commit().operations == 1
    assert [item["id"]["S"] for item in bare.items(table)] == ["rest"]


def test_an_idempotency_key_is_refused_with_the_first_operation(bare: World) -> None:
    table = bare.table("one")
    with ReliableWriteScope(bare.writer(), idempotency_key="order-1") as scope:
        with pytest.raises(UnsupportedOperationError, match="An idempotency key needs TransactWriteItems"):
            scope.put_item(table, Item={"id": "x"})
        assert len(scope) == 0


def test_one_transaction_is_refused_and_the_same_scope_goes_through_the_journal(bare: World) -> None:
    table = bare.table("one")
    with ReliableWriteScope(bare.writer()) as scope:
        scope.put_item(table, Item={"id": "x"})
        with pytest.raises(UnsupportedOperationError, match="needs TransactWriteItems"):
            scope.commit(strategy="transaction")
        scope.commit()
    assert len(bare.items(table)) == 1


def test_the_engine_is_asked_once_for_all_scopes_of_a_writer(bare: World) -> None:
    table, writer = bare.table("one"), bare.writer()
    plan = FaultPlan(writer.client)
    for _ in range(3):
        with ReliableWriteScope(writer) as scope, pytest.raises(UnsupportedOperationError):
            scope.update_item(table, Key=KEY, add={"n": 1})
    assert plan.count("TransactWriteItems") == 1


def test_scopes_without_such_operations_never_ask(bare: World) -> None:
    table, writer = bare.table("one"), bare.writer()
    plan = FaultPlan(writer.client)
    with ReliableWriteScope(writer) as scope:
        scope.put_item(table, Item={"id": "x"})
        scope.commit()
    assert plan.count("TransactWriteItems") == 0


def test_a_finished_write_cannot_be_told_from_one_that_never_was(bare: World) -> None:
    """Receipts come with transactions only."""
    table, writer = bare.table("one"), bare.writer(delete_finished_inline=True)
    with ReliableWriteScope(writer) as scope:
        scope.put_item(table, Item={"id": "x"})
        receipt = scope.commit()
    assert writer.status(receipt.write_id) is WriteState.UNKNOWN
    assert writer.status("never-was") is WriteState.UNKNOWN
