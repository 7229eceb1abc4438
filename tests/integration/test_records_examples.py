"""The examples every reader of the records' page meets first: on each engine, through real requests."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest

from reliable_write import (
    ConsistentReadScope,
    Constraint,
    ConstraintViolationError,
    HashKey,
    Outcome,
    RangeKey,
    Record,
    RecordStore,
    ReliableWriteScope,
    StaleRecordError,
    Version,
)
from reliable_write.testing.engines import Capability
from reliable_write.testing.faults import FaultPlan
from tests.records import placed
from tests.world import World


class Employee(Record, table="employees"):
    id: Annotated[UUID, HashKey()]
    name: str


class Address(Record, table="addresses"):
    employee: Annotated[UUID, HashKey()]
    kind: Annotated[str, RangeKey()]
    city: str


class Person(Record, table="people"):
    id: Annotated[UUID, HashKey()]
    name: str


class Account(Record, table="accounts"):
    id: Annotated[str, HashKey()]
    balance: Decimal
    version: Annotated[int, Version()] = 0


class DayOfTheWeek(Constraint["Appointment"]):
    """Days are counted from Monday."""

    def before_save(self, record: Appointment) -> None:
        if not 1 <= record.day <= 7:
            self.refuse("day must be 1-7", "day")


class Appointment(Record, table="appointments", constraints=[DayOfTheWeek()]):
    id: Annotated[str, HashKey()]
    day: int


def test_employee_address_and_person_are_saved_and_deleted_in_one_scope(every_world: World) -> None:
    world = every_world
    employees = placed(Employee, world.table("employees"))
    addresses = placed(Address, world.table("addresses", "employee:S", "kind:S"))
    people = placed(Person, world.table("people"))
    writer = world.writer()
    store = RecordStore(writer)
    person = people(id=uuid4(), name="Ada")
    store.put(person)

    hired = employees(id=person.id, name=person.name)
    address = addresses(employee=hired.id, kind="home", city="London")
    with ReliableWriteScope(writer) as scope:
        scope.put(hired)
        scope.put(address)
        scope.delete(person)
        scope.commit()
    assert store.get(employees, hired.id, consistent=True) == hired
    assert store.get(addresses, hired.id, "home", consistent=True) == address
    assert store.get(people, person.id, consistent=True) is None

    with writer.begin() as scope:
        scope.delete(hired)
        scope.delete(address)
    assert store.get(employees, hired.id, consistent=True) is None
    assert store.get(addresses, hired.id, "home", consistent=True) is None


@pytest.mark.needs(Capability.TRANSACTIONS)
def test_a_stale_account_is_refused_with_both_versions_and_so_is_all_else_of_its_scope(every_world: World) -> None:
    world = every_world
    accounts = placed(Account, world.table("accounts"))
    writer = world.writer()
    store = RecordStore(writer)
    store.put(accounts(id="a", balance=Decimal(1000)))
    mine, theirs = store.get(accounts, "a", consistent=True), store.get(accounts, "a", consistent=True)
    assert mine is not None
    assert theirs is not None
    theirs.balance = Decimal(900)
    store.put(theirs)

    mine.balance = Decimal(100)
    other = accounts(id="b", balance=Decimal(1))
    with ReliableWriteScope(writer) as scope:
        scope.put(other)
        scope.put(mine)
        with pytest.raises(StaleRecordError) as stale:
            scope.commit()
    assert (stale.value.expected, stale.value.actual, stale.value.outcome) == (1, 2, Outcome.NOT_WRITTEN)
    assert stale.value.item == {"id": "a", "balance": Decimal(900), "version": Decimal(2)}
    assert (mine.version, other.version) == (1, 0)
    assert store.get(accounts, "a", consistent=True) == theirs
    assert store.get(accounts, "b", consistent=True) is None


def test_an_appointment_on_day_20_is_refused(every_world: World) -> None:
    world = every_world
    appointments = placed(Appointment, world.table("appointments"))
    writer = world.writer()
    store = RecordStore(writer)
    with pytest.raises(ConstraintViolationError, match="day must be 1-7") as refused:
        store.put(appointments(id="a", day=20))
    assert (refused.value.loc, refused.value.constraint) == (("day",), "DayOfTheWeek")
    assert (refused.value.outcome, refused.value.table) == (Outcome.NOT_WRITTEN, appointments.__layout__.table)
    store.put(appointments(id="b", day=7))
    assert [found.id for found in store.scan(appointments, consistent=True)] == ["b"]


def test_reads_are_consistent_in_the_scope_and_eventually_so_outside(every_world: World) -> None:
    world = every_world
    people = placed(Person, world.table("people"))
    writer = world.writer()
    store = RecordStore(writer)
    person = people(id=uuid4(), name="Ada")
    store.put(person)

    def read_all() -> list[Person | None]:
        return [
            store.get(people, person.id),
            *store.batch_get(people, [person.id]),
            *store.query(people, person.id),
            *store.scan(people),
        ]

    with FaultPlan(writer.client) as plan:
        outside = read_all()
        with ConsistentReadScope():
            inside = read_all()
    assert outside == inside == [person] * 4
    assert [(call.operation, asked_consistently(call.body)) for call in plan.calls] == [
        (operation, consistent)
        for consistent in (False, True)
        for operation in ("GetItem", "BatchGetItem", "Query", "Scan")
    ]


def asked_consistently(body: bytes) -> Any:
    """What a read's body says of it."""
    request = json.loads(body)
    for part in request.get("RequestItems", {"": request}).values():
        return part["ConsistentRead"]
    raise AssertionError
