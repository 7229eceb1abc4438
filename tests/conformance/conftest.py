"""Tables shared by the tests of one process: each test takes keys, not a table, of its own."""

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reliable_write.testing.engines import ENGINES, Engine
from tests.conformance.in_memory import LIMITS, InMemory
from tests.conftest import EnginePool, use

Json = dict[str, Any]
CreateTable = Callable[..., str]


def key_schema(**types: str) -> Json:
    """Return CreateTable's arguments for a hash key and perhaps a range key: `key_schema(pk="S", sk="N")`."""
    kinds = ("HASH", "RANGE")
    return {
        "KeySchema": [{"AttributeName": name, "KeyType": kind} for name, kind in zip(types, kinds, strict=False)],
        "AttributeDefinitions": [{"AttributeName": n, "AttributeType": t} for n, t in types.items()],
        "BillingMode": "PAY_PER_REQUEST",
    }


def create_and_await(dynamodb: Any, name: str, schema: Json) -> None:
    """Create a table and wait until it is active; boto3's waiter looks once a second at most."""
    dynamodb.create_table(TableName=name, **schema)
    pause = threading.Event()
    while dynamodb.describe_table(TableName=name)["Table"]["TableStatus"] != "ACTIVE":
        pause.wait(0.01)


class Conformance:
    """Clients and tables by engine, made once."""

    def __init__(self) -> None:
        self._clients: dict[str, Any] = {}
        self._tables: dict[tuple[str, str], str] = {}

    def client(self, engine: Engine) -> Any:
        if engine.name not in self._clients:
            self._clients[engine.name] = engine.client(max_pool_connections=32)
        return self._clients[engine.name]

    def table(self, engine: Engine, stem: str, schema: Json) -> str:
        known = (engine.name, stem)
        if known not in self._tables:
            name = f"{stem}-{uuid.uuid4().hex[:8]}"
            create_and_await(self.client(engine), name, schema)
            self._tables[known] = name
        return self._tables[known]


@pytest.fixture(params=[*sorted(ENGINES), InMemory.name])
def engine(request: pytest.FixtureRequest, engine_pool: EnginePool) -> Engine:
    """Every engine in turn, started; and the tables of the simulation."""
    if request.param != InMemory.name:
        return use(request, engine_pool.get(request.param))
    if limit := LIMITS.get(request.node.originalname):
        request.applymarker(pytest.mark.xfail(reason=f"not on {InMemory.name}: {limit}", strict=True))
    return use(request, InMemory())


@pytest.fixture(scope="session")
def conformance() -> Conformance:
    return Conformance()


@pytest.fixture
def dynamodb(conformance: Conformance, engine: Engine) -> Any:
    """A low-level client of the engine under test."""
    return conformance.client(engine)


@pytest.fixture
def table(conformance: Conformance, engine: Engine) -> str:
    """A table with the hash key `pk` and the range key `sk`, both strings."""
    return conformance.table(engine, "shared", key_schema(pk="S", sk="S"))


@pytest.fixture
def other_table(conformance: Conformance, engine: Engine) -> str:
    """A second one, with the hash key `id` alone."""
    return conformance.table(engine, "other", key_schema(id="S"))


@pytest.fixture
def numbered_table(conformance: Conformance, engine: Engine) -> str:
    """A table with the number `n` as its hash key."""
    return conformance.table(engine, "numbered", key_schema(n="N"))


@pytest.fixture
def binary_table(conformance: Conformance, engine: Engine) -> str:
    """A table with the binary `b` as its hash key."""
    return conformance.table(engine, "binary", key_schema(b="B"))


@pytest.fixture
def indexed_table(conformance: Conformance, engine: Engine) -> str:
    """A table with the hash key `id` and an index `by-rank` over the number `rank`."""
    schema = key_schema(id="S")
    schema["AttributeDefinitions"].append({"AttributeName": "rank", "AttributeType": "N"})
    index = {
        "IndexName": "by-rank",
        "KeySchema": [{"AttributeName": "rank", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "ALL"},
    }
    return conformance.table(engine, "indexed", schema | {"GlobalSecondaryIndexes": [index]})


@pytest.fixture
def create_table(dynamodb: Any) -> Iterator[CreateTable]:
    """Make a table for this test alone: `create_table(**key_schema(...))`."""
    names: list[str] = []

    def create(**schema: Any) -> str:
        name = f"own-{uuid.uuid4().hex[:8]}"
        create_and_await(dynamodb, name, schema)
        names.append(name)
        return name

    yield create
    for name in names:
        dynamodb.delete_table(TableName=name)


@pytest.fixture
def key() -> Json:
    """A key of `table` no other test uses."""
    return {"pk": {"S": uuid.uuid4().hex}, "sk": {"S": "0"}}


@pytest.fixture
def keys() -> Callable[[int], list[Json]]:
    """Make as many keys of `table` in one partition no other test uses, in order."""

    def make(count: int) -> list[Json]:
        partition = uuid.uuid4().hex
        return [{"pk": {"S": partition}, "sk": {"S": f"{number:04}"}} for number in range(count)]

    return make
