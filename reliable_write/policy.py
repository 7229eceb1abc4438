"""Verdicts, without I/O: what a failed call means, what a found item means, what becomes of an entry.

Each function takes facts and returns a name; the rooms above obey. So every rule of the protocol that needs judgement
can be read, and tested, in this one place.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from reliable_write import limits
from reliable_write.clock import Stamp, TimeSource, is_stamp, is_too_far_ahead
from reliable_write.operations import StampNames
from reliable_write.values import WireItem


class FailureKind(enum.StrEnum):
    """Why a call to DynamoDB failed, as far as it changes what we do."""

    THROTTLED = "throttled"
    CONFLICT = "transaction conflict"
    UNREACHABLE = "unreachable"
    """Refused or unresolved before a request was sent."""
    TIMEOUT = "timeout"
    """Sent; no answer came."""
    SERVER = "server error"
    DEADLINE = "deadline passed"
    """Not sent: the attempt was out of time."""
    CREDENTIALS = "credentials"
    """None, expired or wrong: they may be renewed, so it is waited for."""
    VALIDATION = "refused as invalid"
    ACCESS_DENIED = "access denied"
    TABLE_MISSING = "table missing"
    DESTINATION_UNKNOWN = "unknown destination"
    """The table's alias is not in the settings of this process; nothing was sent."""
    UNCLASSIFIED = "unclassified"

    @property
    def definite(self) -> bool:
        """Whether the request was certainly not applied."""
        return self not in (FailureKind.TIMEOUT, FailureKind.SERVER, FailureKind.UNCLASSIFIED)

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed within this attempt."""
        return self in _RETRYABLE

    @property
    def permanent(self) -> bool:
        """Whether trying again, ever, cannot help without somebody changing something.

        A missing table is judged by the entry's age (`decide`): a deployment may be about to create it.
        """
        return self in (FailureKind.VALIDATION, FailureKind.ACCESS_DENIED, FailureKind.DESTINATION_UNKNOWN)


_RETRYABLE = frozenset(
    {
        FailureKind.THROTTLED,
        FailureKind.CONFLICT,
        FailureKind.UNREACHABLE,
        FailureKind.TIMEOUT,
        FailureKind.SERVER,
    }
)


class Reading(enum.Enum):
    """What an item found in a table says about a write that wants to replace or delete it."""

    OLDER = "older"
    """Written before ours, or by somebody without stamps: ours goes over it."""
    MINE = "mine"
    """Ours was applied already."""
    SUPERSEDED = "superseded"
    """A full write later in order is there: ours is done."""
    OVERTAKEN = "overtaken"
    """Only an update later in order is there, on top of something older: no rule says what the item should be."""
    FOREIGN = "foreign"
    """The stamp attributes hold something this library did not write, or a stamp from the far future."""


def read_stamps(found: WireItem, mine: Stamp, names: StampNames, time: TimeSource) -> Reading:
    """Compare our stamp with those of the item that is there."""
    full, update = stamp_of(found, names.full), stamp_of(found, names.update)
    if full == mine:
        return Reading.MINE
    if is_foreign(found, names, time):
        return Reading.FOREIGN
    if full is not None and full > mine:
        return Reading.SUPERSEDED
    if update is not None and update >= mine:
        return Reading.OVERTAKEN
    return Reading.OLDER


def stamp_of(item: WireItem, name: str) -> Stamp | None:
    """The stamp under this attribute name; None where it is absent or no stamp."""
    text = item.get(name, {}).get("S")
    return Stamp(str(text)) if is_stamp(text) else None


def is_foreign(item: WireItem, names: StampNames, time: TimeSource) -> bool:
    """Whether a stamp attribute is there but cannot be ours."""
    for name in (names.full, names.update):
        if name in item:
            stamp = stamp_of(item, name)
            if stamp is None or is_too_far_ahead(stamp, time):
                return True
    return False


class Fate(enum.Enum):
    """What becomes of an entry after an attempt."""

    FINISHED = "finished"
    RETRY = "retry"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One operation that an attempt could not settle."""

    reason: str
    permanent: bool
    kind: FailureKind | None = None
    """None where no call failed but the item found there forbids the write."""


def decide(troubles: Sequence[Trouble], *, attempts: int, age_seconds: float) -> Fate:
    """The fate of an entry: quarantine only when nothing is left that waiting could mend.

    A missing table may be about to be created by a deployment, so it counts as permanent only on an entry older than
    `limits.TABLE_MISSING_SECONDS`; an error nobody classified counts after `limits.UNCLASSIFIED_ATTEMPTS_MAX` attempts.
    """
    if not troubles:
        return Fate.FINISHED
    if all(_is_final(trouble, attempts, age_seconds) for trouble in troubles):
        return Fate.QUARANTINE
    return Fate.RETRY


def _is_final(trouble: Trouble, attempts: int, age_seconds: float) -> bool:
    if trouble.kind is FailureKind.TABLE_MISSING:
        return age_seconds > limits.TABLE_MISSING_SECONDS
    if trouble.kind is FailureKind.UNCLASSIFIED:
        return attempts >= limits.UNCLASSIFIED_ATTEMPTS_MAX
    return trouble.permanent


def retry_pause_seconds(tries: int, time: TimeSource) -> float:
    """Full jitter between requests within one attempt; `tries` is how many were made."""
    return time.jitter(min(limits.RETRY_CAP_SECONDS, limits.RETRY_BASE_SECONDS * 2.0 ** min(tries, 10)))


def backoff_seconds(attempts: int, time: TimeSource) -> float:
    """Full jitter between attempts on an entry; `attempts` is how many were made."""
    return time.jitter(min(limits.BACKOFF_CAP_SECONDS, limits.BACKOFF_BASE_SECONDS * 2.0 ** min(attempts, 20)))
