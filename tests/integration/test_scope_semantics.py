"""What a scope does and refuses, on real engines: every refusal comes before anything is written."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import boto3
import pytest
from boto3.dynamodb.types import Binary, TypeSerializer
from botocore.config import Config
from botocore.exceptions import ClientError

from reliable_write import (
    BatchTooLargeError,
    CommitFailedError,
    CommitUnknownError,
    DuplicateKeyError,
    ForeignStampError,
    InvalidItemError,
    InvalidKeyError,
    NestedScopeError,
    Outcome,
    PropagationPendingError,
    ReliableWriter,
    ReliableWriteScope,
    ScopeClosedError,
    TooManyOperationsError,
    UncommittedScopeWarning,
    UnknownTableError,
    WriteRejectedError,
    WriteTooLargeError,
    WrongThreadError,
    limits,
)
from reliable_write.clock import SystemTime
from reliable_write.recovery import Resumed
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Capability, Engine
from reliable_write.testing.faults import (
    Call,
    FaultPlan,
    SimulatedCrash,
    answer,
    conflict,
    crash,
    deny,
    lose_answer,
    refuse_connection,
    throttle,
)
from tests.world import REGION, World

WRITES = ("PutItem", "DeleteItem", "UpdateItem", "BatchWriteItem", "TransactWriteItems")
QUICK = {"attempt_deadline_seconds": 2.0, "read_timeout_seconds": 1.0}
FAR_AHEAD = "ff" * 6 + "0" * 24


@contextmanager
def nothing_written(writer: ReliableWriter) -> Iterator[FaultPlan]:
    """No write of any kind reaches the wire in this block."""
    with FaultPlan(writer.client) as plan:
        yield plan
    assert [call.operation for call in plan.calls if call.operation in WRITES] == []


class LaterTime(SystemTime):
    """The machine's clocks, moved on by hand."""

    def __init__(self) -> None:
        self.later = 0.0

    def wall_seconds(self) -> float:
        return super().wall_seconds() + self.later

    def elapsed_seconds(self) -> float:
        return super().elapsed_seconds() + self.later


# --- the block ----------------------------------------------------------------------------------------------------


def test_leaving_without_commit_writes_nothing_and_warns_of_what_was_dropped(every_world: World) -> None:
    world = every_world
    people, places = world.table("people"), world.table("places")
    writer = world.writer()
    with (  # noqa: PT031 - the block is the point
        nothing_written(writer),
        pytest.warns(UncommittedScopeWarning, match=f"left without commit.*put_item on {people}, delete_item"),
        ReliableWriteScope(writer) as scope,
    ):
        scope.put_item(people, Item={"id": "ada"})
        scope.delete_item(places, Key={"id": "rome"})
    assert world.items(people) == []


def test_discard_is_silent(world: World) -> None:
    table = world.table("people")
    writer = world.writer()
    with nothing_written(writer), warnings.catch_warnings(), ReliableWriteScope(writer) as scope:
        warnings.simplefilter("error")
        scope.put_item(table, Item={"id": "ada"})
        scope.discard()
        scope.discard()
    with pytest.raises(ScopeClosedError, match="was dropped"):
        scope.commit()


@pytest.mark.parametrize("opened", ["scope", "begin"])
def test_an_exception_in_the_block_writes_nothing_and_passes_unchanged(every_world: World, opened: str) -> None:
    table = every_world.table("people")
    writer = every_world.writer()
    thrown = ValueError("mine")
    with nothing_written(writer), warnings.catch_warnings(), pytest.raises(ValueError, match="mine") as caught:  # noqa: PT012
        warnings.simplefilter("error")
        with ReliableWriteScope(writer) if opened == "scope" else writer.begin() as scope:
            scope.put_item(table, Item={"id": "ada"})
            raise thrown
    assert caught.value is thrown
    assert caught.value.__cause__ is None
    assert every_world.items(table) == []


def test_begin_commits_on_a_clean_exit(every_world: World) -> None:
    table = every_world.table("people")
    with every_world.writer().begin() as scope:
        scope.put_item(table, Item={"id": "ada"})
    assert len(every_world.items(table)) == 1
    with pytest.raises(ScopeClosedError) as caught:
        scope.commit()
    assert caught.value.outcome is Outcome.WRITTEN
    assert caught.value.write_id == scope.write_id


