"""What people know of pydantic holds for a record too."""

import copy
import json
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    SecretStr,
    SerializationInfo,
    SerializeAsAny,
    ValidationError,
    WrapSerializer,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from reliable_write import FloatAs, HashKey, InvalidItemError, RangeKey, Record, RecordLoadError
from reliable_write.values import decode_item, encode_item

Id = Annotated[str, HashKey()]


def through_the_wire(record: Record) -> Any:
    return type(record).from_item(decode_item(encode_item(record.to_item(), "test")))


class Person(Record, table="people"):
    id: Annotated[UUID, HashKey()] = Field(default_factory=uuid4)
    first: str = "Ann"
    last: str = "Lee"
    password: str = Field(default="", exclude=True)
    _seen: int = PrivateAttr(default=0)

    @computed_field(alias="whole")  # type: ignore[prop-decorator]  # as pydantic's documentation has it
    @property
    def name(self) -> str:
        return f"{self.first} {self.last}"


def test_a_computed_field_is_written_under_its_alias_and_computed_again_when_loaded() -> None:
    person = Person()
    assert person.to_item()["whole"] == "Ann Lee"
    loaded = Person.from_item({**person.to_item(), "whole": "written by somebody else"})
    assert loaded == person
    assert loaded.name == "Ann Lee"


@pytest.mark.parametrize("unknown", ["keep", "refuse"])
def test_a_computed_attribute_is_not_unknown(unknown: Any) -> None:
    class Known(Person, unknown=unknown, extra="forbid"):
        pass

    person = Known()
    assert through_the_wire(person) == person
    assert not through_the_wire(person).unknown_attributes()


def test_an_excluded_field_is_not_written_and_loaded_as_its_default() -> None:
    person = Person(password="s3cret")
    assert "password" not in person.to_item()
    assert through_the_wire(person).password == ""


def test_a_private_attribute_is_not_written_and_starts_anew() -> None:
    person = Person()
    person._seen = 3
    assert set(person.to_item()) == {"id", "first", "last", "whole"}
    assert through_the_wire(person)._seen == 0


def test_default_factories_make_a_value_for_each_record() -> None:
    assert Person().id != Person().id
    assert isinstance(Person().id, UUID)


def test_a_copy_with_an_update_is_a_record_of_its_own() -> None:
    person = Person()
    other = person.model_copy(update={"first": "Bo"})
    assert (person.to_item()["first"], other.to_item()["first"]) == ("Ann", "Bo")


def test_copies_and_pickles_are_equal() -> None:
    class_wide = Person()
    for again in (copy.copy(class_wide), copy.deepcopy(class_wide), pickle.loads(pickle.dumps(class_wide))):  # noqa: S301
        assert again == class_wide
        assert again.to_item() == class_wide.to_item()


def test_a_record_is_validated_and_dumped_as_any_model() -> None:
    person = Person.model_validate({"id": str(UUID(int=1)), "first": "Bo"})
    assert Person.model_validate_json(person.model_dump_json()) == person
    assert json.loads(person.model_dump_json())["name"] == "Bo Lee"
    with pytest.raises(ValidationError):
        Person(first=7)  # type: ignore[arg-type]  # the point


# --- validators ---------------------------------------------------------------------------------------------------


class Account(Record, table="accounts"):
    email: Annotated[str, HashKey()]
    balance: Decimal = Decimal(0)
    limit: Decimal = Decimal(0)

    @field_validator("email")
    @classmethod
    def _lower(cls, email: str) -> str:
        if "@" not in email:
            raise ValueError(f"no address: {email}")
        return email.lower()

    @model_validator(mode="before")
    @classmethod
    def _from_the_old_shape(cls, data: Any) -> Any:
        return {**data, "balance": data["amount"]} if "amount" in data else data

    @model_validator(mode="after")
    def _within(self) -> "Account":
        if self.balance < -self.limit:
            raise ValueError(f"{self.balance} is too little")
        return self


def test_validators_run_when_an_item_is_loaded() -> None:
    assert Account.from_item({"email": "A@B", "balance": Decimal(1)}) == Account(email="a@b", balance=Decimal(1))
    with pytest.raises(RecordLoadError) as caught:
        Account.from_item({"email": "a@b", "balance": Decimal(-17)})
    assert [(one.path, one.kind) for one in caught.value.problems] == [("", "value_error")]
    assert "17" not in str(caught.value)


