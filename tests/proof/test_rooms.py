"""A fixed part of the rooms' enumeration, each 13th cell of all; the whole of it is `python -m tests.proof.rooms`."""

from __future__ import annotations

import base64
import hashlib
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import pytest
from botocore.exceptions import ClientError

import reliable_write
from reliable_write import (
    AtomicCounter,
    Counter,
    Lease,
    Leases,
    Lock,
    RecordStore,
    ShardedCounter,
    SharedRecord,
    SharedRecords,
    UploadOnce,
    acquire_all,
)
from reliable_write.testing.engines import Engine
from reliable_write.uploads.objects import Objects
from reliable_write.uploads.s3 import NoSuchUpload, ObjectThere, S3Failed, adopt
from tests.buckets import PART, Bucket, s3_client
from tests.proof.ledger import record
from tests.proof.memory_bucket import MemoryBucket, MemoryS3
from tests.proof.room_world import RoomPlan
from tests.proof.rooms import PART as LEDGER_PART
from tests.proof.rooms import ROOMS, cells, run
from tests.proof.wire import Fault
from tests.unit.fakes import ManualTime

EVERY = int(os.environ.get("RELIABLE_WRITE_ROOMS_EVERY", "13"))
NO_ROOMS = {
    "cli": "commands, which call what is tried here and in tests.proof.points",
    "dynamodb": "the calls themselves: everything goes over them",
    "embedded": "an engine to try things on",
    "testing": "the kit for users' own tests",
}
PUBLIC: tuple[Any, ...] = (
    AtomicCounter,
    Counter,
    ShardedCounter,
    Lock,
    Lease,
    Leases,
    acquire_all,
    RecordStore,
    SharedRecord,
    SharedRecords,
    UploadOnce,
)
NOT_PLAYED = {
    "RecordStore.query": "a read by pages, as scan",
    "ShardedCounter.next_ids": "it is refused",
    "UploadOnce.init": "it makes a table, by the client itself",
}


def test_whatever_goes_wrong_at_any_request_in_any_room_its_promises_hold() -> None:
    chosen = list(cells())[::EVERY]
    totals = run(chosen)
    assert totals.violations == []
    assert totals.visited == totals.cells == len(chosen) > 400
    assert {cell.fault for cell in chosen} == set(Fault)
    assert all(totals.counts[f"faults: {fault}"] > 0 for fault in Fault)
    for outcome in ("WRITTEN", "NOT_WRITTEN", "WILL_BE_WRITTEN", "UNKNOWN", "died", "landed late", "lost"):
        assert totals.counts[f"outcomes: {outcome}"] > 0, outcome
    assert {name for name in totals.counts if name.startswith("rooms: ")} == {f"rooms: {room.room}" for room in ROOMS}
    record(f"{LEDGER_PART}, each {EVERY}th", totals.ledger())


def test_every_room_of_the_library_is_among_them() -> None:
    rooms = {found.name for found in pkgutil.iter_modules(reliable_write.__path__) if found.ispkg}
    assert {room.room for room in ROOMS} == rooms - NO_ROOMS.keys()
    for room in ROOMS:
        names = [scenario.name for scenario in room.scenarios]
        assert len(set(names)) == len(names) >= 8, room.room


def test_every_public_operation_is_played_by_some_scenario() -> None:
    """Or it is told why not."""
    called = codes_called(dry_runs)
    missing = {name for name, code in operations() if code not in called}
    assert missing == NOT_PLAYED.keys()


def dry_runs() -> None:
    for room in ROOMS:
        for scenario in room.scenarios:
            room(RoomPlan(scenario)).run()


def operations() -> list[tuple[str, CodeType]]:
    found = [(one.__name__, one.__code__) for one in PUBLIC if inspect.isfunction(one)]
    for kind in PUBLIC:
        for name, method in vars(kind).items() if inspect.isclass(kind) else ():
            if not name.startswith("_") and inspect.isfunction(method):
                found.append((f"{kind.__name__}.{name}", method.__code__))
    return found


def codes_called(deed: Callable[[], object]) -> set[CodeType]:
    called: set[CodeType] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            called.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        deed()
    finally:
        sys.setprofile(before)
    return called


# --- the bucket in memory is as S3 is --------------------------------------------------------------------------------


class Straight:
    """A wire on which nothing happens."""

    def __init__(self, bucket: MemoryBucket) -> None:
        self.bucket = bucket

    def send(self, call: Any, request: Any, _deadline: object) -> dict[str, Any]:
        return self.bucket.apply(call, request)


@pytest.fixture(params=["memory", "engine"])
def client(request: pytest.FixtureRequest, unique_name: Callable[[str], str]) -> tuple[Any, str]:
    """Of a bucket with its name."""
    if request.param == "memory":
        time = ManualTime()
        return MemoryS3(Straight(MemoryBucket(time)), time), "bucket"
    engine: Engine = request.getfixturevalue("ministack")
    bucket = Bucket(engine.endpoint_url, unique_name("bucket"))
    bucket.close()
    return s3_client(engine.endpoint_url), bucket.name


def test_the_bucket_in_memory_answers_as_an_engine_does(client: tuple[Any, str]) -> None:
    objects = Objects(adopt(client[0]), client[1])
    data = b"x" * PART
    digest = hashlib.sha256(data)
    assert objects.head("k") is None
    uploads = [objects.begin("k", digest.hexdigest(), attempt) for attempt in ("first", "second")]
    assert {upload.id for upload in objects.pending("k")} == set(uploads)
    for number in (1, 2, 3):
        part = objects.put_part("k", uploads[0], number, data, digest.digest())
    assert objects.parts("k", uploads[0])[3] == part
    assert sorted(objects.parts("k", uploads[0])) == [1, 2, 3]
    with pytest.raises(S3Failed, match="BadDigest"):
        objects.put_part("k", uploads[0], 4, b"damaged", digest.digest())
    objects.complete("k", uploads[0], objects.parts("k", uploads[0]))
    with pytest.raises(ObjectThere):
        objects.complete("k", uploads[1], {1: part})
    with pytest.raises(ObjectThere):
        objects.put("k", data, digest.hexdigest(), "third")
    with pytest.raises(NoSuchUpload):
        objects.parts("k", uploads[0])
    objects.abort("k", uploads[1])
    with pytest.raises(NoSuchUpload):
        objects.abort("k", uploads[1])
    assert list(objects.pending("k")) == []
    found = objects.head("k")
    assert found is not None
    assert (found.size, found.sha256, found.attempt) == (3 * PART, digest.hexdigest(), "first")
    assert objects.digest("k", found.etag) == hashlib.sha256(3 * data).hexdigest()
    assert objects.digest("k", '"another"') is None


def test_the_client_in_memory_has_no_more_than_uploads_need() -> None:
    time = ManualTime()
    client = MemoryS3(Straight(MemoryBucket(time)), time)
    with pytest.raises(AttributeError):
        client.delete_object(Bucket="bucket", Key="k")
    checksum = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    with pytest.raises(ClientError):
        client.put_object(Bucket="bucket", Key="k", Body=b"", ChecksumSHA256=checksum, Metadata={})