def test_begin_does_not_commit_what_was_discarded_or_committed(world: World) -> None:
    table = world.table("people")
    writer = world.writer()
    with nothing_written(writer), writer.begin() as scope:
        scope.put_item(table, Item={"id": "ada"})
        scope.discard()
    with FaultPlan(writer.client) as plan, writer.begin() as scope:
        scope.put_item(table, Item={"id": "ada"})
        scope.commit()
    assert plan.count("PutItem") == 2


def test_an_empty_scope_commits_without_a_request(world: World) -> None:
    writer = world.writer()
    with FaultPlan(writer.client) as plan, ReliableWriteScope(writer) as scope:
        assert scope.commit().operations == 0
    assert plan.calls == []


# --- refusals -----------------------------------------------------------------------------------------------------

Record = Callable[[ReliableWriteScope, str], None]


def _fill(scope: ReliableWriteScope, table: str) -> None:
    for number in range(25):
        scope.put_item(table, Item={"id": f"p{number}", "at": number})


def _after_one(*steps: Record) -> Record:
    def run(scope: ReliableWriteScope, table: str) -> None:
        for step in steps:
            step(scope, table)

    return run


REFUSALS: dict[str, tuple[type[WriteRejectedError], str, Record]] = {
    "26th operation": (
        TooManyOperationsError,
        r"operations\[25\] put_item on .*takes 25",
        _after_one(_fill, lambda scope, table: scope.put_item(table, Item={"id": "one more", "at": 0})),
    ),
    "26th item": (
        BatchTooLargeError,
        "26 items; a batch takes 1 to 25",
        lambda scope, table: scope.put_items(table, [{"id": "x", "at": number} for number in range(26)]),
    ),
    "26th key": (
        BatchTooLargeError,
        "26 items",
        lambda scope, table: scope.delete_items(table, [{"id": "x", "at": number} for number in range(26)]),
    ),
    "empty batch": (BatchTooLargeError, "0 items", lambda scope, table: scope.put_items(table, [])),
    "empty batch of keys": (BatchTooLargeError, "0 items", lambda scope, table: scope.delete_items(table, [])),
    "one key twice": (
        DuplicateKeyError,
        r"operations\[1\] in .* is written by operations\[0\]",
        _after_one(
            lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1}),
            lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1}),
        ),
    ),
    "one key in two spellings": (
        DuplicateKeyError,
        r"operations\[1\] in .* is written by operations\[0\]",
        _after_one(
            lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1}),
            lambda scope, table: scope.put_item(table, Item={"id": "x", "at": Decimal("1.0")}),
        ),
    ),
    "one key in a put and a delete": (
        DuplicateKeyError,
        r"operations\[1\] in .* is written by operations\[0\]",
        _after_one(
            lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 10}),
            lambda scope, table: scope.delete_item(table, Key={"id": "x", "at": Decimal("1E1")}),
        ),
    ),
    "one key twice in a batch": (
        DuplicateKeyError,
        r"operations\[0\].items\[2\] in .* is written by operations\[0\].items\[0\]",
        lambda scope, table: scope.put_items(table, [{"id": "x", "at": at} for at in (1, 2, Decimal("1.00"))]),
    ),
    "item too large": (
        WriteTooLargeError,
        "DynamoDB takes 409600",
        lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1, "blob": b"x" * 409_600}),
    ),
    "missing key": (
        InvalidKeyError,
        "'at' is missing; the table wants a number",
        lambda scope, table: scope.put_item(table, Item={"id": "x"}),
    ),
    "wrong key type": (
        InvalidKeyError,
        "'at' is of type S; the table wants a number",
        lambda scope, table: scope.put_item(table, Item={"id": "x", "at": "1"}),
    ),
    "wrong index key type": (
        InvalidKeyError,
        "index key attribute 'state' is of type N; the table wants a string",
        lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1, "state": 2}),
    ),
    "surplus in a key": (
        InvalidKeyError,
        "'state', which is not part of the table's key",
        lambda scope, table: scope.delete_item(table, Key={"id": "x", "at": 1, "state": "open"}),
    ),
    "empty key": (
        InvalidKeyError,
        "'id' is empty",
        lambda scope, table: scope.put_item(table, Item={"id": "", "at": 1}),
    ),
    "float": (
        InvalidItemError,
        r"lines\[0\].price is a float",
        lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1, "lines": [{"price": 1.5}]}),
    ),
    "NaN": (
        InvalidItemError,
        "n is not a finite number",
        lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1, "n": Decimal("NaN")}),
    ),
    "no such table": (
        UnknownTableError,
        "'no-such-table' does not exist",
        lambda scope, _: scope.put_item("no-such-table", Item={"id": "x"}),
    ),
    "no table name": (UnknownTableError, "not", lambda scope, _: scope.put_item("x", Item={"id": "x"})),
    "ARN": (
        UnknownTableError,
        "give the table's name, not its ARN",
        lambda scope, _: scope.put_item("arn:aws:dynamodb:us-east-1:123456789012:table/people", Item={"id": "x"}),
    ),
    "alias": (
        UnknownTableError,
        "no destination 'eu' is registered",
        lambda scope, _: scope.put_item("eu:people", Item={"id": "x"}),
    ),
    "a table that is no string": (
        UnknownTableError,
        "not by int",
        lambda scope, _: scope.put_item(7, Item={"id": "x"}),  # type: ignore[arg-type]
    ),
    "stamp of another type": (
        ForeignStampError,
        "'_rw' is reserved",
        lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1, "_rw": 7}),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_refused_is_no_part_of_the_scope_and_the_rest_is_written(world: World, case: str) -> None:
    """Simol recorded the refused step and then raised."""
    kind, words, record = REFUSALS[case]
    table = _table(world)
    writer = world.writer()
    with ReliableWriteScope(writer) as scope:
        with nothing_written(writer), pytest.raises(WriteRejectedError, match=words) as caught:
            record(scope, table)
        assert type(caught.value) is kind
        assert caught.value.outcome is Outcome.NOT_WRITTEN
        good = len(scope)
        scope.put_item(table, Item={"id": "good", "at": 99}) if good < 25 else None
        receipt = scope.commit()
    assert receipt.operations == len(world.items(table)) == min(good + 1, 25)


