"""Tables on ScyllaDB Alternator, by its documented behaviour: conditions hold only where every write is a transaction.

Source: ScyllaDB's manual, "Alternator-specific APIs", "Write isolation policies"
(https://docs.scylladb.com/manual/stable/alternator/new-apis.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from reliable_write import UnsupportedOperationError
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallName, RoutedCalls, Schemas, Store
from tests.unit.fakes import ManualTime
from tests.unit.test_schemas import description

TAG = "system:write_isolation"
SYSTEM = "journal"
SCYLLA = "arn:scylla:alternator:ks:scylla:table/"


class Alternator:
    """Answers DescribeTable and ListTagsOfResource as Alternator does; `tags` by table."""

    def __init__(self, tags: Mapping[str, Mapping[str, str]], *, arn: str = SCYLLA) -> None:
        self.tags = dict(tags)
        self.arn = arn
        self.sent: list[tuple[CallName, str]] = []

    def send(self, call: CallName, request: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        assert not deadline.passed()
        if call == "describe_table":
            table = str(request["TableName"])
            self.sent.append((call, table))
            return {"Table": {**description("id"), "TableName": table, "TableArn": self.arn + table}}
        assert call == "list_tags_of_resource"
        table = str(request["ResourceArn"]).removeprefix(self.arn)
        self.sent.append((call, table))
        return {"Tags": [{"Key": key, "Value": value} for key, value in self.tags.get(table, {}).items()]}

    def asked(self, table: str) -> int:
        return sum(named == table for _, named in self.sent)


def schemas(calls: Any) -> Schemas:
    time = ManualTime()
    return Schemas(Store(calls, time), time, 8.0, system_table=SYSTEM)


@pytest.mark.parametrize("value", ["always_use_lwt", "always", "a"])
def test_always_use_lwt_is_accepted_under_all_its_names(value: str) -> None:
    engine = Alternator({"orders": {TAG: value, "team": "shop"}, SYSTEM: {TAG: value}})
    assert schemas(engine).get("orders").table == "orders"


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ({}, "the tag is missing"),
        ({"team": "always_use_lwt"}, "the tag is missing"),
        ({TAG: "forbid_rmw"}, "it is 'forbid_rmw'"),
        ({TAG: "only_rmw_uses_lwt"}, "it is 'only_rmw_uses_lwt'"),
        ({TAG: "unsafe_rmw"}, "it is 'unsafe_rmw'"),
        ({TAG: "unsafe"}, "it is 'unsafe'"),
        ({TAG: "o"}, "it is 'o'"),
    ],
)
def test_every_other_isolation_is_refused_with_the_command(tags: dict[str, str], found: str) -> None:
    engine = Alternator({"orders": tags, SYSTEM: {TAG: "always"}})
    with pytest.raises(UnsupportedOperationError) as caught:
        schemas(engine).get("orders")
    assert found in caught.value.message
    assert caught.value.table == "orders"
    assert (
        "aws dynamodb tag-resource --resource-arn arn:scylla:alternator:ks:scylla:table/orders "
        f"--tags Key={TAG},Value=always_use_lwt"
    ) in caught.value.message


def test_the_system_table_is_checked_as_well() -> None:
    """Its entries and tombstones lean on conditions too."""
    engine = Alternator({"orders": {TAG: "always"}, SYSTEM: {TAG: "only_rmw_uses_lwt"}})
    asked = schemas(engine)
    for _ in range(2):
        with pytest.raises(UnsupportedOperationError, match=f"Table '{SYSTEM}'.*table/{SYSTEM} ") as caught:
            asked.get("orders")
        assert caught.value.table == SYSTEM
    engine.tags[SYSTEM] = {TAG: "always_use_lwt"}
    asked.get("orders")


def test_the_system_table_is_checked_once_in_a_process() -> None:
    engine = Alternator({table: {TAG: "always"} for table in ("orders", "people", SYSTEM)})
    asked = schemas(engine)
    asked.get("orders")
    assert engine.asked(SYSTEM) == 2, "described, and its tags"
    asked.get("people")
    assert engine.asked(SYSTEM) == 2


def test_elsewhere_nobody_is_asked_for_tags() -> None:
    engine = Alternator({}, arn="arn:aws:dynamodb:us-east-1:123456789012:table/")
    schemas(engine).get("orders")
    assert engine.sent == [("describe_table", "orders")]


def test_at_a_destination_the_tags_are_asked_for_there_and_the_system_table_is_not() -> None:
    """A system table on AWS has no such tag, and the service may not even describe it."""
    home = Alternator({}, arn="arn:aws:dynamodb:us-east-1:123456789012:table/")
    there = Alternator({"orders": {TAG: "always"}, "people": {}})
    openers: Any = {"scylla": lambda: there}
    asked = schemas(RoutedCalls(home, openers))  # type: ignore[arg-type]  # answers alike
    assert asked.get("scylla:orders").table == "scylla:orders"
    assert there.sent == [("describe_table", "orders"), ("list_tags_of_resource", "orders")]
    assert home.sent == []
    with pytest.raises(UnsupportedOperationError, match="--resource-arn arn:scylla:") as caught:
        asked.get("scylla:people")
    assert caught.value.table == "scylla:people"
