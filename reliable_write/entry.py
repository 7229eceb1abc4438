"""The journal entry as a value: its head, its states, and the versioned codec of its operations. No I/O.

A payload is `checksum | zstd(JSON)`. The checksum covers the compressed bytes and the entry they belong to, so a
flipped bit, a truncated chunk and a payload moved to another entry are all recognised before anything is unpacked. A
format this version does not know is never decoded, never changed and never deleted: a newer writer may run beside an
older monitor.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import zstandard

from reliable_write import limits
from reliable_write.clock import Stamp, is_stamp
from reliable_write.errors import WriteTooLargeError
from reliable_write.operations import Action, Delete, Operation, Put
from reliable_write.values import WireItem

FORMAT: Final = 1
_CHECKSUM_BYTES: Final = 16


class State(enum.StrEnum):
    """Where an entry stands. Finished entries are deleted, so there is no state for them."""

    PENDING = "pending"
    """Committed; to be finished by its writer or a monitor."""
    QUARANTINED = "quarantined"
    """What is left of it cannot be applied; waits for an operator."""


class UnreadableEntry(Exception):
    """The entry's operations cannot be had. It stays as it is."""

    def __init__(self, reason: str, *, unknown_format: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unknown_format = unknown_format


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal entry as stored. Times are wall milliseconds and serve people and back-off, never safety."""

    shard: int
    stamp: Stamp
    write_id: str
    format: int
    committed_at_milliseconds: int
    payload: bytes | None = field(repr=False)
    """None where the payload lies in chunks."""
    chunks: int = 0
    state: State | str = State.PENDING
    epoch: int = 0
    """Raised by every claim and every operator; each change names the epoch it saw."""
    owner: str | None = None
    attempts: int = 0
    next_at_milliseconds: int = 0
    last_error: str | None = None
    skipped: frozenset[str] = frozenset()
    """Operations (`operations[3].items[4]`) that an operator gave up; the others are still to be applied."""


def encode_operations(operations: Sequence[Operation], stamp: Stamp, write_id: str) -> bytes:
    """The payload of format 1. Raises `WriteTooLargeError` for what `decode_operations` would not believe."""
    tables: dict[tuple[str, tuple[str, ...]], int] = {}
    rows = []
    for operation in operations:
        first = operation.actions[0]
        index = tables.setdefault((first.table, first.key_names), len(tables))
        rows.append([operation.verb, index, [_content(action) for action in operation.actions]])
    document: dict[str, Any] = {"tables": [[name, list(key_names)] for name, key_names in tables], "operations": rows}
    if any(operation.number not in (None, index) for index, operation in enumerate(operations)):
        document["numbers"] = [operation.number for operation in operations]
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, default=_bytes_to_text).encode()
    if len(text) > limits.ENTRY_BYTES_DECODED_MAX:
        raise WriteTooLargeError(
            f"The scope's operations take {len(text)} bytes in the journal before compression; it takes "
            f"{limits.ENTRY_BYTES_DECODED_MAX}. Nothing was written. Use several scopes."
        )
    body = zstandard.ZstdCompressor(level=limits.ZSTD_LEVEL).compress(text)
    return _checksum(FORMAT, stamp, write_id, body) + body


def decode_operations(entry: Entry, payload: bytes) -> tuple[Operation, ...]:
    """The operations of an entry whose payload (its own, or its joined chunks) is given.

    Raises `UnreadableEntry`: unknown format, damaged, or claiming an absurd size.
    """
    check_format(entry)
    checksum, body = payload[:_CHECKSUM_BYTES], payload[_CHECKSUM_BYTES:]
    if checksum != _checksum(entry.format, entry.stamp, entry.write_id, body):
        raise UnreadableEntry("the checksum does not match: the payload is damaged or belongs to another entry")
    try:
        return _parse(_unpack(body))
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError, MemoryError) as error:
        raise UnreadableEntry(f"the payload is not a list of operations ({type(error).__name__})") from error


def check_format(entry: Entry) -> None:
    """Raise `UnreadableEntry` for an entry that a newer version wrote; nothing else of it can then be judged."""
    if entry.format != FORMAT:
        raise UnreadableEntry(f"format {entry.format} is not known to this version", unknown_format=True)


def check_state(entry: Entry) -> None:
    """Raise `UnreadableEntry` for a state that only a newer version knows."""
    if entry.state not in list(State):
        raise UnreadableEntry(f"state {str(entry.state)[:40]!r} is not known to this version", unknown_format=True)


def _checksum(format_: int, stamp: Stamp, write_id: str, body: bytes) -> bytes:
    digest = hashlib.blake2b(f"{format_}\0{stamp}\0{write_id}\0".encode(), digest_size=_CHECKSUM_BYTES)
    digest.update(body)
    return digest.digest()


def _unpack(body: bytes) -> str:
    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= limits.ENTRY_BYTES_DECODED_MAX:
            raise UnreadableEntry(f"the payload claims {size} bytes; {limits.ENTRY_BYTES_DECODED_MAX} are believed")
        text: bytes = zstandard.ZstdDecompressor().decompress(body, max_output_size=limits.ENTRY_BYTES_DECODED_MAX)
    except zstandard.ZstdError as error:
        raise UnreadableEntry("the payload does not decompress") from error
    return text.decode()


def _parse(text: str) -> tuple[Operation, ...]:
    document = json.loads(text, object_hook=_text_to_bytes)
    rows = document["operations"]
    _refuse_too_many(document["tables"], rows)
    tables = [(str(name), tuple(map(str, key_names))) for name, key_names in document["tables"]]
    numbers = document.get("numbers") or [None] * len(rows)
    return tuple(
        _operation(verb, tables[index], contents, _number_of(number))
        for (verb, index, contents), number in zip(rows, numbers, strict=True)
    )


def _refuse_too_many(tables: Any, rows: Any) -> None:
    """Before anything is made of them: a small payload may hold millions."""
    most = limits.SCOPE_ITEMS_MAX
    if max(len(tables), len(rows)) > most or sum(len(contents) for _, _, contents in rows) > most:
        raise UnreadableEntry(f"the payload holds more than {most} items")


def _number_of(number: Any) -> int | None:
    if number is None or (isinstance(number, int) and 0 <= number < limits.OPERATIONS_MAX):
        return number
    raise UnreadableEntry("an operation has no place in the scope")


def _operation(
    verb: Any, keyed_table: tuple[str, tuple[str, ...]], contents: list[WireItem], number: int | None
) -> Operation:
    table, key_names = keyed_table
    if verb in ("put_item", "put_items"):
        actions: list[Action] = [Put(table, key_names, content) for content in contents]
    elif verb in ("delete_item", "delete_items"):
        actions = [Delete(table, key_names, content) for content in contents]
    else:
        raise UnreadableEntry(f"operation {str(verb)[:40]!r} is not known to this version", unknown_format=True)
    if not actions:
        raise UnreadableEntry("an operation holds no items")
    for action in actions:
        _check_key(action)
    return Operation(verb, tuple(actions), number)


def _check_key(action: Action) -> None:
    """A key that is missing would only be noticed when it is sent; an entry is believed as a whole or not at all."""
    if not action.key_names or (isinstance(action, Delete) and len(action.key) != len(action.key_names)):
        raise UnreadableEntry("an item has no key, or more than a key")
    for name, value in action.key.items():
        if not _is_key_value(value):
            raise UnreadableEntry(f"key attribute {name[:40]!r} has no key value")


def _is_key_value(value: object) -> bool:
    match value:
        case {"S": str(), **rest} | {"B": bytes(), **rest}:
            return not rest
        case {"N": str(text), **rest}:
            return not rest and Decimal(text).is_finite()
        case _:
            return False


def _content(action: Action) -> WireItem:
    return action.item if isinstance(action, Put) else action.key


def _bytes_to_text(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} in an attribute value")


def _text_to_bytes(value: dict[str, Any]) -> dict[str, Any]:
    """Undo base64 where the wire has bytes. A map attribute that is itself named "B" holds a dict, not a string."""
    if len(value) == 1:
        ((kind, content),) = value.items()
        if kind == "B" and isinstance(content, str):
            return {"B": _decode64(content)}
        if kind == "BS" and isinstance(content, list):
            return {"BS": [_decode64(part) for part in content]}
    return value


def _decode64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


# --- the entry as an item of the system table ---------------------------------------------------------------------

SHARD_PREFIX: Final = "J#"
CHUNK_PREFIX: Final = "C#"
CHUNK_NOTE: Final = "~note"
NOTE_ATTRIBUTE: Final = "note"


def shard_name(shard: int) -> str:
    """The partition of a shard."""
    return f"{SHARD_PREFIX}{shard:03d}"


def entry_key(shard: int, stamp: Stamp) -> WireItem:
    """Where an entry lives."""
    return {"pk": {"S": shard_name(shard)}, "sk": {"S": stamp}}


def chunk_group(stamp: str) -> str:
    """The partition of an entry's chunks."""
    return f"{CHUNK_PREFIX}{stamp}"


def chunk_key(stamp: Stamp, index: int) -> WireItem:
    """Where the n-th chunk of an entry's payload lives."""
    return {"pk": {"S": chunk_group(stamp)}, "sk": {"S": f"{index:04d}"}}


def chunk_note_key(group: str) -> WireItem:
    """Where a scheduled audit writes about the chunks of an entry: after the last of them."""
    return {"pk": {"S": chunk_group(group)}, "sk": {"S": CHUNK_NOTE}}


def shard_of(stamp: Stamp, shards: int) -> int:
    """The shard of an entry: its last random digits, so evenly spread."""
    return int(stamp[-8:], 16) % shards


def entry_item(entry: Entry) -> WireItem:
    """A fresh entry as it is put at the commit point. What is absent is zero or none, to keep it small."""
    item: WireItem = {
        **entry_key(entry.shard, entry.stamp),
        "write_id": {"S": entry.write_id},
        "format": {"N": str(entry.format)},
        "state": {"S": str(entry.state)},
        "committed_at": {"N": str(entry.committed_at_milliseconds)},
        "epoch": {"N": str(entry.epoch)},
    }
    if entry.payload is not None:
        item["payload"] = {"B": entry.payload}
    if entry.chunks:
        item["chunks"] = {"N": str(entry.chunks)}
    return item


HEAD_ATTRIBUTES: Final = (
    "pk",
    "sk",
    "write_id",
    "format",
    "state",
    "committed_at",
    "epoch",
    "chunks",
    "owner",
    "attempts",
    "next_at",
    "last_error",
    "skipped",
)
"""All of an entry but its payload: what a monitor reads again and again."""


def read_entry(item: WireItem) -> Entry:
    """An entry from its item. Raises `UnreadableEntry` where its head makes no sense."""
    try:
        stamp = item["sk"]["S"]
        if not is_stamp(stamp):
            raise UnreadableEntry("its sort key is not a stamp")
        return Entry(
            shard=int(item["pk"]["S"].removeprefix(SHARD_PREFIX)),
            stamp=Stamp(stamp),
            write_id=item["write_id"]["S"],
            format=int(item["format"]["N"]),
            committed_at_milliseconds=int(item["committed_at"]["N"]),
            payload=bytes(item["payload"]["B"]) if "payload" in item else None,
            chunks=_number(item, "chunks"),
            state=item["state"]["S"],
            epoch=int(item["epoch"]["N"]),
            owner=item["owner"]["S"] if "owner" in item else None,
            attempts=_number(item, "attempts"),
            next_at_milliseconds=_number(item, "next_at"),
            last_error=item["last_error"]["S"] if "last_error" in item else None,
            skipped=frozenset(item["skipped"]["SS"]) if "skipped" in item else frozenset(),
        )
    except (KeyError, ValueError, TypeError) as error:
        missing = str(error) if isinstance(error, KeyError) else type(error).__name__  # others quote what is there
        raise UnreadableEntry(f"its head lacks or garbles an attribute ({missing})") from error


def _number(item: WireItem, name: str) -> int:
    return int(item[name]["N"]) if name in item else 0