def _table(world: World) -> str:
    index = {
        "IndexName": "by-state",
        "KeySchema": [{"AttributeName": "state", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "ALL"},
    }
    return world.table(
        "things",
        "id:S",
        "at:N",
        GlobalSecondaryIndexes=[index],
        AttributeDefinitions=[{"AttributeName": "state", "AttributeType": "S"}],
    )


def test_the_journals_own_table_is_refused(world: World) -> None:
    writer = world.writer()
    with nothing_written(writer), ReliableWriteScope(writer) as scope:
        with pytest.raises(UnknownTableError, match="is the journal's own"):
            scope.put_item(world.system_table, Item={"pk": "J#000", "sk": "x"})
        scope.discard()


@pytest.mark.parametrize(
    "stamps",
    [{"_rw": {"N": "7"}}, {"_rw": {"S": "mine"}}, {"_rw": {"S": FAR_AHEAD}}, {"_rwu": {"S": FAR_AHEAD}}],
    ids=repr,
)
def test_a_foreign_stamp_that_is_found_refuses_the_commit(every_world: World, stamps: dict[str, Any]) -> None:
    world = every_world
    one, other = world.table("people"), world.table("places")
    world.client.put_item(TableName=other, Item={"id": {"S": "rome"}, **stamps})
    writer = world.writer()
    with ReliableWriteScope(writer) as scope, nothing_written(writer):
        scope.put_item(one, Item={"id": "ada"})
        scope.put_item(other, Item={"id": "rome"})
        with pytest.raises(ForeignStampError, match=f"repair-stamp {other}") as caught:
            scope.commit()
    assert caught.value.outcome is Outcome.NOT_WRITTEN
    with pytest.raises(ScopeClosedError, match="was not committed"):
        scope.commit()
    assert world.items(one) == []


def test_the_stamp_an_item_was_read_with_does_not_matter(world: World) -> None:
    """Read, change, write: boto3's way."""
    table = world.table("people")
    writer = world.writer()
    with writer.begin() as scope:
        scope.put_item(table, Item={"id": "ada", "n": 1})
    resource = boto3.resource(
        "dynamodb",
        endpoint_url=world.engine.endpoint_url,
        region_name=REGION,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    read = resource.Table(table).get_item(Key={"id": "ada"}, ConsistentRead=True)["Item"]
    resource.meta.client.close()
    assert "_rw" in read
    with ReliableWriteScope(writer) as scope:
        scope.put_item(table, Item={**read, "n": 2})
        receipt = scope.commit()
    assert world.item(table, id={"S": "ada"}) == {"id": {"S": "ada"}, "n": {"N": "2"}, "_rw": {"S": receipt.stamp}}


@pytest.mark.needs(Capability.ITEM_SIZE_LIMIT)
def test_an_item_of_exactly_the_limit_is_written_and_one_byte_more_refused_here(every_world: World) -> None:
    table = every_world.table("people")
    writer = every_world.writer()
    exact = limits.ITEM_BYTES_MAX - len("id" + "x" + "blob" + "_rw") - 36
    with ReliableWriteScope(writer) as scope:
        with nothing_written(writer), pytest.raises(WriteTooLargeError, match="409601 bytes"):
            scope.put_item(table, Item={"id": "x", "blob": b"b" * (exact + 1)})
        scope.put_item(table, Item={"id": "x", "blob": b"b" * exact})
        scope.commit()
    (item,) = every_world.items(table)
    assert len(item["blob"]["B"]) == exact


@pytest.mark.needs(Capability.NESTING_LIMIT)
def test_what_is_nested_as_deep_as_we_take_is_stored(every_world: World) -> None:
    table = every_world.table("people")
    deep: Any = "leaf"
    for level in range(limits.NESTING_LEVELS_MAX - 1):
        deep = [deep] if level % 2 else {"m": deep}
    with every_world.writer().begin() as scope:
        scope.put_item(table, Item={"id": "x", "deep": deep})
    assert len(every_world.items(table)) == 1


# --- misuse -------------------------------------------------------------------------------------------------------


def test_a_used_scope_raises_with_its_outcome(world: World) -> None:
    """pynamodb#1251 sent everything twice."""
    table = world.table("people")
    writer = world.writer()

    def used(scope: ReliableWriteScope, outcome: Outcome) -> None:
        with FaultPlan(writer.client) as plan:
            for misuse in (
                scope.commit,
                lambda: scope.put_item(table, Item={"id": "again"}),
                lambda: scope.delete_item(table, Key={"id": "again"}),
                lambda: scope.put_items(table, [{"id": "again"}]),
                scope.__enter__,
            ):
                with pytest.raises(ScopeClosedError) as caught:
                    misuse()
                assert caught.value.outcome is outcome
                assert caught.value.write_id == scope.write_id
        assert plan.calls == []

    committed, discarded, refused, pending = (ReliableWriteScope(writer) for _ in range(4))
    for number, scope in enumerate((committed, discarded, refused, pending)):
        scope.put_item(table, Item={"id": f"p{number}"})
    committed.commit()
    used(committed, Outcome.WRITTEN)
    discarded.discard()
    used(discarded, Outcome.NOT_WRITTEN)
    with FaultPlan(writer.client).on("PutItem", deny), pytest.raises(CommitFailedError):
        refused.commit()
    used(refused, Outcome.NOT_WRITTEN)
    with FaultPlan(writer.client).on("PutItem", deny, having=_name(table)), pytest.raises(PropagationPendingError):
        pending.commit()
    used(pending, Outcome.WILL_BE_WRITTEN)


def test_a_scope_belongs_to_its_thread(world: World) -> None:
    table = world.table("people")
    scope = ReliableWriteScope(world.writer())
    scope.put_item(table, Item={"id": "a"})
    errors: list[BaseException] = []

    def misuse() -> None:
        for call in (lambda: scope.put_item(table, Item={"id": "b"}), scope.commit, scope.discard):
            try:
                call()
            except WrongThreadError as error:
                errors.append(error)

    thread = threading.Thread(target=misuse)
    thread.start()
    thread.join()
    assert len(errors) == 3
    assert scope.commit().operations == 1
    assert len(world.items(table)) == 1


def test_nested_scopes_say_that_they_are_independent(world: World) -> None:
    table = world.table("people")
    writer = world.writer()
    with writer.begin() as outer:
        outer.put_item(table, Item={"id": "outer"})
        with pytest.raises(NestedScopeError, match="independent=True"), writer.begin():
            pass
        with writer.begin(independent=True) as inner:
            inner.put_item(table, Item={"id": "inner"})
        assert [item["id"]["S"] for item in world.items(table)] == ["inner"]
        with pytest.raises(NestedScopeError):
            outer.__enter__()
        with pytest.raises(NestedScopeError), ReliableWriteScope(writer):
            pass
    with writer.begin() as after:
        after.put_item(table, Item={"id": "after"})
    assert len(world.items(table)) == 3


def test_scopes_of_two_tasks_do_not_meet(world: World) -> None:
    table = world.table("people")
    writer = world.writer()

    async def write(name: str, mine: asyncio.Event, theirs: asyncio.Event) -> None:
        with writer.begin() as scope:
            scope.put_item(table, Item={"id": name})
            mine.set()
            await asyncio.wait_for(theirs.wait(), 10)

    async def both() -> None:
        one, other = asyncio.Event(), asyncio.Event()
        await asyncio.gather(write("one", one, other), write("other", other, one))

    asyncio.run(both())
    assert {item["id"]["S"] for item in world.items(table)} == {"one", "other"}


# --- the commit point ---------------------------------------------------------------------------------------------


def _name(table: str) -> bytes:
    return f'"{table}"'.encode()


def unknown(world: World, table: str, writer: ReliableWriter) -> ReliableWriteScope:
    """A scope whose journal put was applied and never answered."""
    scope = ReliableWriteScope(writer)
    with scope:
        scope.put_item(table, Item={"id": "ada", "n": 1})
        scope.delete_item(table, Key={"id": "bob"})
        plan = FaultPlan(writer.client).on("PutItem", lose_answer, "after", having=_name(world.system_table))
        with plan, pytest.raises(CommitUnknownError) as caught:
            scope.commit()
    assert plan.injected > 1, "every answer is lost"
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.retryable
    assert caught.value.write_id == scope.write_id
    assert world.items(table) == [], "nothing is propagated before the commit is known"
    return scope


def test_an_unknown_commit_committed_again_is_one_write(every_world: World) -> None:
    world = every_world
    table = world.table("people")
    writer = world.writer(**QUICK)
    scope = unknown(world, table, writer)
    with pytest.raises(ScopeClosedError, match="Only commit"):
        scope.put_item(table, Item={"id": "more"})
    (entry,) = world.records("J#")
    receipt = scope.commit()
    writer.close()
    assert receipt.write_id == receipt.stamp == scope.write_id == entry["sk"]["S"]
    assert world.items(table) == [{"id": {"S": "ada"}, "n": {"N": "1"}, "_rw": {"S": receipt.stamp}}]
    assert world.records("J#") == []


def test_an_unknown_commit_that_recovery_finished_meanwhile_is_still_one_write(every_world: World) -> None:
    world = every_world
    table = world.table("people")
    writer = world.writer(**QUICK)
    scope = unknown(world, table, writer)
    (report,) = world.writer().recovery.resume_all()
    assert report.resumed is Resumed.FINISHED
    with world.writer() as another, another.begin() as later:
        later.put_item(table, Item={"id": "ada", "n": 2})
    receipt = scope.commit()
    writer.close()
    assert receipt.superseded == ("operations[0]",)
    assert [item["n"] for item in world.items(table)] == [{"N": "2"}]
    assert world.records("J#") == []


def test_an_unknown_commit_is_not_repeated_after_ten_minutes(world: World) -> None:
    """CE22."""
    table = world.table("people")
    time = LaterTime()
    writer = world.writer(time=time, **QUICK)
    scope = unknown(world, table, writer)
    time.later = limits.COMMIT_REPEAT_SECONDS + 1
    with nothing_written(writer), pytest.raises(CommitUnknownError, match="600 s ago") as caught:
        scope.commit()
    assert not caught.value.retryable
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.scope is scope, "whoever commits again by error.scope hears it every time"


def test_another_thread_is_told_how_to_settle_an_unknown_scope_and_not_to_make_another(world: World) -> None:
    """As where `asyncio.to_thread` commits again what it has committed: a second scope would be a second write."""
    writer = world.writer(**QUICK)
    scope = unknown(world, world.table("people"), writer)
    with ThreadPoolExecutor() as executor:
        error = executor.submit(scope.commit).exception()
    assert isinstance(error, WrongThreadError)
    assert error.outcome is Outcome.UNKNOWN
    assert f"writer.status({scope.write_id!r})" in str(error)
    assert "Make one scope" not in str(error)
    assert scope.commit().operations == 2


def test_a_commit_that_stays_unknown_can_be_tried_once_more(world: World) -> None:
    table = world.table("people")
    writer = world.writer(**QUICK)
    scope = unknown(world, table, writer)
    with (
        FaultPlan(writer.client).on("PutItem", refuse_connection, having=_name(world.system_table)),
        pytest.raises(CommitUnknownError),
    ):
        scope.commit()  # certainly refused now, but the first try is as unknown as it was
    assert scope.commit().operations == 2


@pytest.mark.parametrize(
    ("fault", "retryable"),
    [(throttle, True), (conflict, True), (refuse_connection, True), (deny, False)],
    ids=["throttle", "conflict", "refuse", "deny"],
)
def test_a_commit_that_was_certainly_refused_says_so(world: World, fault: Any, retryable: bool) -> None:
    table = world.table("people")
    writer = world.writer(**QUICK)
    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "ada"})
    plan = FaultPlan(writer.client).on("PutItem", fault)
    with plan, pytest.raises(CommitFailedError, match="Nothing was written") as caught:
        scope.commit()
    assert plan.injected
    assert caught.value.retryable is retryable
    assert caught.value.outcome is Outcome.NOT_WRITTEN
    assert world.items(table) == world.records("J#") == []


