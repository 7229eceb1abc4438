"""What a person sees of writes: lists, one write, explanations, deeds. Data to stdout, talk to stderr."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Self

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from reliable_write import limits
from reliable_write.cli.bulk import INTERRUPTED, Ended, Outcome, Result
from reliable_write.cli.deeds import Selection
from reliable_write.cli.desk import Desk
from reliable_write.cli.doctor import Check, Diagnosis, Health
from reliable_write.cli.listing import Listing, Overview, Row
from reliable_write.cli.plans import Plan
from reliable_write.cli.showing import Shown, verb
from reliable_write.entry import State
from reliable_write.explain import Explanation, duration, is_settled
from reliable_write.operators import Comparison, Found

WIDTH_MAX: Final = 140
PROSE_WIDTH_MAX: Final = 100
LIST_ROWS: Final = 50
_OPERATIONS_SHOWN: Final = 40
_TABLES_SHOWN: Final = 8
_RESULTS_SHOWN: Final = 20
_STYLES: Final = {State.PENDING.value: "yellow", State.QUARANTINED.value: "bold red", "unreadable": "bold magenta"}
_FOUND_STYLES: Final = {
    Found.APPLIED: "green",
    Found.SUPERSEDED: "green",
    Found.DELETED_LATER: "green",
    Found.SKIPPED: "dim",
    Found.NOT_APPLIED: "yellow",
}
_HEALTH_WORDS: Final = {
    Health.OK: ("ok", "green"),
    Health.ATTENTION: ("look", "bold yellow"),
    Health.FAILED: ("WRONG", "bold red"),
    Health.SKIPPED: ("-", "dim"),
}
_PAST: Final = {"retry": "retried", "skip": "skipped", "quarantine": "quarantined", "discard": "discarded"}


def console(*, stderr: bool = False, width_max: int = WIDTH_MAX) -> Console:
    """A console that neither guesses colours for words nor runs over a readable width."""
    made = Console(stderr=stderr, highlight=False, emoji=False)
    made.width = min(made.width, width_max)
    return made


def say(text: str) -> None:
    """Talk, to stderr."""
    console(stderr=True, width_max=PROSE_WIDTH_MAX).print(Text(text))


def say_command(command: str, *, stderr: bool = True) -> None:
    """A command on a line of its own, never broken: it is copied."""
    console(stderr=stderr).print(Text(f"  {command}", style="bold"), soft_wrap=True)


def print_json(facts: Any) -> None:
    """One document."""
    sys.stdout.write(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def print_jsonl(rows: Iterable[dict[str, Any]]) -> None:
    """One document a line, each out at once: somebody may be reading."""
    for row in rows:
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        sys.stdout.flush()


def _plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(1, width - 1)] + "…"


# --- status -------------------------------------------------------------------------------------------------------


def show_status(desk: Desk, seen: Overview) -> None:
    """One screen, the verdict last."""
    out = console(width_max=PROSE_WIDTH_MAX)
    where = seen.place
    out.print(Text.assemble((where["system_table"], "bold"), f"  {where['region']}  {where['endpoint_url']}"))
    counts = seen.listing.counts
    oldest = seen.listing.oldest(State.PENDING)
    pending = f", the oldest for {duration(oldest.age_seconds or 0)}" if oldest else ""
    overdue = f", {seen.overdue:,} overdue" if seen.overdue else ""
    out.print(_line("pending", f"{counts[State.PENDING]:,}{pending}{overdue}", "yellow" if seen.overdue else ""))
    aside = seen.listing.oldest(State.QUARANTINED)
    since = f", the oldest for {duration(aside.age_seconds or 0)}" if aside else ""
    out.print(_line("quarantined", f"{counts[State.QUARANTINED]:,}{since}", "bold red" if aside else ""))
    unreadable = counts["unreadable"]
    out.print(_line("unreadable", f"{unreadable:,}", "bold magenta" if unreadable else ""))
    out.print(_line("monitors", _monitors_line(seen), "" if seen.monitors_alive else "bold yellow"))
    for reason, count in seen.listing.reasons[:5]:
        out.print(Text(_clip(f"  {count:>7,}  {reason}", out.width), style="dim"), soft_wrap=True)
    for unread in seen.listing.unread_shards[:3]:
        out.print(Text(f"not read: {unread}", style="bold red"))
    _status_verdict(out, desk, seen)


def _line(name: str, told: str, style: str) -> Text:
    return Text.assemble((f"  {name:<12}", "dim"), (told, style))


def _monitors_line(seen: Overview) -> str:
    alive = [heartbeat.monitor for heartbeat in seen.heartbeats if heartbeat.alive]
    if not alive:
        return "none alive"
    names = ", ".join(alive[:4]) + (f" and {len(alive) - 4} more" if len(alive) > 4 else "")  # noqa: PLR2004 - a line
    return f"{len(alive)} alive: {names}"


def _status_verdict(out: Console, desk: Desk, seen: Overview) -> None:
    counts = seen.listing.counts
    if seen.listing.unread_shards:
        out.print(Text("Not all of the journal could be read, so there may be more. Run:", style="bold red"))
        command = "reliable-write doctor"
    elif counts["unreadable"]:
        out.print(Text("Some entries cannot be read. Look at them:", style="bold magenta"))
        command = "reliable-write writes list --state unreadable"
    elif counts[State.QUARANTINED]:
        out.print(Text("Some writes wait for a person. Look at them:", style="bold red"))
        command = "reliable-write writes list --state quarantined"
    elif seen.overdue:
        why = "" if seen.monitors_alive else ", and no monitor is alive"
        out.print(Text(f"Some writes should be finished by now{why}. Run:", style="yellow"))
        command = "reliable-write doctor"
    else:
        out.print(Text("Nothing is stuck.", style="green"))
        return
    say_command(desk.told(command), stderr=False)


# --- list ---------------------------------------------------------------------------------------------------------


def show_list(desk: Desk, listing: Listing, limit: int | None) -> None:
    """The oldest first; on a terminal as many as fit a look, unless told otherwise."""
    out = console()
    shown = listing.rows if not limit else listing.rows[:limit]
    if not listing.rows:
        out.print(Text("No entries." if not listing.unread_shards else "No entries were read."))
    for line in list_lines(shown, out.width if out.is_terminal else None):
        out.print(line, soft_wrap=True)
    say_incomplete(desk, listing)
    if len(shown) < len(listing.rows):
        say(f"The oldest {len(shown):,} of {len(listing.rows):,}; --limit 0 shows all, --jsonl is for programs.")
    elif listing.rows:
        say(f"{_plural(len(listing.rows), 'entry', 'entries')}.")


def list_lines(rows: Sequence[Row], width: int | None) -> Iterator[Text]:
    """One line for each row; where the reason has no room beside it, it gets a line of its own. Uncut where the width
    is None: somebody is searching in it.
    """
    if not rows:
        return
    head = f"{'write id':<36}  {'state':<11}  {'age':>11}  {'tries':>5}"
    beside = width is None or width >= len(head) + 32
    yield Text(f"{head}  why" if beside else head, style="dim")
    for row in rows:
        yield from _row_lines(row, width, len(head), beside=beside)


def _row_lines(row: Row, width: int | None, head: int, *, beside: bool) -> Iterator[Text]:
    age = "?" if row.age_seconds is None else duration(row.age_seconds)
    why = row.reason or ""
    if row.tables is not None:
        why = f"[{', '.join(row.tables)}] {why}".rstrip()
    line = Text.assemble(
        f"{row.write_id:<36}  ", (f"{row.state:<11}", _STYLES.get(row.state, "")), f"  {age:>11}  {row.attempts:>5}"
    )
    if not beside:
        yield line
        if why:
            yield Text(_clip(f"    {why}", width or head), style="dim")
        return
    line.append(f"  {why if width is None else _clip(why, width - head - 2)}".rstrip())
    yield line


def say_incomplete(desk: Desk, seen: Listing | Selection) -> None:
    """What is not in a list although it might belong there, or why it may be empty."""
    if seen.unread_shards:
        say(f"{_not_complete(seen)}. Run:")
        say_command(desk.told("reliable-write doctor"))
    if seen.without_tables:
        say(f"{_plural(seen.without_tables, 'entry', 'entries')} left out: what they write to cannot be read.")
    if seen.other_tables:
        some = ", ".join(seen.other_tables[:_TABLES_SHOWN]) + (" ..." if len(seen.other_tables) > _TABLES_SHOWN else "")
        say(f"No entry writes to a table of that name; they write to {some}.")


def _not_complete(seen: Listing | Selection) -> str:
    return f"NOT COMPLETE: {_plural(len(seen.unread_shards), 'shard')} could not be read; {seen.unread_shards[0]}"


_WATCHED_ROWS_MAX: Final = 200
"""More than a screen has lines."""


class Watch:
    """A list that is drawn again and again in place, until Ctrl-C."""

    def __init__(self) -> None:
        self._console = console()
        self._live = Live(console=self._console, auto_refresh=False, screen=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(None, None, None)

    def draw(self, listing: Listing, at_milliseconds: int) -> None:
        """What is there now, as much as fits."""
        lines = list(watch_lines(listing, at_milliseconds, self._console.width))
        self._live.update(Text("\n").join(lines[: max(1, self._console.height - 1)]), refresh=True)


def watch_lines(listing: Listing, at_milliseconds: int, width: int) -> Iterator[Text]:
    """One look: the time and the counts, then what could not be read, then the rows. Each line fits the width."""
    counts = ", ".join(f"{count:,} {state}" for state, count in listing.counts.items())
    yield Text(_clip(f"{_clock(at_milliseconds)[11:]}  {counts}; Ctrl-C ends", width), style="bold")
    if listing.unread_shards:
        yield Text(_clip(_not_complete(listing), width), style="bold red")
    yield from list_lines(listing.rows[:_WATCHED_ROWS_MAX], width)


def _clock(milliseconds: int) -> str:
    return dt.datetime.fromtimestamp(milliseconds / 1000, tz=dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


# --- one write ----------------------------------------------------------------------------------------------------


def show_write(desk: Desk, shown: Shown, *, everything: bool) -> None:
    """Its head, then each operation beside its table."""
    out = console()
    entry, row = shown.examination.entry, shown.row
    out.print(Text.assemble(("write      ", "dim"), (entry.write_id, "bold")))
    out.print(Text.assemble(("state      ", "dim"), (row.state, _STYLES.get(row.state, ""))))
    committed = f"{_clock(entry.committed_at_milliseconds)}, {duration(row.age_seconds or 0)} ago"
    out.print(Text.assemble(("committed  ", "dim"), committed))
    by = f", last by {entry.owner}" if entry.owner else ""
    out.print(Text.assemble(("attempts   ", "dim"), f"{entry.attempts}{by}; epoch {entry.epoch}"))
    if entry.last_error:
        out.print(Text.assemble(("last error ", "dim"), entry.last_error))
    if shown.examination.unreadable is not None:
        out.print(Text(f"Its operations cannot be read: {shown.examination.unreadable}.", style="bold magenta"))
    else:
        _show_operations(out, shown, everything=everything)
    say("What it means, and what to do:")
    say_command(desk.told(f"reliable-write writes explain {entry.write_id}"))


def _show_operations(out: Console, shown: Shown, *, everything: bool) -> None:
    comparisons = shown.examination.comparisons
    out.print(Text(", ".join(f"{count:,} {found}" for found, count in shown.counts.items()), style="bold"))
    chosen = list(comparisons)
    if len(chosen) > _OPERATIONS_SHOWN and not everything:
        chosen = [comparison for comparison in comparisons if not is_settled(comparison)][:_OPERATIONS_SHOWN]
    place_width = max((len(comparison.place) for comparison in chosen), default=0)
    table_width = max((len(comparison.action.table) for comparison in chosen), default=0)
    for comparison in chosen:
        _show_operation(out, comparison, place_width, table_width)
        if shown.reveal:
            _reveal(out, comparison, shown)
    if len(chosen) < len(comparisons):
        say(f"{len(comparisons) - len(chosen):,} more are not shown here; --all shows them.")
    if not shown.reveal:
        say("Keys and values are hidden; --reveal shows them.")


def _show_operation(out: Console, comparison: Comparison, place_width: int, table_width: int) -> None:
    found = str(comparison.found)
    if comparison.by is not None:
        found += f" {'by' if comparison.found is Found.SUPERSEDED else ':'} {comparison.by}".replace(" : ", ": ")
    if comparison.reason:
        found += f" ({comparison.reason})"
    action = f"{verb(comparison):<6}  {comparison.action.table:<{table_width}}"
    style = _FOUND_STYLES.get(comparison.found, "bold red")
    out.print(Text.assemble(f"  {comparison.place:<{place_width}}  {action}  ", (found, style)), soft_wrap=True)


def _reveal(out: Console, comparison: Comparison, shown: Shown) -> None:
    facts = next(
        facts
        for facts, one in zip(shown.facts()["operations"], shown.examination.comparisons, strict=True)
        if one is comparison
    )
    for label, name in (("key", "key"), ("journal", "journal_item"), ("table", "table_item")):
        text = json.dumps(facts[name], ensure_ascii=False) if facts[name] is not None else "(no item)"
        if name != "journal_item" or facts[name] is not None:
            out.print(Text(f"      {label:<8}{text}", style="dim"), soft_wrap=True)


def show_explanation(explanation: Explanation, commands: Sequence[str]) -> None:
    """Four short parts, the commands last and unbroken."""
    out = console(width_max=PROSE_WIDTH_MAX)
    out.print(Text.assemble(("write ", "dim"), (explanation.write_id, "bold")), soft_wrap=True)
    out.print(Text(explanation.headline, style="bold"))
    parts = [
        ("What happened", explanation.happened),
        ("What holds now", explanation.holds),
        ("What will happen", explanation.will_happen),
    ]
    for title, sentences in parts:
        if sentences:
            out.print(Text(title, style="cyan"))
            for sentence in sentences:
                out.print(Padding(Text(sentence), (0, 0, 0, 2)))
    if explanation.advice:
        out.print(Text("What to do", style="cyan"))
    for advice, command in zip(explanation.advice, commands, strict=True):
        out.print(Padding(Text(f"{advice.why}:"), (0, 0, 0, 2)))
        out.print(Text(f"    {command}", style="bold"), soft_wrap=True)


# --- deeds --------------------------------------------------------------------------------------------------------

_WARNINGS: Final = {
    "retry": "A retried write is due at once; a monitor does the rest.",
    "skip": "A skipped operation is given up, for good; the others go on.",
    "quarantine": "A quarantined write is tried by no monitor until somebody retries it.",
    "discard": "A discarded write is given up, for good. It is no undo: what was applied stays.",
}


def preview(desk: Desk, plan: Plan, selection: Selection) -> None:
    """What is about to be done, before anybody is asked."""
    counts = ", ".join(f"{count:,} {state}" for state, count in selection.counts.items())
    say(f"To {plan.action}: {_plural(len(plan.writes), 'write')} ({counts}) in {_place(desk)}.")
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
        say(f"Nothing was changed. {_plural(len(plan.writes), 'write')} in {written_to}. After its review:")
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
    told = f"{_plural(done, 'write')} {_PAST[plan.action]}" + (f"; {others}" if others else "") + "."
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
    say(f"{why}. {_plural(len(outcome.plan.writes) - remaining, 'write')} settled, {remaining:,} remain.")
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


# --- audit, doctor ------------------------------------------------------------------------------------------------


def show_deeds(deeds: Sequence[dict[str, Any]], total: int) -> None:
    """The newest first."""
    out = console()
    if not deeds:
        out.print(Text("No records."))
    for deed in deeds:
        subject = deed["write_id"] or deed["table"] or ""
        if deed["skipped"]:
            subject += f" {', '.join(deed['skipped'][:3])}" + (" ..." if len(deed["skipped"]) > 3 else "")  # noqa: PLR2004
        line = Text.assemble((_clock(deed["at_milliseconds"]), "dim"), f"  {deed['action']:<12}  ", (subject, "bold"))
        out.print(line, soft_wrap=True)
        out.print(Padding(Text(f"{deed['operator']}: {deed['reason'] or '(no reason given)'}"), (0, 0, 0, 25)))
        if deed.get("facts"):
            out.print(Text(f"    {json.dumps(deed['facts'], ensure_ascii=False)}", style="dim"), soft_wrap=True)
    if len(deeds) < total:
        say(f"The newest {len(deeds):,} of {total:,}; --limit 0 shows all.")


def show_diagnosis(diagnosis: Diagnosis) -> None:
    """All checks, then the verdict in the last line."""
    out = console(width_max=PROSE_WIDTH_MAX)
    place = diagnosis.place
    out.print(Text.assemble((place["system_table"], "bold"), f"  {place['region']}  {place['endpoint_url']}"))
    checks = list(_grouped(diagnosis.checks))
    width = max(len(check.name) for check in checks)
    for check in checks:
        _show_check(out, check, width)
    styles = {0: "bold green", 1: "bold yellow"}
    out.print(Text(diagnosis.verdict, style=styles.get(int(diagnosis.exit_code), "bold red")))


def _grouped(checks: Sequence[Check]) -> Iterator[Check]:
    """Permissions that are there in one row for each table; everything else as it is."""
    allowed: dict[str, list[str]] = {}
    for check in checks:
        if check.action and check.health is Health.OK:
            allowed.setdefault(check.name, []).append(check.action)
    for check in checks:
        actions = allowed.pop(check.name, None) if check.action else None
        if actions is not None:
            yield Check(check.name, Health.OK, ", ".join(actions))
        if not (check.action and check.health is Health.OK):
            yield Check(check.name, check.health, f"{check.action} {check.told}".lstrip(), check.run)


def _show_check(out: Console, check: Check, width: int) -> None:
    word, style = _HEALTH_WORDS[check.health]
    room = max(20, out.width - width - 11)
    first, *more = Text(check.told).wrap(out, room)
    out.print(Text.assemble(("  "), (f"{word:<5}", style), f"  {check.name:<{width}}  ", first))
    for line in more:
        out.print(Text.assemble(" " * (width + 11), line))
    if check.run:
        out.print(Text(f"         run: {check.run}", style="bold"), soft_wrap=True)
