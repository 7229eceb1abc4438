"""A lock's item: its attributes, and each change of it as one conditional write.

Whoever takes a lock gives his lease an id that nobody else has, and the token that was there plus one. Both together
name one holding of the lock: a request that was delayed on its way may bring the id back later, but never under the
same token. The item is kept when the lock is released, so that the token goes on. Where somebody has removed it, the
token begins again at the wall clock's milliseconds: above every earlier one, unless clocks differ by more than the time
the lock was gone.

A lock may share an item with other attributes; they are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from reliable_write.clock import Deadline
from reliable_write.dynamodb import Condition, ConditionRefused, Store
from reliable_write.errors import ReadFailedError
from reliable_write.locks.data import plain
from reliable_write.values import AttributeValue, WireItem, decode_item

OWNER: Final = "lock_owner"
ID: Final = "lock_id"
TOKEN: Final = "lock_token"  # noqa: S105 - a number that grows, no secret
BEAT: Final = "lock_beat"
LEASE: Final = "lock_lease_seconds"
SINCE: Final = "lock_since"
DATA: Final = "lock_data"
ATTRIBUTES: Final = (OWNER, ID, TOKEN, BEAT, LEASE, SINCE, DATA)

_NAMES: Final = {
    "#owner": OWNER,
    "#id": ID,
    "#token": TOKEN,
    "#beat": BEAT,
    "#lease": LEASE,
    "#since": SINCE,
    "#data": DATA,
}
_ZERO: Final = {"N": "0"}
_ONE: Final = {"N": "1"}


@dataclass(frozen=True, slots=True)
class LockState:
    """A lock as its item has it. Whether its holder lives only a second look can tell."""

    owner: str | None = None
    """Who holds it, by the name he gave himself; None where nobody does."""
    token: int | None = None
    """The fencing token of the holder, or of the last one; None where there never was one."""
    lease_seconds: float | None = None
    since_milliseconds: int | None = None
    """When it was taken, by the holder's own wall clock. For people; nothing here goes by it."""
    data: Any = field(default=None, repr=False)
    """What the holder, or the last one, left beside it."""
    lease_id: str | None = None
    beat: int = 0

    @property
    def held(self) -> bool:
        """Whether the item names a holder, who may have died."""
        return self.lease_id is not None

    @property
    def record_version(self) -> str | None:
        """What each sign of life changes: the record version number. None where nobody holds it."""
        return None if self.lease_id is None else f"{self.lease_id}.{self.token}.{self.beat}"


FREE: Final = LockState()


def read_state(item: Mapping[str, Any] | None, table: str) -> LockState:
    """The lock in an item as Python values. Raises `ReadFailedError` where somebody else wrote these attributes."""
    found = item or {}
    try:
        return LockState(
            owner=_text(found.get(OWNER)),
            token=None if TOKEN not in found else int(found[TOKEN]),
            lease_seconds=None if LEASE not in found else float(found[LEASE]),
            since_milliseconds=None if SINCE not in found else int(found[SINCE]),
            data=plain(found.get(DATA)),
            lease_id=_text(found.get(ID)),
            beat=int(found.get(BEAT, 0)),
        )
    except (TypeError, ValueError, ArithmeticError):  # not as the cause: it quotes what is there
        raise ReadFailedError(
            f"An item of table {table!r} has attributes named lock_... that no lock of this library wrote. Nothing was "
            "written. Use another key or table for the lock, or remove them.",
            table=table,
        ) from None


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError
    return value


@dataclass(frozen=True, slots=True)
class Claim:
    """What somebody who takes the lock writes into it."""

    owner: str
    lease_id: str
    lease_seconds: float
    since_milliseconds: int
    data: AttributeValue | None = field(default=None, repr=False)
    """None leaves what is there."""


@dataclass(frozen=True, slots=True)
class Holding:
    """One holding of a lock: nobody else has had, or will have, this id under this token."""

    lease_id: str
    token: int


@dataclass(frozen=True, slots=True)
class Change:
    """One conditional write, as expressions."""

    update: str
    condition: str
    values: WireItem = field(default_factory=dict, repr=False)

    def written(self) -> Condition:
        """Names and values of both expressions, as the store takes them: each name that is used, and no other."""
        text = f"{self.update} {self.condition}"
        names = {label: name for label, name in _NAMES.items() if label in text}
        return Condition(self.condition, names, self.values)


def claiming(claim: Claim, over: LockState) -> Change:
    """Take a free lock, or the lock of a holder who was seen to be dead, if it still is as it was seen."""
    condition, values = _as_seen(over) if over.held else ("attribute_not_exists(#id)", {})
    data = {":data": claim.data} if claim.data is not None else {}
    return Change(
        "SET #owner = :owner, #id = :id, #beat = :zero, #lease = :lease, #since = :since, "
        "#token = if_not_exists(#token, :begin) + :one" + (", #data = :data" if data else ""),
        condition,
        {
            ":owner": {"S": claim.owner},
            ":id": {"S": claim.lease_id},
            ":zero": _ZERO,
            ":lease": {"N": repr(claim.lease_seconds)},
            ":since": {"N": str(claim.since_milliseconds)},
            ":begin": {"N": str(claim.since_milliseconds)},
            ":one": _ONE,
            **data,
            **values,
        },
    )


