"""From a record to an item and back: nothing is lost, and nothing changes its type."""

import enum
import math
from collections import deque
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from boto3.dynamodb.types import Binary, TypeSerializer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from reliable_write import FloatAs, HashKey, InvalidItemError, InvalidKeyError, RangeKey, Record, RecordLoadError
from reliable_write.records.layout import MISSING
from reliable_write.values import decode_item, encode_item
from tests.unit.records.everything import Everything, Line, everything, moments, typed
from tests.unit.test_values import comparable


def through_the_wire(record: Record) -> Any:
    return type(record).from_item(decode_item(encode_item(record.to_item(), "test")))


@given(everything)
def test_a_record_of_every_type_comes_back_equal_and_of_the_same_types(record: Everything) -> None:
    again = through_the_wire(record)
    assert again == record
    assert typed(again) == typed(record)
    assert again.to_item() == record.to_item()


@given(everything)
def test_an_item_of_a_record_is_encoded_as_boto3_would(record: Everything) -> None:
    item, serialize = record.to_item(), TypeSerializer().serialize
    theirs = {name: comparable(serialize(value)) for name, value in item.items()}
    assert {name: comparable(value) for name, value in encode_item(item, "test").items()} == theirs


@given(everything)
def test_making_an_item_changes_nothing_of_the_record(record: Everything) -> None:
    before = typed(record.model_copy(deep=True))
    record.to_item()
    assert typed(record) == before


@given(everything)
def test_a_records_key_is_what_its_item_says(record: Everything) -> None:
    item = record.to_item()
    assert record.key() == {"id": item["id"], "day": item["day"]}
    assert Everything.__layout__.key_of(record.id, record.day) == record.key()
    assert Everything.__layout__.key_of(str(record.id), record.day.isoformat()) == record.key()


class Sample(Record, table="samples"):
    id: Annotated[str, HashKey()] = "a"
    x: Any = None


def item_of(value: Any) -> Any:
    return Sample(x=value).to_item()["x"]


class Plain(enum.Enum):
    RED = "red"


class Weekday(enum.IntEnum):
    MONDAY = 1


PLUS_TWO = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("text", "text"),
        (7, 7),
        (Decimal("1.50"), Decimal("1.50")),
        (True, True),
        (b"raw", b"raw"),
        (bytearray(b"raw"), bytearray(b"raw")),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Plain.RED, "red"),
        (Weekday.MONDAY, 1),
        (datetime(2024, 2, 29, 12, tzinfo=UTC), "2024-02-29T12:00:00.000000Z"),
        (datetime(2024, 2, 29, 1, 30, 0, 5, tzinfo=PLUS_TWO), "2024-02-28T23:30:00.000005Z"),
        (datetime(33, 1, 1, tzinfo=UTC), "0033-01-01T00:00:00.000000Z"),
        (date(2024, 2, 29), "2024-02-29"),
        (time(12, 30), "12:30:00.000000"),
        (time(12, 30, tzinfo=PLUS_TWO), "12:30:00.000000+02:00"),
        (timedelta(days=1, microseconds=1), "P1DT0.000001S"),
        ((1, "a"), [1, "a"]),
        (deque([1, 2]), [1, 2]),
        ({"a", "b"}, {"a", "b"}),
        (frozenset({UUID(int=1)}), {"00000000-0000-0000-0000-000000000001"}),
        ({Plain.RED}, {"red"}),
        (set(), []),
        ({"a": {Plain.RED: UUID(int=1)}}, {"a": {"red": "00000000-0000-0000-0000-000000000001"}}),
        ({1: "a", date(2024, 1, 1): "b"}, {"1": "a", "2024-01-01": "b"}),
        (Line(p=Decimal(1)), {"p": Decimal(1), "count": 1, "note": None, "marks": [], "weight": Decimal("0.0")}),
    ],
)
def test_what_each_type_is_in_an_item(value: Any, stored: Any) -> None:
    found = item_of(value)
    assert found == stored
    assert typed(found) == typed(stored)


