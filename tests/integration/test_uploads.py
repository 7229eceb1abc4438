"""Files to S3, each object once: names, sizes, what is there already, what changes, and what a run costs."""

from __future__ import annotations

import inspect
import os
import pickle
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reliable_write import ConfigurationError, ReliableWriter, UploadIncompleteError, UploadRejectedError
from reliable_write.errors import Outcome
from reliable_write.testing.faults import Call, FaultPlan
from reliable_write.uploads import Ended, FileResult, UploadOnce, UploadReport, objects
from reliable_write.uploads.report import Silence
from tests.buckets import PART, Depot, digests_of, fill
from tests.integration.depot import depot

__all__ = ["depot"]

NOISE = random.Random(7)


def ended(report: UploadReport) -> dict[str, str]:
    return {result.name: result.ended.value for result in report.results}


def check_there(depot: Depot, folder: Path) -> None:
    wanted = digests_of(folder)
    assert depot.bucket.versions() == dict.fromkeys(wanted, 1)
    assert depot.bucket.digests(wanted) == wanted


# --- what gets there ----------------------------------------------------------------------------------------------


def test_a_folder_gets_there_with_every_kind_of_name(depot: Depot, tmp_path: Path) -> None:
    names = ["plain.log", "with space", "sub/sub/deep", "ümläut-日本語", "a#b?c%d+e&f=g", "new\nline", ".hidden"]
    folder = fill(tmp_path, {name: name.encode() for name in names})
    report = depot.uploads().upload(folder, depot.bucket.url)
    assert report.complete
    assert [result.name for result in report.uploaded] == sorted(names)
    check_there(depot, folder)
    assert set(depot.bucket.versions()) == {f"p/{name}" for name in names}


@pytest.mark.parametrize(
    ("size", "operations"),
    [
        (0, ["PutObject"]),
        (1, ["PutObject"]),
        (PART, ["PutObject"]),
        (PART + 1, ["UploadPart", "UploadPart"]),
        (2 * PART, ["UploadPart", "UploadPart"]),
    ],
)
def test_a_file_of_up_to_one_part_is_one_request_and_others_are_in_parts(
    depot: Depot, tmp_path: Path, size: int, operations: list[str]
) -> None:
    folder = fill(tmp_path, {"file": NOISE.randbytes(size)})
    uploads = depot.uploads(parallel=1)
    with FaultPlan(uploads.s3) as plan:
        assert uploads.upload(folder, depot.bucket.url).complete
    assert [call.operation for call in plan.calls if call.operation in ("PutObject", "UploadPart")] == operations
    check_there(depot, folder)
    assert depot.bucket.pending() == []


def test_a_key_of_1024_bytes_is_taken_and_one_byte_more_is_refused_by_name(depot: Depot, tmp_path: Path) -> None:
    deep = "/".join(["d" * 200] * 5)  # 1,004 bytes; the prefix has 2
    folder = fill(tmp_path, {f"{deep}/{'x' * 17}": b"fits", f"{deep}/{'y' * 18}": b"does not", "other": b"goes on"})
    report = depot.uploads().upload(folder, depot.bucket.url)
    (refused,) = report.failed
    assert refused.name.endswith("y")
    assert "1025 bytes; S3 takes 1024" in refused.told
    assert sorted(depot.bucket.versions()) == sorted([f"p/{deep}/{'x' * 17}", "p/other"])


def test_names_that_s3_cannot_keep_are_refused_by_name_and_can_be_printed(depot: Depot, tmp_path: Path) -> None:
    (tmp_path / "control\x01").write_bytes(b"")
    (tmp_path / os.fsdecode(b"latin\xe4")).write_bytes(b"")
    facts = depot.uploads().upload(tmp_path, depot.bucket.url).facts()
    told = {row["name"]: row["told"] for row in facts["failed"]}
    assert "U+0001" in told["control\x01"]
    assert "not UTF-8" in told["latin\\xe4"]
    assert not depot.bucket.versions()


