"""Narrow lives keep every promise, and find the guards that wide lives hardly ever need."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.auditor import Auditor
from reliable_write import propagation, transaction
from reliable_write.dynamodb import Condition
from reliable_write.propagation import Propagation, Status
from reliable_write.receipts import Receipts
from tests.proof.ledger import VARIABLE, next_seed, read
from tests.simulation import campaign as campaigns
from tests.simulation.__main__ import main
from tests.simulation.campaign import NARROW, PART, Tally, campaign, live_range
from tests.simulation.checkers import a_late_put_takes_itself_back, each_takes_effect_once
from tests.simulation.history import Change, Did, History, Landed, LatePut, Tomb, Write
from tests.simulation.life import FAULTS_MIN
from tests.simulation.narrow import THEMES, NarrowLife

SEEDS = int(os.environ.get("RELIABLE_WRITE_SIMULATED_NARROW", "400"))
MUTANT_SEEDS = 3000
PLACE = ("people", "x")


def test_whatever_happens_at_one_key_every_promise_is_kept() -> None:
    tally = live_range(0, SEEDS, part=NARROW)
    told = [f"seed {one.seed}: {one.complaints[0]}" for one in tally.violations]
    assert not told, "\n".join([*told, "replay: python -m tests.simulation --narrow --seed N --trace"])
    assert tally.counts["schedules"] == SEEDS
    for theme in THEMES:
        assert tally.counts[f"theme: {theme.name}"] >= SEEDS / 30, tally.counts
    for name in (
        *("outcomes: WRITTEN", "outcomes: NOT_WRITTEN", "outcomes: UNKNOWN", "kills: committer", "kills: monitor"),
        *("replays: commit again", "late puts", "landed late", "landed in vain", "tombstones collected"),
        *("receipts forgotten", "operator: retry"),
    ):
        assert tally.counts[name] >= SEEDS / 30, (name, tally.counts)


@pytest.mark.parametrize("seed", range(10))
def test_each_narrow_life_meets_trouble(seed: int) -> None:
    life = NarrowLife(seed)
    assert life.run() == []
    assert life.faults >= FAULTS_MIN


def test_a_narrow_life_is_lived_again() -> None:
    one, two = NarrowLife(3, fingerprint=True), NarrowLife(3, fingerprint=True)
    assert one.run() == two.run()
    assert one.digest() == two.digest()


# --- guards taken away ---------------------------------------------------------------------------------------------


def no_look_for_tombstones(patch: pytest.MonkeyPatch) -> None:
    def keep(_self: Propagation, _put: object, _stamp: object, _deadline: object, status: Status) -> Status:
        return status

    patch.setattr(Propagation, "_yield_to_tombstone", keep)


def a_late_put_is_never_late(patch: pytest.MonkeyPatch) -> None:
    real = Propagation.apply

    def first(self: Propagation, stamp: Any, actions: Any, deadline: Any, *, late: bool) -> Any:
        return real(self, stamp, actions, deadline, late=late and not actions)

    patch.setattr(Propagation, "apply", first)


def nothing_fenced(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Receipts, "fence", lambda *_: None)


def any_order_at_commit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transaction, "_OLDER", "attribute_not_exists(nothing)")


def collected_at_once(patch: pytest.MonkeyPatch) -> None:
    real = Auditor.__init__

    def hasty(self: Auditor, *arguments: Any) -> None:
        real(self, *arguments)
        self._wait_seconds = 0.0

    patch.setattr(Auditor, "__init__", hasty)


def taken_back_by_its_stamp_alone(patch: pytest.MonkeyPatch) -> None:
    """CE23."""

    def careless(expression: str, *rest: Any) -> Condition:
        return Condition(expression if "#full = :mine" not in expression else "#full = :mine", *rest)

    patch.setattr(propagation, "Condition", careless)


@pytest.mark.parametrize(
    ("mutant", "first"),
    [
        (no_look_for_tombstones, 7),
        (a_late_put_is_never_late, 7),
        (nothing_fenced, 56),
        (any_order_at_commit, 143),
        (collected_at_once, 530),
        (taken_back_by_its_stamp_alone, 642),
    ],
)
def test_narrow_lives_find_what_a_guard_less_lets_through(
    monkeypatch: pytest.MonkeyPatch, mutant: Callable[[pytest.MonkeyPatch], None], first: int
) -> None:
    """From a seed that finds it soon; where the code has changed since, others must."""
    mutant(monkeypatch)
    assert live_range(first, first + MUTANT_SEEDS, part=NARROW, stop_at_first=True).violations


# --- what only narrow lives are judged by --------------------------------------------------------------------------


def late_put(finished: int, *changes: Change, tomb_at: int = 5) -> History:
    history = History(late_puts=[LatePut("1", PLACE, 10, finished)])
    history.changes[PLACE] = [Change(10, PLACE, "1", "1", None, {"w0": 1}), *changes]
    history.tombs[PLACE] = [Tomb(tomb_at, PLACE, "2")]
    return history


def test_a_late_put_that_stays_at_a_deleted_key_is_told() -> None:
    assert list(a_late_put_takes_itself_back(late_put(20)))


@pytest.mark.parametrize(
    "history",
    [
        late_put(20, Change(15, PLACE, None, None, None, None)),
        late_put(20, Change(12, PLACE, "3", "1", "3", {"w0": 1, "w1": 1})),
        late_put(20, tomb_at=11),
    ],
    ids=["taken back", "updated since", "deleted later"],
)
def test_a_late_put_that_does_as_it_should_is_not(history: History) -> None:
    assert not list(a_late_put_takes_itself_back(history))


def test_a_late_put_taken_back_after_its_entry_is_gone_is_told() -> None:
    assert list(a_late_put_takes_itself_back(late_put(20, Change(25, PLACE, None, None, None, None))))


@pytest.mark.parametrize(("forgotten", "complaints"), [([], 1), ([5], 1), ([15], 0), ([25], 1)])
def test_a_write_id_is_free_again_once_its_old_receipt_is_gone(forgotten: list[int], complaints: int) -> None:
    write = Write("w0", (Did("update", PLACE),), 0, write_id="key")
    history = History([write], [Landed(10, "key", "1", "1"), Landed(20, "key", "2", "2")])
    history.forgotten["key"] = forgotten
    assert len(list(each_takes_effect_once(history))) == complaints


# --- campaigns ---------------------------------------------------------------------------------------------------

forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def telling_its_process(start: int, stop: int, **how: Any) -> Tally:
    tally = live_range(start, stop, **how)
    tally.counts[f"process {os.getpid()}"] += 1
    return tally


@forks
def test_two_processes_live_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    one, two = (
        [tally.counts for tally in campaign(0, 7, part=NARROW, jobs=jobs, stop_at_first=True, chunk=2)]
        for jobs in (1, 2)
    )
    assert len(one) == 4
    assert one == two


@forks
def test_two_processes_stop_at_the_first_violation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "ledger.jsonl"))
    monkeypatch.setattr(campaigns, "live_range", telling_its_process)
    any_order_at_commit(monkeypatch)
    tallies = list(campaign(0, 3000, part=NARROW, jobs=2, stop_at_first=True, chunk=10))
    assert len({name for tally in tallies for name in tally.counts if name.startswith("process ")}) == 2
    assert [bool(tally.violations) for tally in tallies] == [False] * (len(tallies) - 1) + [True]
    assert len(tallies) < 100
    found = tallies[-1].violations[0].seed
    assert not any(line["seeds"][0] <= found < line["seeds"][1] for line in read(tmp_path / "ledger.jsonl"))


@forks
def test_a_campaign_goes_on_where_the_ledger_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    monkeypatch.setenv(VARIABLE, str(ledger))
    for _ in range(2):
        assert main(["--narrow", "--resume", "5", "--jobs", "2", "--chunk", "2"]) == 0
    assert main(["--resume", "2", "--jobs", "2", "--chunk", "1"]) == 0
    assert sorted(line["seeds"] for line in read(ledger) if line["part"] == NARROW) == [
        *([0, 2], [2, 4], [4, 5]),
        *([5, 7], [7, 9], [9, 10]),
    ]
    assert [next_seed(ledger, part) for part in (NARROW, PART)] == [10, 2]
