"""A table that takes nothing is left alone, probed with care, and taken again at its first sound answer."""

from __future__ import annotations

import pytest

from monitor.breaker import SILENCE, Breakers, Guard
from monitor.settings import MonitorSettings
from reliable_write.policy import FailureKind, Trouble
from reliable_write.propagation import Result, Status
from tests.unit.fakes import ManualTime

DEAD, FINE = "dead", "fine"
SETTINGS = MonitorSettings(breaker_failures=3, breaker_base_seconds=2.0, breaker_cap_seconds=15.0)


def failed(kind: FailureKind | None, *, table: str = DEAD, permanent: bool = False) -> Result:
    return Result("operations[0]", table, Status.FAILED, Trouble("", permanent, kind))


def applied(table: str = DEAD) -> Result:
    return Result("operations[1]", table, Status.APPLIED)


class Bench:
    def __init__(self) -> None:
        self.time = ManualTime()
        self.changes: list[tuple[str, bool]] = []
        self.breakers = Breakers(self.time, SETTINGS, lambda table, is_open: self.changes.append((table, is_open)))

    def admits(self, tables: set[str], *, fresh: bool) -> bool:
        (answer,) = self.breakers.admitted([(frozenset(tables), fresh)])
        permit = self.breakers.permit(tables, fresh=fresh)
        if permit is not None:
            self.breakers.release(permit)
        assert answer is (permit is not None), "who is let into the queue and who gets a permit are the same"
        return answer

    def open(self) -> None:
        for _ in range(SETTINGS.breaker_failures):
            self.breakers.note([failed(FailureKind.THROTTLED)])
        assert self.breakers.open_tables() == (DEAD,)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("kind", sorted(SILENCE))
def test_it_opens_after_so_many_failures_in_a_row_and_not_before(bench: Bench, kind: FailureKind) -> None:
    for _ in range(2):
        bench.breakers.note([failed(kind)])
    assert bench.admits({DEAD}, fresh=False)
    bench.breakers.note([failed(kind)])
    assert bench.changes == [(DEAD, True)]
    assert not bench.admits({DEAD}, fresh=True)
    assert bench.admits({FINE}, fresh=False)


@pytest.mark.parametrize(
    "sound",
    [
        applied(),
        failed(FailureKind.VALIDATION, permanent=True),
        failed(FailureKind.ACCESS_DENIED, permanent=True),
        failed(FailureKind.CONFLICT),
        failed(FailureKind.TABLE_MISSING),
        failed(None, permanent=True),
    ],
    ids=["applied", "invalid", "denied", "conflict", "missing", "overtaken"],
)
def test_a_sound_answer_in_between_starts_the_count_anew(bench: Bench, sound: Result) -> None:
    for result in [failed(FailureKind.SERVER)] * 2 + [sound] + [failed(FailureKind.SERVER)] * 2:
        bench.breakers.note([result])
    assert bench.changes == []


def test_one_sound_answer_outweighs_the_rest_of_its_attempt(bench: Bench) -> None:
    for _ in range(10):
        bench.breakers.note([failed(FailureKind.THROTTLED), applied(), failed(FailureKind.THROTTLED)])
    assert bench.changes == []


@pytest.mark.parametrize("kind", [FailureKind.DEADLINE, FailureKind.UNCLASSIFIED, None])
def test_what_says_nothing_about_the_table_neither_opens_nor_closes_it(bench: Bench, kind: FailureKind | None) -> None:
    for _ in range(10):
        bench.breakers.note([failed(kind)])
    assert bench.changes == []
    bench.open()
    bench.breakers.note([failed(kind)])
    assert bench.breakers.open_tables() == (DEAD,)


def test_many_failures_of_one_attempt_are_one(bench: Bench) -> None:
    bench.breakers.note([failed(FailureKind.TIMEOUT)] * 25)
    assert bench.changes == []


