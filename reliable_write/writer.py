"""The writer: one per process and installation, shared by all its threads; makes scopes."""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import boto3

from reliable_write.clock import SystemTime, TimeSource
from reliable_write.dynamodb import CallFailed, RoutedCalls, Store, open_calls
from reliable_write.embedded import EmbeddedEngine, local_session
from reliable_write.engine import Engine, assemble
from reliable_write.errors import CommitFailedError, ConfigurationError, Outcome
from reliable_write.events import Events
from reliable_write.looking import Look, look_many
from reliable_write.recovery import ResumeReport, Standing, WriteState
from reliable_write.scope import ReliableWriteScope
from reliable_write.settings import Destination, Settings
from reliable_write.system_table import Installation, create_system_table
from reliable_write.workers import ThreadWorkers, Workers


class ReliableWriter:
    """Commits scopes to one system table and its destinations. Safe for threads.

        writer = ReliableWriter()                      # settings from RELIABLE_WRITE_*, AWS things from botocore's
        chain writer = ReliableWriter(session=session)       # credentials and Region from this boto3 session
        writer = ReliableWriter(client=client)         # this very client, or resource: its timeouts, its endpoint

    Making one sends nothing; the first use reads the installation's config record and raises `ConfigurationError`, with
    the command to run, where there is none. Survives `fork()` unless it was given a client, whose connections two
    processes cannot share: then it refuses in the child, by name.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        client: Any = None,
        session: boto3.session.Session | None = None,
        destinations: Mapping[str, Destination] | None = None,
        time: TimeSource | None = None,
        workers: Workers | None = None,
        logger: Any = None,
    ) -> None:
        if settings is not None and not isinstance(settings, Settings):
            raise TypeError(f"settings is a Settings, not {type(settings).__name__}: Settings(system_table=...).")
        if client is not None and session is not None:
            raise ConfigurationError("Give a client or a session, not both.")
        self.settings = settings if settings is not None else Settings.from_environment()
        if destinations is not None:
            self.settings = self.settings.with_destinations(destinations)
        self._given_client = _client_of(client)
        self._session = session
        self._time = time if time is not None else SystemTime()
        self._workers = workers
        self._events = Events(logger)
        self._embedded: EmbeddedEngine | None = None
        self._closed = False
        self._process = _Process()
        # Weakref hooks itself into the interpreter's exit with its first finalizer, and cannot any more at exit: a
        # writer that is first used in an exit handler would not be closed.
        weakref.finalize(self, _nothing)

    @classmethod
    def local(
        cls,
        tables: Mapping[str, str | tuple[str, str]] | None = None,
        *,
        settings: Settings | None = None,
        logger: Any = None,
    ) -> ReliableWriter:
        """A writer on an embedded engine of its own, loopback only, gone with `close()`: for trying out and for tests.

        The system table is made, and a table for each of `tables`, which maps its name to its hash key, or to its hash
        and range key: `{"orders": "id", "lines": ("order", "number:N")}`. Keys are strings, with `:N` numbers, with
        `:B` bytes. Tables with indexes: `writer.client.create_table(...)`. Needs the extra `local`.
        """
        keyed = {table: keyed_by(keys) for table, keys in (tables or {}).items()}
        embedded = EmbeddedEngine.start()
        try:
            settings = settings if settings is not None else Settings.from_environment()
            writer = cls(settings.model_copy(update=_at(embedded.endpoint_url)), session=local_session(), logger=logger)
            writer._embedded = embedded
            writer.init()
            for table, definition in keyed.items():
                writer.client.create_table(TableName=table, **definition)
        except BaseException:
            embedded.stop()
            raise
        return writer

    def begin(self, *, idempotency_key: str | None = None, independent: bool = False) -> ReliableWriteScope:
        """A scope that commits when its block ends without an exception.

        with writer.begin() as scope:
            scope.put_item("employees", Item=employee)
        """
        return ReliableWriteScope(self, idempotency_key=idempotency_key, independent=independent, commit_on_exit=True)

    @property
    def client(self) -> Any:
        """The boto3 client in use; for reading, or for making tables in a trial."""
        return self._calls().client

    @property
    def session(self) -> boto3.session.Session | None:
        """The boto3 session it was given; for those that open clients of other services beside it."""
        return self._session

    @property
    def recovery(self) -> WriterRecovery:
        """Finishing what a crashed writer left behind."""
        return WriterRecovery(self)

    def status(self, write_id: str) -> WriteState:
        """What is known of a write, by its id or its idempotency key: see `WriteState`, and mind `UNKNOWN`.

        Raises `CommitFailedError` where the system table cannot be read.
        """
        try:
            return self.engine().recovery.status(write_id)
        except CallFailed as failure:
            raise CommitFailedError(
                f"The state of write {write_id!r} could not be read: {failure}. Ask again.",
                write_id=write_id,
                outcome=Outcome.UNKNOWN,
                retryable=True,
            ) from failure

    def look(self, table: str, Key: Mapping[str, Any], *, wait: float = 0.0) -> Look:  # noqa: N803 - boto3's keyword
        """An item, strongly read, and the committed writes that touch it and are not finished: see `Look`.

        Costs a walk over the journal (64 queries): for the few reads that must know, not for every page view. With
        `wait` (seconds) it looks again until nothing pending touches the item, or what does waits for a person.
        Raises `LookFailedError` where journal or item cannot be read, `InvalidKeyError`, `UnknownTableError`.
        """
        return self.look_many([(table, Key)], wait=wait)[0]

    def look_many(self, keys: Sequence[tuple[str, Mapping[str, Any]]], *, wait: float = 0.0) -> tuple[Look, ...]:
        """The same for up to 100 keys, each given as table and key, with one walk; in the order given.

        With `wait`, until nothing pending touches any of them. Raises as `look`, and `ValueError` for too many.
        """
        return look_many(self.engine(), keys, wait)

    @property
    def time(self) -> TimeSource:
        """The clocks it goes by; for those that work beside it, such as a monitor."""
        return self._time

    @property
    def events(self) -> Events:
        """Where it tells what happens."""
        return self._events

    def init(self, installation: Installation | None = None) -> None:
        """Make the system table where it is missing. `reliable-write init` does the same and shows what holds."""
        client = self.client
        wanted = installation if installation is not None else Installation()
        create_system_table(client, Store(self._calls(), self._time), self.settings.system_table, wanted, self._time)

    def engine(self) -> Engine:
        """The parts that do the work, made at first use and once more in a forked child."""
        process = self._here()
        if process.engine is None:
            # Not under the lock: while DynamoDB is away, each thread should wait for its own answer only.
            self._adopt(process, self._assemble())
        assert process.engine is not None
        return process.engine

    def close(self) -> None:
        """Delete finished entries that still wait, end the threads, stop an embedded engine. May be called twice."""
        process = self._process
        self._closed = True
        if process.finalizer is not None and process.pid == os.getpid():
            process.finalizer()
        if self._embedded is not None and process.pid == os.getpid():
            self._embedded.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- one set of parts per process ---------------------------------------------------------------------------

    def _here(self) -> _Process:
        if self._closed:
            raise ConfigurationError("This writer is closed. Make a new one.")
        if self._process.pid != os.getpid():
            if self._given_client is not None or self._workers is not None:
                raise ConfigurationError(
                    f"This writer was made in process {self._process.pid} with a client of its own, whose connections "
                    f"process {os.getpid()} must not share. Make the writer after the fork (gunicorn: in post_fork)."
                )
            # No lock: one taken over the fork may be held for ever. Two threads that come first at once would
            # make the parts twice, which costs connections and nothing else.
            self._process = _Process()
        return self._process

    def _calls(self) -> RoutedCalls:
        process = self._here()
        with process.lock:
            if process.calls is None:
                process.calls = open_calls(self.settings, self._given_client, self._session, self._time)
            return process.calls

    def _assemble(self) -> Engine:
        calls = self._calls()
        workers = self._workers
        if workers is None:
            # A given client has as many connections as its owner said; more threads than that would only queue.
            connections = calls.client.meta.config.max_pool_connections
            workers = ThreadWorkers(min(self.settings.propagation_threads, connections))
        return assemble(calls, self.settings, self._time, workers, self._events)

    def _adopt(self, process: _Process, engine: Engine) -> None:
        """The first set of parts holds; another thread may have been quicker."""
        with process.lock:
            if process.engine is None:
                process.engine = engine
                # Also at interpreter exit: finished entries that still wait are deleted then.
                process.finalizer = weakref.finalize(self, engine.close)


class WriterRecovery:
    """`Recovery` with a writer's parts: it keeps the writer alive and, in a forked child, uses the child's own."""

    def __init__(self, writer: ReliableWriter) -> None:
        self._writer = writer

    def look(self) -> Standing:
        """See `Recovery.look`."""
        return self._writer.engine().recovery.look()

    def resume(self, write_id: str) -> ResumeReport:
        """See `Recovery.resume`."""
        return self._writer.engine().recovery.resume(write_id)

    def resume_all(self, *, older_than_seconds: float = 0.0) -> list[ResumeReport]:
        """See `Recovery.resume_all`."""
        return self._writer.engine().recovery.resume_all(older_than_seconds=older_than_seconds)


class _Process:
    """What must not be carried over a fork."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.calls: RoutedCalls | None = None
        self.engine: Engine | None = None
        self.finalizer: weakref.finalize[[], ReliableWriter] | None = None


