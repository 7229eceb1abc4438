"""Who holds a shared record: one object for all threads of a process, while anybody has it, and over a fork."""

from __future__ import annotations

import contextvars
import gc
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Annotated, cast
from uuid import UUID

import boto3
import pytest

from reliable_write import (
    CommitFailedError,
    HashKey,
    NestedScopeError,
    RangeKey,
    Record,
    RecordDeletedError,
    RecordStore,
    ReliableWriter,
    SharedRecord,
    SharedRecords,
    Version,
)
from reliable_write.records.shared import _Held
from reliable_write.testing.faults import Call, FaultPlan
from reliable_write.testing.meter import Meter
from tests.integration.accounts import Account, Bank, Service, bank, deposit, manual_time
from tests.integration.test_fork import in_child
from tests.world import REGION

__all__ = ["bank"]

THREADS = 8
SECONDS_MAX = 30.0

# Python 3.12 and later warn of a fork beside threads, which is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def all_at_once(do: Callable[[], object], threads: int = THREADS) -> list[object]:
    """What `do` gives in so many threads that begin together."""
    barrier = threading.Barrier(threads)

    def run(_number: int) -> object:
        barrier.wait(SECONDS_MAX)
        return do()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


# --- the same object ----------------------------------------------------------------------------------------------


def test_all_threads_that_ask_at_once_get_the_same_object(bank: Bank) -> None:
    bank.opened()
    for _ in range(5):
        shared = bank.service().shared
        handles = all_at_once(lambda shared=shared: shared.get(bank.kind, "a-1"))  # type: ignore[misc]
        assert handles[0] is not None
        assert len(set(map(id, handles))) == 1


def test_it_is_the_same_for_as_long_as_somebody_holds_it_and_no_longer(bank: Bank) -> None:
    service = bank.opened()
    gone = weakref.ref(service.account)
    assert service.shared.get(bank.kind, "a-1") is service.account
    assert len(service.shared._held.records) == 1
    del service.account
    gc.collect()
    assert gone() is None
    assert len(service.shared._held.records) == 0
    service.hold()
    assert service.account.peek().balance == 100


def test_what_was_asked_for_in_vain_is_not_kept(bank: Bank) -> None:
    shared = bank.service().shared
    assert shared.get(bank.kind, "nobody") is None
    gc.collect()
    assert len(shared._held.records) == 0


def test_a_handle_that_dies_while_another_thread_asks_is_replaced_by_one(bank: Bank) -> None:
    """At no moment two: each thread compares what it holds with what it would get."""
    service = bank.opened()
    account, held = service.account, _Held({})
    place, kept = account._place, account._deleted_kept_seconds
    del service

    def ask_and_let_go() -> int:
        different = 0
        for _ in range(500):
            handle = held.one(place.identity, SharedRecord(place, kept))
            different += held.one(place.identity, SharedRecord(place, kept)) is not handle
            del handle
        return different

    assert all_at_once(ask_and_let_go) == [0] * THREADS
    gc.collect()
    assert len(held.records) == 0


class Slot(Record):
    room: Annotated[UUID, HashKey()]
    hour: Annotated[Decimal, RangeKey()]
    version: Annotated[int, Version()] = 0


class OtherSlot(Slot):
    pass


def test_one_key_in_all_its_forms_is_one_record_and_of_another_class_another(bank: Bank) -> None:
    table = bank.world.table("slots", "room:S", "hour:N")
    kind = cast("type[Slot]", types.new_class("Slot", (Slot,), {"table": table}))
    other = cast("type[Slot]", types.new_class("Slot", (Slot,), {"table": table}))
    room = UUID("0f2b3c4d-0000-4000-8000-000000000001")
    shared = bank.service().shared
    made = shared.create(kind(room=room, hour=Decimal(9)))
    assert shared.get(kind, str(room), 9) is made
    assert shared.get(kind, room, Decimal("9.00")) is made
    assert shared.get(kind, room, 10) is None
    different = shared.get(other, room, 9)
    assert different is not None
    assert different is not made


def test_a_number_that_was_spelt_otherwise_is_the_same_key_for_writing(bank: Bank) -> None:
    """A table gives 9 back for 9.00."""
    kind = cast(
        "type[Slot]", types.new_class("Slot", (Slot,), {"table": bank.world.table("slots", "room:S", "hour:N")})
    )
    room = UUID("0f2b3c4d-0000-4000-8000-000000000001")
    slot = bank.service().shared.create(kind(room=room, hour=Decimal("9.00")))
    joined = bank.service().shared.get(kind, room, Decimal("9.0"))
    assert joined is not None
    assert [slot.update(lambda _: None).version, joined.update(lambda _: None).version] == [2, 3]
    slot.put(slot.read())
    slot.delete(kind(room=room, hour=Decimal("9E0"), version=4))
    with pytest.raises(RecordDeletedError):
        joined.read()


# --- threads ------------------------------------------------------------------------------------------------------


def test_threads_of_one_process_write_one_after_the_other_and_waste_nothing(bank: Bank) -> None:
    service = bank.opened()
    change = deposit(1)
    with Meter(service.writer.client) as meter:
        all_at_once(lambda: [service.account.update(change) for _ in range(5)])
    assert bank.balance() == 100 + 5 * THREADS
    assert meter.calls["TransactWriteItems"] == 5 * THREADS, "none came too late"
    assert meter.calls["GetItem"] == 0, "each began with what the one before had written"


