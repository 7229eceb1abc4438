"""What is wrong with a record class is told when the class is made, by field, with what to say instead."""

import dataclasses
import enum
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NaiveDatetime,
    PlainSerializer,
    PositiveFloat,
    computed_field,
    create_model,
    field_serializer,
)
from typing_extensions import TypedDict

from reliable_write import (
    FloatAs,
    HashKey,
    RangeKey,
    Record,
    RecordDefinitionError,
    Version,
    VersionMode,
)

Id = Annotated[str, HashKey()]


def make(**fields: Any) -> Any:
    """A record class of these fields; each is a type, or a type and a default."""
    parts = {name: part if isinstance(part, tuple) else (part, ...) for name, part in fields.items()}
    return create_model("Sample", __base__=Record, __cls_kwargs__={"table": "samples"}, **parts)  # type: ignore[call-overload]  # a dict


def refused(*words: str, **fields: Any) -> str:
    with pytest.raises(RecordDefinitionError) as caught:
        make(**fields)
    message = str(caught.value)
    assert message.startswith("Sample")
    assert isinstance(caught.value, TypeError)
    for word in words:
        assert word in message
    return message


# --- floats -------------------------------------------------------------------------------------------------------


class Line(BaseModel):
    price: float


class Tree(BaseModel):
    weight: float = 0
    kids: list["Tree"] = []


@dataclasses.dataclass
class Point:
    x: float


class Size(TypedDict):
    height: float


class Pair(NamedTuple):
    first: int
    second: float


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    bite: float


class Half(enum.Enum):
    HALF = 0.5


def _text(value: object) -> str:
    return str(value)


FLOATS: list[tuple[Any, str]] = [
    (float, "rate"),
    (float | None, "rate"),
    (PositiveFloat, "rate"),
    (FiniteFloat | str, "rate"),
    (Annotated[float, Field(gt=0)], "rate"),
    (Annotated[float, AfterValidator(abs)], "rate"),
    (list[float], "rate[]"),
    (set[float], "rate[]"),
    (dict[str, float], "rate[]"),
    (tuple[int, float], "rate[]"),
    (list[dict[str, float]], "rate[][]"),
    (Line, "rate.price"),
    (list[Line], "rate[].price"),
    (Line | None, "rate.price"),
    (Tree, "rate.weight"),
    (Point, "rate.x"),
    (Size, "rate.height"),
    (Pair, "rate.second"),
    (Annotated[Cat | Dog, Field(discriminator="kind")], "rate.bite"),
]


@pytest.mark.parametrize(("kind", "path"), FLOATS, ids=lambda part: str(part)[:40])
def test_a_bare_float_is_refused_when_the_class_is_made_naming_it_and_the_two_choices(kind: Any, path: str) -> None:
    refused(f"Sample.{path} is a float", "FloatAs.NUMBER", "FloatAs.STRING", id=Id, rate=kind)


@pytest.mark.parametrize("choice", FloatAs)
@pytest.mark.parametrize(("kind", "path"), FLOATS, ids=lambda part: str(part)[:40])
def test_a_choice_may_stand_outside_and_counts_for_all_floats_inside(kind: Any, path: str, choice: FloatAs) -> None:
    assert path
    make(id=Id, rate=Annotated[kind, choice])


@pytest.mark.parametrize(
    "kind",
    [
        list[Annotated[float, FloatAs.NUMBER]],
        dict[str, Annotated[float, FloatAs.STRING]] | None,
        set[Annotated[float, FloatAs.NUMBER]],
        Annotated[float, Field(gt=0), FloatAs.NUMBER],
        Annotated[float, FloatAs.NUMBER, Field(gt=0)],
        Annotated[float, PlainSerializer(_text)],
        Any,
    ],
)
def test_a_float_with_a_choice_or_a_serializer_of_its_own_is_taken(kind: Any) -> None:
    make(id=Id, rate=kind)


def test_a_float_with_a_field_serializer_is_taken() -> None:
    class Sample(Record, table="samples"):
        id: Id
        rate: float

        @field_serializer("rate")
        def _text(self, rate: float) -> str:
            return str(rate)

    assert Sample(id="a", rate=0.5).to_item() == {"id": "a", "rate": "0.5"}


def test_a_computed_float_is_refused() -> None:
    with pytest.raises(RecordDefinitionError, match=r"Sample\.half is a float"):

        class Sample(Record, table="samples"):
            id: Id

            @computed_field  # type: ignore[prop-decorator]  # as pydantic's own documentation has it
            @property
            def half(self) -> float:
                return 0.5


