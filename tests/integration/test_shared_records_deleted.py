"""Shared records that are deleted, and made anew over the mark that is left."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import Field

from reliable_write import Outcome, RecordDeletedError, StaleRecordError
from reliable_write.testing.faults import Call, FaultPlan, lose_answer
from tests.chaos.counting import forget_tokens
from tests.clocks import SkippingTime
from tests.integration.accounts import Account, Bank, Service, bank, elsewhere, manual_time

__all__ = ["bank"]


# --- deletion ---------------------------------------------------------------------------------------------------------


def test_a_deleted_record_raises_for_all_who_hold_it(bank: Bank) -> None:
    service, other = bank.opened(), bank.joined()
    service.account.delete()
    assert other.account.peek().balance == 100
    uses: list[Callable[[], object]] = [other.account.read, other.account.refresh, other.account.peek]
    uses.append(lambda: other.deposit(1))
    for use in uses:
        with pytest.raises(RecordDeletedError, match="was deleted") as deleted:
            use()
        assert (deleted.value.outcome, deleted.value.table) == (Outcome.NOT_WRITTEN, bank.table)
        assert deleted.value.key == {"id": "a-1"}
        assert "a-1" not in str(deleted.value)
    with pytest.raises(RecordDeletedError):
        service.account.read()


def test_a_put_of_what_was_deleted_is_refused_as_that(bank: Bank) -> None:
    service, other = bank.opened(), bank.joined()
    mine = other.account.read()
    service.account.delete()
    writes: list[Callable[[], None]] = [lambda: other.account.put(mine), lambda: other.account.delete(mine)]
    for write in writes:
        with pytest.raises(RecordDeletedError) as deleted:
            write()
        assert isinstance(deleted.value.__cause__, StaleRecordError)
    with pytest.raises(RecordDeletedError):
        other.account.peek()


def test_the_mark_is_an_item_with_key_next_version_and_the_time_it_is_kept(bank: Bank) -> None:
    time = manual_time()
    service = Service(bank, bank.world.writer(time=time), deleted_kept_seconds=3600)
    service.account = service.shared.create(bank.kind(id="a-1", balance=100))
    service.account.delete()
    assert set(bank.there()) == {"id", "version", "_rw", "_rwd"}
    assert bank.version() == 2
    assert int(bank.there()["_rwd"]["N"]) - time.wall_seconds() == pytest.approx(3600, abs=5)


def test_others_are_told_for_as_long_as_configured_and_holders_for_ever(bank: Bank) -> None:
    time = SkippingTime()
    service = bank.opened()
    other = Service(bank, bank.world.writer(time=time))
    other.hold()
    service.account.delete()
    with pytest.raises(RecordDeletedError):
        other.shared.get(bank.kind, "a-1")
    time.skip(86_400 - 60)
    with pytest.raises(RecordDeletedError):
        other.shared.get(bank.kind, "a-1")
    time.skip(61)
    assert other.shared.get(bank.kind, "a-1") is None
    with pytest.raises(RecordDeletedError):
        other.account.read()
    bank.world.client.delete_item(TableName=bank.table, Key={"id": {"S": "a-1"}})  # as the table's TTL does
    assert other.shared.get(bank.kind, "a-1") is None
    with pytest.raises(RecordDeletedError):
        other.account.read()


def test_a_record_that_was_removed_without_a_mark_raises_too(bank: Bank) -> None:
    service = bank.opened()
    mine = service.account.read()
    bank.world.client.delete_item(TableName=bank.table, Key={"id": {"S": "a-1"}})
    with pytest.raises(RecordDeletedError):
        service.account.put(mine)
    with pytest.raises(RecordDeletedError):
        service.account.read()
    assert service.shared.get(bank.kind, "a-1") is None


def test_what_never_had_a_version_is_not_brought_back_either(bank: Bank) -> None:
    """The record's own condition would take an absent item for one that was never saved."""
    bank.world.client.put_item(TableName=bank.table, Item={"id": {"S": "a-1"}, "balance": {"N": "9"}})
    service = bank.joined()
    mine = service.account.read()
    bank.world.client.delete_item(TableName=bank.table, Key={"id": {"S": "a-1"}})
    for write in (service.account.put, service.account.delete):
        with pytest.raises(RecordDeletedError):
            write(mine)
    assert bank.stored() is None


def test_what_has_no_version_gets_one(bank: Bank) -> None:
    bank.world.client.put_item(TableName=bank.table, Item={"id": {"S": "a-1"}, "balance": {"N": "9"}})
    service, other = bank.joined(), bank.joined()
    mine = other.account.read()
    assert service.deposit(1).version == 1
    with pytest.raises(StaleRecordError):
        other.account.put(mine)
    assert bank.balance() == 10


def test_for_the_record_store_there_is_none(bank: Bank) -> None:
    service = bank.opened()
    service.shared.create(bank.kind(id="a-2", balance=1))
    service.account.delete()
    store = bank.service().store
    assert store.get(bank.kind, "a-1", consistent=True) is None
    assert [account and account.id for account in store.batch_get(bank.kind, ["a-1", "a-2"])] == [None, "a-2"]
    assert store.get(bank.kind, "a-1", pending=True).record is None
    assert list(store.query(bank.kind, "a-1")) == []
    assert [account.id for account in store.scan(bank.kind, limit=1)] == ["a-2"]


