"""Processes that upload a folder, and are killed at one of their calls to S3 or DynamoDB."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from botocore.config import Config

from reliable_write.testing.faults import FaultPlan, kill
from reliable_write.uploads import UploadOnce
from tests.chaos.victims import CrashPoint, Home, session


@dataclass(frozen=True, slots=True)
class Consignment:
    """What to upload, where to, and how."""

    home: Home
    folder: str
    target: str
    table: str
    part_bytes: int
    parallel: int
    lease_seconds: float

    def s3(self) -> Any:
        config = Config(
            retries={"total_max_attempts": 1}, max_pool_connections=20, s3={"addressing_style": "path"}, proxies={}
        )
        return session().client("s3", endpoint_url=self.home.endpoint_url, config=config)


@dataclass(frozen=True, slots=True)
class Sent:
    """What a process did that was not killed."""

    operations: tuple[str, ...]
    facts: dict[str, Any]


def upload(consignment: Consignment, point: CrashPoint | None, pipe: Connection) -> None:
    """Upload, unless killed on the way; then tell."""
    client, s3 = consignment.home.client(), consignment.s3()
    plan = FaultPlan(client, s3)
    if point is not None:
        plan.at(point.number, kill, point.when)
    with consignment.home.writer(client) as writer:
        uploads = UploadOnce(
            writer,
            consignment.table,
            s3=s3,
            part_bytes=consignment.part_bytes,
            parallel=consignment.parallel,
            lease_seconds=consignment.lease_seconds,
        )
        report = uploads.upload(consignment.folder, consignment.target)
    pipe.send(Sent(tuple(call.operation for call in plan.calls), report.facts()))
