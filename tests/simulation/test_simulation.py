"""Simulated lives keep every promise, meet enough trouble, and can be lived again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from reliable_write import propagation
from reliable_write.journal import Journal
from reliable_write.tombstones import Tombstones
from reliable_write.transaction import Transaction
from reliable_write.values import WireItem
from tests.simulation.campaign import Tally, live, live_range, missing
from tests.simulation.life import FAULTS_MIN
from tests.simulation.wire import FAULTS

SEEDS = int(os.environ.get("RELIABLE_WRITE_SIMULATED", "1000"))
MUTANT_SEEDS = 600


def test_whatever_happens_every_promise_is_kept() -> None:
    tally = live_range(0, SEEDS)
    told = [f"seed {one.seed}: {one.complaints[0]}" for one in tally.violations]
    assert not told, "\n".join([*told, "replay: python -m tests.simulation --seed N --trace"])
    assert tally.counts["schedules"] == SEEDS
    assert missing(tally.cells, nightly=False) == []
    for name in (
        *(f"faults: {fault}" for fault in FAULTS),
        *("outcomes: WRITTEN", "outcomes: NOT_WRITTEN", "outcomes: UNKNOWN", "outcomes: WILL_BE_WRITTEN"),
        *("kills: committer", "kills: monitor", "replays: commit again", "replays: twin", "duplicates told"),
        *("landed late", "landed in vain", "tombstones collected", "operator: retry"),
    ):
        assert tally.counts[name] >= SEEDS / 20, (name, tally.counts)


@pytest.mark.parametrize("seed", range(20))
def test_each_life_meets_trouble(seed: int) -> None:
    assert live(seed).counts["faults, all"] >= FAULTS_MIN


@pytest.mark.parametrize("seed", [7, 12])
def test_a_seed_is_lived_again_byte_for_byte(seed: int) -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "--trace"]
    told = [
        subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": salt})
        for salt in ("1", "2")
    ]
    assert "digest" in told[0].stdout
    assert told[0].stdout == told[1].stdout


# --- an adversary who finds nothing has shown nothing -------------------------------------------------------------


def no_look_at_the_stamps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(propagation, "_OLDER_THAN_MINE", "attribute_not_exists(nothing) OR #full < :mine OR #upd < :mine")


def no_tombstone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tombstones, "mark", lambda *_: None)


def entry_removed_before_it_is_applied(patch: pytest.MonkeyPatch) -> None:
    real = Journal.commit

    def commit_and_forget(journal: Journal, entry: object, deadline: object) -> None:
        real(journal, entry, deadline)  # type: ignore[arg-type]
        journal.finish([(entry.shard, entry.stamp)], deadline)  # type: ignore[attr-defined, arg-type]

    patch.setattr(Journal, "commit", commit_and_forget)


def no_receipt(patch: pytest.MonkeyPatch) -> None:
    real = Transaction._fresh

    def whatever_is_there(transaction: Transaction, item: WireItem) -> dict[str, Any]:
        action = real(transaction, item)
        if item["pk"]["S"].startswith("R#"):
            action["Put"]["ConditionExpression"] = "attribute_not_exists(nothing)"
        return action

    patch.setattr(Transaction, "_fresh", whatever_is_there)


@pytest.mark.parametrize(
    "mutant", [no_look_at_the_stamps, no_tombstone, entry_removed_before_it_is_applied, no_receipt]
)
def test_the_simulation_finds_what_a_guard_less_lets_through(
    monkeypatch: pytest.MonkeyPatch, mutant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mutant(monkeypatch)
    found: Tally = live_range(0, MUTANT_SEEDS, stop_at_first=True)
    assert found.violations