def test_after_a_pause_exactly_one_probe_is_let_through(bench: Bench) -> None:
    bench.open()
    bench.time.pass_seconds(1.9)
    assert bench.breakers.permit({DEAD}, fresh=False) is None
    assert bench.breakers.probe_tables() == frozenset()
    bench.time.pass_seconds(0.1)
    assert bench.breakers.probe_tables() == {DEAD}
    first = bench.breakers.permit({DEAD}, fresh=False)
    assert first is not None
    assert first.probes == {DEAD}
    assert bench.breakers.permit({DEAD}, fresh=False) is None
    assert bench.breakers.probe_tables() == frozenset()


def test_a_probe_that_was_never_made_is_given_back(bench: Bench) -> None:
    bench.open()
    bench.time.pass_seconds(2)
    guard = Guard(bench.breakers, fresh=False)
    assert guard.gate(frozenset({DEAD}))
    assert guard.gate(frozenset({DEAD})), "asked again with the same tables, it holds what it has"
    guard.close()
    assert bench.breakers.permit({DEAD}, fresh=False) is not None


def test_each_silent_probe_doubles_the_pause_up_to_its_cap(bench: Bench) -> None:
    bench.open()
    for pause in (2, 4, 8, 15, 15):
        bench.time.pass_seconds(pause - 0.1)
        assert bench.breakers.permit({DEAD}, fresh=False) is None
        bench.time.pass_seconds(0.1)
        assert bench.breakers.permit({DEAD}, fresh=False) is not None
        bench.breakers.note([failed(FailureKind.THROTTLED)])
    assert bench.changes == [(DEAD, True)], "told once"


def test_half_of_the_pause_is_jitter_and_half_is_not() -> None:
    bench = Bench()
    bench.time.jitter_share = 0.0
    bench.open()
    bench.time.pass_seconds(0.9)
    assert not bench.admits({DEAD}, fresh=False)
    bench.time.pass_seconds(0.1)
    assert bench.admits({DEAD}, fresh=False)


def test_failures_of_attempts_from_before_it_opened_do_not_lengthen_the_pause(bench: Bench) -> None:
    bench.open()
    for _ in range(20):
        bench.breakers.note([failed(FailureKind.THROTTLED)])
    bench.time.pass_seconds(2)
    assert bench.admits({DEAD}, fresh=False)


def test_a_sound_answer_closes_it_and_the_next_opening_begins_with_the_first_pause(bench: Bench) -> None:
    bench.open()
    bench.time.pass_seconds(2)
    assert bench.breakers.permit({DEAD}, fresh=False) is not None
    bench.breakers.note([applied()])
    assert bench.changes == [(DEAD, True), (DEAD, False)]
    assert bench.admits({DEAD}, fresh=False)
    bench.open()
    bench.time.pass_seconds(2)
    assert bench.admits({DEAD}, fresh=False)


def test_a_fresh_entry_comes_for_the_sake_of_its_other_tables_only(bench: Bench) -> None:
    bench.open()
    permit = bench.breakers.permit({DEAD, FINE}, fresh=True)
    assert permit is not None
    assert permit.held == {DEAD}
    assert permit.probes == frozenset()
    assert bench.breakers.permit({DEAD}, fresh=True) is None
    assert bench.breakers.permit({DEAD, FINE}, fresh=False) is None


def test_of_many_entries_one_may_hope_to_probe_a_table(bench: Bench) -> None:
    bench.open()
    dead, both, fine = frozenset({DEAD}), frozenset({DEAD, FINE}), frozenset({FINE})
    wishes = [(dead, False), (dead, True), (fine, False), (both, True), (both, False), (None, False)]
    assert bench.breakers.admitted(wishes) == [False, False, True, True, False, True]
    bench.time.pass_seconds(2)
    assert bench.breakers.admitted(wishes) == [True, False, True, True, False, True]
    assert bench.breakers.permit({DEAD}, fresh=False) is not None
    assert bench.breakers.admitted(wishes) == [False, False, True, True, False, True]
