"""Writes that stand in the journal as a writer leaves them that dies at its commit point, and the command line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jsonschema
from referencing import Registry, Resource
from typer.testing import CliRunner

from reliable_write import ReliableWriter
from reliable_write.cli.app import app
from reliable_write.clock import HybridClock
from reliable_write.entry import FORMAT, Entry, encode_operations, shard_of
from reliable_write.operations import Action, Delete, Operation, Put
from tests.world import World

SECRET = "only-the-owner-may-see-this"


def put(table: str, key: str, **more: Any) -> Put:
    return Put(table, ("id",), {"id": {"S": key}, "secret": {"S": SECRET}, **more})


def delete(table: str, key: str) -> Delete:
    return Delete(table, ("id",), {"id": {"S": key}})


def batch(*actions: Action) -> Operation:
    return Operation("put_items" if isinstance(actions[0], Put) else "delete_items", actions)


def one(action: Action) -> Operation:
    return Operation("put_item" if isinstance(action, Put) else "delete_item", (action,))


class Stuck:
    """Commits entries and does nothing more about them."""

    def __init__(self, writer: ReliableWriter) -> None:
        self.writer = writer
        self.engine = writer.engine()
        self._clock = HybridClock(self.engine.time)

    def commit(self, *operations: Operation, age_seconds: float = 0.0, **more: Any) -> Entry:
        stamp = self._clock.stamp()
        entry = Entry(
            shard=shard_of(stamp, self.engine.journal.shards),
            stamp=stamp,
            write_id=stamp,
            format=FORMAT,
            committed_at_milliseconds=int((self.engine.time.wall_seconds() - age_seconds) * 1000),
            payload=encode_operations(operations, stamp, stamp),
        )
        entry = dataclasses.replace(entry, **more)
        self.engine.journal.commit(entry, self.engine.attempt_deadline())
        return entry

    def quarantined(self, *operations: Operation, reason: str = "broken", age_seconds: float = 0.0) -> Entry:
        entry = self.commit(*operations, age_seconds=age_seconds)
        return self.engine.journal.quarantine(entry, reason, self.engine.attempt_deadline())

    def beat(self) -> None:
        self.engine.heartbeats.beat("monitor-a", "0.2.0", self.engine.attempt_deadline())


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def facts(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def cli(world: World, *arguments: str) -> Ran:
    """The command line in this process, without a terminal. An exception that is nobody's fault passes."""
    done = CliRunner().invoke(app, list(arguments), env={**world.environment(), "COLUMNS": "100"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ran(done.exit_code, done.stdout, done.stderr)


def ids(entries: Sequence[Entry]) -> list[str]:
    return [entry.write_id for entry in entries]


def valid(facts: Any, schema: str) -> Any:
    """The facts, once they validate against the schema of this name as it is shipped in the wheel."""
    folder = resources.files("reliable_write.cli") / "schemas"
    held = {file.name: json.loads(file.read_text()) for file in folder.iterdir() if file.name.endswith(".json")}
    registry: Registry[Any] = Registry().with_resources(
        (name, Resource.from_contents(content)) for name, content in held.items()
    )
    checked = held[f"{schema}.json"]
    jsonschema.Draft202012Validator.check_schema(checked)
    jsonschema.Draft202012Validator(checked, registry=registry).validate(facts)
    return facts