def test_a_keys_own_validators_run_on_a_key_that_is_looked_for() -> None:
    assert Account.__layout__.key_of("Ann@Example.COM") == {"email": "ann@example.com"}


def test_a_frozen_record_is_written_and_loaded() -> None:
    class Frozen(Record, table="frozen", unknown="keep"):
        model_config = ConfigDict(frozen=True)
        id: Id

    record = Frozen.from_item({"id": "a", "more": 1})
    assert record.to_item() == {"id": "a", "more": 1}
    with pytest.raises(ValidationError, match="frozen"):
        record.id = "b"
    assert hash(Frozen(id="a")) == hash(Frozen(id="a"))


def test_validated_assignment_finds_a_wrong_value_at_once() -> None:
    class Careful(Record, table="careful", validate_assignment=True):
        id: Id = "a"
        count: int = 0

    record = Careful()
    with pytest.raises(ValidationError):
        record.count = "many"  # type: ignore[assignment]  # the point
    record.count = "7"  # type: ignore[assignment]  # pydantic makes a number of it
    assert record.to_item()["count"] == 7


def test_model_post_init_runs_with_unknown_attributes_kept() -> None:
    class Initialised(Record, table="initialised", unknown="keep"):
        id: Id = "a"
        _ready: bool = PrivateAttr(default=False)

        def model_post_init(self, _context: Any, /) -> None:
            self._ready = True

    record = Initialised.from_item({"id": "a", "more": Decimal(1)})
    assert record._ready
    assert record.to_item() == {"id": "a", "more": Decimal(1)}


# --- serializers of the caller's ----------------------------------------------------------------------------------


def _text(value: object) -> str:
    return str(value)


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


class Serialised(Record, table="serialised"):
    id: Id = "a"
    expires: Annotated[datetime, PlainSerializer(_seconds)] = datetime(2024, 1, 1, tzinfo=UTC)
    words: list[str] = ["a", "b"]
    doubled: Annotated[int, WrapSerializer(lambda value, handler: handler(value * 2))] = 1
    only_json: Annotated[int, PlainSerializer(_text, when_used="json")] = 7

    @field_serializer("words")
    def _joined(self, words: list[str]) -> str:
        return " ".join(words)

    @field_validator("words", mode="before")
    @classmethod
    def _parted(cls, words: Any) -> Any:
        return words.split() if isinstance(words, str) else words


def test_serializers_of_the_callers_say_what_is_written() -> None:
    """The epoch is what DynamoDB's TTL wants, and pydantic reads it back."""
    item = Serialised().to_item()
    assert item == {"id": "a", "expires": 1704067200, "words": "a b", "doubled": 2, "only_json": 7}
    loaded = through_the_wire(Serialised())
    assert loaded.expires == datetime(2024, 1, 1, tzinfo=UTC)
    assert loaded.words == ["a", "b"]


def test_a_serializer_can_tell_an_item_from_other_dumps() -> None:
    class Telling(Record, table="telling"):
        id: Id = "a"
        secret: SecretStr = SecretStr("s3cret")

        @field_serializer("secret")
        def _open(self, secret: SecretStr, info: SerializationInfo) -> Any:
            return secret.get_secret_value() if info.context == {"reliable_write": "item"} else str(secret)

    assert Telling().to_item()["secret"] == "s3cret"
    assert through_the_wire(Telling()) == Telling()
    assert "s3cret" not in Telling().model_dump_json()


def test_an_error_in_a_serializer_of_the_callers_passes() -> None:
    class Broken(Record, table="broken"):
        id: Id = "a"

        @field_serializer("id")
        def _fail(self, _id: str) -> str:
            raise ZeroDivisionError

    with pytest.raises(Exception, match="ZeroDivisionError"):
        Broken().to_item()


def test_a_model_serializer_says_what_is_written() -> None:
    class Wrapped(Record, table="wrapped"):
        id: Id = "a"
        size: int = 1

        @model_serializer(mode="wrap")
        def _more(self, handler: Any) -> dict[str, Any]:
            return {**handler(self), "kind": "wrapped"}

    assert Wrapped().to_item() == {"id": "a", "size": 1, "kind": "wrapped"}
    assert through_the_wire(Wrapped()) == Wrapped()


