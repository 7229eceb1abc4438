"""The ledger: one item of an ordinary table for each object, keyed by the object's address.

    absent --claim--> sending --finish--> done
                      sending --take over, renew, note the upload, release--> sending
                      sending --give up--> absent

Every change but `finish` is one put of the whole item under `version = the one seen`, so of two who act on one sight of
it one is told so; none brings back an item that is gone. `finish` says what is a fact by then, whoever holds the claim:
the object is there with this content, and nothing replaces it. `done` never changes. A claim is there to share work and
to resume it; that a key gets one object is S3's doing (`objects`), so the ledger may even be lost.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reliable_write import limits
from reliable_write.clock import TimeSource
from reliable_write.dynamodb import Condition, ConditionRefused
from reliable_write.engine import Engine
from reliable_write.errors import ConfigurationError
from reliable_write.values import WireItem

KEY: Final = "object"


class State(enum.StrEnum):
    """Of an object, as the ledger has it."""

    SENDING = "sending"
    DONE = "done"


class By(enum.StrEnum):
    """How an object came to be done: for the counts of two who find out at once."""

    SENT = "sent"
    FOUND = "found"


@dataclass(frozen=True, slots=True)
class Intent:
    """One item of the ledger."""

    object: str
    sha256: str
    size: int
    attempt: str
    """Noted in the object's metadata too, so that whoever finds it there knows whose it is."""
    at_milliseconds: int
    """Wall time of the last change; for people."""
    state: State = State.SENDING
    version: int = 1
    owner: str | None = None
    lease_seconds: float = limits.UPLOAD_LEASE_SECONDS
    """The owner's; who waits for it goes by this."""
    upload: str | None = None
    """The id of the multipart upload that was begun for it."""
    by: By | None = None


class Overtaken(Exception):
    """Somebody else changed the item first. `found` is what is there now; None where it is gone."""

    def __init__(self, found: Intent | None) -> None:
        super().__init__("the ledger's item is not what it was")
        self.found = found


class Ledger:
    """The items, through one engine. Every method raises `CallFailed` where DynamoDB gives no answer."""

    def __init__(self, engine: Engine, table: str) -> None:
        self._engine = engine
        self._table = table

    @property
    def time(self) -> TimeSource:
        """The clocks it goes by."""
        return self._engine.time

    def look(self, objects: Sequence[str], *, consistent: bool) -> dict[str, Intent]:
        """Those that are there. `done` is final, so a first look need not be consistent, and costs half."""
        found: dict[str, Intent] = {}
        for page in _pages(objects):
            keys: list[WireItem] = [{KEY: {"S": name}} for name in page]
            deadline = self._engine.attempt_deadline()
            for item in self._engine.reader.batch_get(self._table, keys, deadline, consistent=consistent):
                intent = _read(item)
                found[intent.object] = intent
        return found

    def claim(self, intent: Intent) -> None:
        """Put it if nothing is there. Raises `Overtaken`."""
        self._put(intent, Condition("attribute_not_exists(#k)", {"#k": KEY}, {}))

    def move(self, seen: Intent, wanted: Intent) -> None:
        """Put it in place of the one seen. Raises `Overtaken`."""
        assert wanted.version == seen.version + 1
        assert seen.state is State.SENDING
        self._put(wanted, _unchanged(seen))

    def give_up(self, seen: Intent) -> None:
        """Remove it if it is as it was seen; somebody else's is left alone."""
        try:
            self._engine.store.delete(
                self._table, {KEY: {"S": seen.object}}, _unchanged(seen), self._engine.attempt_deadline()
            )
        except ConditionRefused:
            return

    def finish(self, done: Intent) -> Intent | None:
        """Note that the object is there; None, or what had been noted before. Whose claim it was does not matter."""
        assert done.state is State.DONE
        condition = Condition(
            "attribute_not_exists(#k) OR #s <> :done", {"#k": KEY, "#s": "state"}, {":done": {"S": State.DONE.value}}
        )
        try:
            self._put(done, condition)
        except Overtaken as overtaken:
            return overtaken.found
        return None

    def _put(self, intent: Intent, condition: Condition) -> None:
        key: WireItem = {KEY: {"S": intent.object}}
        try:
            self._engine.store.put(self._table, _item(intent), condition, self._engine.attempt_deadline(), look=key)
        except ConditionRefused as refused:
            found = None if refused.found is None else _read(refused.found)
            # The answer of an earlier try was lost, and it had been applied: no two callers write the same item.
            if found != intent:
                raise Overtaken(found) from None


