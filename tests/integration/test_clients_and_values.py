"""Every kind of value through every flavour of client, and what a shared client keeps of its own."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import boto3
import pytest
from boto3.dynamodb.types import Binary, TypeSerializer
from botocore.config import Config
from botocore.exceptions import ClientError

from reliable_write import PropagationPendingError, ReliableWriter, ReliableWriteScope
from reliable_write.recovery import Resumed
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Engine
from reliable_write.testing.faults import FaultPlan, answer, deny
from tests.clocks import SkippingTime
from tests.integration.scopes import named
from tests.world import REGION, World


def test_order_by_clock_looks_at_nothing(dynoxide: Engine, unique_name: Callable[[str], str]) -> None:
    world = World(dynoxide, unique_name, Installation(order="clock"))
    table = world.table("people")
    writer = world.writer()
    with FaultPlan(writer.client) as plan, writer.begin() as scope:
        scope.put_item(table, Item={"id": "ada"})
    assert plan.count("BatchGetItem") == 0
    assert plan.count("PutItem") == 2
    assert len(world.items(table)) == 1
    world.close()


EVERY_KIND: dict[str, Any] = {
    "text": "ä\u2028😀",
    "number": Decimal("-12.5"),
    "large": 10**37 + 1,
    "flag": False,
    "none": None,
    "blob": b"\x00\xff",
    "texts": {"a", "b"},
    "numbers": {1, Decimal("2.5")},
    "blobs": {b"\x01", b"\x00\xff"},
    "list": ["", [], {}, b"x", None],
    "map": {"B": "text", "S": b"blob", "BS": [b"1"], "L": {"N": 7}},
    "B": {"B": b"z"},
}


def _options(world: World) -> dict[str, Any]:
    return {
        "endpoint_url": world.engine.endpoint_url,
        "region_name": REGION,
        "config": Config(max_pool_connections=40),
    }


def _session() -> boto3.session.Session:
    return boto3.session.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)


FLAVOURS: dict[str, Callable[[World], dict[str, Any]]] = {
    "client": lambda world: {"client": _session().client("dynamodb", **_options(world))},
    "session": lambda _: {"session": _session()},
    "resource": lambda world: {"client": _session().resource("dynamodb", **_options(world))},
    "client of a resource": lambda world: {"client": _session().resource("dynamodb", **_options(world)).meta.client},
}


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("crashed", [False, True], ids=["direct", "recovered"])
def test_every_kind_of_value_is_stored_alike_by_every_flavour_directly_and_by_recovery(
    every_world: World, flavour: str, crashed: bool
) -> None:
    world = every_world
    table, gone = world.table("people"), world.table("gone")
    world.client.put_item(TableName=gone, Item={"id": {"S": "old"}})
    with ReliableWriter(world.settings(), **FLAVOURS[flavour](world)) as writer:
        scope = ReliableWriteScope(writer)
        scope.put_item(table, Item={"id": "ada", **EVERY_KIND})
        scope.delete_item(gone, Key={"id": "old"})
        if crashed:
            with (
                FaultPlan(writer.client).on("PutItem", deny, having=named(table)),
                pytest.raises(PropagationPendingError),
            ):
                scope.commit()
            (report,) = writer.recovery.resume_all()
            assert report.resumed is Resumed.FINISHED
        else:
            scope.commit()
    serialize = TypeSerializer().serialize
    reference = {name: serialize(value) for name, value in {"id": "ada", **EVERY_KIND}.items()}
    world.client.put_item(TableName=table, Item={**reference, "id": {"S": "reference"}})
    ours, theirs = world.item(table, id={"S": "ada"}), world.item(table, id={"S": "reference"})
    assert ours is not None
    assert theirs is not None
    assert ours.pop("_rw")["S"] == scope.write_id
    assert _sorted(ours) == {**_sorted(theirs), "id": {"S": "ada"}}
    assert world.items(gone) == []
    assert world.records("J#") == []


def _sorted(item: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {kind: sorted(content) if kind in ("SS", "NS", "BS") else content for kind, content in value.items()}
        for name, value in item.items()
    }


def test_the_application_keeps_its_own_retries_and_has_no_deadline_on_a_shared_client(world: World) -> None:
    table = world.table("people")
    client = world.engine.client(retries={"total_max_attempts": 3, "mode": "standard"})
    time = SkippingTime()
    with ReliableWriter(world.settings(), client=client, time=time) as writer:
        with writer.begin() as scope:
            scope.put_item(table, Item={"id": "ada"})
        time.skip(3600)
        plan = FaultPlan(client).on("GetItem", answer("InternalServerError", 500), times=2)
        with plan:
            assert client.get_item(TableName=table, Key={"id": {"S": "ada"}})["Item"]
        assert plan.injected == 2
        plan = FaultPlan(client).on("GetItem", answer("InternalServerError", 500))
        with plan, pytest.raises(ClientError):
            client.get_item(TableName=table, Key={"id": {"S": "ada"}})
        assert plan.count("GetItem") == 3


def test_a_binary_read_back_is_a_binary_written(world: World) -> None:
    table = world.table("people")
    with world.writer().begin() as scope:
        scope.put_item(table, Item={"id": "ada", "blob": Binary(b"x"), "blobs": {Binary(b"y")}})
    (item,) = world.items(table)
    assert item["blob"] == {"B": b"x"}
    assert item["blobs"] == {"BS": [b"y"]}
