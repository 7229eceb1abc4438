"""Records of every type go through a scope into a real table and come back equal, the types of all parts too."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from reliable_write import ReliableWriter, ReliableWriteScope
from reliable_write.limits import BATCH_GET_KEYS_MAX, BATCH_ITEMS_MAX, OPERATIONS_MAX, SCOPE_ITEMS_MAX
from reliable_write.testing.engines import Engine
from reliable_write.values import decode_item, encode_item
from tests.unit.records.everything import Everything, everything, typed
from tests.world import World

RECORDS = int(os.environ.get("RELIABLE_WRITE_ROUND_TRIPS", "1250"))
"""CI's size, two full scopes for each engine; long runs ask for more."""
DRAWN = 300
SEED = int(os.environ.get("RELIABLE_WRITE_CHAOS_SEED", "20251122"))
CHECKS = list(HealthCheck)


@pytest.fixture(params=["dynoxide", "ministack"])
def world(request: pytest.FixtureRequest, unique_name: Callable[[str], str]) -> Iterator[World]:
    engine: Engine = request.getfixturevalue(request.param)
    world = World(engine, unique_name)
    yield world
    world.close()


@cache
def records(count: int) -> list[Everything]:
    """As many records as asked for, each with a key of its own, the same for every engine."""
    drawn, chance = drawn_records(), random.Random(SEED)
    made = [mixture(drawn, chance) for _ in range(count - len(drawn))]
    return [record.model_copy(update={"id": UUID(int=chance.getrandbits(128))}) for record in (*drawn, *made)][:count]


def drawn_records() -> list[Everything]:
    found: list[Everything] = []

    @seed(SEED)
    @settings(max_examples=DRAWN, phases=[Phase.generate], database=None, deadline=None, suppress_health_check=CHECKS)
    @given(everything)
    def draw(record: Everything) -> None:
        found.append(record)

    draw()
    assert len(found) >= DRAWN
    return found


def mixture(drawn: list[Everything], chance: random.Random) -> Everything:
    """Each field from another record: a whole record is 50 draws, and Hypothesis takes its time over each."""
    fields = {name: getattr(chance.choice(drawn), name) for name in Everything.model_fields}
    return drawn[0].model_copy(update=fields, deep=True)


def slices(values: list[Any], size: int) -> Iterator[list[Any]]:
    yield from (values[start : start + size] for start in range(0, len(values), size))


def write(writer: ReliableWriter, table: str, sent: list[Everything]) -> None:
    with ReliableWriteScope(writer) as scope:
        for batch in slices(sent, BATCH_ITEMS_MAX):
            scope.put_items(table, [record.to_item() for record in batch])
        scope.commit()


def read(world: World, table: str, sent: list[Everything]) -> dict[UUID, Everything]:
    """By batch get, with the keys that the records say they have."""
    found: dict[UUID, Everything] = {}
    for batch in slices([encode_item(record.key(), "key") for record in sent], BATCH_GET_KEYS_MAX):
        answer = world.client.batch_get_item(RequestItems={table: {"Keys": batch, "ConsistentRead": True}})
        assert not answer["UnprocessedKeys"]
        loaded = [Everything.from_item(decode_item(item)) for item in answer["Responses"][table]]
        found |= {record.id: record for record in loaded}
    return found


def test_records_of_every_type_come_back_equal_through_a_scope_and_a_real_table(world: World) -> None:
    table = world.table("everything", "id:S", "day:S")
    writer, sent = world.writer(), records(RECORDS)
    for scope in slices(sent, SCOPE_ITEMS_MAX):
        assert len(scope) <= OPERATIONS_MAX * BATCH_ITEMS_MAX
        write(writer, table, scope)
    compared = 0
    for scope in slices(sent, SCOPE_ITEMS_MAX):
        found = read(world, table, scope)
        for record in scope:
            again = found[record.id]
            assert again == record
            assert typed(again) == typed(record)
            compared += 1
    assert compared == len({record.id for record in sent}) == RECORDS
