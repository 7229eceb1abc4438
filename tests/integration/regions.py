"""Two Regions: the second is an engine process of its own, so that it can be killed alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from monitor import MonitorSettings, WriteMonitor
from reliable_write import Receipt, ReliableWriter, ReliableWriteScope
from reliable_write.cli.app import app
from reliable_write.embedded.server import local_session
from reliable_write.settings import Destination
from reliable_write.testing.engines import Dynoxide, Engine
from tests.clocks import HastyTime
from tests.integration.stuck_writes import Ran
from tests.world import World

TABLE = "orders"
LEASE = 10.0


class Far:
    """A second place with a table of its own."""

    def __init__(self, engine: Engine, **client: Any) -> None:
        self.engine = engine
        self.client = engine.client(**client)
        make_table(self.client)

    @property
    def destination(self) -> Destination:
        return Destination(region_name="eu-west-1", endpoint_url=self.engine.endpoint_url)

    def items(self) -> dict[str, Any]:
        return shown(self.client, TABLE)


def make_table(client: Any, name: str = TABLE) -> None:
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def shown(client: Any, table: str) -> dict[str, Any]:
    """What a table shows, by key, without stamps."""
    items = client.scan(TableName=table, ConsistentRead=True)["Items"]
    return {item["id"]["S"]: item.get("v", {}).get("S") for item in items}


class Two:
    """Home, and the second Region `eu`."""

    def __init__(self, home: World, far: Far) -> None:
        self.home = home
        self.far = far
        self.table = home.table("orders")
        self._writers: list[ReliableWriter] = []

    def writer(self, *, alias: str | None = "eu", **more: Any) -> ReliableWriter:
        """Between its tries its clocks move on, unless it is given others: a Region may be away to the end."""
        time, logger = more.pop("time", None) or HastyTime(), more.pop("logger", None)
        places = {} if alias is None else {alias: self.far.destination}
        settings = self.home.settings(**{"delete_finished_inline": True, **more})
        writer = ReliableWriter(settings, session=local_session(), destinations=places, time=time, logger=logger)
        self._writers.append(writer)
        return writer

    def items(self) -> dict[str, Any]:
        return shown(self.home.client, self.table)

    def environment(self, *, alias: str | None = "eu") -> dict[str, str]:
        if alias is None:
            return self.home.environment()
        places = json.dumps({alias: self.far.destination.model_dump(exclude_none=True)})
        return {**self.home.environment(), "RELIABLE_WRITE_DESTINATIONS": places}

    def cli(self, *arguments: str, alias: str | None = "eu") -> Ran:
        done = CliRunner().invoke(app, list(arguments), env={**self.environment(alias=alias), "COLUMNS": "100"})
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ran(done.exit_code, done.stdout, done.stderr)

    def both(self, scope: ReliableWriteScope, key: str = "o-1", v: str = "a") -> None:
        for table in (self.table, f"eu:{TABLE}"):
            scope.put_item(table, Item={"id": key, "v": v})

    def put(self, writer: ReliableWriter, key: str = "o-1", v: str = "a") -> Receipt:
        with ReliableWriteScope(writer) as scope:
            self.both(scope, key, v)
            return scope.commit()

    def close(self) -> None:
        while self._writers:
            self._writers.pop().close()


@pytest.fixture
def far() -> Iterator[Far]:
    with Dynoxide() as engine:
        yield Far(engine)


@pytest.fixture
def two(world: World, far: Far) -> Iterator[Two]:
    both = Two(world, far)
    yield both
    both.close()


class Watch:
    """A monitor in this process, whose clocks a test moves on."""

    def __init__(self, two: Two, **more: Any) -> None:
        self.time = HastyTime()
        self.writer = two.writer(time=self.time, **more)
        self.monitor = WriteMonitor(self.writer, MonitorSettings(lease_seconds=LEASE))

    def sweep(self) -> dict[str, int]:
        """One look, and one a lease later; how the attempts ended."""
        self.monitor.run_once()
        self.time.skip(LEASE)
        return {str(resumed): count for resumed, count in self.monitor.run_once().attempts.items()}

    def finishes(self) -> None:
        """Sweep until a write is finished; a busy machine may need an attempt more."""
        for _ in range(10):
            if self.sweep().get("finished"):
                return
            self.time.skip(600.0)
        raise AssertionError(self.writer.recovery.look())


def at(writer: ReliableWriter, table: str = f"eu:{TABLE}") -> Any:
    """The writer's client at a destination."""
    return writer._calls().client_of(table)[0]


def until(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(800):
        if true():
            return
        pause.wait(0.05)
    raise AssertionError("it never came true")
