"""Each checker refuses the history that breaks its promise: one that cannot complain has judged nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from reliable_write.errors import Outcome
from tests.simulation import checkers
from tests.simulation.checkers import CHECKERS, Checker
from tests.simulation.history import Change, Did, History, Landed, LatePut, Place, Tomb, Write

X: Place = ("people", "x")


def stamp(number: int) -> str:
    return f"{number:016x}{number:020x}"


def applied(step: int, number: int, name: str, count: int = 1) -> Change:
    return Change(step, X, stamp(number), stamp(number), None, {name: count})


def removed(step: int, number: int) -> Change:
    return Change(step, X, stamp(number), None, None, None)


def told(name: str, number: int, kind: str, begun: int, at: int) -> Write:
    return Write(name, (Did(kind, X),), begun, stamp(number), None, Outcome.WRITTEN, at, stamp=stamp(number))


def good() -> History:
    """One put, then a later one, then a delete; all acknowledged, the tombstone there."""
    history = History()
    history.born = {stamp(number)[16:]: step for number, step in ((10, 1), (20, 11), (30, 21))}
    history.writes = [told("w0", 10, "put", 1, 5), told("w1", 20, "put", 11, 15), told("w2", 30, "delete", 21, 26)]
    history.landed = [
        Landed(step, stamp(number), stamp(number), None) for step, number in ((2, 10), (12, 20), (22, 30))
    ]
    history.changes[X] = [applied(3, 10, "w0"), applied(13, 20, "w1"), removed(24, 30)]
    history.tombs[X] = [Tomb(23, X, stamp(30))]
    return history


def applied_too_early(history: History) -> None:
    history.changes[X][0] = applied(1, 10, "w0")


def never_finished(history: History) -> None:
    history.pending.add(stamp(20))


def half_of_it_lost(history: History) -> None:
    other = ("places", "y")
    history.writes[0] = replace(history.writes[0], deeds=(Did("put", X), Did("put", other)), told=None, outcome=None)


def acknowledged_too_early(history: History) -> None:
    history.writes[2].told = 23
    history.tombs[X][0] = Tomb(23, X, stamp(30))
    history.changes[X][2] = removed(25, 30)


def an_older_one_shows(history: History) -> None:
    history.changes[X] = [applied(3, 10, "w0"), removed(24, 30), applied(28, 20, "w1")]


def back_from_the_dead(history: History) -> None:
    history.changes[X].append(applied(30, 10, "w0"))


def late_and_left_there(history: History) -> None:
    history.changes[X].append(applied(30, 10, "w0"))
    history.late_puts.append(LatePut(stamp(10), X, 30, 31))


def before_what_was_acknowledged(history: History) -> None:
    history.writes[1] = told("w1", 5, "put", 11, 15)


def a_second_commit_point(history: History) -> None:
    history.landed.append(Landed(30, stamp(10), stamp(15), None))


def counted_twice(history: History) -> None:
    history.changes[X][1] = applied(13, 20, "w1", 2)


def said_not_to_be_written(history: History) -> None:
    history.writes[0].outcome = Outcome.NOT_WRITTEN


def acknowledged_and_lost(history: History) -> None:
    history.landed = history.landed[1:]


def test_a_history_that_keeps_all_promises_is_passed() -> None:
    assert checkers.judge(good()) == []


SPOILED: tuple[tuple[Callable[[History], None], Checker], ...] = (
    (applied_too_early, checkers.nothing_before_the_commit_point),
    (never_finished, checkers.all_that_is_committed_is_applied),
    (half_of_it_lost, checkers.all_that_is_committed_is_applied),
    (acknowledged_too_early, checkers.an_acknowledged_write_is_applied),
    (an_older_one_shows, checkers.the_last_in_order_shows),
    (back_from_the_dead, checkers.nothing_comes_back),
    (late_and_left_there, checkers.a_late_put_takes_itself_back),
    (before_what_was_acknowledged, checkers.what_begins_later_comes_later),
    (a_second_commit_point, checkers.each_takes_effect_once),
    (counted_twice, checkers.each_takes_effect_once),
    (said_not_to_be_written, checkers.what_was_told_is_true),
    (acknowledged_and_lost, checkers.what_was_told_is_true),
)


@pytest.mark.parametrize(("spoil", "checker"), SPOILED)
def test_each_checker_refuses_what_breaks_its_promise(spoil: Callable[[History], None], checker: Checker) -> None:
    history = good()
    assert list(checker(history)) == []
    spoil(history)
    assert list(checker(history)) != []


def test_no_checker_is_left_untried() -> None:
    assert {checker for _, checker in SPOILED} == set(CHECKERS)


def test_a_write_begun_after_a_collected_delete_may_have_a_lower_stamp() -> None:
    history = good()
    history.tombs[X].append(Tomb(40, X, stamp(30), collected=True))
    history.born[stamp(25)[16:]] = 41
    history.writes.append(told("w3", 25, "put", 41, 45))
    history.landed.append(Landed(42, stamp(25), stamp(25), None))
    history.changes[X].append(applied(43, 25, "w3"))
    assert checkers.judge(history) == []


def test_g3_one_begun_before_the_collection_may_not() -> None:
    history = good()
    history.tombs[X].append(Tomb(40, X, stamp(30), collected=True))
    history.changes[X].append(applied(43, 20, "w1"))
    assert any(complaint.startswith("G3") for complaint in checkers.judge(history))


def set_aside(tombs: list[Tomb], changes: list[Change]) -> list[str]:
    """What is said of a delete that waits for a person, with these tombstones, and these changes after the two puts."""
    history = good()
    history.writes[2] = replace(history.writes[2], told=None, outcome=Outcome.WILL_BE_WRITTEN)
    history.set_aside = {stamp(30)}
    history.tombs[X] = tombs
    history.changes[X][2:] = changes
    return checkers.judge(history)


def test_a_delete_that_is_set_aside_counts_where_others_went_by_its_tombstone() -> None:
    """One of them found the older item and removed it, without the delete's own stamp."""
    tomb, gone = Tomb(23, X, stamp(30)), Change(25, X, None, None, None, None)
    anew = Change(26, X, None, stamp(30), None, {})
    assert set_aside([], []) == []
    assert set_aside([tomb], []) == [], "an update may have come before the tombstone: a person decides"
    assert set_aside([tomb], [gone]) == set_aside([tomb], [gone, anew]) == []
    assert any(told.startswith("G2") for told in set_aside([], [gone, anew]))
