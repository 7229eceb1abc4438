"""Aliases that a process does not know, and what is refused of writes elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from monitor.auditor import Auditor, AuditSettings
from reliable_write import (
    ConfigurationError,
    Receipt,
    ReliableWriter,
    ReliableWriteScope,
    UnknownTableError,
    UnsupportedOperationError,
)
from reliable_write.settings import Destination
from reliable_write.testing.faults import FaultPlan, SimulatedCrash, crash
from tests.chaos.stragglers import Ear
from tests.clocks import SkippingTime
from tests.integration.regions import TABLE, Two, Watch, at, far, two

__all__ = ["far", "two"]


# --- a process that does not know the alias ---------------------------------------------------------------------------


def left_to_others(two: Two, alias: str = "eu") -> str:
    """A write that is committed and whose process is gone. Returns its id."""
    writer = two.writer(alias=alias)
    scope = ReliableWriteScope(writer)
    for table in (two.table, f"{alias}:{TABLE}"):
        scope.put_item(table, Item={"id": "o-1", "v": "a"})
    FaultPlan(writer.client).on("PutItem", crash, having=f'"{two.table}"'.encode())
    FaultPlan(at(writer, f"{alias}:{TABLE}")).on("PutItem", crash)
    with pytest.raises(SimulatedCrash):
        scope.commit()
    assert scope.write_id is not None
    return scope.write_id


def test_a_monitor_that_does_not_know_the_alias_sets_the_write_aside_by_name(two: Two) -> None:
    write_id = left_to_others(two)
    assert Watch(two, alias=None).sweep() == {"quarantined": 1}
    assert two.items() == {"o-1": "a"}, "what it can reach, it finishes"
    assert two.far.items() == {}
    (entry,) = two.writer().recovery.look().entries
    assert entry.last_error == "unknown destination (eu)"
    told = two.cli("writes", "explain", write_id).out
    assert "unknown destination (eu)" in told
    assert "RELIABLE_WRITE_DESTINATIONS" in told
    assert two.cli("writes", "retry", write_id, "--reason", "the alias is known now", "--yes").code == 0
    second = Watch(two)
    second.time.skip(60.0)  # the first one counts as gone by then, and its shards are nobody's
    second.finishes()
    assert two.items() == two.far.items() == {"o-1": "a"}


def test_show_compares_in_the_second_region_where_it_knows_it_and_says_so_where_not(two: Two) -> None:
    write_id = left_to_others(two)
    known = two.cli("writes", "show", write_id, "--json").facts
    assert [operation["found"] for operation in known["operations"]] == ["not applied", "not applied"]
    unknown = two.cli("writes", "show", write_id, "--json", alias=None).facts
    assert [operation["found"] for operation in unknown["operations"]] == ["not applied", "could not be read"]
    assert "unknown destination (eu)" in two.cli("writes", "show", write_id, alias=None).out


def test_tombstones_under_a_forgotten_alias_are_kept_and_told(two: Two) -> None:
    """A renamed alias: what was deleted under the old one cannot be looked after any more, nor let go."""
    with ReliableWriteScope(two.writer()) as scope:
        scope.delete_item(f"eu:{TABLE}", Key={"id": "o-1"})
        scope.commit()
    time, ear = SkippingTime(), Ear()
    settings = AuditSettings(table_troubles_max=1)
    auditor = Auditor(two.writer(alias="europe", time=time, logger=ear).engine(), settings)
    for _ in range(4):
        time.skip(10_000)
        auditor.run_once()
    assert len(two.home.records("T#")) == 1
    assert ear.of("audit_skipped_table")[0]["table"] == f"eu:{TABLE}"
    assert "unknown destination (eu)" in ear.of("audit_skipped_table")[0]["reason"]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (lambda scope, table: scope.update_item(table, Key={"id": "o-1"}, add={"n": 1}), "an update"),
        (lambda scope, table: scope.condition_check(table, {"id": "o-1"}, "attribute_exists(id)"), "a condition check"),
        (lambda scope, table: scope.put_item(table, {"id": "o-1"}, "attribute_not_exists(id)"), "a condition"),
        (lambda scope, table: scope.delete_item(table, {"id": "o-1"}, at_commit=True), "asked for"),
    ],
)
def test_operations_at_commit_are_refused_elsewhere_when_recorded(
    two: Two, record: Callable[[ReliableWriteScope, str], None], why: str
) -> None:
    assert why
    with ReliableWriteScope(two.writer()) as scope:
        with pytest.raises(UnsupportedOperationError, match=r"'eu' is elsewhere") as caught:
            record(scope, f"eu:{TABLE}")
        assert caught.value.operation == "operations[0]"
        assert caught.value.table == f"eu:{TABLE}"
        assert len(scope) == 0


def test_one_transaction_does_not_reach_elsewhere(two: Two) -> None:
    with ReliableWriteScope(two.writer()) as scope:
        two.both(scope)
        with pytest.raises(UnsupportedOperationError, match=r"operations\[1\].*'eu' is elsewhere"):
            scope.commit(strategy="transaction")
        scope.commit()
    assert two.items() == two.far.items() == {"o-1": "a"}


def test_updates_at_home_and_an_idempotency_key_go_with_puts_elsewhere(two: Two) -> None:
    def commit(writer: ReliableWriter) -> Receipt:
        with ReliableWriteScope(writer, idempotency_key="order-1") as scope:
            scope.put_item(f"eu:{TABLE}", Item={"id": "o-1", "v": "a"})
            scope.update_item(two.table, Key={"id": "sum"}, add={"n": 1})
            return scope.commit()

    first, again = commit(two.writer()), commit(two.writer())
    assert (first.duplicate, again.duplicate) == (False, True)
    assert two.far.items() == {"o-1": "a"}
    assert two.home.item(two.table, id={"S": "sum"})["n"] == {"N": "1"}  # type: ignore[index]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("us:orders", "no destination 'us' is registered"),
        ("arn:aws:dynamodb:eu-west-1:123456789012:table/orders", "not its ARN"),
        ("eu:arn:aws:dynamodb:eu-west-1:123456789012:table/orders", "not its ARN"),
        ("eu:", "does not exist at destination eu"),
        ("eu:nowhere", "does not exist at destination eu"),
    ],
)
def test_names_that_lead_nowhere_are_refused_when_recorded(two: Two, table: str, told: str) -> None:
    with ReliableWriteScope(two.writer()) as scope, pytest.raises(UnknownTableError, match=told):
        scope.put_item(table, Item={"id": "o-1"})


def test_a_destination_that_is_home_is_found_when_the_homes_region_is_known(two: Two) -> None:
    """The settings name no Region here, so they alone cannot tell."""
    client = two.home.engine.client(region_name="us-east-1")
    settings = two.home.settings().model_copy(update={"region": None, "endpoint_url": None})
    place = Destination(region_name="us-east-1", endpoint_url=two.home.engine.endpoint_url)
    writer = ReliableWriter(settings, client=client, destinations={"same": place})
    with pytest.raises(ConfigurationError, match="'same' leads to where the system table is"):
        writer.engine()