def test_a_model_serializer_that_looks_at_several_fields_is_not_in_the_way_of_one() -> None:
    """A key, a version and a value in a condition are one field's alone."""

    class Inner(BaseModel):
        unit: str = "kg"

        @model_serializer(mode="wrap")
        def _more(self, handler: Any) -> dict[str, Any]:
            return {**handler(self), "told": self.unit}

    class Part(Record, table="parts"):
        id: Id = "a"
        expires: Annotated[datetime, PlainSerializer(_seconds)] = datetime(2024, 1, 1, tzinfo=UTC)
        inner: list[Inner] = []
        more: list[Inner] = []

        @model_serializer(mode="wrap")
        def _more(self, handler: Any) -> dict[str, Any]:
            return {**handler(self), "told": f"{self.id} {self.expires.year}"}

    part = Part(inner=[Inner()])
    assert (part.to_item()["told"], part.to_item()["inner"][0]["told"]) == ("a 2024", "kg")
    assert part.key() == Part.__layout__.key_of("a") == {"id": "a"}
    assert Part.__layout__.stored("expires", datetime(2024, 1, 1, tzinfo=UTC)) == 1704067200
    assert Part.__layout__.stored("inner", part.inner) == [{"unit": "kg", "told": "kg"}]


def test_a_model_serializer_that_makes_no_attributes_is_refused() -> None:
    class Text(Record, table="text"):
        id: Id = "a"

        @model_serializer
        def _text(self) -> str:
            return self.id

    with pytest.raises(InvalidItemError, match=r"Text.*model_serializer"):
        Text().to_item()


def test_a_model_dump_of_the_classs_own_does_not_change_what_is_stored() -> None:
    class Hiding(Record, table="hiding"):
        id: Id = "a"
        size: int = 1

        def model_dump(self, **options: Any) -> dict[str, Any]:
            return super().model_dump(**{**options, "exclude": {"size"}})

    assert Hiding().to_item() == {"id": "a", "size": 1}


# --- types --------------------------------------------------------------------------------------------------------


class Animal(BaseModel):
    name: str


class Dog(Animal):
    bark: str = "wow"


def test_a_subclass_in_a_field_is_written_as_pydantic_would() -> None:
    class Owner(Record, table="owners"):
        id: Id = "a"
        pet: Animal
        whole: SerializeAsAny[Animal]

    item = Owner(pet=Dog(name="x"), whole=Dog(name="y")).to_item()
    assert item == {"id": "a", "pet": {"name": "x"}, "whole": {"name": "y", "bark": "wow"}}


def test_a_record_in_a_record_is_a_map() -> None:
    class Nested(Record, table="nested"):
        id: Id = "a"
        person: Person = Person(id=UUID(int=1))

    item = Nested().to_item()
    assert item["person"]["id"] == str(UUID(int=1))
    assert through_the_wire(Nested()) == Nested()


def test_a_model_inside_that_allows_extra_attributes_keeps_them() -> None:
    class Loose(BaseModel):
        model_config = ConfigDict(extra="allow")
        name: str

    class Outer(Record, table="outer"):
        id: Id = "a"
        inner: Loose

    record = Outer.from_item({"id": "a", "inner": {"name": "x", "more": Decimal(1)}})
    assert record.to_item() == {"id": "a", "inner": {"name": "x", "more": 1}}


def test_the_json_schema_of_a_float_is_still_a_number() -> None:
    class Rated(Record, table="rated"):
        id: Id
        rate: Annotated[float, FloatAs.NUMBER]
        day: Annotated[int, RangeKey()]

    for mode in ("validation", "serialization"):
        properties = Rated.model_json_schema(mode=mode)["properties"]
        assert properties["rate"]["type"] == "number"
        assert properties["id"]["type"] == "string"


def test_fields_are_given_by_name_or_by_alias() -> None:
    class Aliased(Record, table="aliased"):
        id: Id = "a"
        email: str = Field(default="", alias="mail")

    assert Aliased(email="x") == Aliased(mail="x") == Aliased.from_item({"id": "a", "mail": "x"})  # type: ignore[call-arg]  # mypy knows the alias only
    assert Aliased(mail="x").model_dump() == {"id": "a", "email": "x"}