def renewing(holding: Holding, beat: int, data: AttributeValue | None) -> Change:
    """A sign of life. Beats only grow: one that arrives late must not show a version that was seen before."""
    condition, values = _as_held(holding)
    more = {":data": data} if data is not None else {}
    return Change(
        "SET #beat = :beat" + (", #data = :data" if more else ""),
        f"{condition} AND #beat < :beat",
        {":beat": {"N": str(beat)}, **more, **values},
    )


def releasing(holding: Holding, *, delete: bool) -> Change:
    """Let it go; the token stays, and the data unless they are to be deleted."""
    condition, values = _as_held(holding)
    return Change(_let_go(delete=delete), condition, values)


def releasing_for(seen: LockState) -> Change:
    """Take it from somebody, if it still is as it was seen."""
    condition, values = _as_seen(seen)
    return Change(_let_go(delete=False), condition, values)


def held_condition(holding: Holding) -> tuple[str, dict[str, str], dict[str, Any]]:
    """That this holding is the one that holds: a condition with its names, and its values as Python's."""
    names = {"#id": ID, "#token": TOKEN}
    return "#id = :id AND #token = :token", names, {":id": holding.lease_id, ":token": holding.token}


def _let_go(*, delete: bool) -> str:
    return "REMOVE #owner, #id, #beat, #lease, #since" + (", #data" if delete else "")


def _as_held(holding: Holding) -> tuple[str, WireItem]:
    values: WireItem = {":id": {"S": holding.lease_id}, ":token": {"N": str(holding.token)}}
    return "#id = :id AND #token = :token", values


def _as_seen(seen: LockState) -> tuple[str, WireItem]:
    """The version is the same as when it was seen: then nothing has happened in between."""
    assert seen.lease_id is not None
    values: WireItem = {
        ":seen_id": {"S": seen.lease_id},
        ":seen_token": {"N": str(seen.token)},
        ":seen_beat": {"N": str(seen.beat)},
    }
    return "#id = :seen_id AND #token = :seen_token AND #beat = :seen_beat", values


@dataclass(frozen=True, slots=True)
class Released:
    """What came of letting a lock go."""

    state: LockState
    """As it is now."""
    done: bool
    """It was held until then, and by nobody else in between."""
    unclear: bool = False
    """An answer was lost, and somebody has taken the lock: before the request landed, or after it."""


class LockItem:
    """The item of one lock. Each verb is one logical call, and raises `CallFailed` where it has no answer."""

    def __init__(self, store: Store, table: str, key: WireItem) -> None:
        self._store = store
        self.table = table
        self.key = key

    def read(self, deadline: Deadline) -> LockState:
        """As it is, strongly read."""
        return self._state(self._store.get(self.table, self.key, deadline))

    def claim(self, claim: Claim, over: LockState, deadline: Deadline) -> LockState:
        """Take it if it is as it was seen; what it is afterwards, whoever has it.

        An answer may be lost and the same request sent again: then it is refused by what it wrote itself, and the id
        tells that it is ours.
        """
        return self._changed(claiming(claim, over), deadline)[0]

    def renew(self, holding: Holding, beat: int, data: AttributeValue | None, deadline: Deadline) -> LockState:
        """Show a sign of life; what it is afterwards: `is_held_by` tells whether it is still ours."""
        return self._changed(renewing(holding, beat, data), deadline)[0]

    def release(self, holding: Holding, deadline: Deadline, *, delete: bool) -> Released:
        """Let it go."""
        return self._released(releasing(holding, delete=delete), holding.token, deadline)

    def release_for(self, seen: LockState, deadline: Deadline) -> Released:
        """Let go what somebody else holds, if it still is as it was seen."""
        return self._released(releasing_for(seen), seen.token, deadline)

    def _released(self, change: Change, token: int | None, deadline: Deadline) -> Released:
        """Refused after a lost answer, a lock that is free under the same token was freed by the unanswered request."""
        state, refused = self._changed(change, deadline)
        if refused is None:
            return Released(state, done=True)
        by_us = refused.ambiguous and not state.held and state.token == token
        return Released(state, done=by_us, unclear=refused.ambiguous and not by_us)

    def _changed(self, change: Change, deadline: Deadline) -> tuple[LockState, ConditionRefused | None]:
        try:
            item = self._store.change(self.table, self.key, change.update, change.written(), deadline, whole=True)
        except ConditionRefused as refused:
            return self._state(refused.found), refused
        return self._state(item), None

    def _state(self, item: WireItem | None) -> LockState:
        kept = {name: value for name, value in (item or {}).items() if name in ATTRIBUTES}
        return read_state(decode_item(kept), self.table)


def is_held_by(state: LockState, holding: Holding) -> bool:
    """Whether this holding is the one that holds."""
    return state.lease_id == holding.lease_id and state.token == holding.token