# --- None and the empty set ---------------------------------------------------------------------------------------


class Absences(Record, table="absences"):
    id: Annotated[str, HashKey()] = "a"
    nothing: str | None = None
    something: str | None = "something"
    required: str | None
    tags: set[str] = set()
    made: frozenset[int] = Field(default_factory=frozenset)
    needed: set[str]
    preset: set[str] = {"preset"}
    maybe: set[str] | None = None


EMPTY = Absences(
    nothing=None, something=None, required=None, tags=set(), made=frozenset(), needed=set(), preset=set(), maybe=set()
)


def test_what_loading_would_put_in_place_is_left_out_and_anything_else_is_written() -> None:
    """An index key may be no NULL and no list: where it can be, what is absent is an absent attribute."""
    assert EMPTY.to_item() == {"id": "a", "something": None, "required": None, "preset": [], "maybe": []}
    assert typed(through_the_wire(EMPTY)) == typed(EMPTY)


def test_what_is_missing_is_loaded_as_its_default() -> None:
    loaded = Absences.from_item({"id": "a", "required": None})
    assert loaded == Absences(required=None, needed=set())
    assert loaded.preset == {"preset"}


def test_an_empty_set_left_out_is_one_of_its_own_for_each_record() -> None:
    one, other = (Absences.from_item({"id": "a", "required": None}) for _ in range(2))
    one.needed.add("x")
    one.tags.add("y")
    assert other.needed == other.tags == set()


# --- floats -------------------------------------------------------------------------------------------------------


class Rates(Record, table="rates"):
    id: Annotated[str, HashKey()] = "a"
    number: Annotated[float | None, FloatAs.NUMBER] = None
    text: Annotated[float | None, FloatAs.STRING] = None
    inside: Annotated[dict[str, tuple[float, ...]], FloatAs.NUMBER] = {}


@given(st.floats(allow_nan=False))
def test_a_float_kept_as_text_comes_back_to_the_last_bit(rate: float) -> None:
    again = through_the_wire(Rates(text=rate)).text
    assert math.copysign(1, again) == math.copysign(1, rate)
    assert again == rate


@given(st.floats(-1e125, 1e125).filter(lambda rate: rate == 0 or abs(rate) > 1e-130))
def test_a_float_kept_as_a_number_comes_back_to_the_last_bit(rate: float) -> None:
    assert through_the_wire(Rates(number=rate)).number == rate


def test_not_a_number_comes_back_from_text() -> None:
    assert Rates(text=math.nan).to_item()["text"] == "nan"
    assert math.isnan(through_the_wire(Rates(text=math.nan)).text)


def test_floats_are_decimals_and_strings_in_an_item_and_floats_in_the_model() -> None:
    rates = Rates(number=0.1, text=0.1, inside={"a": (0.5, 1.5)})
    assert rates.to_item() == {
        "id": "a",
        "number": Decimal("0.1"),
        "text": "0.1",
        "inside": {"a": [Decimal("0.5"), Decimal("1.5")]},
    }
    assert rates.model_dump() == {"id": "a", "number": 0.1, "text": 0.1, "inside": {"a": (0.5, 1.5)}}
    assert '"number":0.1' in rates.model_dump_json()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused_by_path_with_the_other_choice(bad: float) -> None:
    for rates, path in ((Rates(number=bad), "number"), (Rates(inside={"a": (0.5, bad)}), "inside.a[1]")):
        refused(rates, path, "FloatAs.STRING")


@pytest.mark.parametrize("bad", [1e126, 1e300, 5e-324])
def test_a_float_beyond_dynamodbs_numbers_is_refused_before_it_is_sent(bad: float) -> None:
    with pytest.raises(InvalidItemError, match="number"):
        encode_item(Rates(number=bad).to_item(), "test")


# --- what cannot be stored ----------------------------------------------------------------------------------------


def refused(record: Record, path: str, *words: str) -> None:
    with pytest.raises(InvalidItemError) as caught:
        record.to_item()
    message = str(caught.value)
    assert message.startswith(f"{type(record).__name__}: {path} ")
    assert caught.value.path == path
    assert caught.value.table == type(record).__layout__.table
    assert caught.value.__cause__ is caught.value.__context__ is None
    for word in words:
        assert word in message