def test_a_name_that_never_comes_is_told_when_the_class_is_used() -> None:
    class Sample(Record, table="samples"):
        id: Id
        line: "Never"  # type: ignore[name-defined]  # noqa: F821 - the point

    with pytest.raises(RecordDefinitionError, match="Never"):
        Sample.from_item({"id": "a"})


def test_a_float_behind_a_name_that_comes_later_is_refused_when_the_class_is_first_used() -> None:
    class Sample(Record, table="samples"):
        id: Id
        line: "Later"

    class Later(BaseModel):
        price: float

    Sample.model_rebuild()
    with pytest.raises(RecordDefinitionError, match=r"Sample\.line\.price is a float"):
        Sample.from_item({"id": "a", "line": {"price": 1}})


# --- keys ---------------------------------------------------------------------------------------------------------


def test_a_class_without_a_hash_key_is_refused() -> None:
    refused("no hash key", "HashKey()", name=str)
    refused("no hash key", name=Annotated[str, RangeKey()])


def test_two_hash_keys_or_two_range_keys_are_refused() -> None:
    refused("Sample.other and id", "HashKey", id=Id, other=Id)
    refused("Sample.b and a", "RangeKey", id=Id, a=Annotated[str, RangeKey()], b=Annotated[str, RangeKey()])


class Colour(enum.StrEnum):
    RED = "red"


class Rank(enum.IntEnum):
    FIRST = 1


class Mixed(enum.Enum):
    TEXT = "text"
    NUMBER = 1


KEYS: list[Any] = [str, int, Decimal, bytes, UUID, date, datetime, Colour, Rank, Literal["a", "b"], AwareDatetime]
KEYS += [
    Annotated[float, FloatAs.NUMBER],
    Annotated[str, Field(min_length=1)],
    Annotated[str, AfterValidator(str.lower)],
]


@pytest.mark.parametrize("kind", KEYS)
def test_strings_numbers_and_bytes_can_be_keys(kind: Any) -> None:
    layout = make(id=Annotated[kind, HashKey()], sort=Annotated[kind, RangeKey()]).__layout__
    assert layout.hash_key.field == "id"
    assert layout.range_key is not None
    assert layout.range_key.field == "sort"


def test_a_marker_may_be_written_without_its_parentheses() -> None:
    layout = make(
        id=Annotated[str, HashKey], sort=Annotated[int, RangeKey], version=(Annotated[int, Version], 0)
    ).__layout__
    assert (layout.hash_key.field, layout.range_key and layout.range_key.field) == ("id", "sort")
    assert layout.version is not None
    assert layout.version.mode is VersionMode.AUTO_INCREMENT_AND_CHECK


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (bool, "a string, a number or bytes"),
        (str | None, "may not be optional"),
        (UUID | None, "may not be optional"),
        (list[str], "a string, a number or bytes"),
        (tuple[str, int], "a string, a number or bytes"),
        (set[str], "a string, a number or bytes"),
        (dict[str, str], "a string, a number or bytes"),
        (Cat, "a string, a number or bytes"),
        (Literal[True], "a string, a number or bytes"),
        (str | int, "several types"),
        (str | bytes, "several types"),
        (Mixed, "several types"),
    ],
)
@pytest.mark.parametrize("marker", [HashKey(), RangeKey()], ids=["hash", "range"])
def test_what_is_no_string_number_or_bytes_can_be_no_key(kind: Any, words: str, marker: Any) -> None:
    fields: dict[str, Any] = {"id": Annotated[kind, marker]}
    if isinstance(marker, RangeKey):
        fields = {"hash": Id, **fields}
    refused("Sample.id", words, **fields)


@pytest.mark.parametrize("kind", [timedelta, Annotated[float, FloatAs.STRING]])
def test_a_range_key_that_does_not_sort_is_refused(kind: Any) -> None:
    refused("Sample.sort", "does not sort", id=Id, sort=Annotated[kind, RangeKey()])
    make(id=Annotated[kind, HashKey()])


def test_a_key_may_not_be_excluded() -> None:
    refused("Sample.id", "excluded", id=(Id, Field(exclude=True, default="x")))


# --- versions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", VersionMode)
def test_a_version_is_a_number_or_a_datetime(mode: VersionMode) -> None:
    number = make(id=Id, v=(Annotated[int, Version(mode)], 3)).__layout__.version
    assert number is not None
    assert (number.field, number.attribute, number.mode, number.kind, number.initial) == ("v", "v", mode, "int", 3)
    moment = make(id=Id, v=(Annotated[datetime | None, Version(mode)], None)).__layout__.version
    assert moment is not None
    assert (moment.kind, moment.initial) == ("datetime", None)


