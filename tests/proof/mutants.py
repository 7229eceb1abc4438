"""Guards taken out one by one: `python -m tests.proof.mutants`. Whoever judges must notice each of them.

Each mutant is one change of the library's text, in a copy of the tree. The checkers are run on it in their order until
one fails; a mutant that none of them notices survives, and says that a promise is not tried. A checker that does not
end in time has noticed too: the protocol stands still.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.proof.ledger import record

ROOT = Path(__file__).parents[2]
COPIED = ("reliable_write", "monitor", "tests", "pyproject.toml")


@dataclass(frozen=True)
class Mutant:
    """A guard, and what stands there without it."""

    name: str
    file: str
    old: str
    new: str
    breaks: str
    """Which promise."""

    def apply(self, root: Path) -> None:
        """Raises `ValueError` where the text is not there exactly once."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"mutant {self.name!r}: its text is {text.count(self.old)} times in {self.file}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True)
class Checker:
    """A command that fails where a promise does not hold."""

    name: str
    arguments: tuple[str, ...]
    needs: str = ""
    """A file without which it is left out."""


_QUIET = ("-q", "-x", "-p", "no:cacheprovider")
CHECKERS: tuple[Checker, ...] = (
    Checker("each 29th single fault", ("-m", "tests.proof.points", "--every", "29", "--stop-at-first")),
    Checker("single faults, small", ("-m", "tests.proof.points", "--small", "--stop-at-first")),
    Checker(
        "simulation",
        ("-m", "tests.simulation", "--seeds", "0:3000", "--stop-at-first"),
        needs="tests/simulation/__main__.py",
    ),
    Checker("model of transactions", ("-m", "pytest", *_QUIET, "tests/unit/test_transacted_model.py", "-k", "g5")),
    Checker("model of audits", ("-m", "pytest", *_QUIET, "tests/unit/test_auditor_model.py", "-k", "g3")),
    Checker("keys", ("-m", "pytest", *_QUIET, "tests/unit/test_operations.py")),
)
SECONDS_MAX = 600.0

