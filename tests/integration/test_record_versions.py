"""Versions against real engines: what a scope does with them, and what the local object knows afterwards."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import pytest

from reliable_write import (
    CommitFailedError,
    CommitUnknownError,
    HashKey,
    Outcome,
    PropagationPendingError,
    Record,
    RecordStore,
    ReliableWriteScope,
    StaleRecordError,
    UnsupportedOperationError,
    Version,
    VersionMode,
    WriteTooLargeError,
)
from reliable_write.clock import SystemTime
from reliable_write.testing.engines import Capability
from reliable_write.testing.faults import FaultPlan, SimulatedCrash, crash, deny, lose_answer, refuse_connection
from tests.records import placed
from tests.world import World


class Account(Record, table="accounts"):
    id: Annotated[str, HashKey()]
    balance: int = 0
    version: Annotated[int, Version()] = 0


class Dated(Record, table="dated"):
    id: Annotated[str, HashKey()]
    changed: Annotated[datetime | None, Version()] = None


class Counted(Record, table="counted"):
    id: Annotated[str, HashKey()]
    balance: int = 0
    version: Annotated[int, Version(VersionMode.AUTO_INCREMENT)] = 0


class Kept(Record, table="kept"):
    id: Annotated[str, HashKey()]
    version: Annotated[int, Version(VersionMode.NONE)] = 0


class StoppedTime(SystemTime):
    """Its wall clock shows what it is told."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def wall_seconds(self) -> float:
        return self.moment.timestamp()


@pytest.fixture
def accounts(world: World) -> type[Account]:
    return placed(Account, world.table("accounts"))


def row(world: World, kind: type[Record], key: str) -> dict[str, Any] | None:
    """What is in the table, without stamps."""
    item = world.item(kind.__layout__.table, id={"S": key})
    return (
        None if item is None else {name: next(iter(value.values())) for name, value in item.items() if name[0] != "_"}
    )


# --- in a scope -------------------------------------------------------------------------------------------------------


@pytest.mark.needs(Capability.TRANSACTIONS)
def test_a_checked_record_is_put_changed_and_deleted(every_world: World) -> None:
    world = every_world
    kind = placed(Account, world.table("accounts"))
    store = RecordStore(world.writer())
    account = kind(id="a", balance=1)
    for version in (1, 2, 3):
        store.put(account)
        assert account.version == version
    account.balance = 2
    changed = account.model_copy(update={"balance": 3})
    store.put(changed)
    assert (account.version, changed.version) == (3, 4)
    with pytest.raises(StaleRecordError):
        store.put(account)
    with pytest.raises(StaleRecordError):
        store.delete(account)
    assert row(world, kind, "a") == {"id": "a", "balance": "3", "version": "4"}
    store.delete(changed)
    assert (row(world, kind, "a"), changed.version) == (None, 0)
    store.put(changed)
    assert row(world, kind, "a") == {"id": "a", "balance": "3", "version": "1"}


def test_a_record_that_is_gone_is_stale_and_so_is_a_new_one_where_one_is(world: World, accounts: type[Account]) -> None:
    store = RecordStore(world.writer())
    account, again = accounts(id="a"), accounts(id="a")
    store.put(account)
    with pytest.raises(StaleRecordError) as twice:
        store.put(again)
    assert (twice.value.expected, twice.value.actual) == (None, 1)
    store.delete_key(accounts, "a")
    with pytest.raises(StaleRecordError) as gone:
        store.put(account)
    assert (gone.value.expected, gone.value.actual, gone.value.item) == (1, None, None)


def test_an_item_without_a_version_is_taken_over(world: World, accounts: type[Account]) -> None:
    writer = world.writer()
    store = RecordStore(writer)
    with writer.begin() as scope:
        scope.put_item(accounts.__layout__.table, Item={"id": "a", "balance": 5})
    found = store.get(accounts, "a", consistent=True)
    assert found is not None
    assert (found.balance, found.version) == (5, 0)
    store.put(found)
    assert row(world, accounts, "a") == {"id": "a", "balance": "5", "version": "1"}