def test_a_witness_that_cannot_be_read_refuses_the_commit(world: World) -> None:
    table = world.table("people")
    writer = world.writer(**QUICK)
    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "ada"})
    with (
        nothing_written(writer),
        FaultPlan(writer.client).on("BatchGetItem", deny),
        pytest.raises(CommitFailedError, match="dynamodb:BatchGetItem"),
    ):
        scope.commit()


@pytest.mark.parametrize("where", ["before", "after"])
def test_an_interrupt_during_the_commit_leaves_the_scope_unknown_and_committable(world: World, where: Any) -> None:
    table = world.table("people")
    writer = world.writer()

    def interrupt(_call: Call) -> None:
        raise KeyboardInterrupt

    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "ada"})
    plan = FaultPlan(writer.client).on("PutItem", interrupt, where, times=1)
    with plan, pytest.raises(KeyboardInterrupt), scope:
        scope.commit()
    assert plan.injected == 1
    with pytest.raises(ScopeClosedError) as caught:
        scope.put_item(table, Item={"id": "bob"})
    assert caught.value.outcome is Outcome.UNKNOWN
    assert scope.commit().operations == 1
    assert len(world.items(table)) == 1


# --- after it -----------------------------------------------------------------------------------------------------


def test_a_table_that_refuses_is_told_and_the_others_are_written(every_world: World) -> None:
    world = every_world
    open_table, closed = world.table("open"), world.table("closed")
    writer = world.writer(**QUICK)
    scope = ReliableWriteScope(writer)
    scope.put_item(open_table, Item={"id": "ada"})
    scope.put_items(closed, [{"id": "x"}, {"id": "y"}])
    scope.put_item(open_table, Item={"id": "bob"})
    plan = FaultPlan(writer.client).on("PutItem", deny, having=_name(closed))
    with plan, pytest.raises(PropagationPendingError) as caught:
        scope.commit()
    assert plan.injected == 2
    error = caught.value
    assert error.outcome is Outcome.WILL_BE_WRITTEN
    assert error.needs_operator
    assert [(failure.operation, failure.table, failure.permanent) for failure in error.failures] == [
        ("operations[1].items[0]", closed, True),
        ("operations[1].items[1]", closed, True),
    ]
    assert all("access denied" in failure.reason for failure in error.failures)
    assert len(world.items(open_table)) == 2
    assert world.items(closed) == []
    (report,) = world.writer().recovery.resume_all()
    assert (report.write_id, report.resumed) == (error.write_id, Resumed.FINISHED)
    assert len(world.items(closed)) == 2


