"""A guard taken out of the library, those who must notice it, and whether they noticed for a sound reason.

A mutant is killed where a checker tells a broken promise of it: a violation, a failed assertion, or requests without
end. A crash of the checker, an error that nobody foresaw, or a checker that does not end in time show that something
is different and not that a promise is tried; they kill nobody. Neither does a checker that complains about the tree as
it is.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.proof.cases import Actor

ROOT = Path(__file__).parents[2]
COPIED = ("reliable_write", "monitor", "tests", "pyproject.toml")
SECONDS_MAX = 900.0
"""For one checker; the longest takes minutes where it finds nothing."""
_BROKEN_PROMISES = (
    r"VIOLATION .*(: Violation: |, with nothing going wrong: )",  # of an enumeration
    r"  G[1-6]: ",  # of a simulated life
    r"E  +(AssertionError(?!: this fake does not know)|assert |Failed: DID NOT RAISE|\S+\.Violation: )",  # of a test
)
"""What the line looks like in which a checker tells one."""


@dataclass(frozen=True)
class Checker:
    """A command that fails where a promise does not hold."""

    kind: str
    """In the ledger, kills are counted by it."""
    arguments: tuple[str, ...]
    about: str = ""
    """Which part of what is of this kind."""

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.about}" if self.about else self.kind


@dataclass(frozen=True)
class Mutant:
    """A guard, and what stands there without it."""

    name: str
    file: str
    old: str
    new: str
    breaks: str
    """Which promise."""
    noticed_by: tuple[Checker, ...] = ()
    """Who is known to notice it quickly, and is asked first. That is for speed: where it does not, all others are."""

    def apply(self, root: Path) -> None:
        """Raises `ValueError` where the text is not there exactly once."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"mutant {self.name!r}: its text is {text.count(self.old)} times in {self.file}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant."""

    mutant: Mutant
    killer: Checker | None
    seconds: float
    told: str = ""
    """Which promise is broken, in the killer's words."""
    unsound: tuple[str, ...] = field(default=())
    """Checkers that failed for another reason."""


# --- those who may notice ---------------------------------------------------------------------------------------------


def points(about: str, *chosen: str) -> Checker:
    """Single faults, as many as are chosen."""
    return Checker("single faults", ("-m", "tests.proof.points", *chosen, "--stop-at-first"), about)


def faults(shape: str, actor: Actor) -> Checker:
    """Every fault at every request of one actor, with one shape of scope."""
    return points(f"{shape}; {actor}", "--shape", shape, "--actor", actor)


def rooms(room: str, scenario: str) -> Checker:
    """Every fault at every request of one scenario in one of the rooms."""
    chosen = ("--room", room, "--scenario", scenario, "--stop-at-first")
    return Checker("single faults, rooms", ("-m", "tests.proof.rooms", *chosen), f"{room}, {scenario}")


def lives(start: int, stop: int) -> Checker:
    """Simulated lives of these seeds."""
    seeds = f"{start}:{stop}"
    return Checker("simulation", ("-m", "tests.simulation", "--seeds", seeds, "--stop-at-first"), seeds)


def tests(kind: str, file: str, only: str) -> Checker:
    """Tests of a file; `only` as in `pytest -k`."""
    chosen = ("-k", only) if only else ()
    arguments = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "pytest_timeout", file, *chosen)
    return Checker(kind, arguments, f"{Path(file).stem}, {only or 'all'}")


# --- judging ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Notice:
    """What a checker says that is not content."""

    sound: bool
    told: str


def judge(mutant: Mutant, checkers: Sequence[Checker] = ()) -> Verdict:
    """Ask those who are known to notice it, then the others, on a copy of the tree with this change."""
    begun = time.monotonic()
    unsound: list[str] = []
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        root = Path(name)
        copy_tree(root)
        mutant.apply(root)
        for checker in dict.fromkeys((*mutant.noticed_by, *checkers)):
            notice = _ask(checker, root)
            if notice is None:
                continue
            if notice.sound and is_content(checker):
                return Verdict(mutant, checker, time.monotonic() - begun, notice.told, tuple(unsound))
            unsound.append(f"{checker.name}: {notice.told}")
    return Verdict(mutant, None, time.monotonic() - begun, unsound=tuple(unsound))


@functools.cache
def is_content(checker: Checker) -> bool:
    """With the tree as it is. Who always complains has noticed nothing."""
    with tempfile.TemporaryDirectory(prefix="whole-") as name:
        copy_tree(Path(name))
        return _ask(checker, Path(name)) is None


def copy_tree(root: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, root / name)


def _ask(checker: Checker, root: Path) -> _Notice | None:
    """None where it is content."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take longer to come up than these tests take
    environment.pop("RELIABLE_WRITE_PROOF", None)
    command = [sys.executable, *checker.arguments]
    try:
        run = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        return _Notice(sound=False, told=f"no end in {SECONDS_MAX:.0f} s")
    if run.returncode == 0:
        return None
    lines = (run.stdout + run.stderr).splitlines()
    found = _first("|".join(_BROKEN_PROMISES), lines)
    if found is not None:
        return _Notice(sound=True, told=found)
    return _Notice(sound=False, told=_first(r"VIOLATION|E  ", lines) or _first(r"\S", reversed(lines)) or "nothing")


def _first(pattern: str, lines: Iterable[str]) -> str | None:
    return next((line.strip() for line in lines if re.match(pattern, line)), None)
