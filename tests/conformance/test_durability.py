"""What a power cut leaves: the chaos tests kill dynoxide, so its promise is checked first."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from reliable_write.testing.engines import Dynoxide, MiniStack
from tests.conformance.conftest import create_and_await, key_schema
from tests.conftest import require_engine

WRITERS = 8
PUTS_BEFORE_THE_KILL = 25
"""Of the writer that gets there first."""


@pytest.fixture
def own_dynoxide() -> Iterator[Dynoxide]:
    """One of this test's own: it is killed."""
    require_engine("dynoxide")
    with Dynoxide() as engine:
        yield engine


def put_until_it_dies(dynamodb: Any, writer: int, enough: Event) -> list[str]:
    """Return the ids of the puts that were acknowledged."""
    acknowledged: list[str] = []
    while True:
        item_id = f"{writer}-{len(acknowledged)}"
        try:
            dynamodb.put_item(TableName="kept", Item={"id": {"S": item_id}})
        except (BotoCoreError, ClientError):
            return acknowledged
        acknowledged.append(item_id)
        if len(acknowledged) >= PUTS_BEFORE_THE_KILL:
            enough.set()


def test_acknowledged_puts_survive_a_kill(own_dynoxide: Dynoxide) -> None:
    dynamodb = own_dynoxide.client(max_pool_connections=WRITERS)
    create_and_await(dynamodb, "kept", key_schema(id="S"))
    enough = Event()
    with ThreadPoolExecutor(WRITERS) as pool:
        puts = [pool.submit(put_until_it_dies, dynamodb, writer, enough) for writer in range(WRITERS)]
        assert enough.wait(60)
        own_dynoxide.kill()
    acknowledged = {item_id for put in puts for item_id in put.result()}
    own_dynoxide.restart()
    pages = own_dynoxide.client().get_paginator("scan").paginate(TableName="kept", ConsistentRead=True)
    found = {item["id"]["S"] for page in pages for item in page["Items"]}
    assert len(acknowledged) >= PUTS_BEFORE_THE_KILL
    assert acknowledged <= found
    assert len(found - acknowledged) <= WRITERS  # at most the one put of each that had no answer yet


def test_a_killed_engine_answers_again_at_the_same_address(own_dynoxide: Dynoxide) -> None:
    address, pid = own_dynoxide.endpoint_url, own_dynoxide.pid
    dynamodb = own_dynoxide.client()
    create_and_await(dynamodb, "kept", key_schema(id="S"))
    own_dynoxide.kill()
    with pytest.raises(BotoCoreError):
        dynamodb.list_tables()
    own_dynoxide.restart()
    assert own_dynoxide.endpoint_url == address
    assert own_dynoxide.pid != pid
    assert dynamodb.list_tables()["TableNames"] == ["kept"]


def test_ministack_forgets_everything_in_a_kill() -> None:
    require_engine("ministack")
    with MiniStack() as engine:
        dynamodb = engine.client()
        create_and_await(dynamodb, "forgotten", key_schema(id="S"))
        engine.kill()
        engine.restart()
        assert dynamodb.list_tables()["TableNames"] == []