def test_a_table_that_is_only_busy_needs_no_operator(world: World) -> None:
    table = world.table("busy")
    writer = world.writer(**QUICK)
    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "ada"})
    with (
        FaultPlan(writer.client).on("PutItem", throttle, having=_name(table)),
        pytest.raises(PropagationPendingError) as caught,
    ):
        scope.commit()
    assert not caught.value.needs_operator
    assert "throttled" in str(caught.value)
    assert len(world.records("J#")) == 1


# --- large scopes -------------------------------------------------------------------------------------------------


def test_a_scope_takes_625_items_over_25_operations(every_world: World) -> None:
    world = every_world
    tables = [world.table(f"table{index}") for index in range(3)]
    writer = world.writer()
    with ReliableWriteScope(writer) as scope:
        for operation in range(25):
            scope.put_items(tables[operation % 3], [{"id": f"{operation}-{item}", "n": item} for item in range(25)])
        receipt = scope.commit()
    assert receipt.operations == 25
    assert sum(len(world.items(table)) for table in tables) == 625
    with ReliableWriteScope(writer) as scope:
        for operation in range(25):
            scope.delete_items(tables[operation % 3], [{"id": f"{operation}-{item}"} for item in range(25)])
        scope.commit()
    writer.close()
    assert sum(len(world.items(table)) for table in tables) == 0
    assert len(world.records("T#")) == 625
    assert world.records("J#") == []


