from __future__ import annotations

import pytest

from reliable_write import limits
from reliable_write.clock import Stamp
from reliable_write.operations import StampNames
from reliable_write.policy import (
    FailureKind,
    Fate,
    Reading,
    Trouble,
    backoff_seconds,
    decide,
    is_foreign,
    read_stamps,
    retry_pause_seconds,
    stamp_of,
)
from reliable_write.values import WireItem
from tests.unit.fakes import NOON, ManualTime

NAMES = StampNames()
OLDER, MINE, NEWER = (Stamp(f"{int(NOON * 1000) + step:012x}" + "0" * 24) for step in (-1, 0, 1))
FAR = Stamp(f"{int((NOON + limits.STAMP_AHEAD_SECONDS_MAX) * 1000) + 1:012x}" + "0" * 24)


def found(full: str | None, update: str | None = None) -> WireItem:
    given = {"_rw": full, "_rwu": update}
    return {"id": {"S": "x"}, **{name: {"S": stamp} for name, stamp in given.items() if stamp is not None}}


@pytest.mark.parametrize(
    ("item", "reading"),
    [
        (found(None), Reading.OLDER),
        (found(OLDER), Reading.OLDER),
        (found(OLDER, OLDER), Reading.OLDER),
        (found(None, OLDER), Reading.OLDER),
        (found(MINE), Reading.MINE),
        (found(MINE, OLDER), Reading.MINE),
        (found(MINE, NEWER), Reading.MINE),
        (found(NEWER), Reading.SUPERSEDED),
        (found(NEWER, NEWER), Reading.SUPERSEDED),
        (found(NEWER, OLDER), Reading.SUPERSEDED),
        (found(OLDER, NEWER), Reading.OVERTAKEN),
        (found(None, NEWER), Reading.OVERTAKEN),
        (found(OLDER, MINE), Reading.OVERTAKEN),
        (found(FAR), Reading.FOREIGN),
        (found(OLDER, FAR), Reading.FOREIGN),
        (found(NEWER, FAR), Reading.FOREIGN),
        (found("text"), Reading.FOREIGN),
        (found(NEWER, "text"), Reading.FOREIGN),
        ({"_rw": {"N": "7"}}, Reading.FOREIGN),
        ({"_rw": {"M": {"S": {"S": OLDER}}}}, Reading.FOREIGN),
        ({"_rw": {"S": NEWER}, "_rwu": {"NULL": True}}, Reading.FOREIGN),
        # Whatever the update's stamp is, the put itself was applied.
        (found(MINE, "text"), Reading.MINE),
    ],
)
def test_what_an_item_says_to_a_write(item: WireItem, reading: Reading) -> None:
    assert read_stamps(item, MINE, NAMES, ManualTime()) is reading


def test_other_names_of_the_stamp_attributes_are_followed() -> None:
    names = StampNames("full", "part")
    assert read_stamps({"full": {"S": NEWER}, "_rw": {"N": "1"}}, MINE, names, ManualTime()) is Reading.SUPERSEDED


def test_a_stamp_is_read_only_from_a_string_of_its_shape() -> None:
    assert stamp_of(found(OLDER), "_rw") == OLDER
    assert stamp_of(found("x"), "_rw") is None
    assert stamp_of({}, "_rw") is None
    assert not is_foreign({}, NAMES, ManualTime())


# --- what becomes of an entry -------------------------------------------------------------------------------------

PERMANENT = Trouble("no", permanent=True, kind=FailureKind.ACCESS_DENIED)
PASSING = Trouble("later", permanent=False, kind=FailureKind.THROTTLED)
CONFLICT = Trouble("overtaken", permanent=True)
MISSING = Trouble("no table", permanent=True, kind=FailureKind.TABLE_MISSING)
UNKNOWN = Trouble("what?", permanent=False, kind=FailureKind.UNCLASSIFIED)
OLD = limits.TABLE_MISSING_SECONDS + 1
MANY = limits.UNCLASSIFIED_ATTEMPTS_MAX


@pytest.mark.parametrize(
    ("troubles", "attempts", "age", "fate"),
    [
        ([], 1, 0.0, Fate.FINISHED),
        ([], 10**6, 1e9, Fate.FINISHED),
        ([PASSING], 1, 0.0, Fate.RETRY),
        ([PASSING], 10**6, 1e9, Fate.RETRY),  # a passing failure never quarantines
        ([PERMANENT], 1, 0.0, Fate.QUARANTINE),
        ([CONFLICT], 1, 0.0, Fate.QUARANTINE),
        ([PERMANENT, CONFLICT], 1, 0.0, Fate.QUARANTINE),
        ([PERMANENT, PASSING], 1, 0.0, Fate.RETRY),  # finish the rest first
        ([PASSING, PERMANENT], 1, 0.0, Fate.RETRY),
        ([MISSING], 1, limits.TABLE_MISSING_SECONDS, Fate.RETRY),
        ([MISSING], 10**6, 0.0, Fate.RETRY),
        ([MISSING], 1, OLD, Fate.QUARANTINE),
        ([MISSING, PASSING], 1, OLD, Fate.RETRY),
        ([UNKNOWN], MANY - 1, 1e9, Fate.RETRY),
        ([UNKNOWN], MANY, 0.0, Fate.QUARANTINE),
        ([UNKNOWN, MISSING], MANY, 0.0, Fate.RETRY),
        ([UNKNOWN, MISSING, PERMANENT], MANY, OLD, Fate.QUARANTINE),
    ],
)
def test_the_fate_of_an_entry(troubles: list[Trouble], attempts: int, age: float, fate: Fate) -> None:
    assert decide(troubles, attempts=attempts, age_seconds=age) is fate


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_of_failure_is_retried_or_has_a_reason_not_to_be(kind: FailureKind) -> None:
    told = {
        # kind: (definite, retryable within the attempt, permanent)
        FailureKind.THROTTLED: (True, True, False),
        FailureKind.CONFLICT: (True, True, False),
        FailureKind.UNREACHABLE: (True, True, False),
        FailureKind.TIMEOUT: (False, True, False),
        FailureKind.SERVER: (False, True, False),
        FailureKind.DEADLINE: (True, False, False),
        FailureKind.CREDENTIALS: (True, False, False),
        FailureKind.VALIDATION: (True, False, True),
        FailureKind.ACCESS_DENIED: (True, False, True),
        FailureKind.TABLE_MISSING: (True, False, False),  # `decide` waits ten minutes first
        FailureKind.DESTINATION_UNKNOWN: (True, False, True),
        FailureKind.UNCLASSIFIED: (False, False, False),
    }
    assert (kind.definite, kind.retryable, kind.permanent) == told[kind]


# --- pauses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [0, 1, 2, 5, 10, 20, 100, 10**6])
def test_pauses_double_up_to_their_caps(made: int) -> None:
    time = ManualTime()
    assert retry_pause_seconds(made, time) == min(
        limits.RETRY_CAP_SECONDS, limits.RETRY_BASE_SECONDS * 2 ** min(made, 40)
    )
    assert backoff_seconds(made, time) == min(
        limits.BACKOFF_CAP_SECONDS, limits.BACKOFF_BASE_SECONDS * 2 ** min(made, 40)
    )


def test_the_jitter_is_full() -> None:
    time = ManualTime()
    time.jitter_share = 0.0
    assert backoff_seconds(5, time) == 0.0
    assert time.jitter_asked == [32.0]