def test_links_and_what_is_no_file_are_told_and_left_out(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", {"real": b"x"})
    fill(tmp_path / "out", {"secret": b"y"})
    (folder / "link").symlink_to("real")
    (folder / "folder-link").symlink_to(tmp_path / "out")
    os.mkfifo(folder / "pipe")
    report = depot.uploads().upload(folder, depot.bucket.url)
    assert {entry.name: entry.told for entry in report.left_out} == {
        "link": "a symbolic link, which is not followed",
        "folder-link": "a symbolic link, which is not followed",
        "pipe": "no regular file",
    }
    assert list(depot.bucket.versions()) == ["p/real"]


def test_files_go_by_their_own_names_and_a_link_that_is_named_is_followed(depot: Depot, tmp_path: Path) -> None:
    fill(tmp_path, {"a/one": b"1", "b/two": b"2"})
    (tmp_path / "link").symlink_to("b/two")
    files: list[Path | str] = [tmp_path / "a/one", str(tmp_path / "link")]
    assert depot.uploads().upload(files, f"s3://{depot.bucket.name}").complete
    assert depot.bucket.content("one") == b"1"
    assert depot.bucket.content("link") == b"2"
    assert depot.uploads().upload(tmp_path / "b/two", f"s3://{depot.bucket.name}/x/").complete
    assert depot.bucket.content("x/two") == b"2"


def test_patterns_choose_names(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {"a.log": b"", "b.log": b"", "c.tmp": b"", "sub/d.log": b"", "sub/skip/e.log": b""})
    report = depot.uploads().upload(folder, depot.bucket.url, include=["*.log"], exclude=["b*", "sub/skip/*"])
    assert [result.name for result in report.uploaded] == ["a.log", "sub/d.log"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("bucket/prefix", "no target"),
        ("s3://", "no target"),
        ("s3://UPPER/x", "no target"),
        ("s3://bucket/" + "x" * 1023, "no room for a name"),
        ("s3://bucket/\x00", "U\\+0000"),
    ],
)
def test_a_target_that_is_none_is_refused(depot: Depot, tmp_path: Path, target: str, message: str) -> None:
    with pytest.raises(UploadRejectedError, match=message):
        depot.uploads().upload(tmp_path, target)


def test_sources_that_cannot_be_meant_are_refused(depot: Depot, tmp_path: Path) -> None:
    fill(tmp_path, {"a/same": b"1", "b/same": b"2"})
    for source, message in (
        ([tmp_path / "a/same", tmp_path / "b/same"], "Two files have the name 'same'"),
        (tmp_path / "absent", "is no file"),
        ([tmp_path], "is a folder"),
        ("", "The source is empty"),
    ):
        with pytest.raises(UploadRejectedError, match=message):
            depot.uploads().upload(source, depot.bucket.url)
    assert not depot.bucket.versions()


@pytest.mark.parametrize("option", [{"parallel": 0}, {"part_bytes": PART - 1}, {"lease_seconds": 0}])
def test_options_out_of_bounds_are_refused(depot: Depot, option: dict[str, Any]) -> None:
    with pytest.raises(UploadRejectedError, match=next(iter(option))):
        depot.uploads(**option)


# --- what is there already ----------------------------------------------------------------------------------------


def test_a_second_run_asks_the_ledger_a_hundred_files_at_a_time_and_s3_nothing(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {f"{number:03d}": b"x" for number in range(250)})
    assert len(depot.uploads().upload(folder, depot.bucket.url).uploaded) == 250
    writer = depot.world.writer()
    writer.engine()
    uploads = UploadOnce(writer, depot.table, s3=depot.s3())
    with FaultPlan(uploads.s3, writer.client) as plan:
        report = uploads.upload(folder, depot.bucket.url)
    assert len(report.already_there) == 250
    assert Counter(call.operation for call in plan.calls) == {"DescribeTable": 1, "BatchGetItem": 3}
    looks = [call for call in plan.calls if call.operation == "BatchGetItem"]
    assert all(b'"ConsistentRead": false' in call.body for call in looks), "at half the price: what is done stays so"


def test_a_fresh_small_file_costs_two_writes_and_one_request(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {"a": b"x"})
    writer = depot.world.writer()
    uploads = UploadOnce(writer, depot.table, s3=depot.s3())
    with FaultPlan(uploads.s3, writer.client) as plan:
        uploads.upload(folder, depot.bucket.url)
    told = ["GetItem", "DescribeTable", "BatchGetItem", "PutItem", "PutObject", "PutItem"]
    assert [call.operation for call in plan.calls] == told


def test_other_content_is_told_and_never_overwritten(depot: Depot, tmp_path: Path) -> None:
    """Once where the ledger knows of it, once where only S3 does."""
    folder = fill(tmp_path, {"ledger": b"first"})
    depot.uploads().upload(folder, depot.bucket.url)
    depot.bucket.s3.put_object(Bucket=depot.bucket.name, Key="p/foreign", Body=b"theirs")
    depot.bucket.s3.put_object(Bucket=depot.bucket.name, Key="p/same-size", Body=b"theirs")
    fill(folder, {"ledger": b"second", "foreign": b"our content", "same-size": b"mine!!"})
    for _ in range(2):
        report = depot.uploads().upload(folder, depot.bucket.url)
        assert ended(report) == dict.fromkeys(("ledger", "foreign", "same-size"), "different content")
        assert not report.complete
    assert depot.bucket.versions() == {"p/ledger": 1, "p/foreign": 1, "p/same-size": 1}
    assert depot.bucket.content("p/ledger") == b"first"
    assert depot.bucket.content("p/foreign") == b"theirs"
    assert depot.intent("p/foreign") is None, "the ledger says what we sent, and holds no claim"


