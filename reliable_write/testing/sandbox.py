"""A place to test a service in: an engine's address, the system table, the service's tables, a clock, a monitor.

    sandbox = Sandbox(endpoint_url, {"orders": "id", "lines": ("order", "number:N")})
    writer = sandbox.writer()
    ...
    sandbox.recover()                   # time passes, a monitor finishes what was left
    assert sandbox.items("orders") == [...]

It makes its tables itself, empties them, and deletes them when it is closed; so it refuses tables that are there, and
AWS altogether.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import structlog
from botocore.exceptions import ClientError

from monitor import WriteMonitor
from reliable_write import limits
from reliable_write.dynamodb import is_aws
from reliable_write.embedded import dynamodb_client, local_session
from reliable_write.entry import State, UnreadableEntry
from reliable_write.errors import ConfigurationError
from reliable_write.operations import located_actions
from reliable_write.settings import Settings
from reliable_write.system_table import CONFIG_KEY, Installation
from reliable_write.testing.clock import FakeTime
from reliable_write.values import decode_item
from reliable_write.writer import ReliableWriter, keyed_by

_REGION: Final = "us-east-1"
_SHARDS: Final = 2
"""A monitor's walk is over all of them; many equal ones would only take time."""
_RECOVERY_ROUNDS_MAX: Final = 8
_LEFT_ALONE_SECONDS: Final = 5 * limits.LEASE_SECONDS
"""After so long a scheduled monitor takes an entry for one that nobody works on."""
_CONNECTIONS: Final = 40
_SILENT: Final = structlog.wrap_logger(structlog.ReturnLogger(), processors=[structlog.processors.KeyValueRenderer()])
"""What its own monitor has to say, `left()` tells; a log of it would hide the service's."""
_CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "local"}


@dataclass(frozen=True, slots=True)
class LeftWrite:
    """A committed write that is not finished."""

    write_id: str
    state: str
    tables: tuple[str, ...]
    reason: str = ""

    def __str__(self) -> str:
        where = f" to {', '.join(self.tables)}" if self.tables else ""
        return f"{self.write_id} ({self.state}){where}{': ' if self.reason else ''}{self.reason}"