def test_what_is_written_is_the_record_as_it_was_recorded(world: World, accounts: type[Account]) -> None:
    account = accounts(id="a", balance=1)
    with world.writer().begin() as scope:
        scope.put(account)
        account.balance = 99
    assert row(world, accounts, "a") == {"id": "a", "balance": "1", "version": "1"}
    assert (account.balance, account.version) == (99, 1)


def test_of_two_scopes_in_flight_with_one_object_the_second_is_stale(world: World, accounts: type[Account]) -> None:
    writer = world.writer()
    account = accounts(id="a", balance=1)
    first, second = ReliableWriteScope(writer), ReliableWriteScope(writer)
    first.put(account)
    account.balance = 2
    second.put(account)
    second.commit()
    assert account.version == 1
    with pytest.raises(StaleRecordError) as stale:
        first.commit()
    assert (stale.value.expected, stale.value.actual) == (None, 1)
    assert account.version == 1
    assert row(world, accounts, "a") == {"id": "a", "balance": "2", "version": "1"}


def test_a_batch_keeps_versions_and_names_the_stale_one(world: World, accounts: type[Account]) -> None:
    writer = world.writer()
    batch = [accounts(id=f"a{number}") for number in range(24)]
    with writer.begin() as scope:
        scope.put_items(batch)
    assert [account.version for account in batch] == [1] * 24
    RecordStore(writer).put(batch[7].model_copy())
    with pytest.raises(StaleRecordError) as stale, writer.begin() as scope:
        scope.put_items(batch)
    assert [failure.operation for failure in stale.value.failures] == ["operations[0].items[7]"]
    assert [account.version for account in batch] == [1] * 24
    with pytest.raises(StaleRecordError), writer.begin() as scope:
        scope.delete_items(batch)
    assert len(world.items(accounts.__layout__.table)) == 24


def test_put_all_moves_every_version_and_refuses_more_than_a_commit_point_takes(
    world: World, accounts: type[Account]
) -> None:
    store = RecordStore(world.writer())
    batch = [accounts(id=f"a{number}") for number in range(49)]
    store.put_all(batch)
    assert {account.version for account in batch} == {1}
    with pytest.raises(WriteTooLargeError, match=r"operations\[1\]: 50 items .* takes 49") as refused:
        store.put_all([accounts(id=f"b{number}") for number in range(50)])
    assert refused.value.operation == "operations[1]"
    assert len(world.items(accounts.__layout__.table)) == 49


def test_a_stale_one_among_others_stops_all_of_put_all(world: World, accounts: type[Account]) -> None:
    store = RecordStore(world.writer())
    stale = accounts(id="a")
    store.put(stale.model_copy())
    others = placed(Kept, world.table("kept"))
    with pytest.raises(StaleRecordError):
        store.put_all([*(others(id=f"k{number}") for number in range(30)), stale])
    assert world.items(others.__layout__.table) == []


def test_strategy_transaction_checks_versions_too(world: World, accounts: type[Account]) -> None:
    store = RecordStore(world.writer())
    account = accounts(id="a")
    store.put(account, strategy="transaction")
    store.put(account.model_copy(), strategy="transaction")
    with pytest.raises(StaleRecordError):
        store.delete(account, strategy="transaction")
    assert world.records("J#") == []


def test_an_idempotency_key_puts_once_and_tells_the_repeat_the_same_version(
    world: World, accounts: type[Account]
) -> None:
    store = RecordStore(world.writer())
    store.put(accounts(id="a", balance=1), idempotency_key="order-1")
    again = accounts(id="a", balance=1)
    assert store.put(again, idempotency_key="order-1").duplicate
    assert again.version == 1
    assert row(world, accounts, "a") == {"id": "a", "balance": "1", "version": "1"}


# --- datetimes --------------------------------------------------------------------------------------------------------


def test_a_datetime_version_grows_while_the_clock_stands_still_and_goes_back(world: World) -> None:
    kind = placed(Dated, world.table("dated"))
    time = StoppedTime(datetime.now(UTC))
    store = RecordStore(world.writer(time=time))
    record, seen = kind(id="a"), []
    for moment in (time.moment, time.moment, time.moment - timedelta(hours=1)):
        time.moment = moment
        store.put(record)
        assert record.changed is not None
        seen.append(record.changed)
        loaded = store.get(kind, "a", consistent=True)
        assert loaded == record
    assert seen == sorted(set(seen))
    with pytest.raises(StaleRecordError) as stale:
        store.put(kind(id="a", changed=seen[0]))
    assert (stale.value.expected, stale.value.actual) == (seen[0], seen[2])
    store.delete(record)
    assert record.changed is None