class Fixed(tzinfo):
    """A zone that knows no offset for a time without a date, as those of the world do."""

    def utcoffset(self, _moment: datetime | None) -> timedelta | None:
        return None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.5, "FloatAs.NUMBER"),
        (math.nan, "FloatAs.STRING"),
        (datetime(2024, 1, 1), "time zone"),  # noqa: DTZ001 - the point
        (datetime(1, 1, 1, tzinfo=PLUS_TWO), "years"),
        (time(1, tzinfo=ZoneInfo("Europe/Berlin")), "zone"),
        (time(1, tzinfo=timezone(timedelta(seconds=1))), "zone"),
        (1j, "complex"),
        (object(), "serializer"),
        (SecretStr("secret"), "serializer"),
        ({(1, 2)}, "set"),
        ({1.5}, "float"),
        ({1: "a", "1": "b"}, "two keys"),
        ({True: "a"}, "bool"),
        ({None: "a"}, "NoneType"),
    ],
    ids=lambda given: given if isinstance(given, str) else type(given).__name__,
)
def test_what_cannot_be_stored_is_refused_by_class_and_path(value: Any, words: str) -> None:
    refused(Sample(x=value), "x", words)
    refused(Sample(x={"lines": [0, {"price": value}]}), "x.lines[1].price", words)


def test_a_naive_datetime_is_refused_with_its_path_and_the_advice() -> None:
    class Moments(Record, table="moments"):
        id: Annotated[str, HashKey()] = "a"
        when: list[datetime]

    refused(Moments(when=[datetime(2024, 1, 1)]), "when[0]", "timezone.utc", "AwareDatetime")  # noqa: DTZ001


@given(st.sampled_from([1.5, object(), datetime(2024, 1, 1), {1.5}]), st.text(min_size=1))  # noqa: DTZ001
def test_a_refusal_never_holds_a_value(bad: Any, name: str) -> None:
    marker = "s3cret-s3cret"
    with pytest.raises(InvalidItemError) as caught:
        Sample(x=[marker, {name: [marker, bad]}]).to_item()
    assert marker not in str(caught.value)
    assert str(caught.value).isprintable()


# --- what was assigned without validation -------------------------------------------------------------------------


class Line2(BaseModel):
    price: Decimal = Decimal(1)


class Order(Record, table="orders"):
    id: Annotated[str, HashKey()] = "a"
    count: int = 1
    lines: list[Line2] = []
    either: int | str = 1


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [("count", "s3cret", "count"), ("count", "5", "count"), ("either", [1], "either.int")],
)
def test_a_value_that_its_field_does_not_take_is_not_stored(field: str, value: Any, path: str) -> None:
    for order in (Order().model_copy(update={field: value}), Order()):
        setattr(order, field, value)
        refused(order, path, "validate_assignment")


def test_a_wrong_value_inside_is_named_by_its_path_and_not_shown() -> None:
    order = Order(lines=[Line2(), Line2()])
    order.lines[1].price = "s3cret"  # type: ignore[assignment]  # the point
    refused(order, "lines[1].price", "validate_assignment")
    with pytest.raises(InvalidItemError) as caught:
        order.to_item()
    assert "s3cret" not in str(caught.value)


def test_what_pydantic_only_doubts_and_what_comes_back_the_same_is_stored() -> None:
    order = Order()
    order.lines = (Line2(),)  # type: ignore[assignment]  # a tuple is a list to an item
    assert order.to_item()["lines"] == [{"price": Decimal(1)}]


# --- loading ------------------------------------------------------------------------------------------------------


class Employee(Record, table="employees"):
    id: Annotated[UUID, HashKey()]
    started: Annotated[date, RangeKey()]
    email: str | None = Field(default=None, alias="mail")
    salary: Decimal = Decimal(0)
    lines: list[Line] = []


