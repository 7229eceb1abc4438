"""`reliable-write repair-stamp`: take a foreign stamp off one item, and leave a record of having done so.

One conditional update is all that happens to the item: it removes what is foreign, if both stamp attributes are still
exactly as they were read. The record is written first, with what is taken off, so that it can be put back by hand.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from reliable_write.audit_log import AuditLog
from reliable_write.cli.connect import Connection
from reliable_write.cli.exits import CommandError, ExitCode
from reliable_write.cli.person import operator_name
from reliable_write.clock import stamp_milliseconds
from reliable_write.dynamodb import CallFailed, Condition, ConditionRefused
from reliable_write.errors import ConfigurationError, TooLateError
from reliable_write.operations import KeyAttribute, StampNames, TableSchema
from reliable_write.policy import is_foreign, stamp_of
from reliable_write.system_table import read_installation
from reliable_write.values import WireItem, encode_item

_KINDS: Final = {
    "S": "a string",
    "N": "a number",
    "B": "binary",
    "BOOL": "a truth value",
    "NULL": "null",
    "L": "a list",
    "M": "a map",
    "SS": "a set of strings",
    "NS": "a set of numbers",
    "BS": "a set of binaries",
}


@dataclass(frozen=True, slots=True)
class ForeignStamps:
    """Foreign stamps found on one item. Holds nothing else of the item."""

    table: str
    key: WireItem
    given_key: dict[str, Any]
    names: StampNames
    held: WireItem
    """Both stamp attributes, as far as they are there."""
    foreign: dict[str, str]
    """What is to come off, each with what it is."""

    def facts(self, *, done: bool) -> dict[str, Any]:
        """For `--json`."""
        return {"table": self.table, "key": self.given_key, "foreign": self.foreign, "repaired": done}


def find_foreign_stamps(connection: Connection, table: str, key_text: str) -> ForeignStamps:
    """Look at the stamps of one item, and at nothing else of it.

    Raises `UnknownTableError`, or `CommandError` where the key is no key of this table, the item is absent, or its
    stamps are in order.
    """
    names = read_installation(connection.store, connection.table, connection.deadline()).names
    schema = connection.schemas().get(table)
    if set(schema.key_names) & {names.full, names.update}:
        raise ConfigurationError(
            f"Table {table!r} has a key attribute named like the stamp ({names.full}, {names.update}), so reliable "
            "writes cannot go there at all."
        )
    given = _parse(key_text)
    key = _typed_key(schema, given)
    held = _read_stamps(connection, table, key, names)
    foreign = {name: _describe(held, name, connection) for name in held if _is_foreign(held, name, names, connection)}
    if not foreign:
        raise CommandError(
            ExitCode.TOO_LATE, f"There is nothing to repair: the stamps of this item in {table} are in order."
        )
    return ForeignStamps(table, key, given, names, held, foreign)


def _read_stamps(connection: Connection, table: str, key: WireItem, names: StampNames) -> WireItem:
    wanted = {table: (*key, names.full, names.update)}
    found = connection.store.batch_get([(table, key)], wanted, connection.deadline())
    if not found:
        raise CommandError(ExitCode.NOT_FOUND, f"Table {table} has no item with this key. Nothing was changed.")
    return {name: found[0][1][name] for name in (names.full, names.update) if name in found[0][1]}


def _is_foreign(held: WireItem, name: str, names: StampNames, connection: Connection) -> bool:
    return is_foreign({name: held[name]}, names, connection.time)


def _describe(held: WireItem, name: str, connection: Connection) -> str:
    stamp = stamp_of(held, name)
    if stamp is not None:
        days = (stamp_milliseconds(stamp) / 1000 - connection.time.wall_seconds()) / 86_400
        return f"a stamp {days:,.1f} days ahead of this machine's clock"
    kind = next(iter(held[name]))
    return "a string that is no stamp" if kind == "S" else f"{_KINDS.get(kind, kind)}, not a stamp"


# --- the key ------------------------------------------------------------------------------------------------------


def _parse(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text, parse_float=Decimal, parse_constant=Decimal)
    except ValueError as error:
        raise _wrong_key(f"it is not JSON ({error})") from error
    except RecursionError:
        raise _wrong_key("it is not JSON that one would write: nested too deep") from None
    if not isinstance(given, dict):
        raise _wrong_key("it is not an object")
    return given


def _typed_key(schema: TableSchema, given: dict[str, Any]) -> WireItem:
    if set(given) != set(schema.key_names):
        raise _wrong_key(f"the key of {schema.table} is {', '.join(schema.key_names)}")
    return encode_item({part.name: _typed(part, given[part.name]) for part in schema.key}, "--key")


def _typed(part: KeyAttribute, value: Any) -> str | Decimal | bytes:
    """A key value from JSON in the type the table declares."""
    if value == "":
        raise _wrong_key(f"{part.name} is empty, which a key never is")
    if part.type == "S" and isinstance(value, str):
        return value
    if part.type == "N" and isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Decimal(value)
    if part.type == "B" and isinstance(value, str):
        return _binary(part, value)
    wanted = {"S": "a string", "N": "a number, without quotes", "B": "base64 in a string"}[part.type]
    raise _wrong_key(f"{part.name} is {wanted}")


def _binary(part: KeyAttribute, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise _wrong_key(f"{part.name} is not base64 ({error})") from error


def _wrong_key(what: str) -> CommandError:
    return CommandError(ExitCode.USAGE, f"--key cannot be used: {what}. Nothing was changed.")


# --- the repair ---------------------------------------------------------------------------------------------------


class Repair:
    """Takes foreign stamps off."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def take_off(self, found: ForeignStamps, reason: str) -> None:
        """Remove what is foreign if both stamps are still as read; raises `TooLateError` if they are not.

        Where it is certain that nothing was done the record is withdrawn.
        """
        log = AuditLog(self._connection.store, self._connection.table, self._connection.time)
        facts: WireItem = {
            "table": {"S": found.table},
            "key": {"M": found.key},
            "removed": {"M": {name: found.held[name] for name in found.foreign}},
        }
        record = log.record(
            "repair-stamp",
            operator=operator_name(),
            reason=reason,
            facts=facts,
            deadline=self._connection.deadline(),
        )
        try:
            self._remove(found)
        except ConditionRefused as refused:
            if refused.ambiguous and self._is_off(found):  # our own earlier try, whose answer was lost
                return
            if not refused.ambiguous:
                log.withdraw(record)
            raise TooLateError(
                "The item was changed between our look and our change. It was left alone; run the same command again.",
                ambiguous=refused.ambiguous,
            ) from refused
        except CallFailed as failure:
            if not failure.ambiguous:
                log.withdraw(record)
            raise

    def _remove(self, found: ForeignStamps) -> None:
        labels = {found.names.full: "#full", found.names.update: "#upd"}
        terms, values = [], {}
        for name, label in labels.items():
            if name in found.held:
                terms.append(f"{label} = :{label[1:]}")
                values[f":{label[1:]}"] = found.held[name]
            else:
                terms.append(f"attribute_not_exists({label})")
        condition = Condition(" AND ".join(terms), {label: name for name, label in labels.items()}, values)
        update = "REMOVE " + ", ".join(labels[name] for name in found.foreign)
        self._connection.store.update(found.table, found.key, update, condition, self._connection.deadline())

    def _is_off(self, found: ForeignStamps) -> bool:
        now = _read_stamps(self._connection, found.table, found.key, found.names)
        return not set(found.foreign) & set(now)
