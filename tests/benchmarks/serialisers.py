"""Encoding and decoding one item, beside boto3's serializers and pydynox, as ratios: part of `make bench`.

Two items: a flat one of 25 attributes as an application has them, and a large nested one. Every way is given what it
takes and its answer is compared with boto3's before anything is timed, so that nobody is fast by leaving something out.
Rounds are interleaved, and the best of each way counts: noise only adds.
"""

from __future__ import annotations

import argparse
import enum
import gc
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import import_module
from typing import Annotated, Any
from uuid import UUID

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from pydantic import BaseModel, Field

from reliable_write import FloatAs, HashKey, RangeKey, Record, Version
from reliable_write.values import decode_item, encode_item

Way = Callable[[], Any]
BOTO_WRITES, BOTO_READS = "boto3 TypeSerializer", "boto3 TypeDeserializer"
SECONDS_PER_ROUND = 0.01


class Department(enum.Enum):
    SALES = "sales"


class Address(BaseModel):
    street: str
    city: str
    code: str
    country: str = "GB"


class Employee(Record, table="employees"):
    """25 attributes, as an application has them."""

    id: Annotated[UUID, HashKey()] = UUID(int=7)
    started: Annotated[date, RangeKey()] = date(2024, 2, 29)
    version: Annotated[int, Version()] = 3
    first: str = "Ada"
    last: str = "Lovelace"
    title: str = "Countess"
    email: str = Field(default="ada@example.com", alias="mail")
    phone: str = "+44 20 7946 0000"
    department: Department = Department.SALES
    manager: UUID = UUID(int=8)
    salary: Decimal = Decimal("4250.50")
    bonus: Decimal = Decimal(100)
    rate: Annotated[float, FloatAs.NUMBER] = 0.75
    level: int = 4
    room: int = 1815
    active: bool = True
    remote: bool = False
    created: datetime = datetime(2024, 2, 29, 12, tzinfo=UTC)
    updated: datetime = datetime(2024, 3, 1, 12, 30, tzinfo=UTC)
    tags: set[str] = {"engine", "analyst", "first"}
    years: set[int] = {1833, 1842, 1843}
    skills: list[str] = ["mathematics", "poetry", "horses"]
    address: Address = Address(street="12 St James's Square", city="London", code="SW1Y 4JH")
    photo: bytes = b"\x89PNG" * 16
    note: str = "That brain of mine is something more than merely mortal; as time will show. " * 3


class Line(BaseModel):
    sku: str
    name: str
    price: Decimal
    count: int
    tags: list[str] = ["new", "fragile"]
    size: dict[str, int] = {"height": 10, "width": 20, "depth": 30}
    gift: bool = False
    note: str | None = None


class Order(Record, table="orders"):
    """A large nested item: 200 lines, some 35 KB."""

    id: Annotated[str, HashKey()] = "order-1"
    lines: list[Line] = [
        Line(sku=f"sku-{number}", name=f"thing number {number}", price=Decimal(number) / 4, count=number)
        for number in range(200)
    ]


RECORDS: dict[str, Record] = {"flat, 25 attributes": Employee(), "nested, 200 lines": Order()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    native = _pydynox()
    rows = [row for name, record in RECORDS.items() for row in bench(name, record, native, options.rounds)]
    print(json.dumps(rows, indent=2) if options.json else render(rows))


def _pydynox() -> Any:
    try:
        return import_module("pydynox.pydynox_core")
    except ImportError:
        print("pydynox is left out: it is not installed")
        return None


def bench(name: str, record: Record, native: Any, rounds: int) -> list[dict[str, Any]]:
    item = record.to_item()
    writes, reads = encoders(record, item, native), decoders(type(record), item, native)
    _check(name, writes, reads, record)
    return [
        {"item": name, "what": what, "base": base, "best_seconds": measure(ways, rounds)}
        for what, base, ways in (("encode", BOTO_WRITES, writes), ("decode", BOTO_READS, reads))
    ]


def encoders(record: Record, item: dict[str, Any], native: Any) -> dict[str, Way]:
    serialize = TypeSerializer().serialize
    ways: dict[str, Way] = {BOTO_WRITES: lambda: {name: serialize(value) for name, value in item.items()}}
    if native is not None:
        ways["pydynox item_to_dynamo"] = lambda: native.item_to_dynamo(item)
    ways["encode_item"] = lambda: encode_item(item, "bench")
    ways["Record.to_item, then encode_item"] = lambda: encode_item(record.to_item(), "bench")
    return ways


def decoders(model: type[Record], item: dict[str, Any], native: Any) -> dict[str, Way]:
    deserialize, wire = TypeDeserializer().deserialize, encode_item(item, "bench")
    ways: dict[str, Way] = {BOTO_READS: lambda: {name: deserialize(value) for name, value in wire.items()}}  # type: ignore[arg-type]  # plain dicts
    if native is not None:
        native_wire = native.item_to_dynamo(item)  # its binaries are base64 text, not bytes as botocore has them
        ways["pydynox item_from_dynamo"] = lambda: native.item_from_dynamo(native_wire)
    ways["decode_item"] = lambda: decode_item(wire)
    ways["decode_item, then Record.from_item"] = lambda: model.from_item(decode_item(wire))
    return ways


def _check(name: str, writes: Mapping[str, Way], reads: Mapping[str, Way], record: Record) -> None:
    expected = _comparable(writes[BOTO_WRITES]())
    for way, encode in writes.items():
        found = _comparable(encode())
        for attribute in expected:
            if found.get(attribute) != expected[attribute]:
                print(f"{name}: {way} writes {attribute} otherwise than boto3: {found.get(attribute)!r:.80}")
    for way, decode in reads.items():
        found = decode()
        if not isinstance(found, Record) and found != reads[BOTO_READS]():
            print(f"{name}: {way} reads something else than boto3")
        assert not isinstance(found, Record) or found == record


def _comparable(value: Any) -> Any:
    """Without what does not matter: how a number is spelled, and the order in a set."""
    if not isinstance(value, dict):
        return value
    return {kind: _content(kind, content) for kind, content in value.items()}


def _content(kind: str, content: Any) -> Any:
    if kind == "N":
        return Decimal(content)
    if kind in ("SS", "NS", "BS") and isinstance(content, list):
        return frozenset(map(Decimal, content) if kind == "NS" else content)
    if isinstance(content, list):
        return [_comparable(part) for part in content]
    return _comparable(content)


def measure(ways: Mapping[str, Way], rounds: int) -> dict[str, float]:
    repeats = {name: max(1, int(SECONDS_PER_ROUND / _seconds(way, 3))) for name, way in ways.items()}
    best = dict.fromkeys(ways, float("inf"))
    gc.disable()
    for _ in range(rounds):
        for name, way in ways.items():
            best[name] = min(best[name], _seconds(way, repeats[name]))
    gc.enable()
    return best


def _seconds(way: Way, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        way()
    return (time.perf_counter() - start) / repeats


def render(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        base = row["best_seconds"][row["base"]]
        lines.append(f"{row['what']} one item ({row['item']}):")
        lines += [
            f"  {name:36} {seconds * 1e6:8.1f} us   {base / seconds:5.2f} x as fast as boto3"
            for name, seconds in row["best_seconds"].items()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