_POLICY, _JOURNAL = "reliable_write/policy.py", "reliable_write/journal.py"
_PROPAGATION, _TRANSACTED = "reliable_write/propagation.py", "reliable_write/transacted.py"
_TRANSACTION, _WITNESS = "reliable_write/transaction.py", "reliable_write/witness.py"
_TOMBSTONES, _RECOVERY = "reliable_write/tombstones.py", "reliable_write/recovery.py"
_OPERATORS, _AUDITOR = "reliable_write/operators.py", "monitor/auditor.py"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "put over what is later", _PROPAGATION, "OR #full < :mine) AND (", "OR attribute_exists(#full)) AND (", "G2"
    ),
    Mutant(
        "later read as older", _POLICY, "full is not None and full > mine", "full is not None and full < mine", "G2"
    ),
    Mutant("mine is not known again", _POLICY, "    if full == mine:\n", "    if full == mine and not found:\n", "G1"),
    Mutant("an update that overtook is passed over", _POLICY, "update is not None and update >= mine", "False", "G2"),
    Mutant(
        "every failure is definite",
        _POLICY,
        "FailureKind.TIMEOUT, FailureKind.SERVER, FailureKind",
        "FailureKind",
        "G6",
    ),
    Mutant("a timeout is definite", _POLICY, "(FailureKind.TIMEOUT, FailureKind.SERVER", "(FailureKind.SERVER", "G6"),
    Mutant(
        "troubles are no reason to go on", _POLICY, "    if not troubles:\n", "    if not troubles or attempts:\n", "G1"
    ),
    Mutant(
        "the whole entry is not put before it is propagated",
        "reliable_write/commit.py",
        "        self._reach_commit_point(prepared, deadline)\n        entry, op",
        "        entry, op",
        "G1",
    ),
    Mutant(
        "unknown taken for refused", "reliable_write/commit.py", "if earlier or failure.ambiguous:", "if earlier:", "G6"
    ),
    Mutant(
        "no witness", "reliable_write/commit.py", "        if self._strict:\n", "        if not operations:\n", "G4"
    ),
    Mutant(
        "re-stamped after the commit point",
        "reliable_write/commit.py",
        "Committed(entry.write_id, entry.stamp, op",
        "Committed(entry.write_id, self._clock.stamp(), op",
        "G1",
    ),
    Mutant(
        "early acknowledgement",
        "reliable_write/first_attempt.py",
        "        if failed:\n",
        "        if failed and not results:\n",
        "G1",
    ),
    Mutant(
        "an entry that is removed though something failed",
        "reliable_write/first_attempt.py",
        "        if failed:\n",
        "        self._finished.add(shard_of(write.stamp, self._shards), write.stamp)\n        if failed:\n",
        "G1",
    ),
    Mutant(
        "finished under another stamp",
        "reliable_write/first_attempt.py",
        "        if write.journalled:\n",
        "        if write.skipped:\n",
        "no entry is left",
    ),
    Mutant(
        "a finished entry is not removed",
        "reliable_write/finished.py",
        "            self._journal.finish(batch, Dead",
        "            self._journal.finish(batch[1:] or batch[:1], Dead",
        "no entry is left",
    ),
    Mutant(
        "a claim without looking",
        _JOURNAL,
        '"attribute_exists(sk) AND epoch = :seen", names',
        '"attribute_not_exists(nothing)", names',
        "entries are not made by updates",
    ),
    Mutant(
        "a discard without looking",
        _JOURNAL,
        'Condition("attribute_exists(sk) AND epoch = :seen", {}',
        'Condition("attribute_exists(sk) OR attribute_exists(pk) OR epoch >= :seen", {}',
        "a discard is told",
    ),
    Mutant(
        "chunks after the head",
        _JOURNAL,
        "            self._put_chunks(entry.stamp, parts, deadline)\n        except",
        "            pass\n        except",
        "G1",
    ),
    Mutant(
        "a quarantine without chunks",
        _JOURNAL,
        "            self._put_chunks(entry.stamp, parts, deadline)\n            chunks",
        "            chunks",
        "G1",
    ),
    Mutant(
        "no look at the tombstone", _PROPAGATION, "            if late:\n", "            if late and not item:\n", "G3"
    ),
    Mutant("a put sent twice is not late", _PROPAGATION, "late = late or tries > 1", "late = late or tries > 9", "G3"),
    Mutant("late attempts are not late", _RECOVERY, "deadline, late=True)", "deadline, late=False)", "G3"),
    Mutant(
        "takes back what is newer than the tombstone",
        _PROPAGATION,
        "newer is None or newer < stamp",
        "newer is None",
        "G1",
    ),
    Mutant(
        "taking back removes an update",
        _PROPAGATION,
        '"#full = :mine AND (attribute_not_exists(#upd) OR #upd < :tomb)"',
        '"#full = :mine AND :tomb = :tomb"',
        "CE23",
    ),
    Mutant(
        "delete without tombstone", _PROPAGATION, "        self._tombstones.mark(delete, stamp, deadline)\n", "", "G3"
    ),
    Mutant("an older tombstone over a newer", _TOMBSTONES, "OR #s < :mine", "OR attribute_exists(#s)", "G3"),
    Mutant(
        "a tombstone renewed is collected",
        _TOMBSTONES,
        'Condition("#s = :audited"',
        'Condition("#s <= :audited OR attribute_exists(pk)"',
        "G3",
    ),
    Mutant(
        "no receipt",
        _TRANSACTION,
        "        actions.append(self._fresh(receipt_item(self.receipt)))\n",
        "        actions.append(self._fresh(receipt_item(self.receipt)))\n"
        "        actions[-1]['Put']['ConditionExpression'] = 'attribute_not_exists(nothing)'\n",
        "G5",
    ),
    Mutant(
        "receipts by the stamp",
        "reliable_write/receipts.py",
        "        **receipt_key(receipt.write_id),\n",
        "        **receipt_key(receipt.stamp),\n",
        "G5",
    ),
    Mutant(
        "stamps may go backwards",
        _TRANSACTION,
        "OR #rw_full < :rw_mine) AND",
        "OR attribute_exists(#rw_full)) AND",
        "CE9",
    ),
    Mutant("built upon a ghost", _TRANSACTION, "            conditions.append(_NO_GHOST)\n", "", "CE20"),
    Mutant(
        "the tombstone is not checked",
        _TRANSACTION,
        '"ConditionExpression": "#s = :seen"',
        '"ConditionExpression": "attribute_exists(pk) OR #s = :seen"',
        "CE20",
    ),
    Mutant(
        "a delete at commit looks at no tombstone",
        _TRANSACTION,
        '"attribute_not_exists(pk)"',
        '"attribute_not_exists(nothing)"',
        "CE20",
    ),
    Mutant(
        "the receipt is read last",
        _TRANSACTION,
        "    if reasons and reasons[0].refused:\n",
        "    if len(reasons) == 1 and reasons[0].refused:\n",
        "G5",
    ),
    Mutant(
        "the caller's condition is dropped",
        _TRANSACTION,
        "        if operation.condition is not None:\n            cond",
        "        if operation.condition == '':\n            cond",
        "conditions",
    ),
    Mutant(
        "a transaction's unknown taken for refused",
        _TRANSACTED,
        "prepared.perhaps_committed = earlier or failure.ambiguous",
        "prepared.perhaps_committed = False",
        "G6",
    ),
    Mutant(
        "an unknown attempt is not fenced",
        _TRANSACTED,
        "        if not prepared.perhaps_committed:\n            raise error from",
        "        if prepared.tries:\n            raise error from",
        "G6",
    ),
    Mutant(
        "a twin takes it for its own",
        _TRANSACTED,
        "stored.scope != prepared.transaction.receipt.scope",
        "not stored.scope",
        "a duplicate is told",
    ),
    Mutant(
        "the stamp of the second attempt is told",
        _TRANSACTED,
        "            stamp=stored.stamp,\n",
        "            stamp=prepared.transaction.stamp,\n",
        "G1",
    ),
    Mutant(
        "stamps seen are not followed",
        _WITNESS,
        "            if stamp is not None:\n                self._clock",
        "            if stamp is not None and not item:\n                self._clock",
        "G4",
    ),
    Mutant(
        "tombstones seen are not followed",
        _WITNESS,
        "        self._clock.witness(stamp)\n        return stamp",
        "        return stamp",
        "G4",
    ),
    Mutant(
        "ghosts are left to the audit",
        "reliable_write/ghosts.py",
        "        return Sight.REMOVED if stamped else",
        "        return Sight.LATER if stamped else",
        "G3",
    ),
    Mutant(
        "somebody's item is taken for a ghost",
        "reliable_write/ghosts.py",
        "else Sight.UNSTAMPED\n",
        "else Sight.REMOVED\n",
        "no lost write",
    ),
    Mutant(
        "a ghost removed without looking",
        "reliable_write/ghosts.py",
        '        return Condition(" AND ".join(parts), names, values)',
        '        parts += ["attribute_exists(#upd)", "attribute_exists(#full)"]\n'
        '        return Condition(" OR ".join(parts), names, values)',
        "no lost write",
    ),
    Mutant(
        "the entry goes before its operations",
        _RECOVERY,
        "        results = self._propagation.apply(",
        "        self._journal.finish([(entry.shard, Stamp(entry.stamp))], deadline)\n"
        "        results = self._propagation.apply(",
        "G1",
    ),
    Mutant("what was skipped is applied", _RECOVERY, "if place not in entry.skipped]", "if place]", "a skip is told"),
    Mutant(
        "discarded under an attempt",
        _OPERATORS,
        "            self._time.sleep(limits.LEASE_SECONDS)\n",
        "",
        "a discard is told",
    ),
    Mutant(
        "no quarantine before a discard",
        _OPERATORS,
        "            entry = self._journal.quarantine(entry, told, deadline)\n        if",
        "        if",
        "a discard is told",
    ),
    Mutant(
        "audited too early to be collected",
        _AUDITOR,
        "current.began >= watch.clear_at + self._wait_seconds",
        "current.began >= watch.clear_at",
        "G3",
    ),
    Mutant(
        "collected at once",
        _AUDITOR,
        "        return watch.quiet_since + self._wait_seconds + more_seconds",
        "        return watch.quiet_since",
        "G3",
    ),
    Mutant(
        "collected beside an older entry",
        _AUDITOR,
        "current.oldest_entry <= watch.stamp",
        "current.oldest_entry > watch.stamp",
        "G3",
    ),
    Mutant(
        "collected without the last audit",
        _AUDITOR,
        "for tombstone, sight in self._look(current, batch, stop) if sight in _SETTLED]",
        "for tombstone in batch]",
        "G3",
    ),
    Mutant(
        "chunks go at once", _AUDITOR, "current.began < since + 2 * self._wait_seconds", "current.began < since", "CE15"
    ),
    Mutant(
        "receipts go at once",
        "monitor/receipts.py",
        "self._settings.receipt_retention_seconds + self._settings.receipt_margin_seconds",
        "0.0 * self._settings.receipt_margin_seconds",
        "G5",
    ),
    Mutant(
        "retries that do not add up their doubts",
        "reliable_write/dynamodb/patience.py",
        "ambiguous = ambiguous or failure.ambiguous",
        "ambiguous = failure.ambiguous",
        "G6",
    ),
    Mutant(
        "doubts of a transaction are forgotten",
        "reliable_write/dynamodb/patience.py",
        "                refused.ambiguous = ambiguous\n",
        "                refused.ambiguous = False\n",
        "G6",
    ),
    Mutant(
        "the clock does not follow",
        "reliable_write/clock.py",
        "= max((self._milliseconds, self._counter), seen)",
        "= (self._milliseconds, self._counter)",
        "G4",
    ),
    Mutant(
        "keys in no canonical form",
        "reliable_write/operations.py",
        "(table, *map(canonical_value, key))",
        "(table, *map(str, key))",
        "CE14",
    ),
)


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant."""

    mutant: Mutant
    killer: str | None
    seconds: float
    told: str = ""


def judge(mutant: Mutant, checkers: Sequence[Checker] = CHECKERS) -> Verdict:
    """Run the checkers on a copy of the tree with this change."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        root = Path(name)
        copy_tree(root)
        mutant.apply(root)
        for checker in checkers:
            if checker.needs and not (root / checker.needs).exists():
                continue
            told = _noticed(checker, root)
            if told is not None:
                return Verdict(mutant, checker.name, time.monotonic() - begun, told)
    return Verdict(mutant, None, time.monotonic() - begun)


