"""Lost answers, conflicts, slow and dead competitors, aborted parts: the object gets there once all the same."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reliable_write import ConfigurationError
from reliable_write.testing.faults import (
    Call,
    Fault,
    FaultPlan,
    InFlight,
    When,
    answer_xml,
    lose_answer,
    refuse_connection,
)
from reliable_write.uploads import UploadOnce, UploadReport
from reliable_write.uploads.ledger import By, Intent, Ledger, Overtaken, done_of, first_of, next_of
from reliable_write.uploads.objects import Objects
from reliable_write.uploads.s3 import ObjectThere, S3Failed, Trouble, adopt
from tests.buckets import PART, Depot, digests_of, fill
from tests.clocks import HastyTime
from tests.integration.depot import depot

__all__ = ["depot"]

NOISE = random.Random(8)
SMALL = b"small"
LARGE = NOISE.randbytes(2 * PART + 1)
CONFLICT = answer_xml("ConditionalRequestConflict", 409)
SLOW_DOWN = answer_xml("SlowDown", 503)
BROKEN = answer_xml("InternalError", 500)
DENIED = answer_xml("AccessDenied", 403)


def ended(report: UploadReport) -> dict[str, str]:
    return {result.name: result.ended.value for result in report.results}


def check_once(depot: Depot, folder: Path) -> None:
    wanted = digests_of(folder)
    assert depot.bucket.versions() == dict.fromkeys(wanted, 1)
    assert depot.bucket.digests(wanted) == wanted
    assert depot.bucket.pending() == []
    assert depot.states() == {"done": len(wanted)}


def ledger_of(depot: Depot) -> Ledger:
    return Ledger(depot.world.writer().engine(), depot.table)


def claimed(
    depot: Depot, folder: Path, name: str, data: bytes = SMALL, lease_seconds: float = 30.0, **more: Any
) -> Intent:
    """A file, and an item of the ledger as another process has it that is at it."""
    ledger = ledger_of(depot)
    digest = digests_of(fill(folder, {name: data}))[f"p/{name}"]
    address = f"s3://{depot.bucket.name}/p/{name}"
    intent = first_of(address, digest, len(data), "somebody else", lease_seconds, ledger.time)
    ledger.claim(intent)
    if more:
        changed = next_of(intent, ledger.time, **more)
        ledger.move(intent, changed)
        intent = changed
    return intent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


# --- lost answers and conflicts -----------------------------------------------------------------------------------

CALLS = ["PutObject", "HeadObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize(
    ("fault", "when"),
    [
        (lose_answer, "before"),
        (lose_answer, "after"),
        (CONFLICT, "before"),
        (SLOW_DOWN, "before"),
        (BROKEN, "before"),
        (refuse_connection, "before"),
    ],
    ids=["never arrived", "answer lost", "409", "503", "500", "refused"],
)
def test_a_call_that_fails_is_sent_again_and_what_was_ours_is_recognised(
    depot: Depot, folder: Path, operation: str, fault: Fault, when: When
) -> None:
    fill(folder, {"file": SMALL if operation == "PutObject" else LARGE})
    uploads = depot.uploads(time=HastyTime())
    with FaultPlan(uploads.s3) as plan:
        plan.on(operation, fault, when, times=1)
        assert ended(uploads.upload(folder, depot.bucket.url)) == {"file": "uploaded"}
    assert plan.injected == 1
    check_once(depot, folder)


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "CompleteMultipartUpload"])
@pytest.mark.parametrize("code", ["<", "InternalError"], ids=["no XML", "an error"])
def test_an_answer_that_says_200_and_is_none_is_no_success(
    depot: Depot, folder: Path, operation: str, code: str
) -> None:
    """S3 begins the answer of a long request before it knows how that ends; and a proxy may answer in its place."""
    fill(folder, {"file": LARGE})
    uploads = depot.uploads(time=HastyTime())
    with FaultPlan(uploads.s3) as plan:
        plan.on(operation, answer_xml(code, 200), times=1)
        assert ended(uploads.upload(folder, depot.bucket.url)) == {"file": "uploaded"}
    assert plan.injected == 1
    check_once(depot, folder)


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer_of_the_ledger_is_recognised_too(depot: Depot, folder: Path, call: int, when: When) -> None:
    fill(folder, {"file": SMALL})
    writer = depot.world.hasty()
    uploads = UploadOnce(writer, depot.table, s3=depot.s3(), lease_seconds=7)
    seen = 0

    def lose(it: Call) -> None:
        nonlocal seen
        seen += 1
        if seen == call:
            lose_answer(it)

    with FaultPlan(writer.client) as plan:
        plan.on("PutItem", lose, when)
        assert ended(uploads.upload(folder, depot.bucket.url)) == {"file": "uploaded"}
    check_once(depot, folder)


def test_what_the_sdk_would_send_again_by_itself_comes_to_us_first(depot: Depot) -> None:
    """Else a put whose answer was lost would be told as "there is an object" by its own second try."""
    client = adopt(depot.s3(retries={"total_max_attempts": 5, "mode": "standard"}))
    objects = Objects(client, depot.bucket.name)
    for number, fault in enumerate((lose_answer, BROKEN)):
        with FaultPlan(client) as plan:
            plan.on("PutObject", fault, times=1)
            with pytest.raises(S3Failed) as caught:
                objects.put(f"k{number}", b"", EMPTY, "an attempt")
        assert caught.value.trouble in (Trouble.NO_ANSWER, Trouble.SERVER)
        assert plan.count("PutObject") == 1


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_applications_own_calls_on_a_client_it_shares_keep_their_retries(depot: Depot) -> None:
    client = adopt(depot.s3(retries={"total_max_attempts": 3, "mode": "standard"}))
    with FaultPlan(client) as plan:
        plan.on("PutObject", BROKEN, times=1)
        client.put_object(Bucket=depot.bucket.name, Key="theirs", Body=b"")
    assert plan.count("PutObject") == 2


def test_objects_are_made_only_where_none_is(depot: Depot) -> None:
    objects = Objects(adopt(depot.s3()), depot.bucket.name)
    objects.put("one", b"", EMPTY, "first")
    upload = objects.begin("one", EMPTY, "second")
    part = objects.put_part("one", upload, 1, b"", bytes.fromhex(EMPTY))
    with pytest.raises(ObjectThere):
        objects.put("one", b"", EMPTY, "third")
    with pytest.raises(ObjectThere):
        objects.complete("one", upload, {1: part})
    assert depot.bucket.versions() == {"one": 1}
    found = objects.head("one")
    assert found is not None
    assert found.attempt == "first"


def test_what_arrives_with_other_bytes_is_not_stored(depot: Depot) -> None:
    objects = Objects(adopt(depot.s3()), depot.bucket.name)
    with pytest.raises(S3Failed, match="BadDigest"):
        objects.put("k", b"damaged on its way", EMPTY, "an attempt")
    upload = objects.begin("k", EMPTY, "an attempt")
    with pytest.raises(S3Failed, match="BadDigest"):
        objects.put_part("k", upload, 1, b"damaged on its way", bytes.fromhex(EMPTY))
    assert not depot.bucket.versions()


@pytest.mark.parametrize(("fault", "reason"), [(DENIED, "access denied"), (BROKEN, "server error")])
def test_where_s3_refuses_for_good_the_run_ends_and_may_be_run_again(
    depot: Depot, folder: Path, fault: Fault, reason: str
) -> None:
    fill(folder, {f"{number}": SMALL for number in range(20)})
    uploads = depot.uploads(time=HastyTime(), parallel=2)
    with FaultPlan(uploads.s3) as plan:
        plan.on("PutObject", fault)
        report = uploads.upload(folder, depot.bucket.url)
    assert reason in report.stopped
    assert len(report.failed) <= 2
    assert len(report.failed) + len(report.not_tried) == 20
    assert not [item for item in depot.world.items(depot.table) if "owner" in item], "no claim is left"
    assert depot.uploads().upload(folder, depot.bucket.url).complete
    check_once(depot, folder)


def test_what_is_wrong_with_one_object_does_not_keep_the_others(depot: Depot, folder: Path) -> None:
    fill(folder, {"a": SMALL, "b": SMALL, "c": SMALL})
    uploads = depot.uploads()
    with FaultPlan(uploads.s3) as plan:

        def refuse_b(call: Call) -> Any:
            return answer_xml("InvalidArgument", 400)(call) if call.url.endswith("/b") else None

        plan.on("PutObject", refuse_b)
        report = uploads.upload(folder, depot.bucket.url)
    assert ended(report) == {"a": "uploaded", "b": "failed", "c": "uploaded"}
    assert not report.stopped


def test_a_ledger_that_gives_no_answer_ends_the_run(depot: Depot, folder: Path) -> None:
    fill(folder, {"a": SMALL})
    writer = depot.world.hasty()
    uploads = UploadOnce(writer, depot.table, s3=depot.s3())
    for operation in ("BatchGetItem", "PutItem"):
        with FaultPlan(writer.client) as plan:
            plan.on(operation, refuse_connection)
            report = uploads.upload(folder, depot.bucket.url)
        assert "the ledger gave no answer" in report.stopped
    assert not depot.bucket.versions()


# --- those who are at it ------------------------------------------------------------------------------------------


def test_a_file_another_process_is_at_is_left_to_it_for_its_lease(depot: Depot, folder: Path) -> None:
    claimed(depot, folder, "file", lease_seconds=30.0)
    time = HastyTime()
    uploads = depot.uploads(time=time, lease_seconds=1)
    began = time.elapsed_seconds()
    assert ended(uploads.upload(folder, depot.bucket.url)) == {"file": "uploaded"}
    assert time.elapsed_seconds() - began >= 30.0, "the lease is the holder's, and so is told in the ledger"
    check_once(depot, folder)


class LivingHolder(HastyTime):
    """Somebody else, who renews a claim whenever we sleep, and is done in the end."""

    def __init__(self, depot: Depot, intent: Intent, looks: int, end: Callable[[Intent], None]) -> None:
        super().__init__()
        self._ledger = ledger_of(depot)
        self._intent = intent
        self._looks = looks
        self._end = end

    def sleep(self, seconds: float) -> None:
        super().sleep(5 + seconds)
        self._looks -= 1
        if self._looks > 0:
            renewed = next_of(self._intent, self._ledger.time)
            self._ledger.move(self._intent, renewed)
            self._intent = renewed
        elif self._looks == 0:
            self._end(self._intent)


def test_a_holder_that_lives_is_waited_for_however_long_it_takes(depot: Depot, folder: Path) -> None:
    intent = claimed(depot, folder, "file", lease_seconds=12.0)
    ledger = ledger_of(depot)

    def end(last: Intent) -> None:
        Objects(adopt(depot.s3()), depot.bucket.name).put("p/file", SMALL, last.sha256, last.attempt)
        ledger.finish(done_of(last, By.SENT, ledger.time))

    uploads = depot.uploads(time=LivingHolder(depot, intent, 12, end))
    with FaultPlan(uploads.s3) as plan:
        assert ended(uploads.upload(folder, depot.bucket.url)) == {"file": "already there"}
    assert not plan.calls, "nothing was sent, or asked for"
    check_once(depot, folder)


def test_a_claim_that_is_let_go_is_taken_at_once(depot: Depot, folder: Path) -> None:
    claimed(depot, folder, "file", lease_seconds=3600.0, owner=None)
    time = HastyTime()
    assert depot.uploads(time=time).upload(folder, depot.bucket.url).complete
    assert time.skipped == 0
    check_once(depot, folder)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["whole", "in parts"])
def test_a_put_of_a_slow_holder_that_lands_after_its_claim_was_taken_over_changes_nothing(
    depot: Depot, folder: Path, data: bytes
) -> None:
    fill(folder, {"file": data})
    late, taken = InFlight(), threading.Event()
    slow = depot.uploads(lease_seconds=0.1)

    def while_it_is_under_way(call: Call) -> None:
        report = depot.uploads(time=HastyTime()).upload(folder, depot.bucket.url)
        assert ended(report) == {"file": "uploaded"}
        taken.set()
        late(call)

    with FaultPlan(slow.s3) as plan:
        plan.on("PutObject", while_it_is_under_way, times=1)
        plan.on("CompleteMultipartUpload", while_it_is_under_way, times=1)
        assert ended(slow.upload(folder, depot.bucket.url)) == {"file": "already there"}
    assert taken.is_set()
    assert late.land() == [412] if data == SMALL else late.land() in ([200], [404])
    check_once(depot, folder)


def test_of_two_with_other_content_for_one_key_the_first_one_holds(depot: Depot, folder: Path) -> None:
    fill(folder, {"file": b"mine"})
    other = fill(folder.parent / f"{folder.name}-other", {"file": b"theirs"})
    uploads = depot.uploads(lease_seconds=0.1)

    def first(_call: Call) -> None:
        assert depot.uploads(time=HastyTime()).upload(other, depot.bucket.url).complete

    with FaultPlan(uploads.s3) as plan:
        plan.on("PutObject", first, times=1)
        assert ended(uploads.upload(folder, depot.bucket.url)) == {"file": "different content"}
    check_once(depot, other)


def test_two_who_complete_one_multipart_upload_do_not_both_say_that_they_uploaded_it(
    depot: Depot, folder: Path
) -> None:
    """S3 answers the second completion as the first one."""
    fill(folder, {"file": LARGE})
    slow, reports = depot.uploads(lease_seconds=0.1, parallel=1), []

    def other(_call: Call) -> None:
        reports.append(depot.uploads(time=HastyTime()).upload(folder, depot.bucket.url))

    with FaultPlan(slow.s3) as plan:
        plan.on("CompleteMultipartUpload", other, times=1)
        reports.append(slow.upload(folder, depot.bucket.url))
    assert [ended(report)["file"] for report in reports] == ["uploaded", "already there"]
    check_once(depot, folder)


def test_a_claim_is_renewed_while_a_large_file_is_under_way(depot: Depot, folder: Path) -> None:
    fill(folder, {"file": LARGE})
    uploads = depot.uploads(lease_seconds=0.3, parallel=1)
    versions: list[int] = []

    def linger(_call: Call) -> None:
        first = int((depot.intent("p/file") or {})["version"])
        for _ in range(200):
            versions.append(int((depot.intent("p/file") or {})["version"]))
            if versions[-1] > first:
                break
            threading.Event().wait(0.05)

    with FaultPlan(uploads.s3) as plan:
        plan.on("UploadPart", linger, times=1)
        assert uploads.upload(folder, depot.bucket.url).complete
    assert versions[-1] > versions[0]
    check_once(depot, folder)


# --- parts --------------------------------------------------------------------------------------------------------


def begun(depot: Depot, folder: Path, name: str, parts: dict[int, bytes], data: bytes = LARGE) -> Intent:
    """A multipart upload of somebody who has let go of it, with these parts."""
    objects = Objects(adopt(depot.s3()), depot.bucket.name)
    claim = claimed(depot, folder, name, data)
    id_ = objects.begin(f"p/{name}", claim.sha256, claim.attempt)
    for number, part in parts.items():
        depot.bucket.s3.upload_part(
            Bucket=depot.bucket.name,
            Key=f"p/{name}",
            UploadId=id_,
            PartNumber=number,
            Body=part,
            ChecksumAlgorithm="SHA256",
        )
    ledger = ledger_of(depot)
    noted = next_of(claim, ledger.time, upload=id_, owner=None)
    ledger.move(claim, noted)
    return noted


def parts_sent(plan: FaultPlan) -> list[str]:
    return sorted(call.url.rpartition("partNumber=")[2] for call in plan.calls if call.operation == "UploadPart")


@pytest.mark.parametrize(
    ("parts", "sent"),
    [
        ({1: LARGE[:PART]}, ["2", "3"]),
        ({1: LARGE[:PART], 2: LARGE[PART : 2 * PART], 3: LARGE[2 * PART :]}, []),
        ({1: b"x" * PART, 2: LARGE[PART : 2 * PART]}, ["1", "3"]),
        ({1: LARGE[:PART], 2: LARGE[PART : 2 * PART], 3: LARGE[2 * PART :], 4: b"of something longer"}, []),
    ],
    ids=["one is there", "all are there", "one is wrong", "one too many"],
)
def test_parts_that_are_there_are_compared_and_only_the_others_are_sent(
    depot: Depot, folder: Path, parts: dict[int, bytes], sent: list[str]
) -> None:
    begun(depot, folder, "file", parts)
    uploads = depot.uploads()
    with FaultPlan(uploads.s3) as plan:
        assert ended(uploads.upload(folder, depot.bucket.url)) == {"file": "uploaded"}
    assert parts_sent(plan) == sent
    assert plan.count("CreateMultipartUpload") == 0
    check_once(depot, folder)


@pytest.mark.parametrize("now", [NOISE.randbytes(PART + 9), SMALL], ids=["in parts", "whole"])
def test_parts_of_what_the_file_was_before_are_given_up(depot: Depot, folder: Path, now: bytes) -> None:
    begun(depot, folder, "file", {1: LARGE[:PART]})
    fill(folder, {"file": now})
    assert ended(depot.uploads().upload(folder, depot.bucket.url)) == {"file": "uploaded"}
    check_once(depot, folder)


def test_parts_of_another_size_are_sent_anew(depot: Depot, folder: Path) -> None:
    begun(depot, folder, "file", {1: LARGE[:PART]})
    assert depot.uploads(part_bytes=PART + 1024).upload(folder, depot.bucket.url).complete
    check_once(depot, folder)


@pytest.mark.parametrize(("theirs", "told"), [(LARGE, "already there"), (b"other", "different content")])
def test_where_somebody_else_puts_the_object_meanwhile_its_parts_are_given_up(
    depot: Depot, folder: Path, theirs: bytes, told: str
) -> None:
    fill(folder, {"file": LARGE})
    uploads = depot.uploads()

    def put(_call: Call) -> None:
        depot.bucket.s3.put_object(Bucket=depot.bucket.name, Key="p/file", Body=theirs)

    with FaultPlan(uploads.s3) as plan:
        plan.on("CompleteMultipartUpload", put, times=1)
        assert ended(uploads.upload(folder, depot.bucket.url)) == {"file": told}
    assert depot.bucket.versions() == {"p/file": 1}
    assert depot.bucket.content("p/file") == theirs
    assert depot.bucket.pending() == []


def test_an_upload_that_was_begun_and_not_noted_is_found_by_its_key(depot: Depot, folder: Path) -> None:
    claimed(depot, folder, "file", LARGE, owner=None)
    objects = Objects(adopt(depot.s3()), depot.bucket.name)
    objects.begin("p/file", EMPTY, "of one that was killed")
    kept = objects.begin("p/file-with-a-longer-name", EMPTY, "of somebody else")
    assert depot.uploads().upload(folder, depot.bucket.url).complete
    assert depot.bucket.pending() == [("p/file-with-a-longer-name", kept)]
    objects.abort("p/file-with-a-longer-name", kept)
    check_once(depot, folder)


def test_the_id_of_an_upload_is_in_the_ledger_before_its_first_part_is_sent(depot: Depot, folder: Path) -> None:
    fill(folder, {"file": LARGE})
    uploads = depot.uploads()
    noted = []

    def look(_call: Call) -> None:
        noted.append(((depot.intent("p/file") or {}).get("upload"), depot.bucket.pending()[0][1]))

    with FaultPlan(uploads.s3) as plan:
        plan.on("UploadPart", look)
        uploads.upload(folder, depot.bucket.url)
    assert len(noted) == 3
    assert all(in_ledger == in_s3 for in_ledger, in_s3 in noted)


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
def test_an_upload_that_somebody_aborts_is_begun_anew(depot: Depot, folder: Path, operation: str) -> None:
    fill(folder, {"file": LARGE})
    uploads = depot.uploads()

    def abort(_call: Call) -> None:
        for key, id_ in depot.bucket.pending():
            depot.bucket.s3.abort_multipart_upload(Bucket=depot.bucket.name, Key=key, UploadId=id_)

    with FaultPlan(uploads.s3) as plan:
        plan.on(operation, abort, times=1)
        assert ended(uploads.upload(folder, depot.bucket.url)) == {"file": "uploaded"}
    assert plan.count("CreateMultipartUpload") == 2
    check_once(depot, folder)


def test_an_upload_that_is_aborted_again_and_again_fails_at_last(depot: Depot, folder: Path) -> None:
    fill(folder, {"file": LARGE})
    uploads = depot.uploads()
    with FaultPlan(uploads.s3) as plan:
        plan.on("UploadPart", answer_xml("NoSuchUpload", 404))
        report = uploads.upload(folder, depot.bucket.url)
    assert ended(report) == {"file": "failed"}
    assert not report.stopped
    assert plan.count("CreateMultipartUpload") == 4
    assert depot.uploads().upload(folder, depot.bucket.url).complete
    check_once(depot, folder)


def test_long_lists_are_read_to_their_end(depot: Depot, folder: Path) -> None:
    noted = begun(depot, folder, "file", {1: LARGE[:PART], 2: LARGE[PART : 2 * PART]})
    client = adopt(depot.s3())
    objects = Objects(client, depot.bucket.name)
    strays = {objects.begin("p/file", EMPTY, "of one that was killed") for _ in range(3)}
    for operation, most in (("ListMultipartUploads", "MaxUploads"), ("ListParts", "MaxParts")):
        client.meta.events.register(
            f"provide-client-params.s3.{operation}", lambda params, most=most, **_: {**params, most: 1}
        )
    assert noted.upload is not None
    with FaultPlan(client) as plan:
        assert {upload.id for upload in objects.pending("p/")} == {*strays, noted.upload}
        assert sorted(objects.parts("p/file", noted.upload)) == [1, 2]
    assert (plan.count("ListMultipartUploads"), plan.count("ListParts")) == (4, 2)


# --- the ledger ---------------------------------------------------------------------------------------------------


def test_what_is_done_stays_done_and_of_two_who_saw_the_same_one_is_told(depot: Depot, folder: Path) -> None:
    ledger = ledger_of(depot)
    first = claimed(depot, folder, "file")
    second = next_of(first, ledger.time, owner="b")
    ledger.move(first, second)
    with pytest.raises(Overtaken) as overtaken:
        ledger.move(first, next_of(first, ledger.time, owner="c"))
    assert overtaken.value.found == second
    with pytest.raises(Overtaken):
        ledger.claim(first)
    ledger.give_up(first)
    assert ledger.look([first.object], consistent=True) == {first.object: second}
    done = done_of(second, By.SENT, ledger.time)
    assert ledger.finish(done) is None
    assert ledger.finish(done_of(second, By.FOUND, ledger.time)) == done
    # A renewal that was under way meanwhile has seen what the next version would be.
    same_version = next_of(second, ledger.time, owner="b")
    with pytest.raises(Overtaken):
        ledger.move(same_version, next_of(same_version, ledger.time))
    ledger.give_up(same_version)
    assert ledger.look([first.object], consistent=True) == {first.object: done}


def test_an_item_that_was_removed_does_not_come_back_by_a_renewal(depot: Depot, folder: Path) -> None:
    ledger = ledger_of(depot)
    first = claimed(depot, folder, "file")
    ledger.give_up(first)
    with pytest.raises(Overtaken) as overtaken:
        ledger.move(first, next_of(first, ledger.time))
    assert overtaken.value.found is None
    again = first_of(first.object, first.sha256, first.size, "another", 1.0, ledger.time)
    ledger.claim(again)
    with pytest.raises(Overtaken):
        ledger.move(first, next_of(first, ledger.time))  # the same version, of another attempt


# --- cleaning -----------------------------------------------------------------------------------------------------


def test_a_cleaning_aborts_what_is_ours_and_nobodys_and_leaves_the_rest(depot: Depot, folder: Path) -> None:
    objects = Objects(adopt(depot.s3()), depot.bucket.name)
    ledger = ledger_of(depot)
    resumable = begun(depot, folder, "resumable", {1: LARGE[:PART]})
    held = claimed(depot, folder, "held", LARGE, lease_seconds=12.0)
    for key in ("p/done", "p/held", "p/not-in-the-ledger", "elsewhere/done"):
        objects.begin(key, EMPTY, "of a killed one")
    done = claimed(depot, folder, "done", LARGE)
    ledger.finish(done_of(done, By.SENT, ledger.time))
    holder = LivingHolder(depot, held, 9, lambda _last: None)
    report = depot.uploads(time=holder).clean(depot.bucket.url, older_than_seconds=0)
    assert report.aborted == ("p/done", "p/resumable")
    assert {entry.key: entry.told for entry in report.kept} == {
        "p/held": "somebody else is at it",
        "p/not-in-the-ledger": "the ledger does not know this object: somebody else's",
    }
    assert sorted(key for key, _ in depot.bucket.pending()) == ["elsewhere/done", "p/held", "p/not-in-the-ledger"]
    intent = depot.intent("p/resumable")
    assert intent is not None
    assert "upload" not in intent
    assert resumable.upload is not None


def test_a_cleaning_leaves_what_is_young_by_s3s_clock(depot: Depot, folder: Path) -> None:
    begun(depot, folder, "young", {1: LARGE[:PART]})
    report = depot.uploads().clean(depot.bucket.url)
    assert [entry.told for entry in report.kept] == ["younger than that"]
    assert len(depot.bucket.pending()) == 1
    assert depot.uploads().upload(folder, depot.bucket.url).complete


def test_a_claim_whose_holder_is_dead_is_waited_for_by_a_cleaning(depot: Depot, folder: Path) -> None:
    claimed(depot, folder, "dead", LARGE, lease_seconds=12.0)
    Objects(adopt(depot.s3()), depot.bucket.name).begin("p/dead", EMPTY, "of a killed one")
    time = HastyTime()
    began = time.elapsed_seconds()
    report = depot.uploads(time=time).clean(depot.bucket.url, older_than_seconds=0)
    assert report.aborted == ("p/dead",)
    assert time.elapsed_seconds() - began >= 12.0


def test_a_cleaning_that_gets_no_answer_says_so(depot: Depot) -> None:
    with pytest.raises(ConfigurationError, match="could not be cleaned"):
        depot.uploads().clean("s3://no-such-bucket-anywhere/p")
