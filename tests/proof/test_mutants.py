"""The table of mutants cannot rot, and a few are killed here; all of them by `python -m tests.proof.mutants`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.proof.mutant import ROOT, Checker, Mutant, faults, is_content, judge
from tests.proof.mutants import MUTANTS

QUICK = (
    "early acknowledgement",
    "a late put takes nothing back",
    "put over an object",
    "taken over before a lease has passed",
)


def test_each_mutant_changes_a_text_that_is_there_exactly_once() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 100
    for mutant in MUTANTS:
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        assert text.count(mutant.old) == 1, mutant.name
        assert mutant.old != mutant.new
        assert mutant.noticed_by, mutant.name
        compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")


def test_each_test_that_is_named_beside_a_mutant_is_there() -> None:
    named = {checker.arguments for mutant in MUTANTS for checker in mutant.noticed_by if "pytest" in checker.arguments}
    assert named
    for arguments in named:
        file = next(word for word in arguments if word.endswith(".py"))
        only = arguments[arguments.index("-k") + 1] if "-k" in arguments else "def test_"
        assert only in (ROOT / file).read_text(encoding="utf-8"), f"{file}: {only}"


def test_a_mutant_whose_text_is_gone_is_told(tmp_path: Path) -> None:
    (tmp_path / "room.py").write_text("guard = True\n", encoding="utf-8")
    with pytest.raises(ValueError, match="0 times"):
        Mutant("gone", "room.py", "no guard", "", "nothing").apply(tmp_path)


@pytest.mark.parametrize("name", QUICK)
def test_a_guard_taken_out_is_noticed_for_a_sound_reason(name: str) -> None:
    mutant = _named(name)
    verdict = judge(mutant)
    assert verdict.killer in mutant.noticed_by
    assert "VIOLATION" in verdict.told or "AssertionError: " in verdict.told


def test_one_who_is_named_and_does_not_notice_is_followed_by_others() -> None:
    mutant = dataclasses.replace(_named("no receipt"), noticed_by=(faults("one put, fresh", "skip"),))
    assert judge(mutant).killer is None
    assert judge(mutant, _named("no receipt").noticed_by).killer == _named("no receipt").noticed_by[0]


def test_an_error_that_is_no_broken_promise_kills_nobody() -> None:
    mutant = Mutant("a name that is not there", "reliable_write/propagation.py", "if late:", "if lat:", "nothing")
    verdict = judge(mutant, (faults("one put, fresh", "monitor"),))
    assert verdict.killer is None
    assert "NameError" in verdict.unsound[0]


def test_one_who_complains_about_the_tree_as_it_is_kills_nobody() -> None:
    always = Checker("always", ("-c", "raise SystemExit(print('VIOLATION of it: Violation: never content') or 1)"))
    assert not is_content(always)
    assert judge(dataclasses.replace(_named("no receipt"), noticed_by=(always,))).killer is None


def _named(name: str) -> Mutant:
    return next(one for one in MUTANTS if one.name == name)
