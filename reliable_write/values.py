"""Python values to DynamoDB's attribute values, refusing by path what the service would refuse after the commit point.

A journal rolls forward and has no undo, so a value DynamoDB cannot hold must never get into it. Accepted types are
those of boto3's own serializer; a property test holds the two equal.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any, Final

from boto3.dynamodb.types import Binary

from reliable_write import limits
from reliable_write.errors import InvalidItemError

AttributeValue = dict[str, Any]
"""One value as the wire has it, for instance `{"N": "1"}`."""
WireItem = dict[str, AttributeValue]

_NUMBERS: Final = decimal.Context(
    prec=limits.NUMBER_DIGITS_MAX,
    Emin=-128,
    Emax=126,
    traps=[decimal.Clamped, decimal.Overflow, decimal.Inexact, decimal.Rounded, decimal.Underflow],
)
_EXPONENT_MIN: Final = -130
_EXPONENT_MAX: Final = 125
_INTEGER_END: Final = 10**limits.NUMBER_DIGITS_MAX
_NAME_BYTES_MAX: Final = limits.ATTRIBUTE_NAME_BYTES_MAX
_HALF_A_PAIR: Final = "is not valid Unicode (it holds half of a surrogate pair)"
_TOO_MANY_DIGITS: Final = (
    f"has more than {limits.NUMBER_DIGITS_MAX} significant digits or too great an exponent. "
    "Round it, or store it as a string"
)
_CONTAINER_OVERHEAD_BYTES: Final = 3
_PATH_CHARACTERS_MAX: Final = 200
"""Of a path in a message; names of attributes come from users and may be anything."""


class UnstorableValue(Exception):
    """A value was refused. Each container on the way out adds its step, so a path costs nothing until there is one."""

    def __init__(self, complaint: str, name: str = "") -> None:
        super().__init__(complaint)
        self.complaint = complaint
        self.steps: list[str] = []
        self._name = name
        """Of an attribute that is refused for its name; it has no path, its container may have one."""

    @property
    def path(self) -> str:
        """From the outermost attribute inwards, for instance `lines[3].price`."""
        return "".join(reversed(self.steps)).removeprefix(".") or self._name

    def at(self, where: str, **facts: Any) -> InvalidItemError:
        """The error for the caller."""
        return InvalidItemError(f"{where}: {shown_path(self.path)} {self.complaint}.", path=self.path, **facts)


def shown_path(path: str) -> str:
    """A path for a message: one short line, whatever the names in it are."""
    return path.encode("unicode_escape").decode()[:_PATH_CHARACTERS_MAX] or "(item)"


def encode_item(item: Mapping[str, Any], where: str) -> WireItem:
    """The item as the wire has it; raises `InvalidItemError` naming `where` and the path of the first bad value."""
    if not isinstance(item, Mapping):
        raise InvalidItemError(
            f"{where}: an item is a mapping of attribute names to values, not {_name(item)}.", operation=where
        )
    try:
        return _encoded_attributes(item, 0)
    except UnstorableValue as refusal:
        unstorable = refusal
    raise unstorable.at(where, operation=where)


def decode_item(item: WireItem) -> dict[str, Any]:
    """An item as boto3's resources would give it; `TypeError` for what is no attribute value."""
    return {name: _decoded(value) for name, value in item.items()}


def item_bytes(item: WireItem) -> int:
    """The size DynamoDB counts against its 400 KB, never too small.

    Source: the Developer Guide's "DynamoDB item sizes and formats"
    (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html).
    """
    return sum(len(name.encode()) + value_bytes(value) for name, value in item.items())


def value_bytes(value: AttributeValue) -> int:
    """The size of one attribute value without its name."""
    ((kind, content),) = value.items()
    return _SIZES[kind](content)


def canonical_value(value: AttributeValue) -> str:
    """A key attribute in the one form that is equal exactly when DynamoDB holds two keys equal.

    `{"N": "1"}` and `{"N": "1.0"}` are one key in a table and two in a dict.
    """
    ((kind, content),) = value.items()
    if kind == "N":
        return "N:" + canonical_number(content)
    return f"{kind}:{content.hex() if kind == 'B' else content}"


def canonical_number(text: str) -> str:
    """Digits and exponent without trailing zeros, for instance `12E1`; zero has no sign."""
    sign, digits, exponent = Decimal(text).as_tuple()
    joined = "".join(map(str, digits)).lstrip("0")
    stripped = joined.rstrip("0")
    if not stripped:
        return "0"
    assert isinstance(exponent, int)
    return f"{'-' if sign else ''}{stripped}E{exponent + len(joined) - len(stripped)}"


# --- to the wire: `depth` is the number of containers around a value ----------------------------------------------


