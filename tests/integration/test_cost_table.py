"""The table of costs in `docs/costs.md` is what this test measures, and what `scope.plan()` tells before.

`RELIABLE_WRITE_WRITE_DOCS=1` writes the table anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from boto3.dynamodb.conditions import Attr

from reliable_write import Plan, ReliableWriter, ReliableWriteScope
from reliable_write.scope import Strategy
from reliable_write.testing.meter import Meter
from tests.world import World

PAGE = Path(__file__).parents[2] / "docs" / "costs.md"
WRITES_DOCS = os.environ.get("RELIABLE_WRITE_WRITE_DOCS") == "1"
Record = Callable[[ReliableWriteScope, str], None]


def _item(number: int) -> dict[str, Any]:
    return {"id": f"k{number}", "note": "x" * 200}


def _puts(count: int) -> Record:
    def record(scope: ReliableWriteScope, table: str) -> None:
        for number in range(count):
            scope.put_item(table, Item=_item(number))

    return record


def _deletes(scope: ReliableWriteScope, table: str) -> None:
    for number in range(3):
        scope.delete_item(table, Key={"id": f"k{number}"})


def _batches(scope: ReliableWriteScope, table: str) -> None:
    for start in range(0, 100, 25):
        scope.put_items(table, [_item(number) for number in range(start, start + 25)])


def _update(scope: ReliableWriteScope, table: str) -> None:
    scope.update_item(table, Key={"id": "k0"}, add={"count": 1})


def _update_and_puts(scope: ReliableWriteScope, table: str) -> None:
    _update(scope, table)
    for number in (1, 2):
        scope.put_item(table, Item=_item(number))


def _conditional(scope: ReliableWriteScope, table: str) -> None:
    for number in range(3):
        scope.put_item(table, Item=_item(number), ConditionExpression=Attr("id").not_exists())


def _check_and_put(scope: ReliableWriteScope, table: str) -> None:
    scope.condition_check(table, Key={"id": "k0"}, ConditionExpression=Attr("id").not_exists())
    scope.put_item(table, Item=_item(1))


KINDS: dict[str, tuple[Record, Strategy, str | None]] = {
    "1 put": (_puts(1), "journal", None),
    "3 puts": (_puts(3), "journal", None),
    "25 puts": (_puts(25), "journal", None),
    "4 batches of 25 puts": (_batches, "journal", None),
    "3 deletes": (_deletes, "journal", None),
    "3 puts with an idempotency key": (_puts(3), "journal", "order-123"),
    "1 update": (_update, "journal", None),
    "1 update and 2 puts": (_update_and_puts, "journal", None),
    "3 conditional puts": (_conditional, "journal", None),
    "1 condition check and 1 put": (_check_and_put, "journal", None),
    '3 puts, `strategy="transaction"`': (_puts(3), "transaction", None),
    '25 puts, `strategy="transaction"`': (_puts(25), "transaction", None),
}


def _measured(writer: ReliableWriter, table: str, kind: str) -> tuple[Plan, str]:
    record, strategy, key = KINDS[kind]
    with Meter(writer.client) as meter:
        with ReliableWriteScope(writer, idempotency_key=key) as scope:
            record(scope, table)
            plan = scope.plan()
            scope.commit(strategy=strategy)
            requests = sum(meter.calls.values())
        writer.close()
    planned = plan.transaction if strategy == "transaction" else plan.journal
    assert planned is not None
    assert (planned.requests, planned.write_units, planned.read_units) == (
        requests,
        meter.write_units,
        meter.read_units,
    )
    return plan, f"| {kind} | {requests} | {meter.write_units:.0f} | {meter.read_units:.0f} |"


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_costs_in_the_documents_are_those_of_the_plan_and_of_the_engine(world: World, kind: str) -> None:
    """Fresh keys, items of 250 bytes. The requests are those before `commit()` returns."""
    table = world.table("t")
    writer = world.writer()
    writer.engine().schemas.get(table)
    writer.engine().capabilities.require_transactions("a test", writer.engine().attempt_deadline())
    plan, row = _measured(writer, table, kind)
    assert (plan.transaction is None) == (plan.items > 49), plan.transaction_refused
    if WRITES_DOCS:
        _write(kind, row)
    assert row in PAGE.read_text().splitlines()


def test_the_table_has_a_row_for_each_kind_and_no_other() -> None:
    rows = [
        line.split(" | ")[0].removeprefix("| ") for line in PAGE.read_text().splitlines() if re.match(r"\| .*\d", line)
    ]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(KINDS)


def _write(kind: str, row: str) -> None:
    lines = PAGE.read_text().splitlines()
    places = [at for at, line in enumerate(lines) if line.startswith(f"| {kind} |")]
    if places:
        lines[places[0]] = row
    else:
        lines.append(row)
    PAGE.write_text("\n".join(lines) + "\n")
