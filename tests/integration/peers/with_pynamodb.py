"""PynamoDB: its models prepare whole requests, in the form of the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pynamodb import attributes as pynamo
from pynamodb.models import Model

from reliable_write import ReliableWriteScope
from reliable_write.testing.engines import Engine
from tests.integration.peers.base import BYTES, MOMENT, Peer, python_values
from tests.world import REGION


class PynamoPeer(Peer):
    name = "pynamodb"

    def __init__(self, engine: Engine, one: str, two: str) -> None:
        super().__init__(engine, one, two)

        class Place(pynamo.MapAttribute[str, Any]):
            city = pynamo.UnicodeAttribute()
            since = pynamo.UTCDateTimeAttribute()

        class Money(pynamo.Attribute[Decimal]):
            """The library has no exact numbers; its users write this."""

            attr_type = "N"

            def serialize(self, value: Decimal) -> str:
                return str(value)

            def deserialize(self, value: str) -> Decimal:
                return Decimal(value)

        class Full(Model):
            Meta = _pynamo_meta(engine, one)
            id = pynamo.UnicodeAttribute(hash_key=True)
            text = pynamo.UnicodeAttribute()
            whole = pynamo.NumberAttribute()
            fraction = pynamo.NumberAttribute()
            money = Money()
            flag = pynamo.BooleanAttribute()
            blob = pynamo.BinaryAttribute(legacy_encoding=False)
            old_blob = pynamo.BinaryAttribute(legacy_encoding=True)
            texts = pynamo.UnicodeSetAttribute()
            numbers = pynamo.NumberSetAttribute()
            blobs = pynamo.BinarySetAttribute(legacy_encoding=False)
            old_blobs = pynamo.BinarySetAttribute(legacy_encoding=True)
            parts: pynamo.ListAttribute[Any] = pynamo.ListAttribute()
            places: pynamo.ListAttribute[Any] = pynamo.ListAttribute(of=Place)
            anything: pynamo.MapAttribute[str, Any] = pynamo.MapAttribute()  # type: ignore[no-untyped-call]
            place = Place()  # type: ignore[no-untyped-call]
            json = pynamo.JSONAttribute()
            at = pynamo.UTCDateTimeAttribute()
            expires = pynamo.TTLAttribute()
            renamed = pynamo.UnicodeAttribute(attr_name="re-named")
            nothing = pynamo.UnicodeAttribute(null=True)

        class Small(Model):
            Meta = _pynamo_meta(engine, two)
            id = pynamo.UnicodeAttribute(hash_key=True)
            text = pynamo.UnicodeAttribute()
            version = pynamo.VersionAttribute()

        self.models: dict[str, Any] = {"full": Full, "small": Small, "place": Place}

    def full(self, key: str) -> Any:
        place = self.models["place"]
        return self.models["full"](
            id=key,
            text="grün",
            whole=10**20,
            fraction=0.1,
            money=Decimal("12.50"),
            flag=False,
            blob=BYTES,
            old_blob=BYTES,
            texts={"a", "b"},
            numbers={1, 2.5},
            blobs={BYTES, b"z"},
            old_blobs={BYTES, b"z"},
            parts=["a", 1, 1.5, None, True, BYTES, {"deep": [{"deeper": {"x", "y"}}]}],
            places=[place(city="Rome", since=MOMENT)],
            anything={"a": 1, "none": None, "blob": BYTES},
            place=place(city="Oslo", since=MOMENT),
            json={"a": [1, None, 0.5]},
            at=MOMENT,
            expires=datetime(2030, 1, 1, tzinfo=UTC),
            renamed="r",
        )

    def small(self, key: str, text: str, version: int | None = None) -> Any:
        given = {} if version is None else {"version": version}
        return self.models["small"](id=key, text=text, **given)

    def put(self, scope: ReliableWriteScope, instance: Any, *, checked: bool = False) -> None:
        request = taken(instance.get_save_kwargs_from_instance())
        if not checked:
            request = {"Item": request["Item"]}
        scope.put_item(instance.Meta.table_name, **request)

    def delete(self, scope: ReliableWriteScope, instance: Any) -> None:
        scope.delete_item(
            instance.Meta.table_name, **taken(instance.get_delete_kwargs_from_instance(add_version_condition=False))
        )

    def load(self, instance: Any) -> Any:
        try:
            return type(instance).get(instance.id, consistent_read=True)
        except instance.DoesNotExist:
            return None

    def save(self, instance: Any) -> None:
        instance.save()

    def erase(self, instance: Any) -> None:
        instance.delete(add_version_condition=False)

    def fields(self, instance: Any) -> dict[str, Any]:
        return python_values(instance.serialize())


def taken(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request that PynamoDB has prepared, as a scope's method takes it."""
    wire = ("Item", "Key", "ExpressionAttributeValues")
    return {
        name: python_values(part) if name in wire else part for name, part in request.items() if name != "TableName"
    }


def _pynamo_meta(engine: Engine, table: str) -> Any:
    return type(
        "Meta",
        (),
        {
            "table_name": table,
            "region": REGION,
            "host": engine.endpoint_url,
            "aws_access_key_id": "testing",
            "aws_secret_access_key": "testing",
        },
    )