SIXTEEN_MEGABYTES = 48
"""Items of 350,000 random bytes: 16.8 MB, four times what a transaction takes, in some 64 chunks."""


def _large(world: World, writer: ReliableWriter) -> tuple[str, ReliableWriteScope, dict[str, bytes]]:
    table = world.table("large")
    contents = {f"p{number}": os.urandom(350_000) for number in range(SIXTEEN_MEGABYTES)}
    scope = ReliableWriteScope(writer)
    names = list(contents)
    for start in range(0, len(names), 25):
        scope.put_items(table, [{"id": name, "blob": contents[name]} for name in names[start : start + 25]])
    return table, scope, contents


def _blobs(world: World, table: str) -> dict[str, bytes]:
    return {item["id"]["S"]: item["blob"]["B"] for item in world.items(table)}


def test_16_megabytes_that_do_not_compress_are_written_whole(world: World) -> None:
    writer = world.writer(attempt_deadline_seconds=9.9)
    table, scope, contents = _large(world, writer)
    with FaultPlan(writer.client) as plan:
        scope.commit()
    chunks = len(world.records("C#"))
    assert chunks * limits.CHUNK_BYTES_MAX > 16 * limits.MB
    assert plan.count("PutItem") == chunks + 1 + len(contents)
    assert _blobs(world, table) == contents