KEY = {"id": str(UUID(int=7)), "started": "2024-02-29"}


def load_error(item: dict[str, Any], model: type[Record] = Employee) -> RecordLoadError:
    with pytest.raises(RecordLoadError) as caught:
        model.from_item(item)
    assert caught.value.__cause__ is caught.value.__context__ is None
    return caught.value


def test_an_item_that_is_no_record_is_told_by_table_key_names_places_and_kinds() -> None:
    error = load_error({**KEY, "salary": "s3cret", "lines": [{"p": 1}, {"p": "s3cret"}], "mail": 7})
    assert error.table == "employees"
    assert error.key == KEY
    assert [(problem.path, problem.kind) for problem in error.problems] == [
        ("mail", "string_type"),
        ("salary", "decimal_parsing"),
        ("lines[1].p", "decimal_parsing"),
    ]
    message = str(error)
    for word in ("employees", "Employee", "id, started", "lines[1].p (decimal_parsing)"):
        assert word in message
    for value in ("s3cret", *KEY.values()):
        assert value not in message


def test_a_missing_attribute_is_told_by_its_name_in_the_table() -> None:
    error = load_error({"started": "2024-02-29"})
    assert [(problem.path, problem.kind) for problem in error.problems] == [("id", "missing")]
    assert error.key == {"started": "2024-02-29"}


def test_a_message_names_five_problems_at_most() -> None:
    error = load_error({**KEY, "lines": [{} for _ in range(9)]})
    assert len(error.problems) == 9
    assert "and 4 more" in str(error)


def test_an_attribute_named_as_an_aliased_field_is_not_taken_for_it() -> None:
    assert Employee.from_item({**KEY, "email": "unknown attribute"}).email is None
    assert Employee.from_item({**KEY, "mail": "a@b"}).email == "a@b"


def test_a_strict_class_is_loaded_all_the_same() -> None:
    class Strict(Record, table="strict", strict=True):
        id: Annotated[UUID, HashKey(), Field(strict=True)]
        day: date
        count: Annotated[int, Field(strict=True)]
        rate: Annotated[float, FloatAs.NUMBER]

    record = Strict(id=UUID(int=1), day=date(2024, 1, 1), count=1, rate=1.0)
    assert Strict.__layout__.key_of(str(UUID(int=1))) == record.key()
    assert typed(through_the_wire(record)) == typed(record)


# --- unknown attributes -------------------------------------------------------------------------------------------

STAMPS = {"_rw": "x" * 36, "_rwu": "y" * 36}
UNKNOWN: dict[str, Any] = {
    "more": Decimal(5),
    "raw": Binary(b"x"),
    "names": {"a", "b"},
    "deep": {"numbers": [Decimal("1.10"), {"b": Binary(b"y")}], "none": None, "flag": True},
}


class Ignoring(Record, table="t"):
    id: Annotated[str, HashKey()]
    size: int = 0


class Keeping(Ignoring, unknown="keep"):
    pass


class Refusing(Ignoring, unknown="refuse"):
    pass


def test_unknown_attributes_are_ignored_unless_said_otherwise() -> None:
    record = Ignoring.from_item({"id": "a", **UNKNOWN})
    assert record.to_item() == {"id": "a", "size": 0}
    assert record.unknown_attributes() == {}


def test_kept_unknown_attributes_survive_a_change_with_their_types() -> None:
    record = Keeping.from_item({"id": "a", "size": Decimal(1), **UNKNOWN, **STAMPS})
    record.size = 2
    for copy in (record, record.model_copy(), record.model_copy(deep=True), record.model_copy(update={"id": "a"})):
        item = copy.to_item()
        assert item == {"id": "a", "size": 2, **UNKNOWN}
        assert all(type(item[name]) is type(value) for name, value in UNKNOWN.items())
        assert encode_item(item, "x") == encode_item({"id": "a", "size": 2, **UNKNOWN}, "x")
        assert copy.unknown_attributes() == UNKNOWN
    assert set(record.model_dump()) == {"id", "size"}


