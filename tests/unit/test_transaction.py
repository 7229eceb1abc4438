"""The commit point as one transaction: what is sent, and how its refusals are read. No I/O."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reliable_write.clock import HybridClock, Stamp
from reliable_write.dynamodb import TransactionCancelled
from reliable_write.dynamodb.failures import CancelReason
from reliable_write.entry import FORMAT, Entry
from reliable_write.operations import AtCommit, Check, Delete, Put, StampNames, Update
from reliable_write.policy import FailureKind
from reliable_write.receipts import StoredReceipt, receipt_item
from reliable_write.transaction import Objection, Part, Refusal, Transaction, is_ghost, read_refusal
from reliable_write.values import WireItem
from tests.unit.fakes import ManualTime

TIME = ManualTime()
CLOCK = HybridClock(TIME)
OLD, TOMB, SEEN, MINE, NEW = (CLOCK.stamp() for _ in range(5))
FAR = Stamp("f" * 36)
NAMES = StampNames()
KEY = {"id": {"S": "x"}}
RECEIPT = StoredReceipt("write", MINE, "hash", MINE, 1, 0, has_entry=False)
FINE = CancelReason(None)


def refused(**item: str) -> CancelReason:
    """A condition was false; the item that made it so."""
    found: WireItem | None = {**KEY, **{name: {"S": value} for name, value in item.items()}} if item else None
    return CancelReason(None, "ConditionalCheckFailed", found)


def receipt(**more: Any) -> CancelReason:
    stored = StoredReceipt(**{**{name: getattr(RECEIPT, name) for name in RECEIPT.__slots__}, **more})
    return CancelReason(None, "ConditionalCheckFailed", receipt_item(stored))


def update(condition: str | None = None, number: int = 0) -> AtCommit:
    return AtCommit("update_item", Update("t", ("id",), KEY, "ADD n :n"), number, "an update", condition)


def part(operation: AtCommit, tombstone: Stamp | None) -> Part:
    return Part(operation, tombstone, item_seen=False)


def transaction(*parts: Part, entry: bool = False) -> Transaction:
    head = Entry(0, MINE, "write", FORMAT, 0, b"payload") if entry else None
    return Transaction("system", NAMES, MINE, RECEIPT, head, parts)


def read(sent: Transaction, *reasons: CancelReason) -> Refusal:
    return read_refusal(sent, TransactionCancelled(list(reasons)), TIME)


PLAIN, CONDITIONAL = part(update(), None), part(update("a = :b"), None)
DELETED, DELETED_CONDITIONAL = part(update(), TOMB), part(update("a = :b"), TOMB)


# --- each objection -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "item"),
    [
        (PLAIN, refused(_rw=NEW)),
        (PLAIN, refused(_rwu=NEW)),
        (CONDITIONAL, refused(_rw=NEW)),
        (CONDITIONAL, refused(_rwu=NEW)),
        (CONDITIONAL, refused(_rw=OLD, _rwu=NEW)),
        (DELETED, refused(_rw=OLD)),
        (DELETED_CONDITIONAL, refused(_rw=OLD)),
        (DELETED_CONDITIONAL, refused(_rwu=OLD)),
        (CONDITIONAL, refused(_rw=MINE)),
    ],
)
def test_guards(part: Part, item: CancelReason) -> None:
    assert read(transaction(part), FINE, item, FINE) == Refusal(Objection.GUARDS)


@pytest.mark.parametrize(
    ("part", "item"),
    [
        (CONDITIONAL, refused()),
        (CONDITIONAL, refused(a="other")),
        (CONDITIONAL, refused(_rw=OLD)),
        (CONDITIONAL, refused(_rw=OLD, _rwu=SEEN)),
        (DELETED_CONDITIONAL, refused()),
        (DELETED_CONDITIONAL, refused(a="unstamped")),
        (DELETED_CONDITIONAL, refused(_rw=TOMB)),
        (DELETED_CONDITIONAL, refused(_rw=OLD, _rwu=SEEN)),
    ],
)
def test_the_callers_condition(part: Part, item: CancelReason) -> None:
    refusal = read(transaction(part), FINE, item, FINE)
    assert refusal.objection is Objection.CONDITION
    assert [(one.operation, one.found) for one in refusal.refused] == [(part.operation, item.found)]


@pytest.mark.parametrize("item", [refused(_rw="foreign"), refused(_rwu="x"), refused(_rw=FAR)])
@pytest.mark.parametrize("part", [PLAIN, CONDITIONAL, DELETED])
def test_a_foreign_stamp(part: Part, item: CancelReason) -> None:
    assert read(transaction(part), FINE, item, FINE).objection is Objection.FOREIGN


def test_a_tombstone_that_moved() -> None:
    assert read(transaction(PLAIN), FINE, FINE, refused()).objection is Objection.GUARDS


def test_our_receipt_or_another_scopes() -> None:
    refusal = read(transaction(PLAIN, entry=True), FINE, receipt(stamp=OLD), FINE, FINE)
    assert refusal.objection is Objection.RECEIPT
    assert refusal.receipt is not None
    assert refusal.receipt.stamp == OLD


def test_a_receipt_that_cannot_be_read_is_a_receipt() -> None:
    assert read(transaction(PLAIN), refused(x="y"), FINE, FINE) == Refusal(Objection.RECEIPT)


def test_what_dynamodb_will_not_do() -> None:
    invalid = CancelReason(FailureKind.VALIDATION, "ValidationError")
    refusal = read(transaction(PLAIN, part(update(number=3), None)), FINE, FINE, FINE, invalid, FINE)
    assert refusal.objection is Objection.INVALID
    assert [(one.operation.place, one.code) for one in refusal.refused] == [("operations[3]", "ValidationError")]


def test_reasons_of_another_number() -> None:
    invalid = CancelReason(FailureKind.VALIDATION, "ValidationError")
    assert read(transaction(PLAIN), invalid) == Refusal(Objection.INVALID)
    assert read(transaction(PLAIN), refused(_rw=NEW)) == Refusal(Objection.UNKNOWN)
    assert read(transaction(PLAIN)) == Refusal(Objection.UNKNOWN)


def test_no_reason_at_all() -> None:
    assert read(transaction(PLAIN, entry=True), FINE, FINE, FINE, FINE) == Refusal(Objection.UNKNOWN)


# --- the order of the questions -----------------------------------------------------------------------------------


def test_the_receipt_comes_before_everything() -> None:
    """Our own attempt that landed has changed what the others see."""
    sent = transaction(CONDITIONAL, CONDITIONAL, entry=True)
    refusal = read(sent, refused(), receipt(), refused(_rw=MINE), refused(), refused(_rw="foreign"), FINE)
    assert refusal.objection is Objection.RECEIPT


def test_foreign_stamps_come_before_guards_and_conditions() -> None:
    """Looking again would not help."""
    sent = transaction(PLAIN, CONDITIONAL, CONDITIONAL)
    refusal = read(sent, FINE, refused(_rw=NEW), FINE, refused(a="z"), FINE, refused(_rw="foreign"), FINE)
    assert refusal.objection is Objection.FOREIGN


def test_a_foreign_stamp_is_told_of_its_own_operation() -> None:
    one, two = part(update("a = :b", 0), None), part(update(None, 1), None)
    refusal = read(transaction(one, two), FINE, refused(a="z"), FINE, refused(_rw="foreign"), FINE)
    assert [one.operation.place for one in refusal.refused] == ["operations[1]"]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_guards_come_before_conditions_wherever_they_stand(at: int) -> None:
    """What was written in between may be what makes a condition false."""
    pairs = [[refused(a="z"), FINE] for _ in range(3)]
    for objection in ([refused(_rw=NEW), FINE], [refused(a="z"), refused()], [FINE, refused()]):
        told = [*pairs[:at], objection, *pairs[at + 1 :]]
        sent = transaction(CONDITIONAL, CONDITIONAL, CONDITIONAL)
        assert read(sent, FINE, *[one for pair in told for one in pair]).objection is Objection.GUARDS


def test_conditions_come_before_what_is_invalid_and_in_the_callers_order() -> None:
    parts = [part(update("a = :b", number), None) for number in (2, 5, 7)]
    invalid = CancelReason(FailureKind.VALIDATION, "ValidationError")
    refusal = read(transaction(*parts), FINE, refused(), FINE, invalid, FINE, refused(a="z"), FINE)
    assert refusal.objection is Objection.CONDITION
    assert [one.operation.place for one in refusal.refused] == ["operations[2]", "operations[7]"]


@pytest.mark.parametrize(
    ("item", "ghost"),
    [
        ({}, False),
        ({"_rw": OLD}, True),
        ({"_rwu": OLD}, True),
        ({"_rw": OLD, "_rwu": OLD}, True),
        ({"_rw": TOMB}, False),
        ({"_rw": OLD, "_rwu": TOMB}, False),
        ({"_rw": OLD, "_rwu": NEW}, False),
        ({"_rw": NEW}, False),
    ],
)
def test_ghosts(item: dict[str, str], ghost: bool) -> None:
    assert is_ghost({name: {"S": value} for name, value in item.items()}, TOMB, NAMES) is ghost


# --- what is sent -------------------------------------------------------------------------------------------------


def test_the_actions_and_their_order() -> None:
    put = AtCommit("put_item", Put("t", ("id",), KEY), 0, "")
    delete = AtCommit("delete_item", Delete("t", ("id",), KEY), 1, "")
    check = AtCommit("condition_check", Check("t", ("id",), KEY), 2, "", "a = :b")
    parts = [part(operation, None) for operation in (put, delete, check, update())]
    kinds = [next(iter(action)) for action in transaction(*parts, entry=True).actions()]
    assert kinds == [
        *("Put", "Put"),
        *("Put", "ConditionCheck"),
        *("Delete", "Put"),
        *("ConditionCheck", "ConditionCheck"),
        *("Update", "ConditionCheck"),
    ]
    actions = transaction(*parts, entry=True).actions()
    assert actions[0]["Put"]["Item"]["pk"]["S"].startswith("J#")
    assert actions[1]["Put"]["Item"]["pk"]["S"] == "R#write"
    assert actions[2]["Put"]["Item"]["_rw"] == {"S": MINE}
    assert actions[5]["Put"]["Item"]["stamp"] == {"S": MINE}, "the tombstone of the delete"
    for action in actions:
        ((_, request),) = action.items()
        assert request["ConditionExpression"]


def test_an_attempt_is_the_same_bytes_each_time() -> None:
    sent = transaction(PLAIN, DELETED_CONDITIONAL, entry=True)
    once, again = (json.dumps(sent.actions(), default=repr) for _ in range(2))
    assert once == again


def test_only_an_update_of_a_deleted_key_hands_the_tombstone_on() -> None:
    plain, deleted = (transaction(part).actions()[1]["Update"] for part in (PLAIN, DELETED))
    assert plain["UpdateExpression"] == "ADD n :n SET #rw_upd = :rw_mine"
    assert deleted["UpdateExpression"] == (
        "ADD n :n SET #rw_upd = :rw_mine, #rw_full = if_not_exists(#rw_full, :rw_tomb)"
    )
    assert deleted["ExpressionAttributeValues"][":rw_tomb"] == {"S": TOMB}
