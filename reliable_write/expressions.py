"""Condition and update expressions: what a caller hands over, checked, and merged with the guards of the protocol.

A caller's placeholders and ours share one request, so ours begin with `#rw_` and `:rw_`, and his may not. Nothing here
understands an expression: DynamoDB does, inside the transaction, where a refusal still means that nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from boto3.dynamodb.conditions import ConditionBase, ConditionExpressionBuilder

from reliable_write import limits
from reliable_write.errors import InvalidExpressionError
from reliable_write.values import WireItem, encode_item, shown_path

Names = Mapping[str, str]
"""Placeholders like `#n`, each with the attribute name it stands for."""

_PLACEHOLDER: Final = re.compile(r"[#:][A-Za-z0-9_]+")
_RESERVED: Final = ("#rw_", ":rw_")
_BUILT: Final = re.compile(r"([#:])([nv])(\d+)")
"""What boto3's builder names its placeholders."""
_CLAUSE: Final = re.compile(r"(?<![#:.\w])(SET|REMOVE|ADD|DELETE)(?=[\s#])", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(r"#?\w+")
_RAW_NAME: Final = re.compile(r"(?<![#:.\w])[A-Za-z_][\w-]*")


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition expression with its names and values, or an update expression with both."""

    expression: str
    names: Names = field(default_factory=dict)
    values: WireItem = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Written:
    """What the caller wrote down for one operation; condition and update share their names and values."""

    condition: str | None
    update: str | None
    names: Names
    values: WireItem


def read_condition(
    condition: str | ConditionBase | None, names: Names | None, values: Mapping[str, Any] | None, where: str
) -> Written:
    """A condition as boto3 takes it: a string with its placeholders, or a `boto3.dynamodb.conditions` object.

    Raises `InvalidExpressionError` or `InvalidItemError`.
    """
    return _read(condition, None, names, values, where)


def read_update(
    update: str,
    condition: str | ConditionBase | None,
    names: Names | None,
    values: Mapping[str, Any] | None,
    where: str,
) -> Written:
    """An `UpdateExpression`, with or without a condition. Raises as `read_condition`."""
    _check_text(update, "UpdateExpression", where)
    if _CLAUSE.search(update) is None:
        raise InvalidExpressionError(f"{where}: UpdateExpression has none of SET, REMOVE, ADD and DELETE.")
    return _read(condition, update, names, values, where)


def build_update(
    add: Mapping[str, Any], set_: Mapping[str, Any], remove: Iterable[str], where: str
) -> tuple[str, dict[str, str], WireItem]:
    """An update expression from `add=`, `set=` and `remove=`, whose names are whole attribute names, never paths.

    The same for every order of the names: a set of them comes in another order in every process, and the write of an
    idempotency key must be recognised in all of them.
    """
    if isinstance(remove, str):
        raise InvalidExpressionError(f"{where}: remove is a list of attribute names, not one string.")
    encoded = {"ADD": _sorted(encode_item(add, f"{where} add")), "SET": _sorted(encode_item(set_, f"{where} set"))}
    removed = _names_of(remove, where)
    touched = [*encoded["ADD"], *encoded["SET"], *removed]
    twice = sorted({name for name in touched if touched.count(name) > 1})
    if twice:
        raise InvalidExpressionError(f"{where}: attribute {twice[0]!r} is changed twice.")
    if not touched:
        raise InvalidExpressionError(f"{where}: an update changes something: add=, set=, remove= or UpdateExpression=.")
    for name, value in encoded["ADD"].items():
        if not value.keys() & {"N", "NS", "SS", "BS"}:
            raise InvalidExpressionError(f"{where}: add takes numbers and sets; {name!r} is neither.")
    names = {f"#rw_u{index}": name for index, name in enumerate(touched)}
    placeholders = dict(zip(touched, names, strict=True))
    values = {_value_of(placeholders[name]): value for part in encoded.values() for name, value in part.items()}
    clauses = {
        "ADD": [f"{placeholders[name]} {_value_of(placeholders[name])}" for name in encoded["ADD"]],
        "SET": [f"{placeholders[name]} = {_value_of(placeholders[name])}" for name in encoded["SET"]],
        "REMOVE": [placeholders[name] for name in removed],
    }
    return " ".join(f"{verb} {', '.join(parts)}" for verb, parts in clauses.items() if parts), names, values


def _sorted(item: WireItem) -> WireItem:
    return dict(sorted(item.items()))


def _names_of(remove: Iterable[str], where: str) -> list[str]:
    names = list(remove)
    for name in names:
        if not isinstance(name, str) or not name:  # type: ignore[redundant-expr]  # callers may not type-check
            raise InvalidExpressionError(f"{where}: remove holds attribute names, and {name!r} is none.")
    return sorted(names)


def with_assignments(update: str, assignments: Sequence[str]) -> str:
    """The update expression with further assignments in its SET clause, of which there may be only one."""
    clause = next((found for found in _CLAUSE.finditer(update) if found[1].upper() == "SET"), None)
    joined = ", ".join(assignments)
    if clause is None:
        return f"{update} SET {joined}"
    return f"{update[: clause.end()]} {joined}, {update[clause.end() :].lstrip()}"


def bracketed(condition: str) -> str:
    """A condition that can stand beside others: in brackets, unless it is already; DynamoDB refuses a second pair."""
    closing = _closing_brackets(condition)
    opened = condition.find("(")
    whole = opened >= 0 and not condition[:opened].strip() and not condition[closing.get(opened, 0) + 1 :].strip()
    return condition if whole else f"({condition})"


def _closing_brackets(text: str) -> dict[int, int]:
    """Where each bracket closes. Raises `ValueError` where one has no partner. Expressions hold no quoted text."""
    closing: dict[int, int] = {}
    open_: list[int] = []
    for at, character in enumerate(text):
        if character == "(":
            open_.append(at)
        elif character == ")":
            if not open_:
                raise ValueError(f"the bracket at {at} closes nothing")
            closing[open_.pop()] = at
    if open_:
        raise ValueError(f"the bracket at {open_[-1]} is not closed")
    return closing


def changed_attributes(update: str, names: Names) -> set[str]:
    """The top-level attributes that an update writes to."""
    _, *parts = _CLAUSE.split(update)
    paths = [path for verb, text in zip(parts[::2], parts[1::2], strict=True) for path in _paths(verb.upper(), text)]
    found = [_ATTRIBUTE.match(path) for path in paths]
    return {names.get(match[0], match[0]) for match in found if match is not None}


def _paths(verb: str, clause: str) -> list[str]:
    """What stands on the left of each part of a clause."""
    flat = re.sub(r"\([^()]*\)", "", re.sub(r"\([^()]*\)", "", clause))  # commas in functions part nothing
    return [(part.partition("=")[0] if verb == "SET" else part).strip() for part in flat.split(",")]


def mentions(written: Written, attributes: Iterable[str]) -> str | None:
    """The first of these attributes that the update names, plainly or by a placeholder."""
    text = written.update or ""
    used = {written.names.get(placeholder, "") for placeholder in _PLACEHOLDER.findall(text)}
    used |= set(_RAW_NAME.findall(text))
    return next((name for name in attributes if name in used), None)


def _read(
    condition: str | ConditionBase | None,
    update: str | None,
    names: Names | None,
    values: Mapping[str, Any] | None,
    where: str,
) -> Written:
    own_names, own_values = _own(names, values, where)
    text: str | None
    if isinstance(condition, ConditionBase):
        text, more_names, more_values = _built(condition, where)
    else:
        text, more_names, more_values = condition, {}, {}
        if condition is not None:
            _check_text(condition, "ConditionExpression", where)
            _check_brackets(condition, where)
    given = [part for part in (update, condition) if isinstance(part, str)]
    _check_placeholders(given, {*own_names, *own_values}, where)
    return Written(text, update, {**own_names, **more_names}, {**own_values, **more_values})


def _own(names: Names | None, values: Mapping[str, Any] | None, where: str) -> tuple[dict[str, str], WireItem]:
    own_names = dict(names or {})
    own_values = encode_item(values or {}, f"{where} ExpressionAttributeValues")
    for placeholder in (*own_names, *own_values):
        if placeholder.startswith(_RESERVED):
            raise InvalidExpressionError(
                f"{where}: placeholder {placeholder!r} begins like this library's own. Choose another."
            )
    return own_names, own_values


def build_reading(
    conditions: tuple[ConditionBase | None, ConditionBase | None], where: str
) -> tuple[tuple[str | None, str | None], dict[str, str], WireItem]:
    """The key condition and the filter of a Query or Scan as expressions, and the names and values of both.

    Raises `InvalidExpressionError` or `InvalidItemError`.
    """
    builder = ConditionExpressionBuilder()
    names: dict[str, str] = {}
    plain: dict[str, Any] = {}
    texts: list[str | None] = []
    for number, condition in enumerate(conditions):
        if condition is None:
            texts.append(None)
            continue
        try:
            built = builder.build_expression(condition, is_key_condition=number == 0)
        except Exception as error:
            raise InvalidExpressionError(f"{where}: a condition cannot be built ({type(error).__name__}).") from error
        texts.append(built.condition_expression)
        names |= built.attribute_name_placeholders
        plain |= built.attribute_value_placeholders
    return (texts[0], texts[1]), names, encode_item(plain, f"{where}, a condition")


def _built(condition: ConditionBase, where: str) -> tuple[str, dict[str, str], WireItem]:
    """boto3's builder counts its placeholders from zero, as callers do; so they are renamed."""
    try:
        built = ConditionExpressionBuilder().build_expression(condition)
    except Exception as error:
        raise InvalidExpressionError(f"{where}: the condition cannot be built ({type(error).__name__}).") from error
    text = _BUILT.sub(r"\1rw_\2\3", built.condition_expression)
    names = {_BUILT.sub(r"\1rw_\2\3", name): value for name, value in built.attribute_name_placeholders.items()}
    plain = {_BUILT.sub(r"\1rw_\2\3", name): value for name, value in built.attribute_value_placeholders.items()}
    return text, names, encode_item(plain, f"{where} ConditionExpression")


def _check_text(text: object, what: str, where: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise InvalidExpressionError(
            f"{where}: {what} is a string that is not empty, or for a condition a boto3.dynamodb.conditions object; "
            f"this is {type(text).__name__}."
        )
    size = len(text.encode(errors="surrogatepass"))
    if size > limits.CALLERS_EXPRESSION_BYTES_MAX:
        raise InvalidExpressionError(
            f"{where}: {what} has {size} bytes; it takes {limits.CALLERS_EXPRESSION_BYTES_MAX} here, "
            "because the guards of the write's order stand in the same expression."
        )


def _check_brackets(condition: str, where: str) -> None:
    """`a) OR (b` in brackets of ours would be a condition without our guards."""
    try:
        _closing_brackets(condition)
    except ValueError as error:
        raise InvalidExpressionError(f"{where}: ConditionExpression is not balanced: {error}.") from error


def _check_placeholders(texts: Sequence[str], given: set[str], where: str) -> None:
    """DynamoDB refuses both as well, but only at the commit."""
    used = {placeholder for text in texts for placeholder in _PLACEHOLDER.findall(text)}
    if missing := sorted(used - given):
        member = "ExpressionAttributeNames" if missing[0].startswith("#") else "ExpressionAttributeValues"
        raise InvalidExpressionError(f"{where}: {missing[0]} stands in an expression but not in {member}.")
    if unused := sorted(given - used):
        raise InvalidExpressionError(f"{where}: {shown_path(unused[0])} is given but stands in no expression.")


def _value_of(placeholder: str) -> str:
    return f":{placeholder[1:]}"
