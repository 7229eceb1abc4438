"""What a person sees of deeds: what is about to be done, how far it is, what became of it, and who did what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, Self

from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from reliable_write import limits
from reliable_write.cli.bulk import INTERRUPTED, Ended, Outcome, Result
from reliable_write.cli.deeds import Selection
from reliable_write.cli.desk import Desk
from reliable_write.cli.plans import Plan
from reliable_write.cli.render_writes import say_incomplete
from reliable_write.cli.speech import (
    LIST_ROWS,
    PROSE_WIDTH_MAX,
    clock,
    console,
    plural,
    print_jsonl,
    say,
    say_command,
)
from reliable_write.entry import State
from reliable_write.explain import duration

_RESULTS_SHOWN: Final = 20
_PAST: Final = {"retry": "retried", "skip": "skipped", "quarantine": "quarantined", "discard": "discarded"}
_WARNINGS: Final = {
    "retry": "A retried write is due at once; a monitor does the rest.",
    "skip": "A skipped operation is given up, for good; the others go on.",
    "quarantine": "A quarantined write is tried by no monitor until somebody retries it.",
    "discard": "A discarded write is given up, for good. It is no undo: what was applied stays.",
}


def preview(desk: Desk, plan: Plan, selection: Selection) -> None:
    """What is about to be done, before anybody is asked."""
    counts = ", ".join(f"{count:,} {state}" for state, count in selection.counts.items())
    say(f"To {plan.action}: {plural(len(plan.writes), 'write')} ({counts}) in {_place(desk)}.")
    if plan.operations:
        more = f" and {len(plan.operations) - 5} more" if len(plan.operations) > 5 else ""  # noqa: PLR2004 - a line
        say(f"  operations: {', '.join(plan.operations[:5])}{more}")
    if selection.oldest_seconds is not None:
        say(f"  the oldest: {duration(selection.oldest_seconds)}")
    for reason, count in selection.reasons:
        say(f"  {count:>6,}  {reason}")
    say_incomplete(desk, selection)
    say(_WARNINGS[plan.action])
    if plan.action == "discard":
        aside = "Pending ones are set aside first. " if selection.counts.get(State.PENDING) else ""
        many = "They go" if len(plan.writes) > 1 else "It goes"
        say(f"{aside}{many} after {limits.LEASE_SECONDS:.0f} s, when no attempt can be under way any more.")


def _place(desk: Desk) -> str:
    place = desk.place()
    return f"{place['system_table']} ({place['region']})"


def show_plan(plan: Plan, *, written_to: str | None, command: str | None) -> None:
    """A dry run: the writes, as data; or where the plan was written."""
    if written_to is not None and command is not None:
        say(f"Nothing was changed. {plural(len(plan.writes), 'write')} in {written_to}. After its review:")
        say_command(command)
        return
    out = console()
    for write in plan.writes[:LIST_ROWS]:
        out.print(Text(f"{write.write_id}  {write.state:<11}  {write.reason or ''}".rstrip()), soft_wrap=True)
    if len(plan.writes) > LIST_ROWS:
        say(f"and {len(plan.writes) - LIST_ROWS:,} more; --json shows all.")
    say("Nothing was changed.")


_ECHO_WIDTH: Final = 4
"""Left free beside a bar: the terminal writes ^C there, and a line that wraps by it is not erased any more."""


class DeedScreen:
    """Progress of a deed on many: a bar on a terminal, nothing elsewhere; `--jsonl` tells each write as it ends."""

    def __init__(self, plan: Plan, *, lines: bool, silent: bool) -> None:
        self._lines = lines
        talk = console(stderr=True)
        talk.width -= _ECHO_WIDTH
        bar = not silent and talk.is_terminal and len(plan.writes) > 1
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[trouble]}"),
            TimeRemainingColumn(),
            console=talk,
            disable=not bar,
            transient=True,
        )
        self._task = self._progress.add_task(plan.action, total=len(plan.writes), trouble="")
        self._trouble = 0

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.__exit__(None, None, None)

    def stopping(self) -> None:
        """The first Ctrl-C was heard; called by its handler, so nothing is printed into the bar."""
        self._progress.update(self._task, description="stopping (Ctrl-C again: at once)")

    def ended_at_once(self, desk: Desk) -> None:
        """The second one: nobody counted what was under way."""
        self._progress.stop()
        say("Ended at once. Each write is as it was, or done and recorded; what was done is in the records:")
        say_command(desk.told("reliable-write audit list"))
        say("To go on, run the same command again.")

    def begin(self, what: str, count: int) -> None:
        """See `Audience`."""
        self._progress.reset(self._task, description=what, total=count, trouble="")

    def step(self) -> None:
        """See `Audience`."""
        self._progress.update(self._task, advance=1)

    def tell(self, result: Result) -> None:
        """See `Audience`."""
        self._trouble += result.ended is not Ended.DONE
        trouble = f"{self._trouble:,} not done" if self._trouble else ""
        self._progress.update(self._task, advance=1, trouble=trouble)
        if self._lines:
            print_jsonl([result.facts()])


def show_outcome(outcome: Outcome) -> None:
    """What was done, what was not and why, and where to go on."""
    out = console(width_max=PROSE_WIDTH_MAX)
    plan, counts = outcome.plan, outcome.counts
    done = counts[Ended.DONE.value]
    others = ", ".join(f"{count:,} {ended}" for ended, count in counts.items() if count and ended != Ended.DONE)
    told = f"{plural(done, 'write')} {_PAST[plan.action]}" + (f"; {others}" if others else "") + "."
    out.print(Text(told, style="green" if outcome.exit_code == 0 else "yellow"))
    attempts = [result for result in outcome.results if result.attempt is not None]
    for result in attempts[:_RESULTS_SHOWN]:
        because = f": {result.told}" if result.told else ""
        out.print(Text(f"  {result.write_id}  {result.attempt}{because}"), soft_wrap=True)
    troubled = [result for result in outcome.results if result.ended is not Ended.DONE]
    for result in troubled[:_RESULTS_SHOWN]:
        out.print(Text(f"  {result.write_id}  {result.ended}: {result.told}"), soft_wrap=True)
    if len(troubled) > _RESULTS_SHOWN:
        say(f"and {len(troubled) - _RESULTS_SHOWN:,} more; --jsonl tells each.")


def say_rest(desk: Desk, outcome: Outcome, rest: str | None) -> None:
    """Where to take up what was left."""
    remaining = len(outcome.remaining)
    if not remaining:
        return
    why = "Stopped by Ctrl-C" if outcome.stopped == INTERRUPTED else f"Stopped: {outcome.stopped or 'not all went'}"
    say(f"{why}. {plural(len(outcome.plan.writes) - remaining, 'write')} settled, {remaining:,} remain.")
    if outcome.plan.action == "discard" and any(write.state == State.QUARANTINED for write in outcome.remaining):
        say("Those that were set aside stay quarantined until then.")
    if rest is not None:
        say("To go on with exactly those:")
        say_command(desk.told(f"reliable-write writes apply {rest}"))
    else:
        say("To go on, run the same command again; what is done already is told as too late, or not matched any more.")


def say_next(desk: Desk, outcome: Outcome, monitors_alive: int) -> None:
    """What a person should know after a deed."""
    plan = outcome.plan
    if plan.action == "retry" and not plan.attempt_now and not monitors_alive and outcome.counts[Ended.DONE.value]:
        say("No monitor is alive, so nobody tries them yet. Start one, or try from here with --now.")
    if plan.action == "skip" and outcome.counts[Ended.DONE.value] and plan.writes[0].state == State.QUARANTINED:
        say("It is still quarantined. To let the others go on:")
        say_command(desk.told(f"reliable-write writes retry {plan.writes[0].write_id} --reason 'WHY'"))


def show_deeds(deeds: Sequence[dict[str, Any]], total: int) -> None:
    """The newest first."""
    out = console()
    if not deeds:
        out.print(Text("No records."))
    for deed in deeds:
        subject = deed["write_id"] or deed["table"] or ""
        if deed["skipped"]:
            subject += f" {', '.join(deed['skipped'][:3])}" + (" ..." if len(deed["skipped"]) > 3 else "")  # noqa: PLR2004
        line = Text.assemble((clock(deed["at_milliseconds"]), "dim"), f"  {deed['action']:<12}  ", (subject, "bold"))
        out.print(line, soft_wrap=True)
        out.print(Padding(Text(f"{deed['operator']}: {deed['reason'] or '(no reason given)'}"), (0, 0, 0, 25)))
        if deed.get("facts"):
            out.print(Text(f"    {json.dumps(deed['facts'], ensure_ascii=False)}", style="dim"), soft_wrap=True)
    if len(deeds) < total:
        say(f"The newest {len(deeds):,} of {total:,}; --limit 0 shows all.")