def test_16_megabytes_are_recovered_whole_after_a_crash_in_the_middle(world: World) -> None:
    writer = world.writer(attempt_deadline_seconds=9.9)
    table, scope, contents = _large(world, writer)
    plan = FaultPlan(writer.client).on("PutItem", crash, having=_name(table))
    with plan, pytest.raises((SimulatedCrash, PropagationPendingError)):
        scope.commit()
    assert plan.injected
    assert len(world.items(table)) < len(contents)
    (report,) = world.writer(attempt_deadline_seconds=9.9).recovery.resume_all()
    assert report.resumed is Resumed.FINISHED
    assert _blobs(world, table) == contents


def test_a_crash_among_the_chunks_writes_nothing(world: World) -> None:
    """Chunks without a head are nothing (CE15's other side: the head comes last)."""
    writer = world.writer(attempt_deadline_seconds=9.9)
    table = world.table("large")
    scope = ReliableWriteScope(writer)
    scope.put_items(table, [{"id": f"p{number}", "blob": os.urandom(350_000)} for number in range(4)])
    plan = FaultPlan(writer.client).on("PutItem", crash, having=b'"0002"')
    with plan, pytest.raises(SimulatedCrash):
        scope.commit()
    assert plan.injected
    assert world.records("J#") == []
    assert world.writer().recovery.resume_all() == []
    assert world.items(table) == []


def test_a_scope_over_its_size_limit_is_refused(world: World) -> None:
    table = world.table("large")
    writer = world.writer()
    blob = b"x" * 400_000
    with nothing_written(writer), ReliableWriteScope(writer) as scope:
        with pytest.raises(WriteTooLargeError, match=f"it takes {limits.SCOPE_BYTES_MAX}"):  # noqa: PT012 - one of ten
            for operation in range(10):
                scope.put_items(table, [{"id": f"{operation}-{item}", "blob": blob} for item in range(25)])
        assert len(scope) == 3
        scope.discard()


# --- installations and clients ------------------------------------------------------------------------------------


def test_order_by_clock_looks_at_nothing(dynoxide: Engine, unique_name: Callable[[str], str]) -> None:
    world = World(dynoxide, unique_name, Installation(order="clock"))
    table = world.table("people")
    writer = world.writer()
    with FaultPlan(writer.client) as plan, writer.begin() as scope:
        scope.put_item(table, Item={"id": "ada"})
    assert plan.count("BatchGetItem") == 0
    assert plan.count("PutItem") == 2
    assert len(world.items(table)) == 1
    world.close()


