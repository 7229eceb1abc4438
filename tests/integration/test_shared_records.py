"""Shared records: what a handle shows and what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from reliable_write import (
    CommitFailedError,
    CommitUnknownError,
    InvalidItemError,
    InvalidKeyError,
    NestedScopeError,
    Outcome,
    ReadFailedError,
    ReliableWriteScope,
    StaleRecordError,
)
from reliable_write.testing.faults import Call, FaultPlan, deny, lose_answer, refuse_connection
from reliable_write.testing.meter import Meter
from tests.chaos.counting import forget_tokens
from tests.clocks import HastyTime
from tests.integration.accounts import Account, Bank, bank, deposit, elsewhere, manual_time

__all__ = ["bank"]


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_read_of_what_has_not_changed_costs_one_read_unit(bank: Bank) -> None:
    service = bank.opened()
    with Meter(service.writer.client) as meter:
        assert service.account.read().balance == 100
    assert (dict(meter.calls), meter.read_units) == ({"BatchGetItem": 1}, 1.0)


def test_a_read_of_what_has_changed_costs_a_second_one_and_shows_it(bank: Bank) -> None:
    service, other = bank.opened(), bank.joined()
    other.deposit(5)
    with Meter(service.writer.client) as meter:
        assert service.account.read().balance == 105
    assert (dict(meter.calls), meter.read_units) == ({"BatchGetItem": 1, "GetItem": 1}, 2.0)


def test_a_look_without_a_check_sends_nothing_and_a_refresh_reads_once(bank: Bank) -> None:
    service, other = bank.opened(), bank.joined()
    other.deposit(5)
    with Meter(service.writer.client) as meter:
        assert service.account.peek().balance == 100
        assert not meter.calls
        assert service.account.refresh().balance == 105
        assert (dict(meter.calls), meter.read_units) == ({"GetItem": 1}, 1.0)
        assert service.account.peek().balance == 105


def test_only_the_version_and_the_stamps_are_asked_for(bank: Bank) -> None:
    service = bank.opened()
    service.account.update(lambda account: account.notes.append("long" * 1000))
    with FaultPlan(service.writer.client) as plan:
        service.account.read()
    (asked,) = json.loads(plan.calls[0].body)["RequestItems"].values()
    # The key as well: an item that has none of the others would look like none.
    assert set(asked["ExpressionAttributeNames"].values()) == {"id", "version", "_rw", "_rwu"}
    assert asked["ConsistentRead"] is True


def test_what_a_caller_changes_on_what_he_got_changes_nothing_for_others(bank: Bank) -> None:
    service = bank.opened()
    mine = service.account.read()
    mine.balance = 0
    mine.notes.append("mine")
    assert service.account.peek().balance == 100
    assert service.account.read().notes == []
    written = service.account.update(deposit(1))
    written.notes.append("mine")
    assert service.account.peek().notes == []


def test_what_was_put_can_be_changed_afterwards_without_others_seeing_it(bank: Bank) -> None:
    service = bank.opened()
    mine = service.account.read()
    mine.notes.append("put")
    service.account.put(mine)
    mine.notes.append("not put")
    assert service.account.peek().notes == ["put"]


def test_a_change_that_left_the_version_alone_is_seen_too(bank: Bank) -> None:
    """The stamps are compared as well: not everybody who writes through the library knows of the version."""
    service = bank.opened()
    with bank.world.writer().begin() as scope:
        scope.update_item(bank.table, Key={"id": "a-1"}, add={"balance": 7})
    assert service.account.read().balance == 107
    with bank.world.writer().begin() as scope:
        scope.put_item(bank.table, {"id": "a-1", "balance": 8, "version": 1})
    assert service.account.read().balance == 8


def test_a_record_that_was_removed_and_made_anew_with_the_same_version_is_no_longer_the_same(bank: Bank) -> None:
    service = bank.opened()
    other = bank.service()
    other.store.delete_key(bank.kind, "a-1")
    other.store.put(bank.kind(id="a-1", balance=3))
    assert bank.version() == 1 == service.account.peek().version
    assert service.account.read().balance == 3


def test_there_is_none(bank: Bank) -> None:
    assert bank.service().shared.get(bank.kind, "a-1") is None


def test_a_read_without_an_answer_says_so_and_the_next_one_goes_on(bank: Bank) -> None:
    service = bank.opened(time=HastyTime())
    with (
        FaultPlan(service.writer.client).on("BatchGetItem", refuse_connection),
        pytest.raises(ReadFailedError) as failed,
    ):
        service.account.read()
    assert (failed.value.retryable, failed.value.table) == (True, bank.table)
    assert service.account.read().balance == 100


# --- put --------------------------------------------------------------------------------------------------------------


def test_a_put_is_shown_without_reading_it(bank: Bank) -> None:
    service = bank.opened()
    changed = service.account.read()
    changed.balance = 60
    service.account.put(changed)
    with Meter(service.writer.client) as meter:
        assert (service.account.peek().balance, service.account.peek().version) == (60, 2)
        assert service.account.read().balance == 60
    assert dict(meter.calls) == {"BatchGetItem": 1}, "what it believed to be there is what is there"
    assert (changed.version, bank.balance(), bank.version()) == (2, 60, 2)


def test_a_stale_put_is_refused_and_the_handle_shows_the_true_value_for_free(bank: Bank) -> None:
    service, other = bank.opened(), bank.joined()
    changed = service.account.read()
    other.deposit(5)
    changed.balance = 0
    with pytest.raises(StaleRecordError) as stale:
        service.account.put(changed)
    assert (stale.value.expected, stale.value.actual, stale.value.outcome) == (1, 2, Outcome.NOT_WRITTEN)
    with Meter(service.writer.client) as meter:
        assert service.account.peek().balance == 105
        assert not meter.calls
        service.account.read()
    assert dict(meter.calls) == {"BatchGetItem": 1}
    assert (changed.version, bank.balance()) == (1, 105)


def test_what_comes_between_the_check_and_the_write_is_not_lost(bank: Bank) -> None:
    """The race of the system this goes back to, at its very moment: checked, and not yet written."""
    service, other = bank.opened(), bank.joined()

    def meanwhile(_call: Call) -> None:
        elsewhere(other.deposit, 5)

    changed = service.account.read()
    changed.balance -= 30
    with FaultPlan(service.writer.client) as plan:
        plan.on("TransactWriteItems", meanwhile, times=1)
        with pytest.raises(StaleRecordError):
            service.account.put(changed)
    assert plan.injected == 1
    assert bank.balance() == 105


def test_a_put_whose_answer_is_lost_happens_once(bank: Bank) -> None:
    time = manual_time()
    service = bank.opened(time=time)
    forget_tokens(service.writer.client)
    changed = service.account.read()
    changed.balance = 60
    with FaultPlan(service.writer.client) as plan:
        plan.on("TransactWriteItems", lose_answer, "after", times=14)
        service.account.put(changed)
    assert plan.injected == 14
    assert sum(time.slept) > service.writer.settings.attempt_deadline_seconds, "one commit was not enough"
    assert (bank.balance(), bank.version(), changed.version) == (60, 2, 2)
    assert service.account.read().version == 2


def test_a_put_whose_answer_never_comes_says_that_it_is_unknown(bank: Bank) -> None:
    service = bank.opened(time=manual_time())
    changed = service.account.read()
    changed.balance = 60
    with FaultPlan(service.writer.client) as plan:
        plan.on("TransactWriteItems", lose_answer, "after")
        with pytest.raises(CommitUnknownError) as unknown:
            service.account.put(changed)
    assert changed.version == 1
    unknown.value.scope.commit()
    assert (bank.balance(), bank.version(), changed.version) == (60, 2, 2)
    assert service.account.read().balance == 60


def test_another_record_and_another_class_are_refused(bank: Bank) -> None:
    service = bank.opened()
    with pytest.raises(InvalidKeyError, match="another key"):
        service.account.put(bank.kind(id="a-2"))
    with pytest.raises(InvalidItemError, match="not as a dict"):
        service.account.put({"id": "a-1"})  # type: ignore[arg-type]
    assert bank.version() == 1


# --- update -----------------------------------------------------------------------------------------------------------


def test_an_update_reads_changes_and_writes(bank: Bank) -> None:
    service, other = bank.opened(), bank.joined()
    other.deposit(5)
    written = service.account.update(deposit(20))
    assert (written.balance, written.version) == (125, 3)
    assert (bank.balance(), bank.version()) == (125, 3)


def test_a_function_may_return_the_record_to_write(bank: Bank) -> None:
    service = bank.opened()
    service.account.update(lambda account: account.model_copy(update={"balance": 1}))
    assert bank.balance() == 1


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda account: account.balance + 1, InvalidItemError, "not as a int"),
        (lambda account: type(account)(id="a-2", version=account.version), InvalidKeyError, "another key"),
        (lambda account: setattr(account, "id", "a-2"), InvalidKeyError, "another key"),
        (lambda account: setattr(account, "version", 7), InvalidItemError, "another version"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_written(
    bank: Bank, change: Any, error: type[Exception], words: str
) -> None:
    service = bank.opened()
    with pytest.raises(error, match=words):
        service.account.update(change)
    assert (bank.balance(), bank.version()) == (100, 1)
    assert service.deposit(1).balance == 101


def test_an_exception_of_the_function_passes_unchanged_and_nothing_is_written(bank: Bank) -> None:
    service = bank.opened()
    own = StaleRecordError("The function's own.")

    def change(account: Account) -> None:
        account.balance = 0
        raise own

    with pytest.raises(StaleRecordError) as raised:
        service.account.update(change)
    assert raised.value is own
    assert (bank.version(), service.account.peek().balance) == (1, 100)
    assert service.deposit(1).balance == 101


def test_an_update_that_comes_too_late_is_done_again_on_the_new_value(bank: Bank) -> None:
    service, other = bank.opened(), bank.joined()
    seen = []

    def change(account: Account) -> None:
        seen.append(account.balance)
        if len(seen) < 3:
            elsewhere(other.deposit, 5)
        account.balance *= 2

    service.account.update(change)
    assert seen == [100, 105, 110]
    assert bank.balance() == 220


@pytest.mark.parametrize("how", [{"timeout_seconds": 3.0}, {"tries": 4}])
def test_an_update_that_is_always_too_late_gives_up(bank: Bank, how: dict[str, Any]) -> None:
    time = manual_time()
    service, other = bank.opened(time=time), bank.joined()
    begun, calls = time.elapsed, []

    def change(account: Account) -> None:
        calls.append(account.balance)
        elsewhere(other.deposit, 5)

    with pytest.raises(StaleRecordError) as stale:
        service.account.update(change, **how)
    assert f"gave up at its try number {len(calls)}" in stale.value.__notes__[0]
    assert bank.balance() == 100 + 5 * len(calls)
    assert service.account.peek().balance == bank.balance()
    assert time.elapsed - begun <= how.get("timeout_seconds", 30.0)
    assert len(calls) == how.get("tries", len(calls)) >= 4


def test_the_tries_are_separated_by_full_jitter_through_the_clock_seam(bank: Bank) -> None:
    time = manual_time()
    time.jitter_share = 0.5
    service, other = bank.opened(time=time), bank.joined()

    def change(_account: Account) -> None:
        elsewhere(other.deposit, 5)

    time.jitter_asked.clear()
    time.slept.clear()
    with pytest.raises(StaleRecordError):
        service.account.update(change, tries=9)
    own = [seconds for seconds in time.jitter_asked if seconds in {0.04 * 2**n for n in range(6)} | {1.0}]
    assert own[:5] == [0.04, 0.08, 0.16, 0.32, 0.64]
    assert own[-1] == 1.0
    assert {0.02, 0.04, 0.08, 0.5} <= set(time.slept)


def test_zero_tries_are_refused(bank: Bank) -> None:
    with pytest.raises(ValueError, match="tries is 0"):
        bank.opened().account.update(deposit(1), tries=0)


def test_an_update_whose_answer_is_lost_counts_once(bank: Bank) -> None:
    time = manual_time()
    service = bank.opened(time=time)
    forget_tokens(service.writer.client)
    change = deposit(5)
    with FaultPlan(service.writer.client) as plan:
        plan.on("TransactWriteItems", lose_answer, "after", times=14)
        service.account.update(change)
    assert sum(time.slept) > service.writer.settings.attempt_deadline_seconds, "one commit was not enough"
    assert (change.calls, bank.balance(), bank.version()) == (1, 105, 2)


def test_an_update_of_which_others_made_the_lost_request_void_is_done_again(bank: Bank) -> None:
    """Lost on the way there, and stale by the time it is sent again: refused for certain, so it may be tried anew."""
    time = manual_time()
    service, other = bank.opened(time=time), bank.joined()
    change = deposit(5)

    def lost(call: Call) -> None:
        if other.account.peek().version == 1:
            elsewhere(other.deposit, 20)
        lose_answer(call)

    with FaultPlan(service.writer.client) as plan:
        plan.on("TransactWriteItems", lost, times=12)
        service.account.update(change)
    assert (change.calls, bank.balance(), bank.version()) == (2, 125, 3)


def test_nothing_is_left_to_be_propagated(bank: Bank) -> None:
    """A checked put takes effect in the commit point: PropagationPendingError cannot come of it."""
    service = bank.opened()
    with FaultPlan(service.writer.client) as plan:
        for call in ("PutItem", "DeleteItem", "UpdateItem", "BatchWriteItem"):
            plan.on(call, deny)
        service.account.update(deposit(5))
        service.account.delete()
    assert plan.injected == 0
    assert plan.count("TransactWriteItems") == 2
    assert bank.world.records("J#") == []


def test_a_refused_commit_is_not_tried_for_ever(bank: Bank) -> None:
    service = bank.opened()
    change = deposit(5)
    with FaultPlan(service.writer.client) as plan:
        plan.on("TransactWriteItems", deny)
        with pytest.raises(CommitFailedError):
            service.account.update(change)
    assert (change.calls, bank.balance()) == (1, 100)


def test_an_unreachable_store_is_tried_again_within_the_time(bank: Bank) -> None:
    time = manual_time()
    service = bank.opened(time=time)
    change = deposit(5)
    with FaultPlan(service.writer.client) as plan:
        plan.on("TransactWriteItems", refuse_connection, times=14)
        service.account.update(change)
    assert plan.injected == 14
    assert change.calls > 1
    assert (bank.balance(), bank.version()) == (105, 2)


def test_an_update_inside_an_update_is_refused(bank: Bank) -> None:
    service = bank.opened()
    second = service.shared.create(bank.kind(id="a-2"))
    for inner in (
        lambda: service.deposit(1),
        lambda: service.account.put(service.account.peek()),
        service.account.delete,
        lambda: second.update(deposit(1)),
        lambda: service.shared.create(bank.kind(id="a-3")),
    ):

        def change(account: Account, inner: Any = inner) -> None:
            account.balance = 0
            inner()

        with pytest.raises(NestedScopeError, match="may be called several times"):
            service.account.update(change)
    assert (bank.balance(), bank.version()) == (100, 1)
    assert service.deposit(1).balance == 101


def test_a_function_may_read(bank: Bank) -> None:
    service = bank.opened()
    service.account.update(lambda account: setattr(account, "balance", service.account.read().balance + 1))
    assert bank.balance() == 101


@pytest.mark.parametrize(
    ("write", "calls", "units"),
    [
        (lambda account: account.put(account.peek()), {"BatchGetItem": 1, "TransactWriteItems": 1}, (2.0, 6.0)),
        (lambda account: account.delete(), {"BatchGetItem": 1, "TransactWriteItems": 1}, (2.0, 6.0)),
        (lambda account: account.update(deposit(1)), {"BatchGetItem": 2, "TransactWriteItems": 1}, (3.0, 6.0)),
    ],
    ids=["put", "delete", "update"],
)
def test_a_write_costs_what_the_documents_say(
    bank: Bank, write: Callable[[Any], object], calls: dict[str, int], units: tuple[float, float]
) -> None:
    service = bank.opened()
    with Meter(service.writer.client) as meter:
        write(service.account)
    assert dict(meter.calls) == calls
    assert (meter.read_units, meter.write_units) == units


# --- in scopes --------------------------------------------------------------------------------------------------------


def test_a_shared_record_is_written_by_a_scope_with_other_things(bank: Bank) -> None:
    service = bank.opened()
    changed = service.account.read()
    changed.balance -= 30
    with service.writer.begin() as scope:
        scope.put(changed)
        scope.put_item(bank.table, {"id": "note", "text": "taken"})
    assert (service.account.read().balance, changed.version) == (70, 2)
    scope = ReliableWriteScope(service.writer)
    scope.put(bank.kind(id="a-1", balance=0, version=1))
    scope.put_item(bank.table, {"id": "other"})
    with pytest.raises(StaleRecordError):
        scope.commit()
    assert bank.stored("other") is None


def test_inside_an_open_scope_it_must_say_that_it_is_independent(bank: Bank) -> None:
    service = bank.opened()
    change = deposit(5)
    with ReliableWriteScope(service.writer) as scope:
        for write in (
            lambda: service.account.update(change),
            lambda: service.account.put(service.account.peek()),
            service.account.delete,
            lambda: service.shared.create(bank.kind(id="a-2")),
        ):
            with pytest.raises(NestedScopeError, match="written by itself"):
                write()
        assert change.calls == 0
        service.account.update(change, independent=True)
        scope.discard()
    assert bank.balance() == 105
