"""What users hold: `UploadOnce`, files to S3, each object exactly once, whoever crashes and however many run it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from reliable_write import limits
from reliable_write.dynamodb import CallFailed
from reliable_write.errors import ConfigurationError, UnknownTableError, UploadRejectedError
from reliable_write.settings import split_alias
from reliable_write.uploads.claims import Claims
from reliable_write.uploads.cleaning import Cleaner, CleanReport
from reliable_write.uploads.files import Choice, Source, find
from reliable_write.uploads.ledger import KEY, Ledger
from reliable_write.uploads.objects import Objects
from reliable_write.uploads.report import Audience, Silence, UploadReport
from reliable_write.uploads.run import Run, Wishes
from reliable_write.uploads.s3 import S3Failed, adopt, open_s3
from reliable_write.uploads.sending import Patience, Sender
from reliable_write.uploads.target import Target
from reliable_write.workers import ThreadWorkers
from reliable_write.writer import ReliableWriter

DEFAULT_TABLE: Final = "uploads"


class UploadOnce:
    """Uploads files to S3, each object exactly once. Safe for threads; any number of processes may share the work.

        uploads = UploadOnce(writer, "uploads")       # the ledger: a table of its own, `uploads.init()` makes it
        report = uploads.upload("/var/log/old", "s3://archive/2026")
        report.raise_if_incomplete()

    `table` may be at a destination (`eu:uploads`). `s3` is a boto3 client or resource; without it one is opened with
    the writer's session, Region and endpoint (`s3_endpoint_url` where S3 has another one). At most `parallel` requests
    are under way, each with one part in memory; a file of more than `part_bytes` is sent in parts of that size.
    `lease_seconds` is how long others wait for a process that has died; give all processes the same.

    Raises `ConfigurationError` where S3, the ledger or the system table is not to be had, with the command to run.
    """

    def __init__(
        self,
        writer: ReliableWriter,
        table: str = DEFAULT_TABLE,
        *,
        s3: Any = None,
        s3_endpoint_url: str | None = None,
        parallel: int = limits.UPLOAD_PARALLEL,
        part_bytes: int = limits.UPLOAD_PART_BYTES,
        lease_seconds: float = limits.UPLOAD_LEASE_SECONDS,
    ) -> None:
        _check("parallel", parallel, 1, limits.UPLOAD_PARALLEL_MAX)
        _check("part_bytes", part_bytes, limits.UPLOAD_PART_BYTES_MIN, limits.UPLOAD_PART_BYTES_MAX)
        _check("lease_seconds", lease_seconds, limits.UPLOAD_LEASE_SECONDS_MIN, limits.AUDIT_SECONDS)
        self._writer = writer
        self._table = table
        self._given_s3 = None if s3 is None else adopt(s3)
        self._s3_endpoint_url = s3_endpoint_url
        self._parallel = parallel
        self._part_bytes = part_bytes
        self._lease_seconds = lease_seconds
        self._lock = threading.Lock()
        self._opened: tuple[int, Any] | None = None

    @property
    def s3(self) -> Any:
        """The boto3 client in use; in a forked child another one, unless it was given."""
        if self._given_s3 is not None:
            return self._given_s3
        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                settings, session = self._writer.settings, self._writer.session
                self._opened = (
                    os.getpid(),
                    adopt(open_s3(settings, session, self._s3_endpoint_url, self._parallel)),
                )
            return self._opened[1]

    def init(self) -> None:
        """Make the ledger's table where it is missing: on demand, keyed by `object`."""
        if split_alias(self._table)[0] is not None:
            raise ConfigurationError(
                f"{self._table!r} is at a destination: make it there, with the hash key {KEY!r} (a string) alone."
            )
        client = self._writer.client
        try:
            client.create_table(
                TableName=self._table,
                KeySchema=[{"AttributeName": KEY, "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": KEY, "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        except client.exceptions.ResourceInUseException:
            return  # it is there
        client.get_waiter("table_exists").wait(TableName=self._table, WaiterConfig={"Delay": 1, "MaxAttempts": 60})

    def upload(
        self,
        source: Source,
        target: str,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        dry_run: bool = False,
        verify: bool = False,
        audience: Audience | None = None,
        stop: threading.Event | None = None,
    ) -> UploadReport:
        """Bring files to `target` (`s3://bucket/prefix`), and tell of each what holds.

        `source` is a folder (all files below it, by their names there), a file, or a list of files (by their own
        names). `include` and `exclude` are patterns for names, as the shell has them. With `dry_run` files and ledger
        are read and nothing is changed; with `verify` S3 is asked for what the ledger calls done. Set `stop` to end
        early: what is under way ends, and `upload` may be called again, here or elsewhere.

        Failures are in the report, not raised: `report.raise_if_incomplete()`. Raises `UploadRejectedError` before
        anything is sent, and `ConfigurationError`.
        """
        stop = stop if stop is not None else threading.Event()
        place = Target.parse(target)
        found = find(source, Choice(tuple(include), tuple(exclude)))
        wishes = Wishes(self._parallel, self._part_bytes, dry_run, verify)
        ledger = self._ledger()
        workers = ThreadWorkers(self._parallel)
        claims = Claims(ledger, self._owner(ledger), self._lease_seconds, workers.background)
        sender = Sender(Objects(self.s3, place.bucket), ledger, claims, Patience(ledger.time, stop))
        run = Run(place, wishes, sender, ledger, audience=audience or Silence(), stop=stop)
        try:
            with claims:
                return run.go(found, workers)
        finally:
            workers.close()

    def clean(self, target: str, *, older_than_seconds: float = limits.ORPHAN_SECONDS) -> CleanReport:
        """Abort multipart uploads under `target` that killed runs have left behind, if they are so old by S3's clock.

        Those of objects that the ledger does not know, or that somebody is at, are left alone. Takes a lease where the
        ledger has claims on some of them. Raises `ConfigurationError` where S3 or the ledger gives no answer.
        """
        place, ledger = Target.parse(target), self._ledger()
        patience = Patience(ledger.time, threading.Event())
        try:
            return Cleaner(Objects(self.s3, place.bucket), ledger, patience).clean(place, older_than_seconds)
        except (S3Failed, CallFailed) as failure:
            raise ConfigurationError(
                f"{place.url} could not be cleaned: {failure}. Nothing that somebody needs was aborted; clean it again."
            ) from failure

    def close(self) -> None:
        """Close the S3 client that was opened here."""
        with self._lock:
            if self._opened is not None and self._opened[0] == os.getpid():
                self._opened[1].close()
            self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ledger(self) -> Ledger:
        """The ledger, once its table was seen to be one."""
        engine = self._writer.engine()
        try:
            schema = engine.schemas.get(self._table)
        except UnknownTableError as error:
            raise ConfigurationError(
                f"There is no table {self._table!r} for the ledger of uploads. Make it by UploadOnce(...).init(), or "
                "give the same command with --init."
            ) from error
        if (schema.hash_key.name, schema.hash_key.type, schema.range_key) != (KEY, "S", None):
            raise ConfigurationError(
                f"Table {self._table!r} is no ledger of uploads: its key must be {KEY!r}, a string, alone. Give "
                "another one, with --table and --init."
            )
        return Ledger(engine, self._table)

    @staticmethod
    def _owner(ledger: Ledger) -> str:
        """One run, for people and for itself."""
        return f"{socket.gethostname()}:{os.getpid()}:{ledger.time.random_bytes(4).hex()}"


def _check(name: str, given: float, least: float, most: float) -> None:
    if not least <= given <= most:
        raise UploadRejectedError(f"{name} is {least} to {most}, not {given}.")