def _nothing() -> None:
    pass


def _client_of(given: Any) -> Any:
    """A client as it is; the client of a resource."""
    inner = getattr(getattr(given, "meta", None), "client", None)
    return inner if inner is not None else given


_KEY: Final = re.compile(r"(.+?)(?::([SNB]))?")
"""A key of a table for trying out: its name, and its type where that is no string."""


def keyed_by(keys: str | tuple[str, str]) -> dict[str, Any]:
    """Raises `ConfigurationError` for what is neither a key nor two."""
    named = [_KEY.fullmatch(key) for key in ([keys] if isinstance(keys, str) else keys)]
    found = [match for match in named if match is not None]
    if len(found) != len(named) or len(found) not in (1, 2):
        raise ConfigurationError(
            f"A table is given by its hash key, or by its hash and range key, not by {keys!r}. Say for instance "
            '{"orders": "id", "lines": ("order", "number:N")}.'
        )
    return {
        "KeySchema": [
            {"AttributeName": key[1], "KeyType": role} for key, role in zip(found, ("HASH", "RANGE"), strict=False)
        ],
        "AttributeDefinitions": [{"AttributeName": key[1], "AttributeType": key[2] or "S"} for key in found],
        "BillingMode": "PAY_PER_REQUEST",
    }


def _at(endpoint_url: str) -> dict[str, str]:
    return {"endpoint_url": endpoint_url, "region": "us-east-1"}