@pytest.mark.parametrize(
    "field",
    [
        (Annotated[int, Version()], ...),
        (Annotated[int, Version()], -1),
        (Annotated[int, Version()], True),
        (Annotated[int, Version()], Field(default_factory=int)),
        (Annotated[int | None, Version()], None),
        (Annotated[str, Version()], "0"),
        (Annotated[datetime, Version()], ...),
        (Annotated[datetime | None, Version()], ...),
        (Annotated[date | None, Version()], None),
    ],
)
def test_any_other_version_is_refused(field: Any) -> None:
    refused("Sample.v", "version", "Annotated[int, Version()] = 0", id=Id, v=field)


def test_two_versions_a_key_as_version_and_an_excluded_one_are_refused() -> None:
    version = (Annotated[int, Version()], 0)
    refused("Sample.b and a", id=Id, a=version, b=version)
    refused("Sample.id", "never changes", id=(Annotated[int, HashKey(), Version()], 0))
    refused("Sample.v", "excluded", id=Id, v=(Annotated[int, Version()], Field(default=0, exclude=True)))


# --- names --------------------------------------------------------------------------------------------------------


def test_an_alias_is_the_name_of_the_attribute() -> None:
    sample = make(id=Id, email=(str | None, Field(default=None, alias="mail")))
    assert sample.__layout__.attribute_of("email") == "mail"
    assert sample.__layout__.attribute_of("id") == "id"
    with pytest.raises(KeyError):
        sample.__layout__.attribute_of("mail")


def test_an_alias_generator_names_all_attributes() -> None:
    class Sample(Record, table="samples", alias_generator=str.upper):
        id: Id
        size: int

    assert Sample(id="a", size=1).to_item() == {"ID": "a", "SIZE": 1}
    assert Sample.from_item({"ID": "a", "SIZE": Decimal(1)}) == Sample(id="a", size=1)
    assert Sample.__layout__.key_of("a") == {"ID": "a"}


@pytest.mark.parametrize(
    "info",
    [
        lambda: Field(validation_alias="mail"),
        lambda: Field(serialization_alias="mail"),
        lambda: Field(validation_alias="mail", serialization_alias="post"),
        lambda: Field(alias="mail", validation_alias="post"),
        lambda: Field(alias="mail", validation_alias=AliasChoices("mail", "post")),
        lambda: Field(validation_alias=AliasPath("mails", 0)),
    ],
)
def test_a_field_written_under_one_name_and_read_under_another_is_refused(info: Callable[[], Any]) -> None:
    refused("Sample.email", "one `alias`", id=Id, email=(str, info()))

    class Inner(BaseModel):
        email: str = info()

    refused("Sample.inner.email", "one `alias`", id=Id, inner=Inner)


def test_two_fields_with_one_attribute_are_refused() -> None:
    refused("both the attribute x", id=Id, a=(str, Field(alias="x")), b=(str, Field(alias="x")))
    refused("Sample.a", id=Id, a=(str, Field(alias="b")), b=str)
    refused("Sample.a", "another field", id=Id, a=(str, Field(alias="b")), b=(str, Field(alias="a")))


def test_a_computed_field_with_the_attribute_of_a_field_is_refused() -> None:
    with pytest.raises(RecordDefinitionError, match=r"Sample\.upper and name"):

        class Sample(Record, table="samples"):
            id: Id
            name: Annotated[str, Field(alias="label")]

            @computed_field(alias="label")  # type: ignore[prop-decorator]
            @property
            def upper(self) -> str:
                return self.name.upper()


@pytest.mark.parametrize("name", ["_rw", "_rwu"])
def test_the_names_of_the_stamps_are_refused(name: str) -> None:
    refused("Sample.stamp", name, "stamps", id=Id, stamp=(str, Field(alias=name)))


def test_the_name_of_the_deletion_mark_is_refused() -> None:
    """A record store takes an item that has it for absent: such a record would be written and never read again."""
    refused("Sample.until cannot be the attribute _rwd", "deleted", id=Id, until=(int, Field(default=0, alias="_rwd")))


@pytest.mark.filterwarnings("ignore:Field name .* shadows an attribute")
@pytest.mark.parametrize("name", ["key", "to_item", "from_item", "unknown_attributes"])
def test_a_field_that_hides_a_method_is_refused_with_the_way_out(name: str) -> None:
    refused(f"Sample.{name} hides", f'alias="{name}"', id=Id, **{name: str})
    assert make(id=Id, other=(str, Field(alias=name)))(id="a", other="b").to_item() == {"id": "a", name: "b"}


# --- types that cannot come back ----------------------------------------------------------------------------------


class Strange(enum.Enum):
    PAIR = (1, 2)


