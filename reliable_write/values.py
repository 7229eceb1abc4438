"""Python values to DynamoDB's attribute values, refusing by path what the service would refuse after the commit point.

A journal rolls forward and has no undo, so a value DynamoDB cannot hold must never get into it. Accepted types are
those of boto3's own serializer; a property test holds the two equal.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any, Final

from boto3.dynamodb.types import Binary, TypeDeserializer

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
_CONTAINER_OVERHEAD_BYTES: Final = 3
_PATH_CHARACTERS_MAX: Final = 200
"""Of a path in a message; names of attributes come from users and may be anything."""


def encode_item(item: Mapping[str, Any], where: str) -> WireItem:
    """The item as the wire has it; raises `InvalidItemError` naming `where` and the path of the first bad value."""
    if not isinstance(item, Mapping):
        raise InvalidItemError(
            f"{where}: an item is a mapping of attribute names to values, not {_name(item)}.", operation=where
        )
    encoder = _Encoder(where)
    return {encoder.attribute_name(name, str(name)): encoder.value(value, name, 0) for name, value in item.items()}


def decode_item(item: WireItem) -> dict[str, Any]:
    """An item as boto3's resources would give it."""
    deserialize = TypeDeserializer().deserialize
    return {name: deserialize(value) for name, value in item.items()}  # type: ignore[arg-type]  # plain dicts


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


class _Encoder:
    """One walk over one item; knows where it is so that an error can say it."""

    def __init__(self, where: str) -> None:
        self._where = where

    def value(self, value: Any, path: str, depth: int) -> AttributeValue:
        encode = _ENCODERS.get(type(value)) or self._encoder_of_base(value, path)
        return encode(self, value, path, depth)

    def _encoder_of_base(self, value: Any, path: str) -> _EncodeFunction:
        for base, encode in _BASE_ENCODERS:
            if isinstance(value, base):
                return encode
        if isinstance(value, float):
            raise self._bad(path, "is a float, which DynamoDB cannot hold exactly. Use decimal.Decimal(str(value))")
        raise self._bad(
            path,
            f"is of type {_name(value)}. Use str, int, Decimal, bytes, bool, None, list, dict or a set of one kind",
        )

    def null(self, _value: None, _path: str, _depth: int) -> AttributeValue:
        return {"NULL": True}

    def boolean(self, value: bool, _path: str, _depth: int) -> AttributeValue:
        return {"BOOL": value}

    def string(self, value: str, path: str, _depth: int) -> AttributeValue:
        self._utf8(value, path)
        return {"S": _text(value)}

    def binary(self, value: Any, _path: str, _depth: int) -> AttributeValue:
        return {"B": _bytes(value)}

    def number(self, value: int | Decimal, path: str, _depth: int) -> AttributeValue:
        return {"N": self._number_text(value, path)}

    def _number_text(self, value: int | Decimal, path: str) -> str:
        try:
            number = _NUMBERS.create_decimal(value)
        except (decimal.DecimalException, ValueError) as error:
            raise self._bad(path, self._digits_message()) from error
        if not number.is_finite():
            raise self._bad(path, "is not a finite number, which DynamoDB cannot hold")
        if number and not _EXPONENT_MIN <= number.adjusted() <= _EXPONENT_MAX:
            raise self._bad(path, f"is outside DynamoDB's range of 1E{_EXPONENT_MIN} to 9.9E{_EXPONENT_MAX}")
        return str(number)

    def _digits_message(self) -> str:
        return (
            f"has more than {limits.NUMBER_DIGITS_MAX} significant digits or too great an exponent. "
            "Round it, or store it as a string"
        )

    def sequence(self, value: Any, path: str, depth: int) -> AttributeValue:
        self._nest(path, depth)
        return {"L": [self.value(part, f"{path}[{index}]", depth + 1) for index, part in enumerate(value)]}

    def mapping(self, value: Mapping[str, Any], path: str, depth: int) -> AttributeValue:
        self._nest(path, depth)
        return {
            "M": {
                self.attribute_name(name, path): self.value(part, f"{path}.{name}", depth + 1)
                for name, part in value.items()
            }
        }

    def set(self, value: AbstractSet[Any], path: str, _depth: int) -> AttributeValue:
        if not value:
            raise self._bad(path, "is an empty set, which DynamoDB cannot hold. Leave the attribute out")
        for bases, kind in ((str, "SS"), ((int, Decimal), "NS"), ((bytes, bytearray, Binary), "BS")):
            if all(isinstance(part, bases) and not isinstance(part, bool) for part in value):
                return {kind: self._members(kind, value, path)}
        raise self._bad(path, "is a set of mixed or unsupported types. A set holds only strings, numbers or bytes")

    def _members(self, kind: str, value: AbstractSet[Any], path: str) -> list[Any]:
        if kind == "SS":
            for part in value:
                self._utf8(part, path)
            return sorted({_text(part) for part in value})
        if kind == "NS":
            return self._distinct_numbers(value, path)
        return sorted({_bytes(part) for part in value})

    def _distinct_numbers(self, value: AbstractSet[Any], path: str) -> list[str]:
        texts = {canonical_number(text): text for text in (self._number_text(part, path) for part in value)}
        return sorted(texts.values())

    def attribute_name(self, name: Any, path: str) -> str:
        if not isinstance(name, str):
            raise self._bad(path, f"has an attribute name of type {_name(name)}; names are strings")
        if not 0 < len(self._utf8(name, path)) <= limits.ATTRIBUTE_NAME_BYTES_MAX:
            raise self._bad(
                path or "(item)",
                f"has an attribute name that is empty or over {limits.ATTRIBUTE_NAME_BYTES_MAX} bytes",
            )
        return _text(name)

    def _utf8(self, text: str, path: str) -> bytes:
        try:
            return text.encode()
        except UnicodeEncodeError as error:
            raise self._bad(path, "is not valid Unicode (it holds half of a surrogate pair)") from error

    def _nest(self, path: str, depth: int) -> None:
        # The attribute itself is the first level, and what the innermost container holds is the last.
        if depth + 1 >= limits.NESTING_LEVELS_MAX:
            raise self._bad(path, f"is nested deeper than {limits.NESTING_LEVELS_MAX} levels")

    def _bad(self, path: str, complaint: str) -> InvalidItemError:
        shown = path.encode("unicode_escape").decode()[:_PATH_CHARACTERS_MAX]
        return InvalidItemError(f"{self._where}: {shown} {complaint}.", operation=self._where, path=path)


_EncodeFunction = Callable[[_Encoder, Any, str, int], AttributeValue]

_ENCODERS: Final[dict[type, _EncodeFunction]] = {
    str: _Encoder.string,
    int: _Encoder.number,
    bool: _Encoder.boolean,
    Decimal: _Encoder.number,
    type(None): _Encoder.null,
    dict: _Encoder.mapping,
    list: _Encoder.sequence,
    bytes: _Encoder.binary,
    set: _Encoder.set,
}
"""By exact type first: an item of plain types is encoded without a single isinstance."""

_BASE_ENCODERS: Final[tuple[tuple[Any, _EncodeFunction], ...]] = (
    (str, _Encoder.string),
    ((int, Decimal), _Encoder.number),
    ((bytearray, bytes, Binary), _Encoder.binary),
    (Mapping, _Encoder.mapping),
    (AbstractSet, _Encoder.set),
    ((list, tuple), _Encoder.sequence),
)


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