def test_large_other_content_is_found_before_a_byte_is_sent(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {"big": NOISE.randbytes(PART + 1)})
    depot.bucket.s3.put_object(Bucket=depot.bucket.name, Key="p/big", Body=b"theirs")
    uploads = depot.uploads()
    with FaultPlan(uploads.s3) as plan:
        assert ended(uploads.upload(folder, depot.bucket.url)) == {"big": "different content"}
    assert [call.operation for call in plan.calls] == ["HeadObject"]


@pytest.mark.parametrize("in_parts", [False, True])
def test_the_same_content_from_somebody_else_is_already_there(depot: Depot, tmp_path: Path, in_parts: bool) -> None:
    """Without anything noted on the object it is read, whole or in parts, and its digest compared."""
    data = NOISE.randbytes(PART + 7)
    folder = fill(tmp_path, {"file": data})
    s3, name = depot.bucket.s3, depot.bucket.name
    if in_parts:
        upload = s3.create_multipart_upload(Bucket=name, Key="p/file", ChecksumAlgorithm="SHA256")["UploadId"]
        place = {"Bucket": name, "Key": "p/file", "UploadId": upload}
        part = s3.upload_part(**place, PartNumber=1, Body=data, ChecksumAlgorithm="SHA256")
        parts = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}]
        s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})
    else:
        s3.put_object(Bucket=name, Key="p/file", Body=data)
    assert ended(depot.uploads().upload(folder, depot.bucket.url)) == {"file": "already there"}
    check_there(depot, folder)
    intent = depot.intent("p/file")
    assert intent is not None
    assert intent["state"] == "done"


def test_the_ledger_may_be_lost(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {"a": b"1", "b": NOISE.randbytes(PART + 1)})
    depot.uploads().upload(folder, depot.bucket.url)
    for item in depot.world.items(depot.table):
        depot.world.client.delete_item(TableName=depot.table, Key={"object": item["object"]})
    uploads = depot.uploads()
    with FaultPlan(uploads.s3) as plan:
        assert set(ended(uploads.upload(folder, depot.bucket.url)).values()) == {"already there"}
    assert plan.count("GetObject") == 0, "the digest is noted on the object"
    check_there(depot, folder)
    assert depot.states() == {"done": 2}


def test_verify_finds_what_was_removed_and_what_was_replaced(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {"kept": b"1", "removed": b"2", "replaced": b"3"})
    depot.uploads().upload(folder, depot.bucket.url)
    depot.bucket.s3.delete_object(Bucket=depot.bucket.name, Key="p/removed")
    depot.bucket.s3.put_object(Bucket=depot.bucket.name, Key="p/replaced", Body=b"?")
    assert depot.uploads().upload(folder, depot.bucket.url).complete, "without it the ledger is believed"
    report = depot.uploads().upload(folder, depot.bucket.url, verify=True)
    assert ended(report) == {"kept": "already there", "removed": "failed", "replaced": "different content"}


def test_a_dry_run_changes_nothing(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {"sent": b"1"})
    depot.uploads().upload(folder, depot.bucket.url)
    fill(folder, {"new": b"2"})
    uploads = depot.uploads()
    with FaultPlan(uploads.s3) as plan:
        report = uploads.upload(folder, depot.bucket.url, dry_run=True)
    assert ended(report) == {"new": "to upload", "sent": "already there"}
    assert not plan.calls
    assert depot.states() == {"done": 1}


# --- what changes meanwhile ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, PART + 100], ids=["whole", "in parts"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data[:-1] + b"!", "it changed while it was read"),
        (lambda data: data + b"!", "it grew while it was read"),
        (lambda data: data[:-1], "it became shorter while it was read"),
    ],
    ids=["changed", "grew", "shrank"],
)
def test_a_file_that_changes_while_it_is_sent_is_told_and_no_mixture_gets_there(
    depot: Depot, tmp_path: Path, size: int, change: Callable[[bytes], bytes], told: str
) -> None:
    data = NOISE.randbytes(size - 1) + b"."
    folder = fill(tmp_path, {"file": data})
    writer = depot.world.writer()
    uploads = UploadOnce(writer, depot.table, s3=depot.s3(), part_bytes=PART)

    def alter(_call: Call) -> None:
        (folder / "file").write_bytes(change(data))

    with FaultPlan(writer.client) as plan:
        plan.on("PutItem", alter, times=1)  # the claim: it has been read, and not been sent
        (failed,) = uploads.upload(folder, depot.bucket.url).failed
    assert told in failed.told
    assert not depot.bucket.versions()
    assert depot.uploads().upload(folder, depot.bucket.url).complete, "it is free at once, and is sent as it is now"
    check_there(depot, folder)
    assert depot.bucket.pending() == []


