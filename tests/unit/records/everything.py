"""A record with a field of every kind of type, strategies for it, and an equality that also compares types."""

import dataclasses
import enum
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

from hypothesis import strategies as st
from pydantic import BaseModel, Field, HttpUrl
from typing_extensions import TypedDict

from reliable_write import FloatAs, HashKey, RangeKey, Record, Version


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Rank(enum.IntEnum):
    FIRST = 1
    SECOND = 2


class Share(enum.Enum):
    HALF = Decimal("0.5")
    NONE = 0
    RAW = b"raw"


class Right(enum.IntFlag):
    READ = 1
    WRITE = 2


class Shade(enum.StrEnum):
    DARK = "dark"
    LIGHT = "light"


class Line(BaseModel):
    price: Decimal = Field(alias="p")
    count: int = 1
    note: str | None = None
    marks: set[str] = set()
    weight: Annotated[float, FloatAs.NUMBER] = 0.0


class Tree(BaseModel):
    name: str
    kids: list["Tree"] = []


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal[Shade.DARK] = Shade.DARK
    born: datetime


@dataclasses.dataclass
class Point:
    x: int
    y: Decimal


class Size(TypedDict):
    height: int
    raw: bytes


class Pair(NamedTuple):
    first: int
    second: str


class Everything(Record, table="everything"):
    """Named after the types."""

    id: Annotated[UUID, HashKey()]
    day: Annotated[date, RangeKey()]
    version: Annotated[int, Version()] = 0
    text: str
    aliased: str = Field(alias="an alias: ä")
    number: int
    exact: Decimal
    flag: bool
    raw: bytes
    as_number: Annotated[float, FloatAs.NUMBER]
    as_string: Annotated[float, FloatAs.STRING]
    vector: Annotated[list[float], FloatAs.NUMBER]
    moment: datetime
    clock: time
    span: timedelta
    colour: Colour
    rank: Rank
    share: Share
    rights: Right
    shade: Shade
    choice: Literal["a", 1, b"b", True]
    texts: set[str]
    numbers: set[int] = set()
    decimals: frozenset[Decimal] = frozenset()
    blobs: set[bytes] = Field(default_factory=set)
    ids: set[UUID] = {UUID(int=1)}
    colours: frozenset[Colour] | None = None
    days: set[date] = set()
    shares: set[Annotated[float, FloatAs.NUMBER]] = set()
    integers: list[int]
    pair: tuple[int, str]
    many: tuple[Decimal, ...]
    named: dict[str, bytes]
    by_id: dict[UUID, int]
    by_number: dict[int, str]
    by_colour: dict[Colour, list[int]]
    line: Line
    lines: list[Line]
    by_name: dict[str, Line]
    tree: Tree
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    either: int | str | bytes | bool | None
    maybe: str | None = None
    maybe_not: str | None = "something"
    maybe_line: Line | None = None
    point: Point
    size: Size
    tuple_: Pair
    address: IPv4Address
    url: HttpUrl
    path: PurePosixPath
    anything: Any = None


texts = st.text(st.characters(codec="utf-8"), max_size=8)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
numbers = st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(-5, 1000)
decimals = st.builds(lambda number, exponent: Decimal(number).scaleb(exponent), numbers, st.integers(-60, 40))
blobs = st.binary(max_size=8)
floats = st.floats(allow_nan=False, allow_infinity=False)
small_floats = floats.filter(lambda number: number == 0 or 1e-130 <= abs(number) < 1e126)
zones = st.sampled_from([UTC, timezone(timedelta(hours=-11)), timezone(timedelta(hours=5, minutes=30))])
moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=zones)  # noqa: DTZ001 - bounds have no zone
times = st.times(timezones=st.none() | zones)


def few(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, max_size=2)


def sets(values: st.SearchStrategy[Any]) -> st.SearchStrategy[set[Any]]:
    return st.sets(values, max_size=2)