# --- unchecked --------------------------------------------------------------------------------------------------------


def test_unchecked_versions_work_where_there_are_no_transactions_and_checked_ones_are_refused(
    plain_world: World,
) -> None:
    world = plain_world
    counted = placed(Counted, world.table("counted"))
    kept, checked = placed(Kept, world.table("kept")), placed(Account, world.table("accounts"))
    store = RecordStore(world.writer())
    first = counted(id="a", balance=1)
    store.put(first)
    stale = first.model_copy(update={"balance": 2})
    store.put(first)
    store.put(stale)
    assert (first.version, stale.version) == (2, 2)
    assert row(world, counted, "a") == {"id": "a", "balance": "2", "version": "2"}
    mine = kept(id="a", version=7)
    store.put(mine)
    assert (mine.version, row(world, kept, "a")) == (7, {"id": "a", "version": "7"})
    store.delete(stale)
    store.delete(mine)
    assert (stale.version, mine.version) == (0, 7)
    if "TRANSACTIONS" in {capability.name for capability in world.engine.lacks}:
        account = checked(id="a")
        for write in (store.put, store.delete):
            with pytest.raises(UnsupportedOperationError, match="operations"):
                write(account)
        assert (account.version, row(world, checked, "a")) == (0, None)


# --- when something fails ---------------------------------------------------------------------------------------------

WRITES = b'"Put"'
"""In a transaction that writes; the one that asks for capabilities only checks."""


def test_a_lost_answer_is_asked_for_again_and_counts_once(world: World, accounts: type[Account]) -> None:
    writer = world.writer()
    store = RecordStore(writer)
    account = accounts(id="a")
    store.put(account)
    with FaultPlan(writer.client).on("TransactWriteItems", lose_answer, "after", times=1) as plan:
        store.put(account)
    assert (plan.injected, plan.count("TransactWriteItems")) == (1, 2)
    assert account.version == 2
    assert row(world, accounts, "a") == {"id": "a", "balance": "0", "version": "2"}


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_unknown_put_leaves_the_version_and_its_scope_settles_it(
    world: World, accounts: type[Account], when: Any
) -> None:
    writer = world.hasty()
    store = RecordStore(writer)
    account = accounts(id="a")
    with (
        FaultPlan(writer.client).on("TransactWriteItems", lose_answer, when, having=WRITES) as plan,
        pytest.raises(CommitUnknownError) as unknown,
    ):
        store.put(account)
    assert plan.injected
    assert account.version == 0
    receipt = unknown.value.scope.commit()
    assert receipt.write_id == unknown.value.write_id
    assert account.version == 1
    assert row(world, accounts, "a") == {"id": "a", "balance": "0", "version": "1"}


def test_an_unknown_delete_leaves_the_version_and_its_scope_settles_it(world: World, accounts: type[Account]) -> None:
    writer = world.hasty()
    store = RecordStore(writer)
    account = accounts(id="a")
    store.put(account)
    with (
        FaultPlan(writer.client).on("TransactWriteItems", lose_answer, "after"),
        pytest.raises(CommitUnknownError) as unknown,
    ):
        store.delete(account)
    assert account.version == 1
    unknown.value.scope.commit()
    assert (account.version, row(world, accounts, "a")) == (0, None)


def test_a_put_that_was_refused_for_certain_leaves_the_version(world: World, accounts: type[Account]) -> None:
    writer = world.hasty()
    store = RecordStore(writer)
    account = accounts(id="a")
    store.put(account)
    with (
        FaultPlan(writer.client).on("TransactWriteItems", refuse_connection) as plan,
        pytest.raises(CommitFailedError) as failed,
    ):
        store.put(account)
    assert plan.injected
    assert (failed.value.outcome, account.version) == (Outcome.NOT_WRITTEN, 1)
    store.put(account)
    assert account.version == 2


