from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.proof.ledger import VARIABLE, add_up, compact, next_seed, read, record


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


def test_a_count_is_of_its_name_or_of_all_under_it(ledger: Path) -> None:
    record("fuzz", {"inputs: values": 3, "inputs: keys": 4, "inputs refused": 9, "killed": 2, "killed: by one": 2})
    part = add_up(read(ledger))["fuzz"]
    assert part.count("inputs") == 7
    assert part.count("killed") == 2
    assert part.count("inputs: keys") == 4
    assert part.count("nothing") == 0


def test_a_ledger_made_compact_says_the_same_in_fewer_lines(ledger: Path) -> None:
    for start in (20, 0, 10, 50):
        record("simulation", {"schedules": 10, "violations": 0}, seeds=(start, start + 10))
    record("mutants", {"killed": 3})
    record("mutants", {"killed": 3})
    before = add_up(read(ledger))
    compact(ledger)
    after = add_up(read(ledger))
    assert [line["seeds"] for line in read(ledger)] == [None, [0, 30], [50, 60]]
    assert {name: (part.counts, part.runs) for name, part in after.items()} == {
        name: (part.counts, part.runs) for name, part in before.items()
    }
    assert next_seed(ledger, "simulation") == 30


def test_lines_of_several_commits_stay_apart(ledger: Path) -> None:
    for number, name in enumerate("ab"):
        line = {"part": "p", "counts": {}, "seeds": [number, number + 1], "commit": name, "machine": "m", "at": "t"}
        ledger.parent.mkdir(exist_ok=True)
        with ledger.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    compact(ledger)
    assert len(read(ledger)) == 2


def test_what_was_tried_again_counts_as_it_was_tried_last(ledger: Path) -> None:
    ledger.parent.mkdir()
    lines = [
        {"part": "p", "counts": {"killed": n}, "seeds": [0, 9], "commit": f"c{n}", "machine": "m", "at": f"day {n}"}
        for n in (7, 9, 8)
    ]
    ledger.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert add_up(read(ledger))["p"].counts == {"killed": 9}
    compact(ledger)
    assert [line["commit"] for line in read(ledger)] == ["c9"]