def maps(keys: st.SearchStrategy[Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[Any, Any]]:
    return st.dictionaries(keys, values, max_size=2)


lines = st.builds(Line, p=decimals, count=numbers, note=st.none() | texts, marks=sets(texts), weight=small_floats)
trees = st.recursive(
    st.builds(Tree, name=texts), lambda kids: st.builds(Tree, name=texts, kids=st.lists(kids, max_size=2)), max_leaves=3
)
fractions = st.sampled_from([Decimal("0.1"), Decimal("-12.75")])
anythings = st.recursive(
    st.none() | st.booleans() | texts | numbers | fractions | blobs | st.sets(numbers, min_size=1, max_size=2),
    lambda parts: few(parts) | maps(names, parts),
    max_leaves=4,
)
"""What comes back from a field of no type as it was: whole numbers come back as int, so no whole Decimals."""

everything = st.builds(
    Everything,
    id=st.uuids(),
    day=st.dates(),
    version=st.integers(0, 10**6),
    text=texts,
    aliased=texts,
    number=numbers,
    exact=decimals,
    flag=st.booleans(),
    raw=blobs,
    as_number=small_floats,
    as_string=floats | st.sampled_from([float("inf"), float("-inf")]),
    vector=few(small_floats),
    moment=moments,
    clock=times,
    span=st.timedeltas(),
    colour=st.sampled_from(Colour),
    rank=st.sampled_from(Rank),
    share=st.sampled_from(Share),
    rights=st.sampled_from([Right.READ, Right.WRITE, Right.READ | Right.WRITE]),
    shade=st.sampled_from(Shade),
    choice=st.sampled_from(["a", 1, b"b", True]),
    texts=sets(texts),
    numbers=sets(numbers),
    decimals=sets(decimals).map(frozenset),
    blobs=sets(blobs),
    ids=sets(st.uuids()),
    colours=st.none() | sets(st.sampled_from(Colour)).map(frozenset),
    days=sets(st.dates()),
    shares=sets(small_floats),
    integers=few(numbers),
    pair=st.tuples(numbers, texts),
    many=few(decimals).map(tuple),
    named=maps(names, blobs),
    by_id=maps(st.uuids(), numbers),
    by_number=maps(numbers, texts),
    by_colour=maps(st.sampled_from(Colour), few(numbers)),
    line=lines,
    lines=few(lines),
    by_name=maps(names, lines),
    tree=trees,
    pet=st.builds(Cat, lives=numbers) | st.builds(Dog, born=moments),
    either=numbers | texts | blobs | st.booleans() | st.none(),
    maybe=st.none() | texts,
    maybe_not=st.none() | texts,
    maybe_line=st.none() | lines,
    point=st.builds(Point, x=numbers, y=decimals),
    size=st.fixed_dictionaries({"height": numbers, "raw": blobs}),
    tuple_=st.builds(Pair, first=numbers, second=texts),
    address=st.ip_addresses(v=4),
    url=st.sampled_from(["https://example.com/", "http://example.com:8080/a?b=c"]),
    path=st.sampled_from(["a", "/a/b", "."]).map(PurePosixPath),
    anything=anythings,
)


def typed(value: Any) -> Any:
    """A value with the types of all its parts, comparable: `1 == Decimal(1) == True` must not hide a difference."""
    kind = type(value)
    if isinstance(value, BaseModel):
        return kind, {name: typed(part) for name, part in value.__dict__.items()}
    if dataclasses.is_dataclass(value):
        return kind, {name: typed(part) for name, part in vars(value).items()}
    if isinstance(value, dict):
        return kind, [(typed(name), typed(part)) for name, part in sorted(value.items(), key=repr)]
    if isinstance(value, (list, tuple)):
        return kind, [typed(part) for part in value]
    if isinstance(value, (set, frozenset)):
        return kind, {typed(part) for part in value}
    return kind, value