def test_a_pending_scope_has_moved_its_versions(world: World, accounts: type[Account]) -> None:
    """The checked record took effect in the commit point; the other one a monitor will put."""
    counted = placed(Counted, world.table("counted"))
    writer = world.writer()
    checked, other = accounts(id="a"), counted(id="b")
    table = f'"{counted.__layout__.table}"'.encode()
    scope = ReliableWriteScope(writer)
    scope.put(checked)
    scope.put(other)
    with FaultPlan(writer.client).on("PutItem", deny, having=table), pytest.raises(PropagationPendingError):
        scope.commit()
    assert (checked.version, other.version) == (1, 1)
    assert row(world, accounts, "a") == {"id": "a", "balance": "0", "version": "1"}
    assert row(world, counted, "b") is None
    world.writer().recovery.resume_all()
    assert row(world, counted, "b") == {"id": "b", "balance": "0", "version": "1"}


def test_after_a_crash_beyond_the_commit_point_recovery_writes_the_new_versions(
    world: World, accounts: type[Account]
) -> None:
    counted = placed(Counted, world.table("counted"))
    writer = world.writer()
    checked, other = accounts(id="a"), counted(id="b")
    scope = ReliableWriteScope(writer)
    scope.put(checked)
    scope.put(other)
    plan = FaultPlan(writer.client).on("TransactWriteItems", crash, "after", having=WRITES)
    with plan, pytest.raises(SimulatedCrash):
        scope.commit()
    assert plan.injected == 1
    assert (checked.version, other.version) == (0, 0)
    assert len(world.writer().recovery.resume_all()) == 1
    assert row(world, accounts, "a") == {"id": "a", "balance": "0", "version": "1"}
    assert row(world, counted, "b") == {"id": "b", "balance": "0", "version": "1"}


# --- many at once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [6])
def test_of_eight_threads_with_copies_of_one_record_exactly_one_wins_each_round(
    world: World, accounts: type[Account], rounds: int
) -> None:
    threads = 8
    store = RecordStore(world.writer())
    store.put(accounts(id="a"))

    def add_one(copy: Account) -> bool:
        copy.balance += 1
        try:
            store.put(copy)
        except StaleRecordError as stale:
            refused.append((stale.expected, stale.actual))
            return False
        return True

    refused: list[tuple[int, int]] = []

    with ThreadPoolExecutor(threads) as pool:
        for number in range(rounds):
            copies = [found for found in store.batch_get(accounts, ["a"] * threads, consistent=True) if found]
            assert len({id(copy) for copy in copies}) == threads
            won = list(pool.map(add_one, copies))
            assert won.count(True) == 1, number
            assert set(refused[-threads + 1 :]) == {(number + 1, number + 2)}
            assert [copy.version for copy in copies if copy.version == number + 2] == [number + 2]
    assert row(world, accounts, "a") == {"id": "a", "balance": str(rounds), "version": str(rounds + 1)}


@pytest.mark.slow
def test_eight_threads_that_read_again_when_they_are_stale_lose_no_increment(
    world: World, accounts: type[Account]
) -> None:
    threads, each = 8, 5
    store = RecordStore(world.writer())
    store.put(accounts(id="a"))

    def add(_thread: int) -> int:
        lost = 0
        for _ in range(each):
            lost += until_written(lambda: increment(store, accounts))
        return lost

    with ThreadPoolExecutor(threads) as pool:
        lost = sum(pool.map(add, range(threads)))
    found = store.get(accounts, "a", consistent=True)
    assert found is not None
    assert (found.balance, found.version) == (threads * each, threads * each + 1)
    assert lost > 0, "they never met"


def increment(store: RecordStore, kind: type[Account]) -> None:
    account = store.get(kind, "a", consistent=True)
    assert account is not None
    account.balance += 1
    store.put(account)


def until_written(attempt: Callable[[], None]) -> int:
    """How often it was stale."""
    for lost in range(1000):
        try:
            attempt()
        except StaleRecordError:
            continue
        return lost
    raise AssertionError


def test_a_number_from_the_table_is_the_records_own_type(world: World, accounts: type[Account]) -> None:
    store = RecordStore(world.writer())
    store.put(accounts(id="a"))
    with pytest.raises(StaleRecordError) as stale:
        store.put(accounts(id="a"))
    assert type(stale.value.actual) is int
    assert stale.value.item == {"id": "a", "balance": Decimal(0), "version": Decimal(1)}
