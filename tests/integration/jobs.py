"""Records with a range key and two indexes, and records without."""

from __future__ import annotations

import enum
import json
from datetime import date
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from pydantic import Field

from reliable_write import HashKey, RangeKey, Record, RecordStore
from reliable_write.testing.faults import FaultPlan
from tests.records import placed
from tests.world import World


class Grade(enum.Enum):
    JUNIOR = "junior"
    SENIOR = "senior"


class Job(Record, table="jobs"):
    employee: Annotated[UUID, HashKey()]
    started: Annotated[date, RangeKey()]
    grade: Grade = Grade.JUNIOR
    city: str = "London"
    salary: Decimal = Field(default=Decimal(0), alias="pay")


class Thing(Record, table="things"):
    id: Annotated[str, HashKey()]
    n: int = 0


ADA = uuid4()


@pytest.fixture
def jobs(world: World) -> type[Job]:
    return placed(Job, job_table(world))


@pytest.fixture
def things(world: World) -> type[Thing]:
    return placed(Thing, world.table("things"))


@pytest.fixture
def store(world: World) -> RecordStore:
    return RecordStore(world.writer())


def job_table(world: World) -> str:
    """With a global index that holds all, one that holds keys only, and a local one that holds keys only."""
    return world.table(
        "jobs",
        "employee:S",
        "started:S",
        AttributeDefinitions=[{"AttributeName": "city", "AttributeType": "S"}],
        GlobalSecondaryIndexes=[
            {"IndexName": name, "KeySchema": keyed("city", "started"), "Projection": {"ProjectionType": kind}}
            for name, kind in (("by-city", "ALL"), ("by-city-keys", "KEYS_ONLY"))
        ],
        LocalSecondaryIndexes=[
            {
                "IndexName": "in-city",
                "KeySchema": keyed("employee", "city"),
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )


def keyed(hash_key: str, range_key: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": hash_key, "KeyType": "HASH"},
        {"AttributeName": range_key, "KeyType": "RANGE"},
    ]


def yearly(kind: type[Job], years: range, **more: Any) -> list[Job]:
    return [kind(employee=ADA, started=date(year, 1, 1), **more) for year in years]


def bodies(plan: FaultPlan, operation: str) -> list[dict[str, Any]]:
    return [json.loads(call.body) for call in plan.calls if call.operation == operation]


def client_of(store: RecordStore) -> Any:
    return store._writer.client  # type: ignore[attr-defined]  # a writer's
