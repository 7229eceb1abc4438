"""Shared records: constraints, classes that cannot be shared, and what is refused."""

from __future__ import annotations

import types
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, cast

import pytest
from pydantic import ConfigDict

from reliable_write import (
    ConfigurationError,
    Constraint,
    HashKey,
    InvalidKeyError,
    Outcome,
    Record,
    RecordDefinitionError,
    RecordDeletedError,
    SharedRecords,
    StaleRecordError,
    UnsupportedOperationError,
    Version,
    VersionMode,
)
from reliable_write.testing.engines import Engine
from tests.integration.accounts import Account, Bank, bank, deposit
from tests.world import World

__all__ = ["bank"]


# --- constraints ------------------------------------------------------------------------------------------------------


def test_a_write_whose_record_cannot_be_shown_is_told_as_written(bank: Bank) -> None:
    """An `after_load` that breaks on it is for those to hear who read it: the write has its outcome."""

    class Broken(Constraint[Account]):
        def after_load(self, record: Account) -> None:
            if record.balance == 7:
                raise ZeroDivisionError

    class Shown(Account, table=bank.table, constraints=[Broken]):
        pass

    def seven(record: Shown) -> None:
        record.balance = 7

    account = bank.service().shared.create(Shown(id="a-1"))
    written = account.update(seven)
    assert (written.balance, written.version) == (bank.balance(), bank.version()) == (7, 2)
    with pytest.raises(ZeroDivisionError):
        account.read()


def test_a_stale_write_is_told_as_that_though_what_is_there_cannot_be_shown(bank: Bank) -> None:
    class Broken(Constraint[Account]):
        def after_load(self, record: Account) -> None:
            if record.balance == 7:
                raise ZeroDivisionError

    class Shown(Account, table=bank.table, constraints=[Broken]):
        pass

    account = bank.service().shared.create(Shown(id="a-1"))
    mine = account.read()
    bank.joined().deposit(7)
    with pytest.raises(StaleRecordError):
        account.put(mine)


def test_a_constraint_that_changes_the_key_is_refused_and_nothing_is_written(bank: Bank) -> None:
    """It would be written where nobody who holds it looks."""

    class Lower(Constraint[Account]):
        def before_save(self, record: Account) -> None:
            record.id = record.id.lower()

    class Lowered(Account, table=bank.table, constraints=[Lower]):
        pass

    shared = bank.service().shared
    with pytest.raises(InvalidKeyError, match="a constraint changed the key of this Lowered") as refused:
        shared.create(Lowered(id="A-1"))
    assert refused.value.outcome is Outcome.NOT_WRITTEN
    assert bank.world.items(bank.table) == []
    shared.create(Lowered(id="a-1")).update(deposit(1))
    assert bank.balance() == 1


# --- classes ----------------------------------------------------------------------------------------------------------


class Undated(Record, table="undated"):
    id: Annotated[str, HashKey()]


class Uncounted(Record, table="uncounted"):
    id: Annotated[str, HashKey()]
    version: Annotated[int, Version(VersionMode.NONE)] = 0


class Unchecked(Record, table="unchecked"):
    id: Annotated[str, HashKey()]
    version: Annotated[int, Version(VersionMode.AUTO_INCREMENT)] = 0


@pytest.mark.parametrize("kind", [Undated, Uncounted, Unchecked])
def test_a_class_without_a_checked_version_is_refused_by_name(bank: Bank, kind: type[Record]) -> None:
    shared = bank.service().shared
    with pytest.raises(RecordDefinitionError, match=f"{kind.__name__} has (no version|a version that is not checked)"):
        shared.get(kind, "a-1")
    with pytest.raises(RecordDefinitionError, match=kind.__name__):
        shared.create(kind.from_item({"id": "a-1"}))


class Dated(Record):
    model_config = ConfigDict(frozen=True)
    id: Annotated[str, HashKey()]
    balance: int = 0
    version: Annotated[datetime | None, Version()] = None


def test_frozen_records_and_datetime_versions_are_shared_all_the_same(bank: Bank) -> None:
    kind = cast("type[Dated]", types.new_class("Dated", (Dated,), {"table": bank.table}))
    first, second = bank.service().shared, bank.service().shared
    made = first.create(kind(id="d-1"))
    held = second.get(kind, "d-1")
    assert held is not None
    old = held.read()
    first_version = made.peek().version
    made.update(lambda record: record.model_copy(update={"balance": record.balance + 1}))
    assert held.read().balance == 1
    with pytest.raises(StaleRecordError):
        held.put(old)
    held.delete()
    with pytest.raises(RecordDeletedError):
        made.read()
    again = first.create(kind(id="d-1", balance=5))
    versions = [old.version, first_version, again.peek().version]
    assert versions[0] == versions[1] is not None
    assert versions[1] < versions[2]  # type: ignore[operator]  # neither is None
    assert held.read().balance == 5
    with pytest.raises(StaleRecordError):
        held.put(old)


def test_engines_without_transactions_show_them_and_refuse_to_write_them(
    dynalite: Engine, unique_name: Callable[[str], str]
) -> None:
    world = World(dynalite, unique_name)
    bank = Bank(world)
    world.client.put_item(TableName=bank.table, Item={"id": {"S": "a-1"}, "version": {"N": "4"}})
    service = bank.joined()
    assert service.account.read().version == 4
    for write in (
        lambda: service.deposit(1),
        lambda: service.account.put(service.account.peek()),
        service.account.delete,
        lambda: service.shared.create(bank.kind(id="a-2")),
    ):
        with pytest.raises(UnsupportedOperationError, match="needs TransactWriteItems"):
            write()
    assert bank.version() == 4
    world.close()


def test_what_is_not_meant_is_refused_at_once(bank: Bank) -> None:
    service = bank.service()
    with pytest.raises(TypeError, match="SharedRecords takes a RecordStore, not ReliableWriter"):
        SharedRecords(service.writer)  # type: ignore[arg-type]
    for kept in (-1, float("inf"), float("nan")):
        with pytest.raises(ConfigurationError, match=f"deleted_kept_seconds is {kept}"):
            SharedRecords(service.store, deleted_kept_seconds=kept)
    with pytest.raises(InvalidKeyError):
        service.shared.get(bank.kind, "a-1", "b")
    with pytest.raises(TypeError, match="derived from Record"):
        service.shared.get(dict, "a-1")  # type: ignore[type-var]
