"""What a ledger says, for a terminal and for docs/proof.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.proof.ledger import VIOLATIONS, Line, Part, add_up
from tests.proof.stages import STAGES, Goal, Stage

BEGIN: Final = "<!-- totals: made by `python -m tests.proof --page` -->"
END: Final = "<!-- end of totals -->"


def told(lines: Sequence[Line], *, full: bool) -> tuple[str, bool]:
    """The text for a terminal, and whether anything falls short or was broken."""
    parts = add_up(lines)
    size = "full" if full else "in the sizes of CI"
    text = [f"The proof, {size}: of {', '.join(_all(lines, 'commit')) or 'nothing yet'}"]
    for name, part in sorted(parts.items()):
        text += ["", f"{name} ({_runs(part)})"]
        text += [f"  {count:<56}{number:>14,}" for count, number in sorted(part.counts.items())]
    goals = [(stage, goal, _found(parts, stage, goal), goal.wanted(full=full)) for stage, goal in _goals(full=full)]
    text += ["", "goals"]
    for stage, goal, found, wanted in goals:
        verdict, name = "reached" if found >= wanted else "SHORT", f"{stage.part}: {goal.count}"
        text.append(f"  {verdict:<8}{name:<48}{found:>12,} of {wanted:>10,}")
    broken = violations(parts)
    text.append(f"  {'BROKEN' if broken else 'none':<8}violations: {broken}")
    return "\n".join(text), bool(broken) or any(found < wanted for *_, found, wanted in goals)


def violations(parts: Mapping[str, Part]) -> int:
    """Of all parts."""
    return sum(part.counts[VIOLATIONS] for part in parts.values())


def page(lines: Sequence[Line]) -> str:
    """Tables in Markdown: the goals of the large sizes, then all that was counted, part by part."""
    parts = add_up(lines)
    text = [BEGIN, "", *_heading(lines), "", "| part | what | tried | goal |", "|---|---|---:|---:|"]
    text += [
        f"| {stage.part} | {goal.count} | {_found(parts, stage, goal):,} | {goal.full:,} |"
        for stage, goal in _goals(full=True)
    ]
    text += [f"| all | **{VIOLATIONS}** | **{violations(parts):,}** | **0** |", ""]
    for stage in STAGES:
        if stage.part in parts:
            text += _table(
                stage.part, stage.about, parts[stage.part], [one for one in lines if one["part"] == stage.part]
            )
    return "\n".join([*text, END])


def with_page(text: str, lines: Sequence[Line]) -> str:
    """A page of the documentation with today's tables in it."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + page(lines) + after


def write_page(path: Path, lines: Sequence[Line]) -> None:
    """Put the tables where they belong."""
    path.write_text(with_page(path.read_text(encoding="utf-8"), lines), encoding="utf-8")


# --- pieces -------------------------------------------------------------------------------------------------------


def _heading(lines: Sequence[Line]) -> Iterator[str]:
    days = sorted({line["at"][:10] for line in lines})
    yield f"Run on {' to '.join(dict.fromkeys((days[0], days[-1])))}; machine: {'; '.join(_all(lines, 'machine'))}."


def _table(name: str, about: str, part: Part, lines: Sequence[Line]) -> Iterator[str]:
    yield f"### {name[0].upper()}{name[1:]}"
    yield ""
    yield f"{about[0].upper()}{about[1:]}. {_runs(part)}, of commit {', '.join(_all(lines, 'commit'))}."
    yield ""
    yield "<details><summary>All that was counted</summary>"
    yield ""
    yield "| what | how many |"
    yield "|---|---:|"
    for count, number in sorted(part.counts.items()):
        yield f"| {count} | {number:,} |"
    yield ""
    yield "</details>"
    yield ""


def _runs(part: Part) -> str:
    return "1 run" if part.runs == 1 else f"{part.runs:,} runs"


def _all(lines: Sequence[Line], what: str) -> list[str]:
    return sorted({line[what] for line in lines})


def _goals(*, full: bool) -> Iterator[tuple[Stage, Goal]]:
    return ((stage, goal) for stage in STAGES if stage.job(full=full) for goal in stage.goals)


def _found(parts: Mapping[str, Part], stage: Stage, goal: Goal) -> int:
    return parts.get(stage.part, Part()).count(goal.count)