def test_a_file_that_vanishes_is_told_and_the_others_go_on(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {"a": b"1", "b": b"2", "c": b"3"})
    writer = depot.world.writer()
    uploads = UploadOnce(writer, depot.table, s3=depot.s3())
    with FaultPlan(writer.client) as plan:
        plan.on("PutItem", lambda _call: (folder / "b").unlink(), times=1, having=b'/p/b"')
        report = uploads.upload(folder, depot.bucket.url)
    assert ended(report) == {"a": "uploaded", "b": "failed", "c": "uploaded"}
    assert "vanished" in report.failed[0].told
    assert str(folder) not in report.failed[0].told


# --- how it is done -----------------------------------------------------------------------------------------------


class Watching(Silence):
    """Counts what it is told, and may press Ctrl-C after some files."""

    def __init__(self, stop_after: int = -1) -> None:
        self.files = self.size = self.moved_size = 0
        self.results: list[FileResult] = []
        self.stop = threading.Event()
        self._stop_after = stop_after

    def begin(self, files: int, size: int) -> None:
        self.files, self.size = files, size

    def moved(self, size: int) -> None:
        self.moved_size += size

    def ended(self, result: FileResult) -> None:
        self.results.append(result)
        if len(self.results) == self._stop_after:
            self.stop.set()


def test_the_audience_is_told_of_every_file_and_every_byte_once(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {"a": b"12345", "empty": b"", "big": NOISE.randbytes(2 * PART + 5), "bad\x01": b"123"})
    for _ in range(2):
        audience = Watching()
        report = depot.uploads().upload(folder, depot.bucket.url, audience=audience)
        assert audience.files == 4
        assert audience.moved_size == audience.size == 2 * PART + 13
        assert sorted(result.name for result in audience.results) == [result.name for result in report.results]


def test_an_interrupted_run_ends_cleanly_and_leaves_nothing_to_wait_for(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {f"{number:02d}": b"x" for number in range(30)})
    audience = Watching(stop_after=3)
    uploads = depot.uploads(parallel=2, lease_seconds=3600)
    report = uploads.upload(folder, depot.bucket.url, audience=audience, stop=audience.stop)
    assert report.stopped == "interrupted"
    assert 3 <= len(report.uploaded) <= 4
    assert len(report.uploaded) + len(report.not_tried) == 30
    assert not [item for item in depot.world.items(depot.table) if "owner" in item], "no claim is left"
    assert depot.uploads().upload(folder, depot.bucket.url).complete
    check_there(depot, folder)


def test_no_more_requests_than_allowed_are_under_way_and_so_no_more_parts_are_in_memory(
    depot: Depot, tmp_path: Path
) -> None:
    folder = fill(tmp_path, {"big": NOISE.randbytes(6 * PART), **{f"{number}": b"x" for number in range(20)}})
    uploads = depot.uploads(parallel=3)
    running, most, lock = 0, 0, threading.Lock()

    def begun(**_: Any) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)

    def over(**_: Any) -> None:
        nonlocal running
        with lock:
            running -= 1

    uploads.s3.meta.events.register("before-call.s3", begun)
    uploads.s3.meta.events.register("after-call.s3", over)
    assert uploads.upload(folder, depot.bucket.url).complete
    assert most == 3, "parts of one file are sent by all threads"