def test_only_what_was_seen_is_deleted(bank: Bank) -> None:
    service, other = bank.opened(), bank.joined()
    mine = service.account.read()
    other.deposit(5)
    with pytest.raises(StaleRecordError):
        service.account.delete()
    assert service.account.peek().balance == 105
    with pytest.raises(StaleRecordError):
        service.account.delete(mine)
    assert bank.balance() == 105
    service.account.delete()
    assert "_rwd" in bank.there()


def test_a_delete_whose_answer_is_lost_happens_once(bank: Bank) -> None:
    service = bank.opened(time=manual_time())
    forget_tokens(service.writer.client)
    with FaultPlan(service.writer.client) as plan:
        plan.on("TransactWriteItems", lose_answer, "after", times=12)
        service.account.delete()
    assert plan.injected == 12
    assert bank.version() == 2


# --- making -----------------------------------------------------------------------------------------------------------


def test_a_new_record_over_a_mark_goes_on_with_the_version(bank: Bank) -> None:
    service, other = bank.opened(), bank.joined()
    old = other.account.read()
    service.account.delete()
    new = bank.kind(id="a-1", balance=7)
    made = bank.service().shared.create(new)
    assert (made.peek().version, new.version, bank.version()) == (3, 3, 3)
    assert set(bank.there()) == {"id", "version", "balance", "_rw"} | ({"notes"} & set(bank.there()))
    with pytest.raises(StaleRecordError):
        other.account.put(old)
    assert bank.balance() == 7
    assert other.account.peek().balance == 7, "what lies under the key now, and later than all it has seen"
    assert service.account.read().balance == 7
    assert service.deposit(1).version == 4


def test_a_new_record_over_a_mark_keeps_what_is_no_part_of_an_item(bank: Bank) -> None:
    class Cached(Account, table=bank.table):
        cache: str = Field(default="", exclude=True)

    shared = bank.service().shared
    shared.create(Cached(id="a-1")).delete()
    again = Cached(id="a-1", cache="warm")
    shared.create(again)
    assert (again.version, again.cache) == (3, "warm")


def test_a_new_record_goes_on_from_a_mark_that_is_told_no_longer(bank: Bank) -> None:
    time = SkippingTime()
    service = bank.opened()
    service.account.delete()
    time.skip(2 * 86_400)
    later = Service(bank, bank.world.writer(time=time))
    assert later.shared.create(bank.kind(id="a-1")).peek().version == 3


def test_there_is_one_already(bank: Bank) -> None:
    service = bank.opened()
    new = bank.kind(id="a-1", balance=7)
    with pytest.raises(StaleRecordError) as stale:
        bank.service().shared.create(new)
    assert (stale.value.expected, stale.value.actual, new.version) == (None, 1, 0)
    assert service.account.read().balance == 100


def test_an_item_without_a_version_is_one_too(bank: Bank) -> None:
    """The record store may put a new record over it; but it is not absent."""
    bank.world.client.put_item(TableName=bank.table, Item={"id": {"S": "a-1"}, "balance": {"N": "9"}})
    with pytest.raises(StaleRecordError):
        bank.service().shared.create(bank.kind(id="a-1"))
    assert bank.balance() == 9


def test_two_make_the_same_and_one_is_told(bank: Bank) -> None:
    first, second = bank.service(), bank.service()

    def meanwhile(_call: Call) -> None:
        elsewhere(second.shared.create, bank.kind(id="a-1", balance=2))

    plan = FaultPlan(first.writer.client).on("TransactWriteItems", meanwhile, times=1, having=b"balance")
    with plan, pytest.raises(StaleRecordError):
        first.shared.create(bank.kind(id="a-1", balance=1))
    assert bank.balance() == 2


@pytest.mark.parametrize("meanwhile", ["the mark goes", "a record comes and goes"])
def test_what_was_absent_all_the_time_is_made(bank: Bank, meanwhile: str) -> None:
    first, second = bank.opened(), bank.service()
    first.account.delete()

    def happens(_call: Call) -> None:
        if meanwhile == "the mark goes":
            bank.world.client.delete_item(TableName=bank.table, Key={"id": {"S": "a-1"}})
        else:
            elsewhere(lambda: second.shared.create(bank.kind(id="a-1", balance=2)).delete())

    with FaultPlan(first.writer.client) as plan:
        plan.on("TransactWriteItems", happens, times=1, having=b"balance")
        made = first.shared.create(bank.kind(id="a-1", balance=1))
    assert plan.injected == 1
    assert made.read().balance == 1
    assert bank.version() == (1 if meanwhile == "the mark goes" else 5)


def test_a_plain_put_of_a_new_record_over_a_mark_is_refused_and_told_why(bank: Bank) -> None:
    service = bank.opened()
    service.account.delete()
    with pytest.raises(StaleRecordError, match=r"SharedRecords\.create") as stale:
        service.store.put(bank.kind(id="a-1", balance=7))
    assert (stale.value.actual, stale.value.item) == (None, None)
    assert "_rwd" in bank.there()
