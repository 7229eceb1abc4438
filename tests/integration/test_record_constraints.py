"""Constraints: who is asked when, what they may change, what the local object learns of it, and how they refuse."""

from __future__ import annotations

import functools
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from pydantic import ConfigDict, Field, ValidationError, field_validator

from reliable_write import (
    CommitUnknownError,
    Constraint,
    ConstraintViolationError,
    HashKey,
    Outcome,
    Record,
    RecordDefinitionError,
    RecordStore,
    ReliableWriteScope,
    StaleRecordError,
    Version,
)
from reliable_write.testing.faults import FaultPlan, lose_answer
from tests.records import placed
from tests.world import World


class Recorder(Constraint["Employee"]):
    """Tells what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def before_save(self, record: Employee) -> None:
        self.asked.append(f"save {record.name}")

    def after_load(self, record: Employee) -> None:
        self.asked.append(f"load {record.name}")

    def before_delete(self, record: Employee) -> None:
        self.asked.append(f"delete {record.name}")


class Tidy(Constraint["Employee"]):
    """Changes on the way in, also inside of a list."""

    def before_save(self, record: Employee) -> None:
        record.name = record.name.strip()
        record.tags.append("tidy")


class NotBoss(Constraint["Employee"]):
    def before_save(self, record: Employee) -> None:
        if record.name == "Boss":
            raise ValueError("nobody is called that")

    def before_delete(self, record: Employee) -> None:
        if "keep" in record.tags:
            self.refuse("is to be kept", "tags", record.tags.index("keep"))


RECORDER = Recorder()


class Employee(Record, table="employees", constraints=[Tidy, NotBoss(), RECORDER]):
    id: Annotated[str, HashKey()]
    name: str = Field(min_length=2)
    tags: list[str] = Field(default_factory=list)
    note: str = Field(default="", exclude=True)
    version: Annotated[int, Version()] = 0

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name == "Nobody":
            raise ValueError("nobody is no name")
        return name


@pytest.fixture
def employees(world: World) -> type[Employee]:
    RECORDER.asked.clear()
    return placed(Employee, world.table("employees"))


@pytest.fixture
def store(world: World) -> RecordStore:
    return RecordStore(world.writer())


def test_they_are_asked_in_order_before_a_save_after_each_load_and_before_a_delete(
    store: RecordStore, employees: type[Employee]
) -> None:
    ada = employees(id="a", name=" Ada ")
    store.put(ada)
    store.get(employees, "a")
    store.batch_get(employees, ["a", "gone"])
    list(store.query(employees, "a"))
    list(store.scan(employees))
    store.get(employees, "a", pending=True)
    store.delete(ada)
    assert RECORDER.asked == ["save Ada", *["load Ada"] * 5, "delete Ada"]
    store.delete_key(employees, "a")
    assert len(RECORDER.asked) == 7


def test_what_they_change_is_written_and_the_local_object_learns_it_with_the_outcome(
    world: World, employees: type[Employee]
) -> None:
    writer = world.writer()
    ada = employees(id="a", name=" Ada ", note="mine")
    scope = ReliableWriteScope(writer)
    scope.put(ada)
    assert (ada.name, ada.tags) == (" Ada ", [])
    scope.commit()
    assert (ada.name, ada.tags, ada.note, ada.version) == ("Ada", ["tidy"], "mine", 1)
    assert RecordStore(writer).get(employees, "a") == employees(id="a", name="Ada", tags=["tidy"], version=1)


def test_what_they_do_not_change_stays_as_it_is_also_where_a_table_would_give_it_back_otherwise(
    world: World, store: RecordStore
) -> None:
    class Named(Constraint["Mixed"]):
        def before_save(self, record: Mixed) -> None:
            record.name = f"{record.name}!{record._private}"
            record.twice = record.name * 2

    class Mixed(Record, table=world.table("mixed"), constraints=[Named, Named]):
        id: Annotated[str, HashKey()]
        name: str
        number: UUID | str
        twice: str = Field(default="", exclude=True)

        @functools.cached_property
        def loud(self) -> str:
            return self.name.upper()

        _private: int = 0

    record = Mixed(id="a", name="x", number=uuid4())
    assert record.loud == "X"
    record._private = 7
    store.put(record)
    assert (record.name, type(record.number), record._private) == ("x!7!7", UUID, 7)
    assert record.twice == "x!7!7x!7!7"


def test_what_was_set_to_something_else_meanwhile_stays(world: World, employees: type[Employee]) -> None:
    ada = employees(id="a", name=" Ada ")
    with world.writer().begin() as scope:
        scope.put(ada)
        ada.name = "Grace"
        ada.tags.append("new")
    assert (ada.name, ada.tags, ada.version) == ("Grace", ["new"], 1)


def test_with_unknown_the_local_object_learns_nothing_until_it_is_settled(
    world: World, employees: type[Employee]
) -> None:
    writer = world.hasty()
    ada = employees(id="a", name=" Ada ")
    plan = FaultPlan(writer.client).on("TransactWriteItems", lose_answer, "after", having=b'"Put"')
    with plan, pytest.raises(CommitUnknownError) as unknown:
        RecordStore(writer).put(ada)
    assert (ada.name, ada.version) == (" Ada ", 0)
    unknown.value.scope.commit()
    assert (ada.name, ada.tags, ada.version) == ("Ada", ["tidy"], 1)


def test_a_refused_record_is_no_part_of_the_scope_and_the_rest_is_committed(
    world: World, employees: type[Employee]
) -> None:
    with world.writer().begin() as scope:
        scope.put(employees(id="a", name="Ada"))
        with pytest.raises(ConstraintViolationError) as refused:
            scope.put(employees(id="b", name="Boss"))
        with pytest.raises(ConstraintViolationError) as batch:
            scope.put_items([employees(id="c", name="Grace"), employees(id="b", name="Boss")])
        assert len(scope) == 1
    assert (refused.value.operation, batch.value.operation) == ("operations[1]", "operations[1].items[1]")
    assert [item["id"]["S"] for item in world.items(employees.__layout__.table)] == ["a"]


def test_a_value_error_becomes_a_refusal_in_its_own_words(store: RecordStore, employees: type[Employee]) -> None:
    with pytest.raises(ConstraintViolationError, match=r"Employee: nobody is called that.*NotBoss") as refused:
        store.put(employees(id="a", name="Boss"))
    error = refused.value
    assert (error.loc, error.constraint, error.table) == ((), "NotBoss", employees.__layout__.table)
    assert (error.outcome, type(error.__cause__)) == (Outcome.NOT_WRITTEN, ValueError)


def test_a_refusal_says_where(store: RecordStore, employees: type[Employee]) -> None:
    kept = employees(id="a", name="Ada", tags=["one", "keep"])
    store.put(kept)
    with pytest.raises(ConstraintViolationError, match=r"Employee\.tags\.1: is to be kept") as refused:
        store.delete(kept)
    assert (refused.value.loc, refused.value.constraint) == (("tags", 1), "NotBoss")
    assert store.get(employees, "a") is not None


def test_pydantics_own_validators_work_as_ever_and_what_is_changed_is_validated_again(
    world: World, store: RecordStore
) -> None:
    class Wrong(Constraint["Short"]):
        def before_save(self, record: Short) -> None:
            record.name = {"a": "x", "b": "Nobody", "c": 7}.get(record.id, record.name)  # type: ignore[assignment]

    class Short(Employee, table=world.table("short"), constraints=[Wrong]):
        pass

    with pytest.raises(ValidationError):
        Short(id="a", name="x")
    for key in "abc":
        with pytest.raises(ConstraintViolationError, match="set to what it cannot be") as refused:
            store.put(Short(id=key, name="Ada"))
        assert (refused.value.constraint, refused.value.loc) == ("Wrong", ("name",))
        assert "Nobody" not in refused.value.message
    store.put(Short(id="d", name="Ada"))


def test_pydantics_errors_inside_of_one_are_told_without_their_values(world: World, store: RecordStore) -> None:
    class Nested(Constraint["Any"]):
        def before_save(self, record: Any) -> None:
            Employee(id="a", name=record.id)

    class Inner(Record, table=world.table("inner"), constraints=[Nested]):
        id: Annotated[str, HashKey()]

    with pytest.raises(ConstraintViolationError, match=r"Inner\.name: string_too_short") as refused:
        store.put(Inner(id="§"))
    error: BaseException | None = refused.value
    while error is not None:
        assert "§" not in str(error)
        error = error.__cause__ or error.__context__


def test_after_load_changes_and_refuses_what_is_shown(world: World, store: RecordStore) -> None:
    class Upper(Constraint["Plain"]):
        def after_load(self, record: Plain) -> None:
            if record.name == "secret":
                self.refuse("is not for everybody", "name")
            record.name = record.name.upper()

    class Plain(Record, table=world.table("plain"), constraints=[Upper()]):
        id: Annotated[str, HashKey()]
        name: str
        version: Annotated[int, Version()] = 0

    store.put_all([Plain(id="a", name="ada"), Plain(id="b", name="secret")])
    found = store.get(Plain, "a")
    assert found is not None
    assert found.name == "ADA"
    with pytest.raises(ConstraintViolationError, match="is not for everybody"):
        store.get(Plain, "b")
    with pytest.raises(StaleRecordError) as stale:
        store.put(Plain(id="b", name="x"))
    assert stale.value.item is not None
    assert stale.value.item["name"] == "secret", "what is stale is told as it is in the table"


def test_a_frozen_record_is_changed_by_returning_another(world: World, store: RecordStore) -> None:
    class Loud(Constraint["Frozen"]):
        def before_save(self, record: Frozen) -> Frozen:
            return record.model_copy(update={"name": record.name.upper()})

    class Frozen(Record, table=world.table("frozen"), constraints=[Loud()]):
        model_config = ConfigDict(frozen=True)

        id: Annotated[str, HashKey()]
        name: str

    record = Frozen(id="a", name="ada")
    store.put(record)
    assert record.name == "ada"
    assert store.get(Frozen, "a") == Frozen(id="a", name="ADA")


def test_they_are_inherited_parents_first(world: World, store: RecordStore) -> None:
    def naming(name: str) -> Constraint[Any]:
        class Named(Constraint[Any]):
            def before_save(self, record: Any) -> None:
                record.names.append(name)

        return Named()

    class Base(Record, constraints=[naming("base")]):
        id: Annotated[str, HashKey()]
        names: list[str] = Field(default_factory=list)

    class Child(Base, table=world.table("child"), constraints=[naming("first"), naming("second")]):
        pass

    class Grandchild(Child):
        pass

    for kind, names in ((Child, ["base", "first", "second"]), (Grandchild, ["base", "first", "second"])):
        record = kind(id="a")
        store.put(record)
        assert record.names == names
    assert Base.__constraints__ == Child.__constraints__[:1]


@pytest.mark.parametrize("given", [[object()], [dict], ["Tidy"]])
def test_what_is_no_constraint_is_refused_when_the_class_is_made(given: Any) -> None:
    with pytest.raises(RecordDefinitionError, match="Wrong: constraints holds"):

        class Wrong(Record, table="wrong", constraints=given):
            id: Annotated[str, HashKey()]


def test_one_that_makes_something_else_of_a_record_is_told_so(world: World, store: RecordStore) -> None:
    class Odd(Constraint[Any]):
        def before_save(self, record: Any) -> Any:
            return {"id": record.id}

    class Plain(Record, table=world.table("plain"), constraints=[Odd]):
        id: Annotated[str, HashKey()]

    with pytest.raises(TypeError, match="Odd made a dict of a Plain"):
        store.put(Plain(id="a"))


def test_any_other_exception_passes_unchanged(world: World, store: RecordStore) -> None:
    class Broken(Constraint[Any]):
        def before_save(self, record: Any) -> None:
            raise KeyError(record.id)

    class Plain(Record, table=world.table("plain"), constraints=[Broken]):
        id: Annotated[str, HashKey()]

    with pytest.raises(KeyError):
        store.put(Plain(id="a"))
    assert world.items(Plain.__layout__.table) == []
