"""dyntastic: pydantic models. It replaces a function of boto3 for the whole process when it is imported."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeDeserializer
from pydantic import BaseModel, Field

from reliable_write import ReliableWriteScope
from reliable_write.testing.engines import Engine
from tests.integration.peers.base import BYTES, MOMENT, Colour, Peer
from tests.world import REGION

_BOTO3S_OWN = TypeDeserializer._deserialize_b  # type: ignore[attr-defined]  # not in stubs
from dyntastic import A, Dyntastic  # noqa: E402 - after a look at what it replaces; from nowhere else in the tests
from dyntastic.attr import serialize  # noqa: E402

DYNTASTICS_BINARY = TypeDeserializer._deserialize_b  # type: ignore[attr-defined]
"""What dyntastic puts in the place of boto3's reading of binary values. Only its own tests run with it."""
TypeDeserializer._deserialize_b = _BOTO3S_OWN  # type: ignore[attr-defined]


class Part(BaseModel):
    text: str
    price: Decimal
    at: datetime


class DyntasticPeer(Peer):
    """Credentials from the environment; `DYNTASTICS_BINARY` in its place."""

    name = "dyntastic"

    def __init__(self, engine: Engine, one: str, two: str) -> None:
        super().__init__(engine, one, two)

        class Full(Dyntastic):
            __table_name__ = one
            __table_host__ = engine.endpoint_url
            __table_region__ = REGION
            __hash_key__ = "id"

            id: str
            text: str
            whole: int
            money: Decimal
            flag: bool
            blob: bytes
            texts: set[str]
            numbers: set[Decimal]
            blobs: set[bytes]
            parts: list[str | int | bool | bytes | None]
            anything: dict[str, Any]
            place: Part
            places: list[Part]
            at: datetime
            day: date
            uuid: uuid.UUID
            colour: Colour
            renamed: str = Field(alias="re-named")
            nothing: str | None = None

        class Small(Dyntastic):
            __table_name__ = two
            __table_host__ = engine.endpoint_url
            __table_region__ = REGION
            __hash_key__ = "id"

            id: str
            text: str
            version: int | None = None

        self.models: dict[str, Any] = {"full": Full, "small": Small}

    def full(self, key: str) -> Any:
        part = {"text": "p", "price": Decimal("0.10"), "at": MOMENT}
        given = {
            "id": key,
            "text": "grün",
            "whole": 10**20,
            "money": Decimal("12.50"),
            "flag": False,
            "blob": BYTES,
            "texts": {"a", "b"},
            "numbers": {Decimal(1), Decimal("2.5")},
            "blobs": {BYTES, b"z"},
            "parts": ["a", 1, True, BYTES, None],
            "anything": {"a": Decimal(1), "deep": [{"deeper": "x"}]},
            "place": part,
            "places": [part],
            "at": MOMENT,
            "day": MOMENT.date(),
            "uuid": uuid.UUID(int=5),
            "colour": Colour.RED,
            "re-named": "r",
        }
        return self.models["full"].model_validate(given)

    def small(self, key: str, text: str, version: int | None = None) -> Any:
        return self.models["small"].model_validate({"id": key, "text": text, "version": version})

    def put(self, scope: ReliableWriteScope, instance: Any, *, checked: bool = False) -> None:
        item = serialize(instance.model_dump(by_alias=True))
        if not checked:
            scope.put_item(instance.__table_name__, Item=item)
            return
        version: Any = A.version
        seen = version.not_exists() if instance.version is None else version == instance.version
        item["version"] = (instance.version or 0) + 1
        scope.put_item(instance.__table_name__, Item=item, ConditionExpression=seen)

    def delete(self, scope: ReliableWriteScope, instance: Any) -> None:
        scope.delete_item(instance.__table_name__, Key={instance.__hash_key__: instance.id})

    def load(self, instance: Any) -> Any:
        return type(instance).safe_get(instance.id, consistent_read=True)

    def save(self, instance: Any) -> None:
        instance.save()

    def erase(self, instance: Any) -> None:
        instance.delete()

    def fields(self, instance: Any) -> dict[str, Any]:
        return dict(instance.model_dump())


__all__ = ["DYNTASTICS_BINARY", "A", "DyntasticPeer", "serialize"]
