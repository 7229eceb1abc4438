"""A small world on one engine: a system table, destination tables, and writers that talk to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reliable_write import ReliableWriter, Settings
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Engine
from tests.clocks import HastyTime

REGION = "us-east-1"
SHARDS = 4
"""Recovery asks each for itself: with the 64 of an installation nobody has chosen, half of what tests send is that."""


class World:
    """Everything in it has names of its own, so tests share an engine without meeting; the journal has few shards."""

    def __init__(
        self, engine: Engine, unique_name: Callable[[str], str], installation: Installation | None = None
    ) -> None:
        self.engine = engine
        self._clients: list[Any] = []
        self.client = self._open_client()
        self._unique_name = unique_name
        self.system_table = unique_name("system")
        self._writers: list[ReliableWriter] = []
        maker = self.writer()
        maker.init(installation or Installation(shards=SHARDS))

    def settings(self, **more: Any) -> Settings:
        """Settings of a writer in this world; `environment` is the same for another process."""
        return Settings(endpoint_url=self.engine.endpoint_url, region=REGION, system_table=self.system_table, **more)

    def environment(self) -> dict[str, str]:
        """What a child process needs in its environment for `ReliableWriter()` to find this world."""
        return {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": REGION,
            "RELIABLE_WRITE_REGION": REGION,
            "RELIABLE_WRITE_ENDPOINT_URL": self.engine.endpoint_url,
            "RELIABLE_WRITE_SYSTEM_TABLE": self.system_table,
        }

    def writer(self, *, time: Any = None, logger: Any = None, **settings: Any) -> ReliableWriter:
        """A new writer with a client of its own, as another process would have; closed with the world."""
        client = self._open_client(max_pool_connections=40)
        writer = ReliableWriter(self.settings(**settings), client=client, time=time, logger=logger)
        self._writers.append(writer)
        return writer

    def hasty(self, **settings: Any) -> ReliableWriter:
        """A writer that waits for nothing: between its tries its clocks move on instead.

        For whoever gets no answer to the end: a short deadline would be too short for an engine on a busy machine.
        """
        return self.writer(time=HastyTime(), **settings)

    def table(self, stem: str, hash_key: str = "id:S", range_key: str | None = None, **more: Any) -> str:
        """A new table; keys are given as `name:type`."""
        name = self._unique_name(stem)
        keys = [key.split(":") for key in (hash_key, range_key) if key]
        more.setdefault("BillingMode", "PAY_PER_REQUEST")
        definitions = [{"AttributeName": key, "AttributeType": kind} for key, kind in keys]
        self.client.create_table(
            TableName=name,
            KeySchema=[
                {"AttributeName": key, "KeyType": role} for (key, _), role in zip(keys, ("HASH", "RANGE"), strict=False)
            ],
            AttributeDefinitions=[*definitions, *more.pop("AttributeDefinitions", [])],
            **more,
        )
        self.client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        return name

    def items(self, table: str) -> list[dict[str, Any]]:
        """All items of a table, strongly read, as the wire has them."""
        pages = self.client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    def item(self, table: str, **key: Any) -> dict[str, Any] | None:
        """One item, strongly read; the key in the wire's form."""
        found: dict[str, Any] | None = self.client.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")
        return found

    def records(self, prefix: str = "J#") -> list[dict[str, Any]]:
        """Records of the system table of one kind: `J#` entries, `C#` chunks, `T#` tombstones."""
        return [item for item in self.items(self.system_table) if item["pk"]["S"].startswith(prefix)]

    def close(self) -> None:
        while self._writers:
            self._writers.pop().close()
        while self._clients:
            self._clients.pop().close()

    def _open_client(self, **config: Any) -> Any:
        client = self.engine.client(**config)
        self._clients.append(client)
        return client


@pytest.fixture
def world(dynoxide: Engine, unique_name: Callable[[str], str]) -> Iterator[World]:
    """A world on dynoxide: durable, quick, strict."""
    yield from _opened(World(dynoxide, unique_name))


@pytest.fixture(params=["dynoxide", "dynalite"])
def plain_world(request: pytest.FixtureRequest, unique_name: Callable[[str], str]) -> Iterator[World]:
    """A world on the engine to kill, and one on an engine without transactions and without items in its refusals.

    Whole modules take it as their `world`: what is not done at the commit leans on neither.
    """
    yield from _opened(World(request.getfixturevalue(request.param), unique_name))


@pytest.fixture
def wide_world(dynoxide: Engine, unique_name: Callable[[str], str]) -> Iterator[World]:
    """A world on dynoxide with as many shards as `init` makes: for how they are shared and read."""
    yield from _opened(World(dynoxide, unique_name, Installation()))


@pytest.fixture(params=["dynoxide", "dynalite"])
def wide_plain_world(request: pytest.FixtureRequest, unique_name: Callable[[str], str]) -> Iterator[World]:
    """The same on the engines of `plain_world`."""
    yield from _opened(World(request.getfixturevalue(request.param), unique_name, Installation()))


@pytest.fixture
def every_world(real_engine: Engine, unique_name: Callable[[str], str]) -> Iterator[World]:
    """A world on each engine that runs in a process of its own, in turn."""
    yield from _opened(World(real_engine, unique_name))


def _opened(world: World) -> Iterator[World]:
    yield world
    world.close()