class Plain(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("kind", "path", "words"),
    [
        (set[tuple[int, int]], "x", "list or a tuple"),
        (frozenset[bool], "x", "list or a tuple"),
        (set[str | None], "x", "list or a tuple"),
        (list[set[bool]], "x[]", "list or a tuple"),
        (dict[float, str], "x", "keys"),
        (dict[bytes, str], "x", "keys"),
        (dict[tuple[int, int], str], "x", "keys"),
        (dict[int | str, str], "x", "keys"),
        (dict[Rank, str], "x", "keys"),
        (dict[bool, str], "x", "keys"),
        (Half, "x", "values"),
        (Strange, "x", "values"),
        (list[Strange], "x[]", "values"),
        (Literal[Plain.RED], "x", "StrEnum"),
        (complex, "x", "complex"),
        (NaiveDatetime, "x", "AwareDatetime"),
    ],
)
def test_a_type_that_would_not_come_back_is_refused(kind: Any, path: str, words: str) -> None:
    refused(f"Sample.{path} ", words, id=Id, x=kind)


@pytest.mark.parametrize(
    "kind",
    [
        dict[str, int],
        dict[int, str],
        dict[UUID, str],
        dict[date, str],
        dict[datetime, str],
        dict[time, str],
        dict[Colour, str],
        dict[Plain, str],
        dict[Literal["a"], str],
        dict[Any, Any],
        dict,
        set,
        set[Colour],
        set[UUID | str],
        frozenset[Annotated[int, Field(gt=0)]],
        Literal[Colour.RED],
        Literal[Rank.FIRST],
        Mixed,
    ],
)
def test_types_that_come_back_are_taken(kind: Any) -> None:
    make(id=Id, x=kind)


def test_an_excluded_field_without_a_default_is_refused_since_nothing_could_load_it() -> None:
    refused("Sample.secret", "default", id=Id, secret=(str, Field(exclude=True)))

    class Inner(BaseModel):
        secret: str = Field(exclude=True)

    refused("Sample.inner.secret", "default", id=Id, inner=Inner)


# --- the class's own line -----------------------------------------------------------------------------------------


class Base(Record):
    id: Id
    size: int = 0


class Stored(Base, table="stored"):
    pass


class Inheriting(Stored):
    colour: str = "red"


class Elsewhere(Stored, table="eu:elsewhere", unknown="keep"):
    pass


def test_a_base_has_no_table_and_says_so_when_it_is_used() -> None:
    base = Base(id="a")
    for use in (base.to_item, base.key, lambda: Base.from_item({}), lambda: Base.__layout__):
        with pytest.raises(RecordDefinitionError, match=r"Base has no table.*table="):
            use()


def test_a_subclass_inherits_or_overrides_its_table_and_its_options() -> None:
    assert [model.__layout__.table for model in (Stored, Inheriting, Elsewhere)] == ["stored", "stored", "eu:elsewhere"]
    item = {"id": "a", "extra": "x"}
    assert Inheriting.from_item(item).to_item() == {"id": "a", "size": 0, "colour": "red"}
    assert Elsewhere.from_item(item).to_item() == {"id": "a", "size": 0, "extra": "x"}


def test_the_class_line_takes_pydantics_configuration_too() -> None:
    class Sample(Record, table="samples", frozen=True):  # type: ignore[misc]  # pydantic takes it
        id: Id

    assert Sample.model_config["frozen"] is True
    assert Sample.__layout__.table == "samples"


@pytest.mark.parametrize("table", ["", 7, b"x"])
def test_a_table_is_named_by_a_string(table: Any) -> None:
    with pytest.raises(RecordDefinitionError, match="string"):
        create_model("Sample", __base__=Record, __cls_kwargs__={"table": table}, id=(Id, ...))


def test_what_to_do_with_unknown_attributes_is_one_of_three_words() -> None:
    with pytest.raises(RecordDefinitionError, match=r'"ignore", "keep" or "refuse"'):
        create_model("Sample", __base__=Record, __cls_kwargs__={"table": "t", "unknown": "drop"}, id=(Id, ...))


def test_extra_allow_is_refused_for_unknown_keep() -> None:
    with pytest.raises(RecordDefinitionError, match="unknown"):

        class Sample(Record, table="samples"):
            model_config = ConfigDict(extra="allow")
            id: Id


T = TypeVar("T")


class Envelope(Record, Generic[T], table="envelopes"):
    id: Id
    content: T


def test_a_generic_record_is_checked_when_it_is_given_its_type() -> None:
    assert Envelope[int](id="a", content=1).to_item() == {"id": "a", "content": 1}
    assert Envelope[Cat].from_item({"id": "a", "content": {"kind": "cat", "lives": Decimal(9)}}).content.lives == 9
    with pytest.raises(RecordDefinitionError, match="content is a float"):
        Envelope[float]