def _encoded_attributes(attributes: Mapping[str, Any], depth: int) -> WireItem:
    encoded: WireItem = {}
    for name, value in attributes.items():
        plain_name = name if type(name) is str and name.isascii() and 0 < len(name) <= _NAME_BYTES_MAX else _named(name)
        try:
            encoded[plain_name] = (_ENCODERS.get(type(value)) or _encoder_of_base(value))(value, depth)
        except UnstorableValue as refusal:
            refusal.steps.append(f".{name}")
            raise
    return encoded


def _named(name: Any) -> str:
    if not isinstance(name, str):
        raise UnstorableValue(f"has an attribute name of type {_name(name)}; names are strings", _shown_name(name))
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise UnstorableValue(_HALF_A_PAIR, name) from None
    if not 0 < size <= _NAME_BYTES_MAX:
        raise UnstorableValue(f"has an attribute name that is empty or over {_NAME_BYTES_MAX} bytes", name)
    return _text(name)


def _shown_name(name: Any) -> str:
    try:
        return str(name)
    except ValueError:
        return ""  # an integer so long that Python refuses to spell it out


def _encoder_of_base(value: Any) -> _EncodeFunction:
    for base, encode in _BASE_ENCODERS:
        if isinstance(value, base):
            return encode
    if isinstance(value, float):
        raise UnstorableValue("is a float, which DynamoDB cannot hold exactly. Use decimal.Decimal(str(value))")
    raise UnstorableValue(
        f"is of type {_name(value)}. Use str, int, Decimal, bytes, bool, None, list, dict or a set of one kind"
    )


def _encode_null(_value: None, _depth: int) -> AttributeValue:
    return {"NULL": True}


def _encode_boolean(value: bool, _depth: int) -> AttributeValue:
    return {"BOOL": value}


def _encode_string(value: str, _depth: int) -> AttributeValue:
    return {"S": value if value.isascii() else _unicode(value)}


def _encode_string_of_base(value: str, _depth: int) -> AttributeValue:
    return {"S": _unicode(_text(value))}


def _unicode(text: str) -> str:
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        raise UnstorableValue(_HALF_A_PAIR) from None
    return text


def _encode_bytes(value: bytes, _depth: int) -> AttributeValue:
    return {"B": value}


def _encode_binary(value: Any, _depth: int) -> AttributeValue:
    return {"B": _bytes(value)}


def _encode_integer(value: int, _depth: int) -> AttributeValue:
    return {"N": _integer_text(value)}


def _integer_text(value: int) -> str:
    return str(value) if -_INTEGER_END < value < _INTEGER_END else _number_text(value)


def _encode_decimal(value: Decimal, _depth: int) -> AttributeValue:
    return {"N": _decimal_text(value)}


def _decimal_text(value: Decimal) -> str:
    text = str(value)
    # No more digits than characters, and without an exponent none can be out of range.
    plain = len(text) <= limits.NUMBER_DIGITS_MAX and "E" not in text and value.is_finite()
    return text if plain else _number_text(value)


def _encode_number(value: int | Decimal, _depth: int) -> AttributeValue:
    return {"N": _number_text(value)}


def _number_text(value: int | Decimal) -> str:
    try:
        number = _NUMBERS.create_decimal(value)
    except (decimal.DecimalException, ValueError):
        raise UnstorableValue(_TOO_MANY_DIGITS) from None
    if not number.is_finite():
        raise UnstorableValue("is not a finite number, which DynamoDB cannot hold")
    if number and not _EXPONENT_MIN <= number.adjusted() <= _EXPONENT_MAX:
        raise UnstorableValue(f"is outside DynamoDB's range of 1E{_EXPONENT_MIN} to 9.9E{_EXPONENT_MAX}")
    return str(number)


def _encode_sequence(value: Any, depth: int) -> AttributeValue:
    inner = _deeper(depth)
    parts: list[AttributeValue] = []
    try:
        for part in value:
            parts.append((_ENCODERS.get(type(part)) or _encoder_of_base(part))(part, inner))  # noqa: PERF401 - counts
    except UnstorableValue as refusal:
        refusal.steps.append(f"[{len(parts)}]")
        raise
    return {"L": parts}


def _encode_mapping(value: Mapping[str, Any], depth: int) -> AttributeValue:
    return {"M": _encoded_attributes(value, _deeper(depth))}


def _deeper(depth: int) -> int:
    # The attribute itself is the first level, and what the innermost container holds is the last.
    if depth + 1 >= limits.NESTING_LEVELS_MAX:
        raise UnstorableValue(f"is nested deeper than {limits.NESTING_LEVELS_MAX} levels")
    return depth + 1


def _encode_plain_set(value: set[Any] | frozenset[Any], depth: int) -> AttributeValue:
    """Members of one exact type need no look at each, and what is distinct to Python is distinct to DynamoDB."""
    kinds = set(map(type, value))
    plain = _PLAIN_MEMBERS.get(kinds.pop()) if len(kinds) == 1 else None
    if plain is None:
        return _encode_set(value, depth)
    kind, content = plain
    return {kind: sorted(map(content, value))}


