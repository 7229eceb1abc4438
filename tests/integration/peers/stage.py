"""A world with a peer's models in it, and what the tests of both look at."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from boto3.dynamodb.types import TypeDeserializer

from reliable_write import ReliableWriter
from tests.integration.peers.base import Peer
from tests.integration.peers.with_dyntastic import DYNTASTICS_BINARY
from tests.world import World

with_dyntastic = pytest.mark.usefixtures("as_dyntastic_has_it")


@pytest.fixture
def as_dyntastic_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What dyntastic needs: credentials by boto3's default session, and its own reading of binary values."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setattr(TypeDeserializer, "_deserialize_b", DYNTASTICS_BINARY)


def peer_in(world: World, kind: type[Peer]) -> Any:
    return kind(world.engine, world.table("one"), world.table("two"))


def another(world: World) -> ReliableWriter:
    """Another process, which leaves no finished entry behind."""
    return world.writer(delete_finished_inline=True)


def assert_equal(peer: Peer, loaded: Any, instance: Any) -> None:
    assert loaded is not None
    assert type(loaded) is type(instance)
    assert peer.fields(loaded) == peer.fields(instance)


def stamps(world: World, table: str, key: str) -> set[str]:
    """Names of the stamp attributes an item has."""
    return (world.item(table, id={"S": key}) or {}).keys() & {"_rw", "_rwu"}
