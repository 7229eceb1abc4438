"""What tests of shared records have in common: accounts in any table, and services that hold one."""

from __future__ import annotations

import contextvars
import time
import types
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, cast

import pytest
from pydantic import Field

from reliable_write import HashKey, Record, RecordStore, ReliableWriter, SharedRecord, SharedRecords, Version
from tests.unit.fakes import ManualTime
from tests.world import World

T = TypeVar("T")


class Account(Record):
    """Without a table; `accounts_in` gives it one."""

    id: Annotated[str, HashKey()]
    balance: int = 0
    notes: list[str] = Field(default_factory=list)
    version: Annotated[int, Version()] = 0


def accounts_in(table: str) -> type[Account]:
    return cast("type[Account]", types.new_class("Account", (Account,), {"table": table}))


class Bank:
    """A world with a table of accounts, and services that share them; each has a writer as a process of its own has."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.table = world.table("accounts")
        self.kind = accounts_in(self.table)

    def service(self, **how: Any) -> Service:
        return Service(self, self.world.writer(**how))

    def opened(self, balance: int = 100, **how: Any) -> Service:
        """A service that has made the account `a-1`."""
        service = self.service(**how)
        service.account = service.shared.create(self.kind(id="a-1", balance=balance))
        return service

    def joined(self, **how: Any) -> Service:
        """A service that holds the account `a-1`, which is there."""
        service = self.service(**how)
        service.hold()
        return service

    def stored(self, key: str = "a-1") -> dict[str, Any] | None:
        """The item, as the wire has it."""
        return self.world.item(self.table, id={"S": key})

    def there(self, key: str = "a-1") -> dict[str, Any]:
        item = self.stored(key)
        assert item is not None
        return item

    def balance(self) -> int:
        return int(self.there()["balance"]["N"])

    def version(self) -> int:
        return int(self.there()["version"]["N"])


class Service:
    """Something that holds the account `a-1`."""

    account: SharedRecord[Account]

    def __init__(self, bank: Bank, writer: ReliableWriter, **shared: Any) -> None:
        self.bank = bank
        self.writer = writer
        self.store = RecordStore(writer)
        self.shared = SharedRecords(self.store, **shared)

    def hold(self) -> None:
        account = self.shared.get(self.bank.kind, "a-1")
        assert account is not None
        self.account = account

    def deposit(self, amount: int) -> Account:
        return self.account.update(deposit(amount))


@pytest.fixture
def bank(world: World) -> Bank:
    return Bank(world)


class deposit:  # noqa: N801 - used as a verb
    """A change; counts how often it was called."""

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.calls = 0

    def __call__(self, account: Account) -> None:
        self.calls += 1
        account.balance += self.amount


def elsewhere(do: Callable[..., T], *arguments: Any) -> T:
    """Now, and as if by somebody who has nothing to do with what is going on here."""
    return contextvars.Context().run(do, *arguments)


def manual_time() -> ManualTime:
    """It begins now: an engine holds the stamps of writers whose time passes by itself as well."""
    return ManualTime(time.time())