class Sandbox:
    """Tables of its own on one engine, and all that works on them. Close it, or use it as a `with` block."""

    def __init__(
        self,
        endpoint_url: str,
        tables: Mapping[str, str | tuple[str, str]] | None = None,
        *,
        time: FakeTime | None = None,
    ) -> None:
        """`tables` maps names to keys as `ReliableWriter.local` takes them; see `create_table` for indexes."""
        if is_aws(endpoint_url):
            raise ConfigurationError(
                f"A sandbox empties and deletes its tables, so it is not for AWS ({endpoint_url}), nor for moto, which "
                "stands at that address. Give it an engine on this machine: MiniStack, DynamoDB Local."
            )
        self.endpoint_url = endpoint_url
        self.time = time if time is not None else FakeTime()
        """The clock of its writers and monitors."""
        self.system_table = f"reliable-write-{uuid.uuid4().hex[:12]}"
        self._session = local_session(region_name=_REGION)
        self._session_lock = threading.Lock()
        self._tables: dict[str, tuple[str, ...]] = {}
        self._writers: list[ReliableWriter] = []
        self._own_clients = [self._open()]
        self._keeper = self._own_writer()
        self._keeper.init(Installation(shards=_SHARDS))
        self._recoverer = self._own_writer()
        try:
            for table, keys in (tables or {}).items():
                self.create_table(TableName=table, **keyed_by(keys))
        except BaseException:
            self.close()
            raise

    @property
    def client(self) -> Any:
        """A low-level boto3 client to look with. Fault plans of `every_crash_point` do not see it."""
        return self._own_clients[0]

    @property
    def own_clients(self) -> tuple[Any, ...]:
        """The clients that are the sandbox's, not the service's."""
        return tuple(self._own_clients)

    @property
    def tables(self) -> frozenset[str]:
        """All that it empties: its system table too."""
        return frozenset({self.system_table, *self._tables})

    def settings(self, **more: Any) -> Settings:
        """Settings of a writer for this place."""
        # Inline: a deletion in the background would come at another call in each run.
        given = {"delete_finished_inline": True, **more}
        return Settings(endpoint_url=self.endpoint_url, region=_REGION, system_table=self.system_table, **given)

    def environment(self) -> dict[str, str]:
        """What leads `ReliableWriter()` and `boto3.client("dynamodb")` here, in this process or in another."""
        return {
            **_CREDENTIALS,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_ENDPOINT_URL_DYNAMODB": self.endpoint_url,
            "NO_PROXY": "127.0.0.1,localhost",
            "RELIABLE_WRITE_REGION": _REGION,
            "RELIABLE_WRITE_ENDPOINT_URL": self.endpoint_url,
            "RELIABLE_WRITE_SYSTEM_TABLE": self.system_table,
            "RELIABLE_WRITE_DELETE_FINISHED_INLINE": "true",
        }

    def writer(self, **settings: Any) -> ReliableWriter:
        """A new writer with a client of its own, as a new process has; closed with the sandbox, or with `empty()`."""
        client = self._open()
        writer = ReliableWriter(self.settings(**settings), client=client, time=self.time)
        self._writers.append(writer)
        return writer

    def monitor(self) -> WriteMonitor:
        """A new monitor that goes by the sandbox's clock: see `recover` for one that lets time pass."""
        return WriteMonitor(self._recoverer)

    def create_table(self, **definition: Any) -> None:
        """Make a table, by boto3's keywords, emptied with the others. Raises `ConfigurationError` if it exists."""
        definition.setdefault("BillingMode", "PAY_PER_REQUEST")
        name = definition["TableName"]
        try:
            self.client.create_table(**definition)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceInUseException":
                raise
            raise ConfigurationError(
                f"Table {name!r} is at {self.endpoint_url} already. A sandbox empties its tables, so it takes none "
                "that it has not made: delete it, or use another engine."
            ) from error
        self._tables[name] = tuple(key["AttributeName"] for key in definition["KeySchema"])
        self.client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})

    # --- looking ------------------------------------------------------------------------------------------------

    def items(self, table: str) -> list[dict[str, Any]]:
        """All items of a table as a boto3 resource would give them, without our stamps; strongly read."""
        return [self._plain(item) for item in self._scan(table)]

    def item(self, table: str, **key: Any) -> dict[str, Any] | None:
        """The item whose attributes have these values, or None; for small tables: it reads all of them."""
        found = (item for item in self.items(table) if all(item.get(name) == value for name, value in key.items()))
        return next(found, None)

    def left(self) -> list[LeftWrite]:
        """The committed writes that are not finished: pending, quarantined or unreadable ones."""
        engine = self._keeper.engine()
        standing = engine.recovery.look()
        unreadable = [LeftWrite(one.sort_key, "unreadable", (), one.reason) for one in standing.unreadable]
        found = []
        for entry in standing.entries:
            try:
                operations = engine.journal.operations(entry, engine.attempt_deadline())
            except UnreadableEntry as error:
                unreadable.append(LeftWrite(entry.write_id, "unreadable", (), error.reason))
                continue
            tables = tuple(dict.fromkeys(action.table for _, action in located_actions(operations)))
            found.append(LeftWrite(entry.write_id, str(entry.state), tables, entry.last_error or ""))
        return [*found, *unreadable]

    # --- working ------------------------------------------------------------------------------------------------

    def recover(self) -> list[LeftWrite]:
        """Let time pass and a monitor work, until nothing is pending or it has tried for long; what is left then.

        Nobody waits: the clock is moved on.
        """
        monitor = WriteMonitor(self._recoverer)
        for _ in range(_RECOVERY_ROUNDS_MAX):
            self.time.move(_LEFT_ALONE_SECONDS)
            monitor.run_once(one_shot=True)
            if all(write.state != State.PENDING for write in self.left()):
                break
        monitor.audit_once()
        monitor.drain()
        return self.left()

    def empty(self) -> None:
        """Close its writers, then delete all items of all its tables, and what the system table holds of writes."""
        self._close_writers()
        for table, keys in self._tables.items():
            self._empty(table, keys)
        self._empty(self.system_table, ("pk", "sk"))

    def close(self) -> None:
        """Close its writers and clients, and delete its tables."""
        self._close_writers()
        for table in self._tables:
            self.client.delete_table(TableName=table)
        self._tables.clear()
        self._delete_system_table()
        for writer in (self._keeper, self._recoverer):
            writer.close()
        for client in self._own_clients:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- inside -------------------------------------------------------------------------------------------------

    def _open(self) -> Any:
        with self._session_lock:  # a session makes one client at a time
            return dynamodb_client(self.endpoint_url, session=self._session, max_pool_connections=_CONNECTIONS)

    def _own_writer(self) -> ReliableWriter:
        client = self._open()
        self._own_clients.append(client)
        return ReliableWriter(self.settings(), client=client, time=self.time, logger=_SILENT)

    def _close_writers(self) -> None:
        while self._writers:
            writer = self._writers.pop()
            writer_client = writer.client
            writer.close()
            writer_client.close()

    def _scan(self, table: str) -> list[dict[str, Any]]:
        pages = self.client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    def _plain(self, item: Mapping[str, Any]) -> dict[str, Any]:
        names = self._keeper.engine().installation.names
        return decode_item({name: value for name, value in item.items() if name not in (names.full, names.update)})

    def _empty(self, table: str, keys: tuple[str, ...]) -> None:
        for item in self._scan(table):
            key = {name: item[name] for name in keys}
            if key != CONFIG_KEY:
                self.client.delete_item(TableName=table, Key=key)

    def _delete_system_table(self) -> None:
        described = self.client.describe_table(TableName=self.system_table)["Table"]
        if described.get("DeletionProtectionEnabled"):
            self.client.update_table(TableName=self.system_table, DeletionProtectionEnabled=False)
        self.client.delete_table(TableName=self.system_table)
