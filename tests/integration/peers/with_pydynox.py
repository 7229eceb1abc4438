"""pydynox: a Rust core under models that give plain dicts."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from boto3.dynamodb.conditions import Attr
from pydynox import AutoGenerate, DynamoDBClient, Model, ModelConfig
from pydynox import attributes as ox

from reliable_write import ReliableWriteScope
from reliable_write.testing.engines import Engine
from tests.integration.peers.base import BYTES, MOMENT, Colour, Peer
from tests.world import REGION


@dataclasses.dataclass
class Address:
    city: str
    floor: int


class PydynoxPeer(Peer):
    name = "pydynox"

    def __init__(self, engine: Engine, one: str, two: str) -> None:
        super().__init__(engine, one, two)
        self.client = client = DynamoDBClient(
            region=REGION, endpoint_url=engine.endpoint_url, access_key="testing", secret_key="testing"
        )

        class Full(Model):
            model_config = ModelConfig(table=one, client=client)
            id = ox.StringAttribute(partition_key=True)
            text = ox.StringAttribute()
            whole = ox.NumberAttribute()
            money = ox.DecimalAttribute()
            flag = ox.BooleanAttribute()
            blob = ox.BinaryAttribute()
            texts = ox.StringSetAttribute()
            numbers = ox.NumberSetAttribute()
            parts = ox.ListAttribute()
            anything = ox.MapAttribute()
            place = ox.MapAttribute(Address)
            json: ox.JSONAttribute[Any] = ox.JSONAttribute()
            colour = ox.EnumAttribute(Colour)
            at = ox.DatetimeAttribute()
            expires = ox.TTLAttribute()
            packed = ox.CompressedAttribute()
            renamed = ox.StringAttribute(alias="re-named")
            nothing = ox.StringAttribute()

        class Small(Model):
            model_config = ModelConfig(table=two, client=client)
            id = ox.StringAttribute(partition_key=True)
            text = ox.StringAttribute()
            version = ox.VersionAttribute()
            made = ox.StringAttribute(default=AutoGenerate.ULID)

        self.models: dict[str, Any] = {"full": Full, "small": Small}

    def full(self, key: str) -> Any:
        return self.models["full"](
            id=key,
            text="grün",
            whole=10**20,
            money=Decimal("12.50"),
            flag=False,
            blob=BYTES,
            texts={"a", "b"},
            numbers={1, 2.5},
            parts=["a", 1, None, True, BYTES, {"deep": [{"deeper": {"x", "y"}}]}],
            anything={"a": 1, "none": None},
            place=Address("Rome", 2),
            json={"a": [1, None, 0.5]},
            colour=Colour.RED,
            at=MOMENT,
            expires=datetime(2030, 1, 1, tzinfo=UTC),
            packed="hello " * 100,
            renamed="r",
        )

    def small(self, key: str, text: str, version: int | None = None) -> Any:
        return self.models["small"](id=key, text=text, version=version)

    def put(self, scope: ReliableWriteScope, instance: Any, *, checked: bool = False) -> None:
        table = instance.model_config.table
        if not checked:
            scope.put_item(table, Item=instance.to_dict())
            return
        version = Attr("version")
        scope.put_item(
            table,
            Item={**instance.to_dict(), "version": (instance.version or 0) + 1},
            ConditionExpression=version.not_exists() if instance.version is None else version.eq(instance.version),
        )

    def delete(self, scope: ReliableWriteScope, instance: Any) -> None:
        scope.delete_item(instance.model_config.table, Key={"id": instance.id})

    def load(self, instance: Any) -> Any:
        return type(instance).sync_get(id=instance.id, consistent_read=True)

    def save(self, instance: Any) -> None:
        instance.sync_save()

    def erase(self, instance: Any) -> None:
        instance.sync_delete()

    def fields(self, instance: Any) -> dict[str, Any]:
        """Its `==` looks at the key only."""
        return {name: getattr(instance, name) for name in type(instance)._attributes}
