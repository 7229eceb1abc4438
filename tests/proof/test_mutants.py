"""The table of mutants cannot rot, and a few are killed here; all of them by `python -m tests.proof.mutants`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proof.mutants import CHECKERS, MUTANTS, ROOT, Mutant, judge

QUICK = ("early acknowledgement", "the entry goes before its operations", "no receipt")


def test_each_mutant_changes_a_text_that_is_there_exactly_once() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 25
    for mutant in MUTANTS:
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        assert text.count(mutant.old) == 1, mutant.name
        assert mutant.old != mutant.new
        compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")


def test_a_mutant_whose_text_is_gone_is_told(tmp_path: Path) -> None:
    (tmp_path / "room.py").write_text("guard = True\n", encoding="utf-8")
    with pytest.raises(ValueError, match="0 times"):
        Mutant("gone", "room.py", "no guard", "", "nothing").apply(tmp_path)


@pytest.mark.parametrize("name", QUICK)
def test_a_guard_taken_out_is_noticed(name: str) -> None:
    mutant = next(one for one in MUTANTS if one.name == name)
    verdict = judge(mutant, CHECKERS[:1])
    assert verdict.killer == CHECKERS[0].name
    assert "VIOLATION" in verdict.told
