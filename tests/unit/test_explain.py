"""Explanations hold no value, name commands that help, and never promise what nobody will do."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from reliable_write.audit_log import Deed
from reliable_write.clock import Stamp
from reliable_write.entry import FORMAT, Entry, State
from reliable_write.explain import Explanation, explain, explain_absent
from reliable_write.operations import Delete, Put
from reliable_write.operators import Comparison, Examination, Found

NOW = 1_700_000_000_000
SECRET = "only-the-owner-may-see-this"
STAMP = Stamp("0" * 36)
ENTRY = Entry(0, STAMP, STAMP, FORMAT, NOW - 3_600_000, b"")
PUT = Put("orders", ("id",), {"id": {"S": SECRET}, "v": {"S": SECRET}})
DELETE = Delete("stock", ("id",), {"id": {"S": SECRET}})


def compared(*found: Found) -> tuple[Comparison, ...]:
    return tuple(
        Comparison(f"operations[{n}]", DELETE if n % 2 else PUT, one, item={"v": {"S": SECRET}})
        for n, one in enumerate(found)
    )


def explained(*found: Found, monitors: int = 1, unreadable: str | None = None, **entry: Any) -> Explanation:
    examination = Examination(dataclasses.replace(ENTRY, **entry), compared(*found), unreadable)
    return explain(examination, monitors_alive=monitors, now_milliseconds=NOW)


def words(explanation: Explanation) -> str:
    parts = [*explanation.happened, *explanation.holds, *explanation.will_happen]
    return " ".join([explanation.headline, *parts, *[f"{step.why} {step.command}" for step in explanation.advice]])


def commands(explanation: Explanation) -> list[str]:
    return [step.command.split()[2] for step in explanation.advice if " writes " in step.command]


@pytest.mark.parametrize("found", Found)
@pytest.mark.parametrize("state", State)
def test_no_key_and_no_value_is_in_it(found: Found, state: State) -> None:
    told = explained(found, found, state=state, last_error="broken")
    assert SECRET not in words(told)
    assert str(found) in words(told)


def test_a_quarantined_write_is_nobodys_but_a_persons() -> None:
    told = explained(Found.NOT_APPLIED, state=State.QUARANTINED, monitors=3)
    assert "Nothing by itself" in words(told)
    assert commands(told) == ["retry", "skip", "discard"]


def test_a_pending_write_without_a_monitor_is_not_promised_to_anybody() -> None:
    told = explained(Found.NOT_APPLIED, monitors=0)
    assert "until a monitor runs" in words(told)
    assert commands(told) == ["retry"]
    assert "--now" in told.advice[0].command
    assert "tries again" in words(explained(Found.NOT_APPLIED, monitors=1))
    assert "in 3 min" in words(explained(Found.NOT_APPLIED, attempts=2, next_at_milliseconds=NOW + 200_000))


def test_a_young_write_is_still_its_services_own() -> None:
    assert "this moment" in words(explained(Found.NOT_APPLIED, committed_at_milliseconds=NOW - 2000))
    assert "this moment" not in words(explained(Found.NOT_APPLIED, committed_at_milliseconds=NOW + 60_000))


def test_what_is_done_needs_no_decision() -> None:
    told = explained(Found.APPLIED, Found.SUPERSEDED, Found.DELETED_LATER, state=State.QUARANTINED)
    assert commands(told) == ["retry"]
    assert "Everything is done" in explained(Found.APPLIED).headline


@pytest.mark.parametrize(
    ("reason", "found", "helps"),
    [
        ("access denied (X) on table stock", Found.NOT_APPLIED, "iam policy --role monitor --table stock"),
        ("table missing (X) on table stock", Found.UNREACHABLE, "When table stock is there again"),
        ("refused as invalid (X) on table stock", Found.NOT_APPLIED, "If table stock was changed"),
        ("foreign", Found.FOREIGN, "repair-stamp orders"),
        ("overtaken", Found.OVERTAKEN, "--reveal"),
    ],
)
def test_each_cause_has_its_cure_first(reason: str, found: Found, helps: str) -> None:
    told = explained(found, state=State.QUARANTINED, last_error=reason)
    assert helps in f"{told.advice[0].why} {told.advice[0].command}"


def test_many_open_operations_are_told_by_a_few_and_a_number() -> None:
    told = explained(*[Found.NOT_APPLIED] * 600)
    assert "and 595 more like these." in told.holds


def test_what_cannot_be_read_is_left_to_a_newer_version_or_to_a_person() -> None:
    newer = explained(unreadable="format 9 is not known to this version", format=9)
    assert commands(newer) == []
    assert "newer version" in words(newer)
    damaged = explained(unreadable="the checksum does not match")
    assert commands(damaged) == ["discard"]


def deed(action: str, epoch: int, operator: str = "ada") -> Deed:
    return Deed("id", action, operator, "told", NOW, {"epoch": {"N": str(epoch)}})


def test_an_absent_entry_is_explained_by_what_people_did_or_left_open() -> None:
    assert "ada discarded it" in words(explain_absent(STAMP, [deed("discard", 1), deed("retry", 0, "bob")]))
    open_ = words(explain_absent(STAMP, [deed("retry", 0)]))
    assert "or it was never committed" in open_
    assert "No record says" in open_
    assert "Not a write id" in explain_absent("typo", []).headline


@pytest.mark.parametrize(
    "deeds",
    [
        [deed("retry", 1, "bob"), deed("discard", 0)],
        [deed("discard", 0), deed("retry", 1, "bob")],
        [deed("retry", 0, "bob"), deed("discard", 0)],
    ],
    ids=["set aside, then set going", "recorded by a clock that is behind", "recorded, and not even set aside"],
)
def test_a_discard_that_somebody_overtook_gave_nothing_up(deeds: list[Deed]) -> None:
    """Its command was stopped, and its record stands; the entry was there when the other deed was recorded."""
    told = explain_absent(STAMP, deeds)
    assert "Given up" not in words(told)
    assert "or it was never committed" not in words(told)
    assert "ada began to discard it; bob chose to retry it after that." in told.happened


@pytest.mark.parametrize("before", [deed("retry", 2, "bob"), deed("discard", 2, "bob")])
@pytest.mark.parametrize("turned", [False, True])
def test_of_two_deeds_the_one_that_saw_the_higher_epoch_came_last(before: Deed, turned: bool) -> None:
    deeds = [deed("discard", 3), before]
    told = explain_absent(STAMP, deeds[::-1] if turned else deeds)
    assert "ada discarded it" in words(told)
