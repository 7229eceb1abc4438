"""The proxy itself: what each fault does to the engine and to the client, and that it dies with who started it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError, ReadTimeoutError

from reliable_write.embedded import dynamodb_client
from reliable_write.testing.engines import Engine
from tests.chaos import wire
from tests.chaos.processes import Child, start
from tests.chaos.wire import Fault, Gusts, Weather
from tests.world import World

SEED = 7


class Line:
    """A client whose requests go through the proxy."""

    def __init__(self, world: World, proxy: Child) -> None:
        self.table = world.table("one")
        self._world = world
        self._proxy = proxy
        self.client = dynamodb_client(proxy.receive(), read_timeout=1, connect_timeout=1, max_pool_connections=20)

    def log(self, weather: Weather | None = None) -> wire.Log:
        self._proxy.pipe.send(weather)
        log = self._proxy.receive()
        assert isinstance(log, wire.Log)
        return log

    def add(self, **more: Any) -> Any:
        return self.client.update_item(
            TableName=self.table,
            Key={"id": {"S": "sum"}},
            UpdateExpression="ADD n :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
            **more,
        )

    def applied(self) -> int:
        return int((self._world.item(self.table, id={"S": "sum"}) or {"n": {"N": "0"}})["n"]["N"])

    def await_landing(self) -> None:
        while self.log().pending:
            time.sleep(0.02)


@pytest.fixture
def line(dynoxide: Engine, unique_name: Callable[[str], str]) -> Iterator[Line]:
    world = World(dynoxide, unique_name)
    proxy = start(wire.run, dynoxide.endpoint_url, SEED)
    line = Line(world, proxy)
    yield line
    line.client.close()
    proxy.close()
    world.close()


@pytest.mark.parametrize(
    ("fault", "applied", "error"),
    [
        ("dropped request", 0, ConnectionClosedError),
        ("dropped answer", 1, ConnectionClosedError),
        ("silence", 1, ReadTimeoutError),
        ("half an answer", 1, HTTPClientError),
        ("server error", 1, ClientError),
    ],
)
def test_a_fault_that_the_client_sees(line: Line, fault: Fault, applied: int, error: type[Exception]) -> None:
    line.add()
    line.log(Weather({fault: 1.0}))
    with pytest.raises(error):
        line.add(ReturnValues="ALL_NEW")
    assert line.applied() == 1 + applied
    log = line.log(Weather())
    assert (log.of(fault), log.faults[fault, "UpdateItem"]) == (1, 1)
    line.add()
    assert line.applied() == 2 + applied, "and it passes again"


@pytest.mark.parametrize(("fault", "applied"), [("duplicate", 2), ("delay", 1)])
def test_a_fault_that_the_client_does_not_see(line: Line, fault: Fault, applied: int) -> None:
    line.log(Weather({fault: 1.0}))
    assert line.add(ReturnValues="ALL_NEW")["Attributes"]["n"] == {"N": "1"}
    assert line.applied() == applied
    assert line.log().of(fault) == 1


def test_what_is_late_arrives_after_its_sender_has_given_up(line: Line) -> None:
    line.log(Weather({"late": 1.0}, late_seconds=((0.3, 0.3),)))
    with pytest.raises(ConnectionClosedError):
        line.add()
    assert line.applied() == 0
    line.await_landing()
    assert line.applied() == 1
    assert line.log().landed == 1
    line.client.get_item(TableName=line.table, Key={"id": {"S": "sum"}})
    assert line.log().of("late") == 1, "reads are never late"


def test_gusts_hit_the_writes_to_one_table(line: Line) -> None:
    line.log(Weather(gusts=Gusts((line.table,), every_calls=1, seconds=(60, 60), faults=("dropped request",))))
    with pytest.raises(ConnectionClosedError):
        line.add()
    line.client.get_item(TableName=line.table, Key={"id": {"S": "sum"}})
    log = line.log()
    assert log.gusts == 2
    assert log.faults == {("dropped request", "UpdateItem"): 1}


def test_many_at_once_get_their_own_answers(line: Line) -> None:
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: line.add(ReturnValues="UPDATED_NEW"), range(400)))
    print(f"{400 / (time.monotonic() - begun):.0f} requests/s")
    assert sorted(int(answer["Attributes"]["n"]["N"]) for answer in answers) == list(range(1, 401))
    assert line.log().calls == {"UpdateItem": 400}


def test_it_ends_with_the_pipe(dynoxide: Engine) -> None:
    proxy = start(wire.run, dynoxide.endpoint_url, SEED)
    proxy.receive()
    proxy.pipe.close()
    assert proxy.ended() == 0
    proxy.process.close()
