"""What is told of the proof is what its ledger holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proof.__main__ import PAGE, main
from tests.proof.ledger import KEPT, VARIABLE, add_up, read, record
from tests.proof.report import BEGIN, END, page, told, violations, with_page
from tests.proof.stages import STAGES
from tests.simulation.campaign import LIVES


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "ledger.jsonl"))
    return tmp_path / "ledger.jsonl"


def fill(*, without: str = "", broken: int = 0) -> None:
    for stage in STAGES:
        if stage.part != without:
            record(stage.part, {**{goal.count: goal.full for goal in stage.goals}, "violations": broken})


def test_docs_proof_tells_what_the_kept_ledger_holds() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert text == with_page(text, read(KEPT)), "run: python -m tests.proof --page"


def test_every_part_was_run_in_its_large_size_and_no_promise_was_broken() -> None:
    text, short = told(read(KEPT), full=True)
    assert not short, text
    assert sum(add_up(read(KEPT))[part].count("schedules") for part in LIVES) >= 1_000_000


def test_a_proof_that_reached_its_goals_is_not_short(ledger: Path) -> None:
    fill()
    text, short = told(read(ledger), full=True)
    assert not short, text
    assert "violations: 0" in text
    assert END in page(read(ledger))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.part)
def test_a_part_that_tried_nothing_falls_short(ledger: Path, stage: object) -> None:
    fill(without=stage.part)  # type: ignore[attr-defined]
    text, short = told(read(ledger), full=True)
    assert short
    assert "SHORT" in text


def test_a_single_broken_promise_fails_the_whole(ledger: Path) -> None:
    fill(broken=1)
    text, short = told(read(ledger), full=True)
    assert short
    assert "BROKEN" in text
    assert violations(add_up(read(ledger))) == len(STAGES)


def test_a_report_of_nothing_is_no_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tests.proof.__main__.QUICK", tmp_path / "none.jsonl")
    assert main(["--report"]) == 1


def test_a_stage_whose_goals_are_in_the_ledger_is_not_run_again(ledger: Path) -> None:
    assert not any(stage.reached(ledger, full=True) for stage in STAGES)
    fill()
    assert all(stage.reached(ledger, full=True) for stage in STAGES)


def test_each_storm_of_the_large_size_has_a_seed_of_its_own(ledger: Path) -> None:
    wire = next(stage for stage in STAGES if stage.part == "wire").full
    assert wire.seeded(ledger, "wire")["RELIABLE_WRITE_WIRE_SEED"] == "0"
    for number in (0, 1, 2):
        record("wire", {"calls": 1}, seeds=(number, number + 1))
    assert wire.seeded(ledger, "wire")["RELIABLE_WRITE_WIRE_SEED"] == "2"
