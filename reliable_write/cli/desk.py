"""Where a command works on writes: the engine of one installation, opened for the command and closed behind it."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from reliable_write.audit_log import Deed
from reliable_write.cli.connect import Connection, connect
from reliable_write.cli.options import At
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed
from reliable_write.engine import Engine, assemble
from reliable_write.events import Events
from reliable_write.heartbeats import Heartbeat
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
    given: str
    """The connection options of this command line, to be repeated in the commands it tells."""

    def told(self, command: str) -> str:
        """A command as it must be typed to reach the same installation."""
        return f"{command} {self.given}" if self.given and command.startswith("reliable-write ") else command

    def now_milliseconds(self) -> int:
        """Wall time of this machine."""
        return int(self.engine.time.wall_seconds() * 1000)

    def deadline(self) -> Deadline:
        """For one step, beginning now."""
        return self.engine.attempt_deadline()

    def place(self) -> dict[str, Any]:
        """Which installation it is, for JSON and for plans."""
        meta = self.connection.client.meta
        return {
            "system_table": self.connection.table,
            "region": meta.region_name,
            "endpoint_url": meta.endpoint_url,
        }

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
    settings = connection.settings
    engine = assemble(
        connection.calls,
        settings,
        connection.time,
        ThreadWorkers(settings.propagation_threads),
        Events(_Silent()),
    )
    outer = ThreadWorkers(OUTER_THREADS)
    try:
        yield Desk(connection, engine, outer, _as_typed(at))
    finally:
        outer.close()
        engine.close()
        connection.client.close()


def _as_typed(at: At) -> str:
    given = at._asdict().items()
    words = [f"--{name.replace('_', '-')} {shlex.quote(value)}" for name, value in given if value is not None]
    return " ".join(words)


class _Silent:
    """Takes events and says nothing: a command tells its results itself, once."""

    def __getattr__(self, _level: str) -> Any:
        return lambda *_args, **_facts: None