def test_kept_unknown_attributes_count_in_a_comparison() -> None:
    assert Keeping.from_item({"id": "a", "x": 1}) != Keeping.from_item({"id": "a", "x": 2})
    assert Keeping.from_item({"id": "a"}) == Keeping(id="a")


def test_unknown_attributes_are_refused_by_name() -> None:
    error = load_error({"id": "a", "s3cret name": "s3cret", "x\ny": 1}, Refusing)
    assert [(problem.path, problem.kind) for problem in error.problems] == [
        ("s3cret name", "unknown_attribute"),
        ("x\ny", "unknown_attribute"),
    ]
    assert str(error).isprintable()
    assert Refusing.from_item({"id": "a", **STAMPS}) == Refusing(id="a")


@pytest.mark.parametrize("model", [Ignoring, Keeping, Refusing])
def test_stamps_never_come_into_a_record(model: type[Ignoring]) -> None:
    record = model.from_item({"id": "a", **STAMPS})
    assert record == model(id="a")
    assert not {*record.to_item(), *record.model_dump(), *record.unknown_attributes()} & {*STAMPS}


# --- keys ---------------------------------------------------------------------------------------------------------


def test_a_key_is_made_of_what_the_fields_take() -> None:
    key_of = Employee.__layout__.key_of
    assert key_of(UUID(int=7), date(2024, 2, 29)) == key_of(*KEY.values()) == KEY


def test_a_key_that_is_looked_for_is_made_by_the_classs_own_configuration() -> None:
    class Lower(Record, table="lower", str_to_lower=True):
        id: Annotated[str, HashKey()]

    assert Lower.__layout__.key_of("ABC") == Lower(id="ABC").key() == {"id": "abc"}


def key_error(*values: Any, model: type[Record] = Employee) -> str:
    with pytest.raises(InvalidKeyError) as caught:
        model.__layout__.key_of(*values)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert caught.value.table == model.__layout__.table
    return str(caught.value)


def test_a_key_that_its_field_does_not_take_is_refused_by_field_and_never_shown() -> None:
    message = key_error("s3cret", date(2024, 2, 29))
    assert "Employee" in message
    assert " id " in message
    assert "s3cret" not in message
    assert "started" in key_error(UUID(int=7), "s3cret")
    assert "started" in key_error(UUID(int=7), None)


def test_a_missing_or_surplus_range_key_is_refused() -> None:
    assert "started" in key_error(UUID(int=7))
    assert "no range key" in key_error("a", "b", model=Sample)
    assert "no range key" in key_error("a", None, model=Sample)
    assert Sample.__layout__.key_of("a", MISSING) == {"id": "a"}


@given(moments, moments)
def test_datetimes_sort_as_their_text_does(one: datetime, other: datetime) -> None:
    assert (one < other) == (item_of(one) < item_of(other))


@given(st.dates(), st.dates())
def test_dates_sort_as_their_text_does(one: date, other: date) -> None:
    assert (one < other) == (item_of(one) < item_of(other))


def test_a_layout_stores_the_value_of_one_field() -> None:
    layout = Everything.__layout__
    assert layout.stored("moment", datetime(2024, 1, 1, tzinfo=UTC)) == "2024-01-01T00:00:00.000000Z"
    assert layout.stored("as_number", 0.1) == Decimal("0.1")
    assert layout.stored("aliased", "x") == "x"
    assert layout.stored("version", 3) == 3
    with pytest.raises(InvalidItemError, match=r"moment.*time zone") as caught:
        layout.stored("moment", datetime(2024, 1, 1))  # noqa: DTZ001 - the point
    assert caught.value.path == "moment"


class Members(AbstractSet[Any]):
    """A set of the caller's own."""

    def __init__(self, *members: Any) -> None:
        self._members = members

    def __contains__(self, member: object) -> bool:
        return member in self._members

    def __iter__(self) -> Any:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def test_a_set_of_the_callers_own_is_stored_as_a_set() -> None:
    from reliable_write.records.stored import stored  # noqa: PLC0415

    assert stored(Members(Plain.RED)) == {"red"}