def _encode_set(value: AbstractSet[Any], _depth: int) -> AttributeValue:
    if not value:
        raise UnstorableValue("is an empty set, which DynamoDB cannot hold. Leave the attribute out")
    for bases, kind, members in _SET_KINDS:
        if all(isinstance(part, bases) and not isinstance(part, bool) for part in value):
            return {kind: sorted(members(value))}
    raise UnstorableValue("is a set of mixed or unsupported types. A set holds only strings, numbers or bytes")


def _string_members(value: AbstractSet[str]) -> Iterable[str]:
    return {_unicode(_text(part)) for part in value}


def _number_members(value: AbstractSet[int | Decimal]) -> Iterable[str]:
    """Each number once: a mapping of the caller's own may hold 1 and 1.0."""
    return {canonical_number(text): text for text in map(_number_text, value)}.values()


def _binary_members(value: AbstractSet[Any]) -> Iterable[bytes]:
    return set(map(_bytes, value))


_EncodeFunction = Callable[[Any, int], AttributeValue]

_ENCODERS: Final[dict[type, _EncodeFunction]] = {
    str: _encode_string,
    int: _encode_integer,
    bool: _encode_boolean,
    Decimal: _encode_decimal,
    type(None): _encode_null,
    dict: _encode_mapping,
    list: _encode_sequence,
    bytes: _encode_bytes,
    set: _encode_plain_set,
    frozenset: _encode_plain_set,
}
"""By exact type first: an item of plain types is encoded without a single isinstance."""

_BASE_ENCODERS: Final[tuple[tuple[Any, _EncodeFunction], ...]] = (
    (str, _encode_string_of_base),
    ((int, Decimal), _encode_number),
    ((bytearray, bytes, Binary), _encode_binary),
    (Mapping, _encode_mapping),
    (AbstractSet, _encode_set),
    ((list, tuple), _encode_sequence),
)

_SET_KINDS: Final[tuple[tuple[Any, str, Callable[[Any], Iterable[Any]]], ...]] = (
    (str, "SS", _string_members),
    ((int, Decimal), "NS", _number_members),
    ((bytes, bytearray, Binary), "BS", _binary_members),
)

_PLAIN_MEMBERS: Final[dict[type, tuple[str, Callable[[Any], Any]]]] = {
    str: ("SS", _unicode),
    int: ("NS", _integer_text),
    Decimal: ("NS", _decimal_text),
    bytes: ("BS", bytes),
}


# --- from the wire ------------------------------------------------------------------------------------------------


def _decoded(value: AttributeValue) -> Any:
    try:
        (kind,) = value
        decode = _DECODERS[kind]
    except (KeyError, TypeError, ValueError):
        raise TypeError("an attribute value is a dict of one DynamoDB type and its content") from None
    return decode(value[kind])


def _decode_set_of(decode: Callable[[Any], Any]) -> Callable[[Any], set[Any]]:
    return lambda contents: set(map(decode, contents))


def _decode_list(contents: list[AttributeValue]) -> list[Any]:
    return [_decoded(content) for content in contents]


def _same(content: Any) -> Any:
    return content


_DECODERS: Final[dict[str, Callable[[Any], Any]]] = {
    "S": _same,
    "N": Decimal,
    "B": Binary,
    "BOOL": _same,
    "NULL": lambda _content: None,
    "L": _decode_list,
    "M": decode_item,
    "SS": set,
    "NS": _decode_set_of(Decimal),
    "BS": _decode_set_of(Binary),
}


def _bytes(value: Any) -> bytes:
    return bytes(value.value if isinstance(value, Binary) else value)  # type: ignore[attr-defined]  # not in stubs


def _text(value: str) -> str:
    """The text itself: `str()` of an `enum.Enum` that is also a string gives `Colour.RED`, not `red`."""
    return str.__str__(value)


def _name(value: object) -> str:
    return type(value).__name__


def _number_bytes(text: str) -> int:
    """One byte for two significant digits, one for the exponent, one for a sign."""
    digits = canonical_number(text).lstrip("-").partition("E")[0]
    return (len(digits) + 1) // 2 + 1 + (1 if text.startswith("-") else 0) + 1


def _list_bytes(parts: list[AttributeValue]) -> int:
    return _CONTAINER_OVERHEAD_BYTES + sum(1 + value_bytes(part) for part in parts)


def _map_bytes(parts: WireItem) -> int:
    return _CONTAINER_OVERHEAD_BYTES + len(parts) + item_bytes(parts)


_SIZES: Final[dict[str, Callable[[Any], int]]] = {
    "S": lambda text: len(text.encode()),
    "N": _number_bytes,
    "B": len,
    "BOOL": lambda _flag: 1,
    "NULL": lambda _flag: 1,
    "SS": lambda texts: sum(len(text.encode()) for text in texts),
    "NS": lambda texts: sum(_number_bytes(text) for text in texts),
    "BS": lambda blobs: sum(len(blob) for blob in blobs),
    "L": _list_bytes,
    "M": _map_bytes,
}