def test_threads_that_read_while_others_write_see_only_what_was_there(bank: Bank) -> None:
    service = bank.opened()

    def write_and_read() -> list[int]:
        versions = []
        for _ in range(10):
            service.deposit(1)
            versions.append(service.account.read().version)
            versions.append(service.account.peek().version)
        return versions

    for versions in cast("list[list[int]]", all_at_once(write_and_read, 4)):
        assert versions == sorted(versions)
    assert service.account.peek().version == bank.version() == 41


def test_a_thread_that_waits_for_its_turn_gives_up_in_time(bank: Bank) -> None:
    service = bank.opened()
    begun, go_on = threading.Event(), threading.Event()

    def slow(account: Account) -> None:
        begun.set()
        assert go_on.wait(SECONDS_MAX)
        account.balance += 1

    thread = threading.Thread(target=service.account.update, args=(slow,))
    thread.start()
    assert begun.wait(SECONDS_MAX)
    change, started = deposit(5), time.monotonic()
    with pytest.raises(CommitFailedError, match="other threads of this process") as waited:
        service.account.update(change, timeout_seconds=0.01)
    assert waited.value.retryable
    assert time.monotonic() - started < SECONDS_MAX / 3
    assert service.account.read().balance == 100, "readers do not wait for writers"
    go_on.set()
    thread.join(SECONDS_MAX)
    service.account.update(change)
    assert (change.calls, bank.balance()) == (1, 106)


def test_a_thread_that_works_for_a_change_cannot_wait_for_its_end(bank: Bank) -> None:
    """It was given the context of the update that waits for it."""
    service = bank.opened()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            service.deposit(1)
        except NestedScopeError as error:
            errors.append(error)

    def change(account: Account) -> None:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
        thread.start()
        thread.join(SECONDS_MAX)
        account.balance += 10

    service.account.update(change)
    assert len(errors) == 1
    assert bank.balance() == 110


def test_a_turn_is_given_back_whatever_ends_it(bank: Bank) -> None:
    service = bank.opened(time=manual_time())

    def interrupted(_call: Call) -> None:
        raise KeyboardInterrupt

    with FaultPlan(service.writer.client) as plan:
        plan.on("TransactWriteItems", interrupted, times=1)
        with pytest.raises(KeyboardInterrupt):
            service.deposit(1)
    service.account.update(deposit(1), timeout_seconds=5)
    assert bank.balance() == 101


# --- forks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def forking(bank: Bank) -> Iterator[Service]:
    """A service whose writer makes its own clients, as a process that forks needs it."""
    session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)
    with ReliableWriter(bank.world.settings(), session=session) as writer:
        service = Service(bank, writer)
        service.account = service.shared.create(bank.kind(id="a-1", balance=100))
        yield service


def test_a_child_goes_on_with_what_the_parent_held(bank: Bank, forking: Service) -> None:
    def in_the_child() -> tuple[int, int, bool]:
        seen = forking.account.peek().balance
        again = forking.shared.get(bank.kind, "a-1")
        return seen, forking.deposit(5).balance, again is forking.account

    assert in_child(in_the_child) == (100, 105, True)
    assert forking.account.peek().balance == 100
    assert forking.account.read().balance == 105
    assert forking.deposit(1).version == 3


def test_locks_that_are_held_at_the_fork_are_left_behind(bank: Bank, forking: Service) -> None:
    account = forking.account
    locks = (account._watch._process.looking, account._turn._lock, forking.shared._held._lock)
    are_held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        """In another thread: some of them would let their own thread in again."""
        with locks[0], locks[1], locks[2]:
            are_held.set()
            assert let_go.wait(SECONDS_MAX)

    def in_the_child() -> int:
        again = forking.shared.get(bank.kind, "a-1")
        assert again is forking.account
        return again.update(deposit(5)).balance

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert are_held.wait(SECONDS_MAX)
        assert in_child(in_the_child) == 105
    finally:
        let_go.set()
        thread.join(SECONDS_MAX)


def test_a_child_forked_inside_a_change_may_write(bank: Bank, forking: Service) -> None:
    """The update that is under way is the parent's business."""
    second = forking.shared.create(bank.kind(id="a-2"))
    calls: list[int] = []

    def change(account: Account) -> None:
        if not calls:
            calls.append(in_child(lambda: second.update(deposit(5)).balance))
        account.balance += 1

    forking.account.update(change)
    assert calls == [5]
    assert bank.balance() == 101


def test_a_store_with_a_client_of_its_own_refuses_in_the_child(bank: Bank) -> None:
    service = bank.opened()

    def refused() -> str:
        with pytest.raises(Exception, match="after the fork") as error:
            service.account.read()
        return type(error.value).__name__

    assert in_child(refused) == "ConfigurationError"
    assert service.account.read().balance == 100


def test_shared_records_of_two_stores_know_nothing_of_each_other(bank: Bank) -> None:
    service = bank.opened()
    other = SharedRecords(RecordStore(service.writer))
    assert other.get(bank.kind, "a-1") is not service.account