def test_two_at_once_share_the_work(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {f"{number:03d}": b"x" for number in range(150)})
    fill(folder, {"big": NOISE.randbytes(3 * PART)})
    reports: list[UploadReport] = []

    def upload() -> None:
        reports.append(depot.uploads(parallel=3).upload(folder, depot.bucket.url))

    threads = [threading.Thread(target=upload) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = ({result.name for result in report.uploaded} for report in reports)
    assert all(report.complete for report in reports)
    assert len(first) + len(second) == 151
    assert not first & second
    check_there(depot, folder)


# --- what is missing ----------------------------------------------------------------------------------------------


def test_a_bucket_that_is_not_there_ends_the_run(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {f"{number:02d}": b"x" for number in range(40)})
    report = depot.uploads(parallel=2).upload(folder, "s3://no-such-bucket-anywhere/p")
    assert "NoSuchBucket" in report.stopped
    assert 1 <= len(report.failed) <= 2
    assert len(report.failed) + len(report.not_tried) == 40
    with pytest.raises(UploadIncompleteError, match="not tried") as caught:
        report.raise_if_incomplete()
    assert (caught.value.outcome, caught.value.retryable) == (Outcome.UNKNOWN, True)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert again.report == report


def test_an_incomplete_upload_can_be_raised_and_tells_whether_running_it_again_may_help(
    depot: Depot, tmp_path: Path
) -> None:
    folder = fill(tmp_path, {"a": b"1"})
    report = depot.uploads().upload(folder, depot.bucket.url)
    report.raise_if_incomplete()
    fill(folder, {"a": b"2"})
    with pytest.raises(UploadIncompleteError, match="1 with different content") as caught:
        depot.uploads().upload(folder, depot.bucket.url).raise_if_incomplete()
    assert caught.value.retryable is False
    assert caught.value.report.of(Ended.DIFFERENT)[0].name == "a"


def test_a_ledger_that_is_missing_or_another_table_is_told_with_what_to_do(depot: Depot, tmp_path: Path) -> None:
    writer = depot.world.writer()
    with pytest.raises(ConfigurationError, match="--init"):
        UploadOnce(writer, "no-such-ledger", s3=depot.s3()).upload(tmp_path, depot.bucket.url)
    for table in (depot.world.table("orders"), depot.world.table("both", "object:S", "at:S")):
        with pytest.raises(ConfigurationError, match="is no ledger"):
            UploadOnce(writer, table, s3=depot.s3()).upload(tmp_path, depot.bucket.url)
    foreign = UploadOnce(writer, depot.table, s3=depot.s3())
    depot.world.client.put_item(TableName=depot.table, Item={"object": {"S": f"{depot.bucket.url}/a"}})
    fill(tmp_path, {"a": b""})
    with pytest.raises(ConfigurationError, match="not one of ours"):
        foreign.upload(tmp_path, depot.bucket.url)


def test_the_ledger_is_made_once_and_kept(depot: Depot) -> None:
    depot.world.client.put_item(TableName=depot.table, Item={"object": {"S": "kept"}})
    depot.uploads().init()
    assert depot.world.item(depot.table, object={"S": "kept"}) is not None
    with pytest.raises(ConfigurationError, match="at a destination"):
        UploadOnce(depot.world.writer(), "eu:uploads", s3=depot.s3()).init()


ACTIONS = {
    "put_object": "PutObject",
    "head_object": "GetObject",
    "get_object": "GetObject",
    "create_multipart_upload": "PutObject",
    "upload_part": "PutObject",
    "list_parts": "ListMultipartUploadParts",
    "complete_multipart_upload": "PutObject",
    "abort_multipart_upload": "AbortMultipartUpload",
    "list_multipart_uploads": "ListBucketMultipartUploads",
}
"""Source: S3 User Guide, "Required permissions for Amazon S3 API operations"."""


def test_the_permissions_told_are_those_of_the_calls() -> None:
    source = inspect.getsource(objects)
    called = set(re.findall(r'"([a-z]+(?:_[a-z]+)+)"', source))
    assert called == set(ACTIONS)
    page = (Path(__file__).parents[2] / "docs/uploads.md").read_text()
    told = set(re.findall(r'"s3:(\w+)"', page))
    assert told == {*ACTIONS.values(), "ListBucket"}, "ListBucket: else what is absent is denied"


def test_a_client_of_another_service_is_refused(depot: Depot) -> None:
    with pytest.raises(ConfigurationError, match="S3 client is needed, not dynamodb"):
        UploadOnce(depot.world.writer(), depot.table, s3=depot.world.client)


def test_without_a_client_it_opens_one_where_the_writer_is(depot: Depot, tmp_path: Path) -> None:
    with ReliableWriter.local() as writer, UploadOnce(writer) as uploads:
        uploads.init()
        uploads.s3.create_bucket(Bucket="made-here")
        assert uploads.upload(fill(tmp_path, {"a": b"1"}), "s3://made-here").complete
        assert uploads.s3.get_object(Bucket="made-here", Key="a")["Body"].read() == b"1"
        assert uploads.s3.meta.endpoint_url == writer.client.meta.endpoint_url
        assert uploads.s3.meta.config.retries["total_max_attempts"] == 1
    assert depot.bucket.versions() == {}
