"""The conditional writes: what each asks, and that nothing it names is left over."""

from __future__ import annotations

import pytest

from reliable_write.locks.items import (
    FREE,
    Change,
    Claim,
    Holding,
    LockState,
    claiming,
    held_condition,
    is_held_by,
    releasing,
    releasing_for,
    renewing,
)

CLAIM = Claim("me", "id-1", 20.0, 5, None)
HELD = LockState(owner="a", token=7, lease_seconds=20.0, lease_id="id-0", beat=3)
MINE = Holding("id-1", 8)
SEEN = "#id = :seen_id AND #token = :seen_token AND #beat = :seen_beat"
OURS = "#id = :id AND #token = :token"


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (claiming(CLAIM, FREE), "attribute_not_exists(#id)"),
        (claiming(CLAIM, HELD), SEEN),
        (renewing(MINE, 4, None), f"{OURS} AND #beat < :beat"),
        (releasing(MINE, delete=True), OURS),
        (releasing_for(HELD), SEEN),
    ],
)
def test_what_each_write_asks(change: Change, condition: str) -> None:
    assert change.condition == condition
    written = change.written()
    text = f"{change.update} {change.condition}"
    assert all(label in text for label in (*written.names, *written.values))


def test_the_token_goes_on_in_the_write_itself() -> None:
    assert "#token = if_not_exists(#token, :begin) + :one" in claiming(CLAIM, FREE).update
    assert claiming(CLAIM, HELD).update == claiming(CLAIM, FREE).update


def test_a_release_never_removes_the_token() -> None:
    for change in (releasing(MINE, delete=True), releasing(MINE, delete=False), releasing_for(HELD)):
        assert "#token" not in change.update
    assert "#data" in releasing(MINE, delete=True).update
    assert "#data" not in releasing(MINE, delete=False).update


def test_one_holding_is_one_id_under_one_token() -> None:
    state = LockState(owner="me", token=8, lease_id="id-1")
    assert is_held_by(state, MINE)
    assert not is_held_by(state, Holding("id-1", 7))
    assert not is_held_by(state, Holding("id-2", 8))
    assert held_condition(MINE)[0] == OURS