def _unchanged(seen: Intent) -> Condition:
    """Versions begin anew with a new item, attempts do not; and what is done stays so, whatever its version."""
    return Condition(
        "#v = :v AND #a = :a AND #s = :sending",
        {"#v": "version", "#a": "attempt", "#s": "state"},
        {":v": {"N": str(seen.version)}, ":a": {"S": seen.attempt}, ":sending": {"S": State.SENDING.value}},
    )


def next_of(seen: Intent, time: TimeSource, **changes: Any) -> Intent:
    """The version after the one seen."""
    return dataclasses.replace(seen, version=seen.version + 1, at_milliseconds=_now(time), **changes)


def first_of(address: str, sha256: str, size: int, owner: str, lease_seconds: float, time: TimeSource) -> Intent:
    """A new claim, with an attempt of its own."""
    return Intent(
        object=address,
        sha256=sha256,
        size=size,
        attempt=new_attempt(time),
        at_milliseconds=_now(time),
        owner=owner,
        lease_seconds=lease_seconds,
    )


def done_of(seen: Intent, by: By, time: TimeSource) -> Intent:
    """The item once the object is known to be there."""
    return next_of(seen, time, state=State.DONE, by=by, owner=None, upload=None)


def new_attempt(time: TimeSource) -> str:
    """Unique, 32 characters."""
    return time.random_bytes(16).hex()


def _now(time: TimeSource) -> int:
    return int(time.wall_seconds() * 1000)


def _pages(objects: Sequence[str]) -> Iterator[Sequence[str]]:
    size = limits.BATCH_GET_KEYS_MAX
    return (objects[at : at + size] for at in range(0, len(objects), size))


# --- as DynamoDB has it -------------------------------------------------------------------------------------------


def _item(intent: Intent) -> WireItem:
    item: WireItem = {
        KEY: {"S": intent.object},
        "sha256": {"S": intent.sha256},
        "size": {"N": str(intent.size)},
        "attempt": {"S": intent.attempt},
        "at": {"N": str(intent.at_milliseconds)},
        "state": {"S": intent.state.value},
        "version": {"N": str(intent.version)},
        "lease": {"N": repr(intent.lease_seconds)},
    }
    if intent.owner is not None:
        item["owner"] = {"S": intent.owner}
    if intent.upload is not None:
        item["upload"] = {"S": intent.upload}
    if intent.by is not None:
        item["by"] = {"S": intent.by.value}
    return item


def _read(item: Mapping[str, Any]) -> Intent:
    try:
        return _as_intent(item)
    except (KeyError, ValueError) as error:
        wrong = f"it has no {error}" if isinstance(error, KeyError) else "an attribute is garbled"  # others quote it
        raise ConfigurationError(
            f"An item of the ledger is not one of ours: {wrong} in {item.get(KEY, {}).get('S')!r}. The ledger is a "
            "table of its own: give another one with --table, or remove that item."
        ) from None


def _as_intent(item: Mapping[str, Any]) -> Intent:
    return Intent(
        object=item[KEY]["S"],
        sha256=item["sha256"]["S"],
        size=int(item["size"]["N"]),
        attempt=item["attempt"]["S"],
        at_milliseconds=int(item["at"]["N"]),
        state=State(item["state"]["S"]),
        version=int(item["version"]["N"]),
        owner=item.get("owner", {}).get("S"),
        lease_seconds=float(item["lease"]["N"]),
        upload=item.get("upload", {}).get("S"),
        by=By(item["by"]["S"]) if "by" in item else None,
    )