def copy_tree(root: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, root / name)


def _noticed(checker: Checker, root: Path) -> str | None:
    """What it says; None where it is content."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("RELIABLE_WRITE_PROOF", None)
    command = [sys.executable, *checker.arguments]
    try:
        run = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        return "it did not end"
    if run.returncode == 0:
        return None
    if "this fake does not know" in run.stdout + run.stderr:
        raise ValueError("a mutant that the tables in memory do not understand shows nothing")
    lines = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    found = [line for line in lines if "VIOLATION" in line or line.startswith("E  ")]
    return (found or lines or [""])[0 if found else -1].strip()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proof.mutants", description="Guards taken out one by one.")
    parser.add_argument("--only", metavar="NAME", help="those with this in their name")
    parser.add_argument("--mutants", metavar="FROM:TO", help="only these, by number; the end is not included")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args(arguments)
    start, end = (int(part) for part in given.mutants.split(":")) if given.mutants else (0, len(MUTANTS))
    chosen = [mutant for mutant in MUTANTS[start:end] if given.only is None or given.only in mutant.name]
    print(f"{'the tree as it is':52} ", end="", flush=True)
    whole = _whole_tree_passes()
    print("passes" if whole else "FAILS: nothing can be said of mutants")
    if not whole or not chosen:
        return 1
    verdicts = []
    with ThreadPoolExecutor(given.jobs) as pool:
        for verdict in pool.map(partial(judge), chosen):
            verdicts.append(verdict)
            fate = f"killed by {verdict.killer}" if verdict.killer else "SURVIVES"
            print(f"{verdict.mutant.name:52} {fate:38} {verdict.seconds:6.1f} s  {verdict.told[:110]}", flush=True)
    killed = sum(verdict.killer is not None for verdict in verdicts)
    print(f"killed {killed} of {len(verdicts)}")
    record("mutants", {"tried": len(verdicts), "killed": killed, "violations": len(verdicts) - killed})
    return int(killed < len(verdicts))


def _whole_tree_passes() -> bool:
    """Or a checker that always fails would kill every mutant."""
    with tempfile.TemporaryDirectory(prefix="whole-") as name:
        copy_tree(Path(name))
        return _noticed(CHECKERS[0], Path(name)) is None


if __name__ == "__main__":
    sys.exit(main())
