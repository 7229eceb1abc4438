"""Where a command works on writes: the engine of one installation, opened for the command and closed behind it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from reliable_write.audit_log import Deed
from reliable_write.cli.connect import Connection, connect
from reliable_write.cli.options import At
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed
from reliable_write.engine import Engine, assemble
from reliable_write.errors import ConfigurationError
from reliable_write.events import Events
from reliable_write.heartbeats import Heartbeat
from reliable_write.policy import FailureKind
from reliable_write.workers import ThreadWorkers

OUTER_THREADS: Final = 8
"""Writes handled at once. Threads of their own: the engine's are busy inside each write, and one pool waiting for
itself would never end."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What commands about writes need."""

    connection: Connection
    engine: Engine
    outer: ThreadWorkers
    at: At
    """The connection options of this command line, to be repeated in the commands it tells."""

    def told(self, command: str) -> str:
        """A command as it must be typed to reach the same installation."""
        return self.at.told(command)

    def now_milliseconds(self) -> int:
        """Wall time of this machine."""
        return int(self.engine.time.wall_seconds() * 1000)

    def deadline(self) -> Deadline:
        """For one step, beginning now."""
        return self.engine.attempt_deadline()

    def place(self) -> dict[str, Any]:
        """Which installation it is, for JSON and for plans."""
        return self.connection.place

    def heartbeats(self) -> list[Heartbeat]:
        """All monitors that are, or were lately."""
        return self.engine.heartbeats.all(self.deadline())

    def monitors_alive(self) -> int:
        """How many monitors live; 0 where that cannot be read (the command goes on without)."""
        try:
            return sum(heartbeat.alive for heartbeat in self.heartbeats())
        except CallFailed:
            return 0

    def deeds_about(self, write_id: str) -> list[Deed]:
        """What people did to this write, newest first."""
        wanted = {"S": write_id}
        return [deed for deed in self.engine.audit_log.deeds(self.deadline()) if deed.facts.get("write_id") == wanted]


@contextlib.contextmanager
def open_desk(at: At) -> Iterator[Desk]:
    """Connect, read the installation, and close everything afterwards. Raises as `connect` and `assemble` do."""
    connection = connect(**at._asdict())
    with contextlib.closing(connection.client), seated(connection, at) as desk:
        yield desk


@contextlib.contextmanager
def seated(connection: Connection, at: At) -> Iterator[Desk]:
    """The same for a connection that is open already, and stays open."""
    engine = _assembled(connection, at)
    outer = ThreadWorkers(OUTER_THREADS)
    try:
        yield Desk(connection, engine, outer, at)
    finally:
        outer.close()
        engine.close()


def _assembled(connection: Connection, at: At) -> Engine:
    settings = connection.settings
    workers = ThreadWorkers(settings.propagation_threads)
    try:
        return assemble(connection.calls, settings, connection.time, workers, Events(_Silent()))
    except ConfigurationError as error:
        workers.close()
        failure = error.__cause__
        if isinstance(failure, CallFailed) and failure.kind is FailureKind.TABLE_MISSING:
            raise ConfigurationError(_not_here(connection, at)) from failure
        raise


def _not_here(connection: Connection, at: At) -> str:
    """Mostly it is another Region or profile: who ran `init` on the word of an error would make a second journal."""
    place = connection.place
    return (
        f"There is no system table {place['system_table']!r} in {place['region']} at {place['endpoint_url']}. "
        "If it is elsewhere, give --region, --profile, --endpoint-url or --system-table. "
        f"Only if it is to be made here, run: {at.told('reliable-write init')}"
    )


class _Silent:
    """Takes events and says nothing: a command tells its results itself, once."""

    def __getattr__(self, _level: str) -> Any:
        return lambda *_args, **_facts: None
