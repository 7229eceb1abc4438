from __future__ import annotations

from pathlib import Path

import pytest

from tests.proof.ledger import VARIABLE, add_up, next_seed, read, record


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "proof" / "ledger.jsonl"))
    return tmp_path / "proof" / "ledger.jsonl"


def test_nothing_is_written_where_no_ledger_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    record("simulation", {"schedules": 1})


def test_runs_add_up_and_say_where_they_come_from(ledger: Path) -> None:
    record("chaos", {"kills: writers": 3})
    record("chaos", {"kills: writers": 4, "violations": 0})
    part = add_up(read(ledger))["chaos"]
    assert part.counts == {"kills: writers": 7, "violations": 0}
    assert part.runs == 2
    assert {"commit", "machine", "at"} <= read(ledger)[0].keys()


def test_a_range_of_seeds_that_was_tried_before_is_not_counted_again(ledger: Path) -> None:
    record("simulation", {"schedules": 10}, seeds=(0, 10))
    record("simulation", {"schedules": 10}, seeds=(5, 15))
    record("simulation", {"schedules": 10}, seeds=(10, 20))
    assert add_up(read(ledger))["simulation"].counts == {"schedules": 20}


def test_the_next_run_goes_on_at_the_first_seed_not_tried(ledger: Path) -> None:
    assert next_seed(ledger, "simulation") == 0
    record("simulation", {"schedules": 10}, seeds=(10, 20))
    assert next_seed(ledger, "simulation") == 0
    record("simulation", {"schedules": 10}, seeds=(0, 10))
    assert next_seed(ledger, "simulation") == 20