EVERY_KIND: dict[str, Any] = {
    "text": "ä\u2028😀",
    "number": Decimal("-12.5"),
    "large": 10**37 + 1,
    "flag": False,
    "none": None,
    "blob": b"\x00\xff",
    "texts": {"a", "b"},
    "numbers": {1, Decimal("2.5")},
    "blobs": {b"\x01", b"\x00\xff"},
    "list": ["", [], {}, b"x", None],
    "map": {"B": "text", "S": b"blob", "BS": [b"1"], "L": {"N": 7}},
    "B": {"B": b"z"},
}


def _options(world: World) -> dict[str, Any]:
    return {
        "endpoint_url": world.engine.endpoint_url,
        "region_name": REGION,
        "config": Config(max_pool_connections=40),
    }


def _session() -> boto3.session.Session:
    return boto3.session.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)


FLAVOURS: dict[str, Callable[[World], dict[str, Any]]] = {
    "client": lambda world: {"client": _session().client("dynamodb", **_options(world))},
    "session": lambda _: {"session": _session()},
    "resource": lambda world: {"client": _session().resource("dynamodb", **_options(world))},
    "client of a resource": lambda world: {"client": _session().resource("dynamodb", **_options(world)).meta.client},
}


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("crashed", [False, True], ids=["direct", "recovered"])
def test_every_kind_of_value_is_stored_alike_by_every_flavour_directly_and_by_recovery(
    every_world: World, flavour: str, crashed: bool
) -> None:
    world = every_world
    table, gone = world.table("people"), world.table("gone")
    world.client.put_item(TableName=gone, Item={"id": {"S": "old"}})
    with ReliableWriter(world.settings(), **FLAVOURS[flavour](world)) as writer:
        scope = ReliableWriteScope(writer)
        scope.put_item(table, Item={"id": "ada", **EVERY_KIND})
        scope.delete_item(gone, Key={"id": "old"})
        if crashed:
            with (
                FaultPlan(writer.client).on("PutItem", deny, having=_name(table)),
                pytest.raises(PropagationPendingError),
            ):
                scope.commit()
            (report,) = writer.recovery.resume_all()
            assert report.resumed is Resumed.FINISHED
        else:
            scope.commit()
    serialize = TypeSerializer().serialize
    reference = {name: serialize(value) for name, value in {"id": "ada", **EVERY_KIND}.items()}
    world.client.put_item(TableName=table, Item={**reference, "id": {"S": "reference"}})
    ours, theirs = world.item(table, id={"S": "ada"}), world.item(table, id={"S": "reference"})
    assert ours is not None
    assert theirs is not None
    assert ours.pop("_rw")["S"] == scope.write_id
    assert _sorted(ours) == {**_sorted(theirs), "id": {"S": "ada"}}
    assert world.items(gone) == []
    assert world.records("J#") == []


def _sorted(item: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {kind: sorted(content) if kind in ("SS", "NS", "BS") else content for kind, content in value.items()}
        for name, value in item.items()
    }


def test_the_application_keeps_its_own_retries_and_has_no_deadline_on_a_shared_client(world: World) -> None:
    table = world.table("people")
    client = world.engine.client(retries={"total_max_attempts": 3, "mode": "standard"})
    time = LaterTime()
    with ReliableWriter(world.settings(), client=client, time=time) as writer:
        with writer.begin() as scope:
            scope.put_item(table, Item={"id": "ada"})
        time.later += 3600
        plan = FaultPlan(client).on("GetItem", answer("InternalServerError", 500), times=2)
        with plan:
            assert client.get_item(TableName=table, Key={"id": {"S": "ada"}})["Item"]
        assert plan.injected == 2
        plan = FaultPlan(client).on("GetItem", answer("InternalServerError", 500))
        with plan, pytest.raises(ClientError):
            client.get_item(TableName=table, Key={"id": {"S": "ada"}})
        assert plan.count("GetItem") == 3


def test_a_binary_read_back_is_a_binary_written(world: World) -> None:
    table = world.table("people")
    with world.writer().begin() as scope:
        scope.put_item(table, Item={"id": "ada", "blob": Binary(b"x"), "blobs": {Binary(b"y")}})
    (item,) = world.items(table)
    assert item["blob"] == {"B": b"x"}
    assert item["blobs"] == {"BS": [b"y"]}
