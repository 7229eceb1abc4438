"""Constraints: classes that have a say before a record is saved or deleted, and after it is loaded.

    class DayIsKnown(Constraint["Appointment"]):
        def before_save(self, record: Appointment) -> None:
            if not 1 <= record.day <= 7:
                self.refuse("day must be 1-7", "day")

    class Appointment(Record, table="appointments", constraints=[DayIsKnown()]): ...

They see a copy. What they change on it is validated anew and written; the caller's object gets it once it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, NoReturn, Protocol, Self, TypeVar

from pydantic import ConfigDict, ValidationError

from reliable_write.errors import ConstraintViolationError, InvalidItemError, RecordDefinitionError, RecordLoadError
from reliable_write.records.layout import Layout


class Constrained(Protocol):
    """What is needed of a record here."""

    __layout__: ClassVar[Layout]
    __constraints__: ClassVar[Sequence[Constraint[Any]]]
    model_config: ClassVar[ConfigDict]

    def to_item(self) -> dict[str, Any]:
        """See `Record.to_item`."""
        ...

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Self:
        """See `Record.from_item`."""
        ...

    def key(self) -> dict[str, Any]:
        """See `Record.key`."""
        ...

    def model_copy(self, *, deep: bool = False) -> Self:
        """See `pydantic.BaseModel.model_copy`."""
        ...


Constraints = Sequence["Constraint[Any] | type[Constraint[Any]]"]
"""What a record class says of its constraints: `class Employee(Record, constraints=[DayIsKnown()])`."""

T = TypeVar("T")
C = TypeVar("C", bound=Constrained)


class Constraint(Generic[T]):
    """A rule of a record type. Override what it has a say in.

    Each method gets a copy of the record, changes it in place or returns another one in its stead (as for a frozen
    model), and refuses by `self.refuse(...)`. A `ValueError` raised inside refuses as well; its words become the
    message, so they should hold no values. One instance serves all records and threads.
    """

    def before_save(self, record: T) -> T | None:
        """Before a put; in a scope when it is recorded."""
        return record

    def after_load(self, record: T) -> T | None:
        """After `get`, `batch_get`, `query` and `scan`, before anybody sees the record."""
        return record

    def before_delete(self, record: T) -> None:
        """Before a delete of a record. A delete by key alone asks nobody: there is no record."""

    def refuse(self, message: str, *loc: int | str) -> NoReturn:
        """Raise `ConstraintViolationError`; `loc` is where: `self.refuse("must be 1-7", "lines", 3, "day")`."""
        raise ConstraintViolationError(message, loc=loc, constraint=type(self).__name__)


def gathered(model: type, own: Constraints) -> tuple[Constraint[Any], ...]:
    """The constraints of a record class: its parents' first, then its own, in order.

    Raises `RecordDefinitionError` for what is no constraint.
    """
    inherited: list[Constraint[Any]] = []
    for parent in model.__bases__:
        inherited += [one for one in getattr(parent, "__constraints__", ()) if one not in inherited]
    return (*inherited, *(_checked(model, one) for one in own))


def _checked(model: type, given: Any) -> Constraint[Any]:
    one = given() if isinstance(given, type) and issubclass(given, Constraint) else given
    if not isinstance(one, Constraint):
        raise RecordDefinitionError(
            f"{model.__name__}: constraints holds a {type(one).__name__}, which is no Constraint. Derive it from "
            "reliable_write.Constraint."
        )
    return one


def before_save(record: C) -> C:
    """The record to write: this very one where no constraint changes anything. Raises `ConstraintViolationError`."""
    return _applied(record, "before_save")


def after_load(record: C) -> C:
    """The record to show. Raises `ConstraintViolationError`."""
    return _applied(record, "after_load")


def before_delete(record: C) -> None:
    """Ask all of them. Raises `ConstraintViolationError`."""
    for constraint in _having_a_say(record, "before_delete"):
        _asked(constraint, constraint.before_delete, record)


def _applied(record: C, name: str) -> C:
    for constraint in _having_a_say(record, name):
        changed = _asked(constraint, getattr(constraint, name), record)
        if changed != record:
            record = _validated(constraint, record, changed)
    return record


def _having_a_say(record: Constrained, name: str) -> list[Constraint[Any]]:
    """Those that override this method: no copy is made for the others."""
    default = getattr(Constraint, name)
    return [one for one in type(record).__constraints__ if getattr(type(one), name) is not default]


def _asked(constraint: Constraint[Any], method: Callable[[C], C | None], record: C) -> C:
    """What it makes of a copy of the record."""
    copy = record.model_copy(deep=True)
    try:
        instead = method(copy)
    except ConstraintViolationError as refusal:
        raise _located(refusal, constraint, record) from refusal.__cause__
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    except ValueError as error:
        raise _located(ConstraintViolationError(str(error)), constraint, record) from error
    else:
        return copy if instead is None else instead
    # Outside the handler: pydantic's error shows values, and must not hang on to ours.
    raise _located(ConstraintViolationError(first["type"], loc=first["loc"]), constraint, record)


def _located(refusal: ConstraintViolationError, constraint: Constraint[Any], record: Constrained) -> Exception:
    layout, name = type(record).__layout__, refusal.constraint or type(constraint).__name__
    place = ".".join([layout.model.__name__, *map(str, refusal.loc)])
    return ConstraintViolationError(
        f"{place}: {refusal.message} (refused by {name}). Nothing was written.",
        loc=refusal.loc,
        constraint=name,
        table=layout.table,
    )


def _validated(constraint: Constraint[Any], record: C, changed: C) -> C:
    """The record with what was changed as it would come back from the table."""
    if type(changed) is not type(record):
        raise TypeError(f"{type(constraint).__name__} made a {type(changed).__name__} of a {type(record).__name__}.")
    try:
        valid = type(record).from_item(changed.to_item())
    except (RecordLoadError, InvalidItemError) as error:
        path = error.path if isinstance(error, InvalidItemError) else error.problems[0].path
        raise _located(
            ConstraintViolationError("was set to what it cannot be", loc=(path or "",)), constraint, record
        ) from error
    instead = changed.model_copy()
    for name, field in type(record).__layout__.model.model_fields.items():
        # An excluded field is no part of an item. What is not changed keeps its type: a union may come back as another.
        if not field.exclude and vars(changed)[name] != vars(record)[name]:
            vars(instead)[name] = vars(valid)[name]
    return instead
