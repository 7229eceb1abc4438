"""What tests of operations at commit have in common: short ways to write and to look, and stamps made by hand."""

from __future__ import annotations

from typing import Any

from reliable_write import Receipt, ReliableWriter, ReliableWriteScope
from reliable_write.clock import HybridClock, Stamp, SystemTime
from reliable_write.operations import Delete
from reliable_write.tombstones import tombstone_key
from tests.world import World


def another(world: World, **more: Any) -> ReliableWriter:
    """Another process, which leaves no finished entry behind."""
    return world.writer(delete_finished_inline=True, **more)


def stamp_now() -> Stamp:
    """What another machine's clock would make."""
    return HybridClock(SystemTime()).stamp()


def add(writer: ReliableWriter, table: str, key: str = "x", *, n: int = 1, **scope: Any) -> Receipt:
    """One increment."""
    with ReliableWriteScope(writer, **scope) as recording:
        recording.update_item(table, Key={"id": key}, add={"n": n})
        return recording.commit()


def put(writer: ReliableWriter, table: str, key: str = "x", **values: Any) -> Receipt:
    """One journalled put."""
    with ReliableWriteScope(writer) as scope:
        scope.put_item(table, Item={"id": key, **values})
        return scope.commit()


def delete(writer: ReliableWriter, table: str, key: str = "x", **how: Any) -> Receipt:
    """One delete; journalled unless told otherwise."""
    with ReliableWriteScope(writer) as scope:
        scope.delete_item(table, Key={"id": key}, **how)
        return scope.commit()


def shown(world: World, table: str, key: str = "x") -> dict[str, Any] | None:
    """The item, its stamps included, as the wire has it."""
    return world.item(table, id={"S": key})


def there(world: World, table: str, key: str = "x") -> dict[str, Any]:
    """The same, of an item that must be there."""
    item = shown(world, table, key)
    assert item is not None
    return item


def count(world: World, table: str, key: str = "x") -> int:
    """What the increments of an item come to."""
    item = shown(world, table, key)
    return 0 if item is None or "n" not in item else int(item["n"]["N"])


def plant(world: World, table: str, key: str = "x", **strings: str) -> None:
    """Somebody's item, put without the library."""
    item = {"id": {"S": key}, **{name: {"S": value} for name, value in strings.items()}}
    world.client.put_item(TableName=table, Item=item)


def tombstone(world: World, table: str, key: str = "x") -> str | None:
    """The stamp of the key's tombstone."""
    found = world.item(world.system_table, **tombstone_key(Delete(table, ("id",), {"id": {"S": key}})))
    return None if found is None else str(found["stamp"]["S"])


def traces(world: World) -> list[dict[str, Any]]:
    """Entries, chunks, receipts and tombstones: everything a write leaves beside its items."""
    return [record for prefix in ("J#", "C#", "R#", "T#") for record in world.records(prefix)]
